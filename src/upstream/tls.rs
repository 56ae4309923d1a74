//! TLS to endpoints: whom to trust, which name to expect, who we are.
//!
//! A [`Connector`] belongs to a backend. What cannot be read makes exchanges fail with a reason, never
//! a route or a reload: the backend may be a mirror's. Called by [`crate::upstream`] after connecting.

mod names;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustls::client::{ClientConfig, ClientSessionMemoryCache, Resumption};
use rustls::pki_types::{IpAddr, ServerName};
use tokio_rustls::TlsConnector;

use super::stream::Stream;
use crate::discovery::source::EndpointAddress;
use crate::limits;
use crate::plan::{BackendTls, Protocol};
use crate::tls::{self, MaterialError, PemSource};

/// Begins TLS with a backend's endpoints.
pub struct Connector {
    plan: BackendTls,
    protocol: Protocol,
    current: ArcSwap<Loaded>,
    told: Mutex<Option<Instant>>,
}

struct Loaded {
    /// What the files held.
    read: Vec<u8>,
    configs: Result<Configs, String>,
}

struct Configs {
    /// Offers what the backend speaks.
    usual: Arc<ClientConfig>,
    /// Offers HTTP/1.1 alone, for upgrades.
    http1: Arc<ClientConfig>,
    /// Offers nothing, for bytes that are not HTTP.
    bytes: Arc<ClientConfig>,
}

/// What an endpoint is offered by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// What the backend speaks.
    Usual,
    /// HTTP/1.1 alone.
    Http1,
    /// Nothing.
    Nothing,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Our own files.
    #[error("{0}")]
    Material(String),
    /// The handshake failed: who it is cannot be verified, or it does not speak TLS.
    #[error("TLS handshake: {0}")]
    Handshake(std::io::Error),
    /// No end of the handshake in time.
    #[error("TLS handshake: no answer within {0:?}")]
    Timeout(Duration),
    /// It does not speak what the configuration says.
    #[error("the endpoint does not speak HTTP/2 over TLS")]
    Alpn,
}

impl Connector {
    /// Reads the files of `plan`; what is wrong with them each exchange is told.
    pub fn new(plan: &BackendTls, protocol: Protocol) -> Self {
        let loaded = load(plan, protocol);
        if let Err(error) = &loaded.configs {
            tracing::error!("TLS to a backend cannot be set up: {error}");
        }
        Self { plan: plan.clone(), protocol, current: ArcSwap::from_pointee(loaded), told: Mutex::default() }
    }

    /// Reads the files again. Bad new ones leave the old in use. Blocks.
    pub fn reload(&self) {
        if self.plan.files().next().is_none() {
            return;
        }
        let current = self.current.load();
        if read(&self.plan).is_ok_and(|bytes| bytes == current.read) {
            return;
        }
        let next = load(&self.plan, self.protocol);
        match (&next.configs, &current.configs) {
            (Err(error), Ok(_)) => {
                tracing::warn!("new TLS files of a backend are unusable, the old stay: {error}")
            }
            (Err(error), Err(last)) if error == last => {}
            _ => self.current.store(Arc::new(next)),
        }
    }

    /// Whether it is time to tell of another failure: once in [`limits::FAILURE_LOG_INTERVAL`].
    pub fn may_tell(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|last| last.elapsed() >= limits::FAILURE_LOG_INTERVAL);
        if due {
            *told = Some(Instant::now());
        }
        due
    }

    /// Shakes hands over `stream`, and says whether the endpoint speaks HTTP/2.
    ///
    /// # Errors
    /// Why the stream cannot be used.
    pub async fn handshake(
        &self,
        stream: Stream,
        address: &EndpointAddress,
        offer: Offer,
    ) -> Result<(Stream, bool), TlsError> {
        let config = match &self.current.load().configs {
            Ok(configs) => match offer {
                Offer::Usual => configs.usual.clone(),
                Offer::Http1 => configs.http1.clone(),
                Offer::Nothing => configs.bytes.clone(),
            },
            Err(error) => return Err(TlsError::Material(error.clone())),
        };
        let name = server_name(self.plan.server_name.as_deref(), address)
            .ok_or_else(|| TlsError::Material("the endpoint has no name that could be verified".into()))?;
        let handshake = TlsConnector::from(config).connect(name, stream);
        let stream = match tokio::time::timeout(limits::TLS_HANDSHAKE, handshake).await {
            Ok(stream) => stream.map_err(TlsError::Handshake)?,
            Err(_) => return Err(TlsError::Timeout(limits::TLS_HANDSHAKE)),
        };
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if self.protocol == Protocol::H2 && !http2 && offer != Offer::Nothing {
            return Err(TlsError::Alpn);
        }
        Ok((Stream::Tls(Box::new(stream.into())), http2))
    }
}

/// What is wrong with the files of `plan`, if anything.
///
/// # Errors
/// The first of it.
pub fn check(plan: &BackendTls) -> Result<(), MaterialError> {
    configs(plan, Protocol::Http1).map(drop)
}

fn load(plan: &BackendTls, protocol: Protocol) -> Loaded {
    let configs = configs(plan, protocol).map_err(|error| error.to_string());
    Loaded { read: read(plan).unwrap_or_default(), configs }
}

fn read(plan: &BackendTls) -> Result<Vec<u8>, MaterialError> {
    let certificate = plan.certificate.as_ref();
    let sources = plan.ca.iter().chain(certificate.into_iter().flat_map(|one| [&one.cert, &one.key]));
    sources.map(PemSource::read).collect::<Result<Vec<_>, _>>().map(|all| all.concat())
}

fn configs(plan: &BackendTls, protocol: Protocol) -> Result<Configs, MaterialError> {
    let roots = match &plan.ca {
        Some(ca) => Arc::new(tls::roots(ca)?),
        None => tls::system_roots(),
    };
    let builder = ClientConfig::builder_with_provider(tls::provider().clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| PemSource::Text("".into()).wrong(error.to_string()))?;
    let builder = match plan.subject_names.as_slice() {
        [] => builder.with_root_certificates(roots),
        names => {
            let verifier = names::ByName::new(roots, names.to_vec())
                .ok_or_else(|| PemSource::Text("".into()).wrong("there is no root to trust"))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut http1 = match &plan.certificate {
        None => builder.with_no_client_auth(),
        Some(certificate) => {
            // As files, not as an open pair: the resolver takes what was checked to belong together.
            let key = Arc::new(certificate.load()?);
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
        }
    };
    let sessions = ClientSessionMemoryCache::new(limits::TLS_CLIENT_SESSIONS);
    http1.resumption = Resumption::store(Arc::new(sessions));
    let bytes = http1.clone();
    http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut usual = http1.clone();
    usual.alpn_protocols = match protocol {
        Protocol::Http1 | Protocol::H2c => vec![b"http/1.1".to_vec()],
        Protocol::H2 => vec![b"h2".to_vec()],
        Protocol::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(Configs { usual: Arc::new(usual), http1: Arc::new(http1), bytes: Arc::new(bytes) })
}

fn server_name(given: Option<&str>, address: &EndpointAddress) -> Option<ServerName<'static>> {
    match (given, address) {
        (Some(name), _) => ServerName::try_from(name.trim_end_matches('.').to_owned()).ok(),
        (None, EndpointAddress::Tcp(address)) => Some(ServerName::IpAddress(IpAddr::from(address.ip()))),
        (None, EndpointAddress::Unix(_)) => None,
    }
}
