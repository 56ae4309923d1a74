//! Which certificate a client is shown.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::tls::x509::Facts;

/// Certificates by the names in them: an exact name goes before a wildcard, and the first certificate
/// of the listener is for all other clients. Among those of one name, the first that the client can
/// verify, ECDSA before RSA: it costs a tenth to sign.
#[derive(Debug)]
pub(super) struct Certificates {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By the name without its first label.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    all: Vec<Arc<CertifiedKey>>,
    /// The names of the first certificate, with its twins of another algorithm.
    default: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    pub(super) fn new(keys: &[Arc<CertifiedKey>]) -> Self {
        let mut exact: HashMap<String, Vec<_>> = HashMap::new();
        let mut wildcard: HashMap<String, Vec<_>> = HashMap::new();
        let names = |key: &CertifiedKey| {
            key.end_entity_cert().ok().and_then(|der| Facts::of(der)).unwrap_or_default().dns
        };
        let mut sorted = keys.to_vec();
        sorted.sort_by_key(|key| key.key.algorithm() == SignatureAlgorithm::RSA);
        for key in &sorted {
            for name in names(key) {
                match name.strip_prefix("*.") {
                    Some(rest) => wildcard.entry(rest.to_owned()).or_default().push(key.clone()),
                    None => exact.entry(name).or_default().push(key.clone()),
                }
            }
        }
        let first = keys.first().map(|key| names(key)).unwrap_or_default();
        let default = sorted
            .iter()
            .filter(|key| keys.first().is_some_and(|one| Arc::ptr_eq(one, key)) || names(key) == first)
            .cloned()
            .collect();
        Self { exact, wildcard, all: sorted, default }
    }

    fn named(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        // rustls has made sure that it is a DNS name, and in lower case.
        self.exact.get(name).or_else(|| self.wildcard.get(name.split_once('.')?.1))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = hello.server_name().and_then(|name| self.named(&name.to_ascii_lowercase()));
        let candidates = named.unwrap_or(&self.default);
        // A client that cannot verify any of them is better shown a wrong name than nothing: its error
        // says more.
        candidates.iter().find(fits).or_else(|| self.all.iter().find(fits)).cloned()
    }
}
