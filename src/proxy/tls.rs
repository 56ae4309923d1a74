//! TLS on a listener: certificates by SNI, ALPN, who the client is, and other files while it runs.
//!
//! A [`Terminator`] belongs to a listener and is shared by its connections. What it serves is swapped
//! as a whole when its files change; a connection keeps what it began with. Whatever is wrong with new
//! files, the old ones go on. Called by [`super::connection`] for handshakes and by [`crate::app`] to
//! follow the files.

mod certificates;
mod identity;
mod lenient;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoServerSessionStorage, ProducesTickets, ServerConfig, ServerConnection, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::certificates::Certificates;
use crate::plan::{ClientVerification, ListenerTls};
use crate::tls::x509::Facts;
use crate::tls::{self, MaterialError, PemSource};
use crate::upstream::stream::Stream;

use self::identity::identity;

/// What clients speak by ALPN, in the order of our preference.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Ends TLS for one listener.
pub struct Terminator {
    plan: ListenerTls,
    tickets: Mutex<Tickets>,
    current: ArcSwap<Loaded>,
}

/// What is served at present.
struct Loaded {
    config: Arc<ServerConfig>,
    /// For what is not HTTP inside: nothing is agreed upon by ALPN, and clients are not asked who they
    /// are.
    bytes: Arc<ServerConfig>,
    /// Knows valid clients where all are let in.
    clients: Option<Arc<dyn ClientCertVerifier>>,
    /// One for each certificate of the plan.
    keys: Vec<Arc<CertifiedKey>>,
    client_roots: Option<Vec<u8>>,
}

/// Makes session tickets. Kept when certificates change, so that sessions are resumed; made anew with
/// the roots of clients, for a resumed session is not verified again.
struct Tickets {
    roots: Option<Vec<u8>>,
    maker: Arc<dyn ProducesTickets>,
}

/// Until when a certificate is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The certificate's first name, or its subject.
    pub name: String,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Terminator {
    /// Reads all files of `plan`.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn new(plan: &ListenerTls) -> Result<Self, Vec<MaterialError>> {
        let mut errors = Vec::new();
        let keys: Vec<_> = plan
            .certificates
            .iter()
            .filter_map(|plan| plan.load().map(Arc::new).map_err(|error| errors.push(error)).ok())
            .collect();
        let client_roots = client_roots(plan).map_err(|error| errors.push(error)).unwrap_or_default();
        let maker = new_tickets().map_err(|error| errors.push(internal(error)));
        match maker {
            Ok(maker) if errors.is_empty() => {
                let tickets = Tickets { roots: client_roots.clone(), maker };
                let loaded = load(plan, keys, client_roots, &tickets.maker).map_err(|error| vec![error])?;
                Ok(Self {
                    plan: plan.clone(),
                    tickets: Mutex::new(tickets),
                    current: ArcSwap::from_pointee(loaded),
                })
            }
            _ => Err(errors),
        }
    }

    /// Shakes hands with a client, within `patience`.
    ///
    /// # Errors
    /// `TimedOut`, or what the client or the stream did wrong.
    pub async fn accept(&self, stream: Stream, patience: Duration) -> io::Result<TlsStream<Stream>> {
        // Not the guard across the await: a reload would wait for nobody, but old keys would stay.
        let config = self.current.load().config.clone();
        shake(config, stream, patience).await
    }

    /// The same for bytes that are not HTTP.
    ///
    /// # Errors
    /// `TimedOut`, or what the client or the stream did wrong.
    pub async fn accept_bytes(&self, stream: Stream, patience: Duration) -> io::Result<TlsStream<Stream>> {
        let config = self.current.load().bytes.clone();
        shake(config, stream, patience).await
    }

    /// Who the client of `session` is, as backends are told; `None` if that is not known.
    pub fn identity(&self, session: &ServerConnection) -> Option<HeaderValue> {
        let (certificate, rest) = session.peer_certificates()?.split_first()?;
        if let Some(verifier) = &self.current.load().clients {
            verifier.verify_client_cert(certificate, rest, UnixTime::now()).ok()?;
        }
        identity(certificate)
    }

    /// The files that it is made of.
    pub fn files(&self) -> Vec<PathBuf> {
        let own = self.plan.certificates.iter().flat_map(|plan| plan.files());
        let roots = self.plan.client.as_ref().and_then(|client| client.ca.file());
        own.chain(roots).map(PathBuf::from).collect()
    }

    /// Reads the files again and serves what they hold from the next handshake on. What cannot be
    /// used stays as it was, and is told.
    pub fn reload(&self) -> Vec<MaterialError> {
        let mut errors = Vec::new();
        let current = self.current.load_full();
        let mut keys = Vec::with_capacity(current.keys.len());
        for (plan, old) in self.plan.certificates.iter().zip(&current.keys) {
            keys.push(match plan.load() {
                Ok(key) if key.cert == old.cert => old.clone(),
                Ok(key) => Arc::new(key),
                Err(error) => {
                    errors.push(error);
                    old.clone()
                }
            });
        }
        let client_roots = match client_roots(&self.plan) {
            Ok(roots) => roots,
            Err(error) => {
                errors.push(error);
                current.client_roots.clone()
            }
        };
        let same_keys = keys.iter().zip(&current.keys).all(|(new, old)| Arc::ptr_eq(new, old));
        if same_keys && client_roots == current.client_roots {
            return errors;
        }
        match self.rebuilt(keys, client_roots) {
            Ok(loaded) => self.current.store(Arc::new(loaded)),
            Err(error) => errors.push(error),
        }
        errors
    }

    /// Until when each certificate is valid.
    pub fn expiries(&self) -> Vec<Expiry> {
        let current = self.current.load();
        let facts = current.keys.iter().filter_map(|key| Facts::of(key.end_entity_cert().ok()?));
        facts
            .map(|facts| Expiry {
                name: facts.dns.into_iter().next().unwrap_or(facts.subject),
                not_after: facts.not_after,
            })
            .collect()
    }

    fn rebuilt(
        &self,
        keys: Vec<Arc<CertifiedKey>>,
        client_roots: Option<Vec<u8>>,
    ) -> Result<Loaded, MaterialError> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let maker = match tickets.roots == client_roots {
            true => tickets.maker.clone(),
            false => new_tickets().map_err(internal)?,
        };
        let loaded = load(&self.plan, keys, client_roots.clone(), &maker)?;
        *tickets = Tickets { roots: client_roots, maker };
        Ok(loaded)
    }
}

fn load(
    plan: &ListenerTls,
    keys: Vec<Arc<CertifiedKey>>,
    client_roots: Option<Vec<u8>>,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<Loaded, MaterialError> {
    let config = server_config(plan, &keys, tickets)?;
    let anonymous = ListenerTls { client: None, ..plan.clone() };
    let mut bytes =
        Arc::unwrap_or_clone(server_config(&anonymous, &keys, &new_tickets().map_err(internal)?)?);
    bytes.alpn_protocols.clear();
    let lenient = plan.client.as_ref().filter(|client| client.fallback);
    let clients = lenient.map(verifier).transpose()?;
    Ok(Loaded { config, bytes: Arc::new(bytes), clients, keys, client_roots })
}

fn verifier(client: &ClientVerification) -> Result<Arc<dyn ClientCertVerifier>, MaterialError> {
    let roots = Arc::new(tls::roots(&client.ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, tls::provider().clone());
    let verifier = if client.required { verifier } else { verifier.allow_unauthenticated() };
    verifier.build().map_err(|error| client.ca.wrong(error.to_string()))
}

fn server_config(
    plan: &ListenerTls,
    keys: &[Arc<CertifiedKey>],
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, MaterialError> {
    let versions: &[_] = match plan.tls13_only {
        true => &[&rustls::version::TLS13],
        false => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let builder = ServerConfig::builder_with_provider(tls::provider().clone())
        .with_protocol_versions(versions)
        .map_err(internal)?;
    let builder = match &plan.client {
        None => builder.with_no_client_auth(),
        Some(client) if client.fallback => {
            // Who has a certificate that leads to one of them is known; without any nobody could be.
            tls::roots(&client.ca)?;
            builder.with_client_cert_verifier(Arc::new(lenient::Lenient))
        }
        Some(client) => builder.with_client_cert_verifier(verifier(client)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Certificates::new(keys)));
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    config.ticketer = tickets.clone();
    // Tickets are kept by clients; a cache here would be a lock that all workers share.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // Each ticket costs a write and nobody opens four connections at once with one handshake.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

async fn shake(
    config: Arc<ServerConfig>,
    stream: Stream,
    patience: Duration,
) -> io::Result<TlsStream<Stream>> {
    tokio::time::timeout(patience, TlsAcceptor::from(config).accept(stream))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn client_roots(plan: &ListenerTls) -> Result<Option<Vec<u8>>, MaterialError> {
    let read = |client: &ClientVerification| -> Result<Vec<u8>, MaterialError> {
        tls::roots(&client.ca)?;
        client.ca.read()
    };
    plan.client.as_ref().map(read).transpose()
}

fn new_tickets() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    rustls::crypto::ring::Ticketer::new()
}

fn internal(error: rustls::Error) -> MaterialError {
    PemSource::Text("".into()).wrong(format!("TLS cannot be set up: {error}"))
}

#[cfg(test)]
mod tests;
