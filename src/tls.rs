//! What both sides of TLS share: the one crypto provider, PEM from files or from text, trust.
//!
//! Used by [`crate::proxy::tls`] (clients) and [`crate::upstream::tls`] (backends). It reads files and
//! says what is wrong with them; it never decides what happens then, and never touches the network.

pub mod x509;

/// In a verifier of certificates, of clients or of servers: that whoever shows one has its key is verified
/// by the provider's algorithms, whatever else is asked of the certificate.
macro_rules! signatures_verified {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &crate::tls::provider().signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &crate::tls::provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            crate::tls::provider().signature_verification_algorithms.supported_schemes()
        }
    };
}
pub(crate) use signatures_verified;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::limits;

/// Where a certificate or a key comes from.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum PemSource {
    /// A file, read again when it changes.
    File(PathBuf),
    /// The text itself, of a Kubernetes Secret say.
    Text(Arc<str>),
}

/// A certificate with its chain, and the key that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificatePlan {
    /// The certificate, followed by those that lead to its root.
    pub cert: PemSource,
    /// Its private key.
    pub key: PemSource,
}

/// What is wrong with a certificate, a key or a list of roots.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct MaterialError {
    /// The file, or what the text is.
    pub origin: String,
    /// What is wrong, with a hint.
    pub message: String,
}

impl PemSource {
    /// The file that it is read from.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Text(_) => None,
        }
    }

    /// The PEM text.
    ///
    /// # Errors
    /// The file cannot be read, or is longer than [`limits::PEM_BYTES`].
    pub fn read(&self) -> Result<Vec<u8>, MaterialError> {
        let path = match self {
            Self::Text(text) => return Ok(text.as_bytes().to_vec()),
            Self::File(path) => path,
        };
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(limits::PEM_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| self.wrong(format!("cannot be read: {error}; hint: {}", hint(&error))))?;
        if bytes.len() as u64 > limits::PEM_BYTES {
            return Err(self.wrong(format!("longer than {} bytes", limits::PEM_BYTES)));
        }
        Ok(bytes)
    }

    /// The error that `message` is wrong with it.
    pub fn wrong(&self, message: impl Into<String>) -> MaterialError {
        MaterialError { origin: self.to_string(), message: message.into() }
    }
}

impl fmt::Display for PemSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Text(_) => formatter.write_str("(inline PEM)"),
        }
    }
}

impl fmt::Debug for PemSource {
    // The text may be a private key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl CertificatePlan {
    /// The files that it is read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.cert.file().into_iter().chain(self.key.file())
    }

    /// Reads both, and checks that they belong together.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn load(&self) -> Result<CertifiedKey, MaterialError> {
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key.read()?).map_err(|error| {
            self.key.wrong(format!(
                "no private key: {error}; hint: write it as PEM, PKCS#8, SEC1 or PKCS#1, without a password"
            ))
        })?;
        CertifiedKey::from_der(chain, key, provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                self.key.wrong(format!("is not the key of {}; hint: a pair is replaced together", self.cert))
            }
            error => self.key.wrong(error.to_string()),
        })
    }
}

/// The crypto provider of the process.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider()))
}

/// The roots in `source`.
///
/// # Errors
/// It cannot be read, or has no certificate, or one that cannot be a root.
pub fn roots(source: &PemSource) -> Result<RootCertStore, MaterialError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(source)? {
        store.add(certificate).map_err(|error| source.wrong(format!("not a root: {error}")))?;
    }
    Ok(store)
}

/// The roots that the system trusts, read once; what cannot be used of them is left out.
pub fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS
        .get_or_init(|| {
            let mut store = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = store.add_parsable_certificates(found.certs);
            if added == 0 {
                let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
                tracing::warn!("the system has no usable root certificates: {}", errors.join(", "));
            }
            Arc::new(store)
        })
        .clone()
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    match suite.tls13() {
        Some(suite) => suite.common.hash_provider.hash(bytes).as_ref().to_vec(),
        None => Vec::new(),
    }
}

fn certificates(source: &PemSource) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let pem = source.read()?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => {
            Err(source
                .wrong("holds no certificate; hint: it is PEM and begins with -----BEGIN CERTIFICATE-----"))
        }
        Ok(chain) => Ok(chain),
        Err(error) => Err(source.wrong(format!("not PEM: {error}"))),
    }
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "relative paths are relative to the configuration file",
        std::io::ErrorKind::PermissionDenied => "the user that runs mirrorgate must be able to read it",
        _ => "it must be a file with PEM text",
    }
}
