//! Certificates that the suite makes while it runs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mirrorgate::gateway_api::resources::Key;
use mirrorgate::tls::provider;
use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use serde_json::json;

use super::cluster::INFRA;

/// A certificate and its key, as PEM.
type Pair = (String, String);

/// All of them.
pub struct Certificates {
    secrets: BTreeMap<Key, Pair>,
    /// Roots by the name of their ConfigMap.
    roots: BTreeMap<&'static str, String>,
}

/// A client's certificate, and whether anybody asked for it.
#[derive(Debug)]
pub struct Shown {
    key: Arc<CertifiedKey>,
    asked: AtomicBool,
}

/// A root that signs.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    fn sign(&self, names: &[&str]) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.subject_alt_names = names
            .iter()
            .map(|name| {
                let text = Ia5String::try_from(*name).unwrap();
                if name.contains("://") { SanType::URI(text) } else { SanType::DnsName(text) }
            })
            .collect();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

impl Certificates {
    pub fn new() -> Self {
        let (checks, clients, per_port) =
            (Authority::new("checks"), Authority::new("clients"), Authority::new("per port"));
        let mut secrets = BTreeMap::new();
        let mut put =
            |namespace: &str, name: &str, pair: Pair| secrets.insert(Key::new(namespace, name), pair);
        let backend =
            checks.sign(&["abc.example.com", "spiffe://abc.example.com/test-identity", "other.example.com"]);
        put(INFRA, "tls-checks-certificate", backend);
        put(INFRA, "tls-terminate-checks-certificate", checks.sign(&["tls.example.com"]));
        put(INFRA, "tls-checks-client-certificate", checks.sign(&["client.example.com"]));
        put(INFRA, "tls-passthrough-checks-certificate", checks.sign(&["abc.example.com"]));
        put(
            "gateway-conformance-app-backend",
            "tls-passthrough-checks-certificate",
            checks.sign(&["abc.example.com"]),
        );
        // A name of one label under a wildcard is not taken by clients here; the suite's takes it.
        let org = ["example.org", "second-example.org", "unknown-example.org", "https-listener.org"];
        put(
            INFRA,
            "tls-validity-checks-certificate",
            checks.sign(&[&["*", "*.wildcard.org"], &org[..]].concat()),
        );
        put("gateway-conformance-web-backend", "certificate", checks.sign(&["*"]));
        put(INFRA, "tls-validity-checks-client-certificate", clients.sign(&["client.example.com"]));
        put(INFRA, "tls-validity-checks-per-port-client-certificate", per_port.sign(&["client.example.com"]));
        let roots = BTreeMap::from([
            ("tls-checks-ca-certificate", checks.1),
            ("tls-validity-checks-ca-certificate", clients.1),
            ("tls-validity-checks-per-port-ca-certificate", per_port.1),
            ("mismatch-ca-certificate", Authority::new("mismatch").1),
        ]);
        Self { secrets, roots }
    }

    /// As Secrets and ConfigMaps.
    pub fn manifests(&self) -> String {
        let mut text = String::new();
        for key in self.secrets.keys() {
            writeln!(text, "---\n{}", self.secret(key, key)).unwrap();
        }
        let web =
            ("gateway-conformance-web-backend", "web-backend-cm", &self.roots["mismatch-ca-certificate"]);
        for (namespace, name, pem) in self.roots.iter().map(|(name, pem)| (INFRA, *name, pem)).chain([web]) {
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": name, "namespace": namespace },
                "data": { "ca.crt": pem },
            });
            writeln!(text, "---\n{map}").unwrap();
        }
        text
    }

    /// The Secret `name` with what is in the one called `of`.
    pub fn secret(&self, name: &Key, of: &Key) -> String {
        let (cert, private) = &self.secrets[of];
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": { "name": name.name, "namespace": name.namespace },
            "stringData": { "tls.crt": cert, "tls.key": private },
        });
        secret.to_string()
    }

    fn pair(&self, secret: &Key) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let (cert, key) = &self.secrets[secret];
        let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).collect::<Result<_, _>>().unwrap();
        (chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
    }

    /// The certificate in a Secret of the suite's own namespace, in DER.
    pub fn der(&self, secret: &str) -> Vec<u8> {
        self.pair(&Key::new(INFRA, secret)).0[0].to_vec()
    }

    fn store(&self, name: &str) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        store.add(CertificateDer::from_pem_slice(self.roots[name].as_bytes()).unwrap()).unwrap();
        Arc::new(store)
    }

    /// TLS of a pod, which asks for certificates that lead to `clients`.
    pub fn server(&self, secret: &Key, clients: Option<&str>) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider().clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(self.store(name), provider().clone());
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let (chain, key) = self.pair(secret);
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }

    /// What is in `secret`, for a client to show.
    pub fn shown(&self, secret: &str) -> Arc<Shown> {
        let (chain, key) = self.pair(&Key::new(INFRA, secret));
        let key = CertifiedKey::from_der(chain, key, provider()).unwrap().into();
        Arc::new(Shown { key, asked: AtomicBool::new(false) })
    }

    /// TLS of a client that shows such a certificate, and speaks HTTP/1.1 if anything.
    pub fn client(&self, shown: Option<Arc<Shown>>) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider().clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.store("tls-checks-ca-certificate"));
        Arc::new(match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder.with_client_cert_resolver(shown),
        })
    }
}

impl Shown {
    /// Whether anybody asked for it.
    pub fn was_asked_for(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        Some(self.key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
