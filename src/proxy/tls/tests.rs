#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SignatureScheme};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::limits;
use crate::tls::CertificatePlan;

const RSA_KEY: &str = include_str!("fixtures/only-for-tests-rsa.pem");

/// A root that signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Certificate and key as PEM.
    fn sign(&self, names: &[&str], common_name: &str, key: KeyPair) -> (String, String) {
        let mut params =
            CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn ecdsa(&self, names: &[&str], common_name: &str) -> (String, String) {
        self.sign(names, common_name, KeyPair::generate().unwrap())
    }

    fn rsa(&self, names: &[&str], common_name: &str) -> (String, String) {
        self.sign(names, common_name, KeyPair::from_pem(RSA_KEY).unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        roots
    }
}

fn text((cert, key): &(String, String)) -> CertificatePlan {
    CertificatePlan { cert: PemSource::Text(cert.as_str().into()), key: PemSource::Text(key.as_str().into()) }
}

fn plan(certificates: &[&(String, String)]) -> ListenerTls {
    let certificates = certificates.iter().map(|pair| text(pair)).collect();
    ListenerTls { certificates, client: None, tls13_only: false }
}

fn client(authority: &Authority, identity: Option<&(String, String)>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(tls::provider().clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots());
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            use rustls::pki_types::pem::PemObject;
            let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![cert], key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// What either side knows after a handshake.
#[derive(Debug)]
struct Met {
    subject: String,
    alpn: Option<Vec<u8>>,
    kind: HandshakeKind,
    identity: Option<String>,
}

/// One handshake of `config`, asking for `name`, and a byte from the server, which brings tickets.
async fn meet(terminator: &Terminator, config: &Arc<ClientConfig>, name: &str) -> io::Result<Met> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = terminator.accept(Stream::Tcp(stream), limits::TLS_HANDSHAKE).await?;
        stream.write_all(b"x").await?;
        stream.flush().await?;
        let identity = terminator.identity(stream.get_ref().1);
        let identity = identity.map(|value| value.to_str().unwrap().to_owned());
        Ok::<_, io::Error>((stream, identity))
    };
    let client = async {
        let stream = TcpStream::connect(listener.local_addr()?).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
        stream.read_exact(&mut [0]).await?;
        let session = stream.get_ref().1;
        let facts = Facts::of(&session.peer_certificates().unwrap()[0]).unwrap();
        let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
        Ok::<_, io::Error>(Met {
            subject: facts.subject,
            alpn,
            kind: session.handshake_kind().unwrap(),
            identity: None,
        })
    };
    let (server, met) = tokio::join!(server, client);
    let met: Met = met?;
    let (_stream, identity) = server?;
    Ok(Met { identity, ..met })
}

#[tokio::test]
async fn clients_get_the_certificate_of_the_name_they_ask_for() {
    let authority = Authority::new();
    let first = authority.ecdsa(&["first.test"], "first");
    let exact = authority.ecdsa(&["a.b.test"], "exact");
    let wildcard = authority.ecdsa(&["*.b.test"], "wildcard");
    let terminator = Terminator::new(&plan(&[&first, &exact, &wildcard])).unwrap();
    let config = Arc::new(client(&authority, None));
    for (name, subject) in [("first.test", "first"), ("a.b.test", "exact"), ("x.b.test", "wildcard")] {
        let met = meet(&terminator, &config, name).await.unwrap();
        assert!(met.subject.contains(&format!("CN={subject}")), "{name}: {met:?}");
        assert_eq!(met.alpn.as_deref(), Some(&b"h2"[..]));
    }
    // All others get the first, which they will not take for what they asked for.
    for name in ["x.a.b.test", "b.test", "other.test"] {
        let error = meet(&terminator, &config, name).await.unwrap_err();
        assert!(error.to_string().contains("not valid for name"), "{name}: {error}");
    }
}

#[tokio::test]
async fn the_certificate_is_one_that_the_client_can_verify() {
    let authority = Authority::new();
    let rsa = authority.rsa(&["a.test"], "rsa");
    let ecdsa = authority.ecdsa(&["a.test"], "ecdsa");
    let terminator = Terminator::new(&plan(&[&rsa, &ecdsa])).unwrap();
    let both = Arc::new(client(&authority, None));
    assert!(meet(&terminator, &both, "a.test").await.unwrap().subject.contains("CN=ecdsa"));

    let mut provider = rustls::crypto::ring::default_provider();
    let mapping: Vec<_> = provider
        .signature_verification_algorithms
        .mapping
        .iter()
        .copied()
        // The authority's own signature is ECDSA and must still be verified, with another curve's name.
        .filter(|(scheme, _)| {
            matches!(scheme, SignatureScheme::RSA_PSS_SHA256 | SignatureScheme::ECDSA_NISTP384_SHA384)
        })
        .collect();
    provider.signature_verification_algorithms.mapping = Box::leak(mapping.into_boxed_slice());
    let only_rsa = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    assert!(meet(&terminator, &Arc::new(only_rsa), "a.test").await.unwrap().subject.contains("CN=rsa"));
}

#[tokio::test]
async fn sessions_are_resumed_in_either_version() {
    let authority = Authority::new();
    let terminator = Terminator::new(&plan(&[&authority.ecdsa(&["a.test"], "a")])).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ClientConfig::builder_with_provider(tls::provider().clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(authority.roots())
            .with_no_client_auth();
        let config = Arc::new(config);
        assert_eq!(meet(&terminator, &config, "a.test").await.unwrap().kind, HandshakeKind::Full);
        assert_eq!(meet(&terminator, &config, "a.test").await.unwrap().kind, HandshakeKind::Resumed);
    }
    let newest = ListenerTls { tls13_only: true, ..plan(&[&authority.ecdsa(&["a.test"], "a")]) };
    let old = ClientConfig::builder_with_provider(tls::provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    meet(&Terminator::new(&newest).unwrap(), &Arc::new(old), "a.test").await.unwrap_err();
}

#[tokio::test]
async fn clients_are_verified_and_named() {
    let (servers, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let known = clients.ecdsa(&["client.test"], "me \"x\"");
    let stranger = strangers.ecdsa(&["client.test"], "me");
    let mut plan = plan(&[&servers.ecdsa(&["a.test"], "a")]);
    for required in [true, false] {
        let ca = PemSource::Text(clients.certificate.pem().into());
        plan.client = Some(ClientVerification { ca, required, fallback: false });
        let terminator = Terminator::new(&plan).unwrap();
        let anonymous = meet(&terminator, &Arc::new(client(&servers, None)), "a.test").await;
        match required {
            true => drop(anonymous.unwrap_err()),
            false => assert_eq!(anonymous.unwrap().identity, None),
        }
        meet(&terminator, &Arc::new(client(&servers, Some(&stranger))), "a.test").await.unwrap_err();
        let config = Arc::new(client(&servers, Some(&known)));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let met = meet(&terminator, &config, "a.test").await.unwrap();
            assert_eq!(met.kind, kind);
            let identity = met.identity.unwrap();
            assert!(identity.starts_with("Hash="), "{identity}");
            assert!(identity.contains(r#"CN=me \\\"x\\\""#), "{identity}");
            assert!(identity.ends_with(";DNS=client.test"), "{identity}");
        }
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PemSource {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    PemSource::File(path)
}

#[tokio::test]
async fn new_files_serve_new_handshakes_and_bad_ones_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| write(folder.path(), name, text);
    let (authority, old_clients, new_clients) = (Authority::new(), Authority::new(), Authority::new());
    let (old, new) = (authority.ecdsa(&["a.test"], "old"), authority.ecdsa(&["a.test"], "new"));
    let other = authority.ecdsa(&["b.test"], "other");
    let ca = put("ca", &old_clients.certificate.pem());
    let plan = ListenerTls {
        certificates: vec![
            CertificatePlan { cert: put("cert", &old.0), key: put("key", &old.1) },
            CertificatePlan { cert: put("other", &other.0), key: put("other-key", &other.1) },
        ],
        client: Some(ClientVerification { ca, required: false, fallback: false }),
        tls13_only: false,
    };
    let terminator = Terminator::new(&plan).unwrap();
    assert_eq!(terminator.files().len(), 5);
    let config = Arc::new(client(&authority, None));
    assert!(meet(&terminator, &config, "a.test").await.unwrap().subject.contains("CN=old"));

    // Half of a pair, then no PEM, then nothing at all: each is told, and the old pair stays.
    put("cert", &new.0);
    let told = terminator.reload();
    assert!(told.len() == 1 && told[0].message.contains("is not the key of"), "{told:?}");
    put("cert", "-----BEGIN CERTIFICATE-----\nx");
    assert_eq!(terminator.reload().len(), 1);
    std::fs::remove_file(folder.path().join("cert")).unwrap();
    assert!(terminator.reload()[0].message.contains("cannot be read"));
    assert!(meet(&terminator, &config, "a.test").await.unwrap().subject.contains("CN=old"));

    // The whole pair: new certificates, the sessions of before are still resumed.
    put("cert", &new.0);
    put("key", &new.1);
    assert_eq!(terminator.reload(), []);
    let met = meet(&terminator, &config, "a.test").await.unwrap();
    assert_eq!(met.kind, HandshakeKind::Resumed);
    let fresh = Arc::new(client(&authority, None));
    assert!(meet(&terminator, &fresh, "a.test").await.unwrap().subject.contains("CN=new"));
    assert!(meet(&terminator, &fresh, "b.test").await.unwrap().subject.contains("CN=other"));
    assert_eq!(
        terminator.expiries().iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
        ["a.test", "b.test"]
    );

    // Other roots for clients: who was verified by the old ones is not let in by an old session.
    let identity = old_clients.ecdsa(&["client.test"], "client");
    let verified = Arc::new(client(&authority, Some(&identity)));
    assert!(meet(&terminator, &verified, "a.test").await.unwrap().identity.is_some());
    put("ca", &new_clients.certificate.pem());
    assert_eq!(terminator.reload(), []);
    meet(&terminator, &verified, "a.test").await.unwrap_err();
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let authority = Authority::new();
    let (one, two) = (authority.ecdsa(&["a.test"], "a"), authority.ecdsa(&["b.test"], "b"));
    let mixed = (one.0.clone(), two.1.clone());
    let mut plan = plan(&[&mixed, &one, &("".into(), two.1.clone()), &(one.0.clone(), one.0.clone())]);
    let missing = PemSource::File("/nonexistent/ca.crt".into());
    plan.client = Some(ClientVerification { ca: missing, required: true, fallback: false });
    let told: Vec<String> = Terminator::new(&plan).err().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 4, "{told:#?}");
    for (told, part) in
        told.iter().zip(["is not the key of", "holds no certificate", "no private key", "cannot be read"])
    {
        assert!(told.contains(part), "{told}");
    }
    assert!(!format!("{plan:?}").contains("BEGIN"), "a key is shown");
}
