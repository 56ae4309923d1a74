//! Certificates for tests, and clients that end TLS in front of a raw one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// A root, and what it has signed, as files.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    /// Writes `name`.crt and `name`.key for `host`.
    pub fn sign(&self, name: &str, host: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([host.to_string()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        // As a careful rotation does it: each file is replaced as a whole.
        for (ending, text) in [("crt", certificate.pem()), ("key", key.serialize_pem())] {
            let next = self.folder.path().join(format!("{name}.{ending}.next"));
            std::fs::write(&next, text).unwrap();
            std::fs::rename(next, self.folder.path().join(format!("{name}.{ending}"))).unwrap();
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A client of TLS that trusts this root and offers `alpn`.
    pub fn connector(&self, alpn: &str) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path().join("ca.crt")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    /// An address at which bytes are taken and passed on to `address` by TLS as `host`, and back: a
    /// client that knows nothing of TLS may write whatever it wants into it.
    pub async fn tunnel(&self, address: SocketAddr, host: &'static str, alpn: &str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let connector = self.connector(alpn);
        tokio::spawn(async move {
            while let Ok((mut plain, _)) = listener.accept().await {
                let connector = connector.clone();
                tokio::spawn(async move {
                    let stream = TcpStream::connect(address).await.unwrap();
                    let name = ServerName::try_from(host).unwrap();
                    let mut secure = connector.connect(name, stream).await.unwrap();
                    let _ended = tokio::io::copy_bidirectional(&mut plain, &mut secure).await;
                });
            }
        });
        own
    }
}
