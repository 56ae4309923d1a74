//! One client connection: what it opens with, which protocol it speaks, what its requests share.

mod serving;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use super::accept::Listener;
use super::accept::socket::local_address;
use super::admission::AddressSlot;
use super::deadlines::ConnectionState;
use super::framing::{Framed, Protocol};
use super::proxy_protocol;
use super::record::{self, Beside};
use super::sanitize::ClientInfo;
use super::tls_route::{self, Routed};
use super::{Gateway, Seat};
use crate::mirror::copy::Copy;
use crate::routing::table::Route;
use crate::telemetry::access_log::ConnectionFacts;
use crate::telemetry::gateway::Refusal;
use crate::upstream::proxy_protocol::Addresses;
use crate::upstream::stream::Stream;
use crate::worker::Worker;
use crate::worker::yielding::others_first;

/// What all requests of one connection share.
pub struct Context {
    gateway: Arc<Gateway>,
    worker: Arc<Worker>,
    listener: Arc<Listener>,
    client: ClientInfo,
    addresses: Addresses,
    /// Written down for the access log, with the first request.
    facts: OnceLock<ConnectionFacts>,
    /// The name that the client asked for in TLS.
    tls_name: Option<Box<str>>,
    state: Arc<ConnectionState>,
    /// Weak, for copies keep the context for longer than there is a connection.
    place: Weak<Place>,
}

/// A connection's place in all counts, which a tunnel keeps when HTTP has left it.
pub struct Place {
    _counted: Counted,
    _slot: Option<AddressSlot>,
}

impl Context {
    /// Of a client whose connection somebody else serves.
    pub(super) fn elsewhere(
        gateway: Arc<Gateway>,
        worker: Arc<Worker>,
        listener: Arc<Listener>,
        (client, addresses): (ClientInfo, Addresses),
        state: Arc<ConnectionState>,
    ) -> Arc<Self> {
        let (facts, tls_name, place) = (OnceLock::new(), None, Weak::new());
        Arc::new(Self { gateway, worker, listener, client, addresses, facts, tls_name, state, place })
    }

    /// What all workers share.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// The worker that the connection lives on.
    pub fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// Where it came in.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Who is at the other end.
    pub fn client(&self) -> &ClientInfo {
        &self.client
    }

    /// Both ends, by their sockets or by the PROXY protocol.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Both ends as records have them.
    pub fn facts(&self) -> &ConnectionFacts {
        self.facts.get_or_init(|| ConnectionFacts::of(self.addresses.destination, self.addresses.source))
    }

    /// The name that the client asked for in TLS.
    pub fn tls_name(&self) -> Option<&str> {
        self.tls_name.as_deref()
    }

    /// 128 random bits for the id of a request that came without one.
    pub fn request_id(&self) -> [u64; 2] {
        [self.worker.random(), self.worker.random()]
    }

    /// Its place in all counts; `None` once it has ended.
    pub fn place(&self) -> Option<Arc<Place>> {
        self.place.upgrade()
    }

    /// What its deadlines look at.
    pub fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }

    /// Delivers a copy beside the request, which does not wait for it.
    pub fn start(self: &Arc<Self>, copy: Copy, route: &Arc<Route>, beside: Beside) {
        let (context, route) = (self.clone(), route.clone());
        self.worker.spawn_copy(async move {
            // Behind the requests that are about to be written: what a copy takes is not theirs to wait for.
            others_first().await;
            let mirror = copy.mirror().clone();
            let delivery = copy.deliver(&context.worker).await;
            record::copied(&context, &beside, &route, &mirror, &delivery);
        });
    }
}

/// Serves a connection on `worker`, the calling thread's.
pub(super) fn spawn(
    gateway: &Arc<Gateway>,
    worker: &Arc<Worker>,
    stream: Stream,
    (peer, counted): (SocketAddr, Counted),
    listener: &Arc<Listener>,
) {
    let (gateway, listener) = (gateway.clone(), listener.clone());
    let home = worker.clone();
    worker.spawn(async move {
        // Without it a small response may wait 40 ms for the client's delayed acknowledgement.
        let ready = match &stream {
            Stream::Tcp(stream) => stream.set_nodelay(true).is_ok(),
            _ => true,
        };
        if ready {
            serve(gateway, home, stream, peer, listener, counted).await;
        }
    });
}

/// What lies under HTTP, and what it says of the client.
struct Opened {
    stream: Stream,
    peer: SocketAddr,
    client: ClientInfo,
    /// What the client chose by ALPN. `None` without TLS: then the first bytes tell.
    protocol: Option<Protocol>,
    /// The name that it asked for in TLS.
    tls_name: Option<Box<str>>,
    /// Its place among the connections of its address, if those are bounded.
    slot: Option<AddressSlot>,
}

async fn serve(
    gateway: Arc<Gateway>,
    worker: Arc<Worker>,
    stream: Stream,
    peer: SocketAddr,
    listener: Arc<Listener>,
    counted: Counted,
) {
    let destination = local_address(&stream);
    let Some(opened) = open(&gateway, &worker, stream, peer, &listener).await else { return };
    let Opened { stream, peer, client, protocol, tls_name, slot } = opened;
    let Some(registration) = worker.deadlines().register() else { return };
    let refusals = gateway.refusals().clone();
    let mut framed = Framed::new(stream, registration, refusals, listener.strict_framing);
    let limits = gateway.table().limits().clone();
    framed.heads_within(limits.head_bytes, limits.head_fields);
    let state = framed.state().clone();
    let protocol = match protocol {
        Some(Protocol::Http2) => {
            framed.http2();
            Protocol::Http2
        }
        Some(Protocol::Http1) => Protocol::Http1,
        None => match framed.detect().await {
            Ok(Some(protocol)) => protocol,
            _ => return,
        },
    };
    let addresses = Addresses { source: peer, destination };
    let place = Arc::new(Place { _counted: counted, _slot: slot });
    let context = Arc::new(Context {
        client,
        gateway,
        worker,
        listener,
        addresses,
        facts: OnceLock::new(),
        tls_name,
        state,
        place: Arc::downgrade(&place),
    });
    match protocol {
        Protocol::Http1 => serving::http1(context, framed, &limits).await,
        Protocol::Http2 => serving::http2(context, framed, &limits).await,
    }
    drop(place);
}

/// Reads what proxies in front say, and ends TLS, as the listener wants it. `None` when nothing is left
/// to be served.
async fn open(
    gateway: &Gateway,
    worker: &Arc<Worker>,
    mut stream: Stream,
    mut peer: SocketAddr,
    listener: &Listener,
) -> Option<Opened> {
    if listener.proxy_protocol {
        let patience = gateway.table().limits().first_byte;
        match proxy_protocol::read(&mut stream, patience).await {
            Ok(client) => peer = client.unwrap_or(peer),
            Err(error) => {
                gateway.metrics().gateway.refused(Refusal::ProxyProtocol);
                tracing::debug!(listener = %listener.name, %peer, %error, "PROXY protocol failed");
                return None;
            }
        }
    }
    // A Unix socket's clients are all at one address, unless a proxy says who they are.
    let counted = listener.proxy_protocol || !matches!(stream, Stream::Unix(_));
    let slot = match gateway.table().limits().connections_per_address.filter(|_| counted) {
        None => None,
        Some(most) => match gateway.admission().connection(peer.ip().to_canonical(), most) {
            None => {
                gateway.metrics().gateway.refused(Refusal::ConnectionLimit);
                return None;
            }
            slot => slot,
        },
    };
    // Boxed: few connections are routed so, and all would have room for it.
    let stream = match Box::pin(tls_route::route(gateway, worker, listener, stream, peer)).await {
        Routed::Http(stream) => stream,
        Routed::Over => return None,
    };
    let Some(terminator) = &listener.tls else {
        let client = ClientInfo::new(peer, false);
        return Some(Opened { stream, peer, client, protocol: None, tls_name: None, slot });
    };
    let metrics = &gateway.metrics().gateway;
    let patience = gateway.table().limits().tls_handshake;
    let stream = match terminator.accept(stream, patience).await {
        Ok(stream) => stream,
        Err(error) => {
            metrics.tls_handshakes_failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(listener = %listener.name, %peer, %error, "TLS handshake failed");
            return None;
        }
    };
    metrics.tls_handshakes.fetch_add(1, Ordering::Relaxed);
    let session = stream.get_ref().1;
    let protocol = match session.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        // RFC 9113, 3.2: over TLS there is no HTTP/2 without ALPN.
        _ => Protocol::Http1,
    };
    let tls_name = session.server_name().map(|name| name.to_ascii_lowercase().into());
    let client = ClientInfo::new(peer, true).identified(terminator.identity(session));
    Some(Opened {
        stream: Stream::Tls(Box::new(stream.into())),
        peer,
        client,
        protocol: Some(protocol),
        tls_name,
        slot,
    })
}

/// A connection in the counts of its worker and of the process.
pub(super) struct Counted {
    gateway: Arc<Gateway>,
    seat: Arc<AtomicUsize>,
}

impl Counted {
    /// One more on `seat`'s worker.
    pub(super) fn new(gateway: &Arc<Gateway>, seat: &Seat) -> Self {
        let seat = seat.count();
        seat.fetch_add(1, Ordering::Relaxed);
        gateway.metrics().gateway.client_connections.fetch_add(1, Ordering::Relaxed);
        gateway.metrics().gateway.client_connections_total.fetch_add(1, Ordering::Relaxed);
        Self { gateway: gateway.clone(), seat }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.seat.fetch_sub(1, Ordering::Relaxed);
        self.gateway.metrics().gateway.client_connections.fetch_sub(1, Ordering::Relaxed);
    }
}
