//! Where clients connect, and what is taken of them.

use std::sync::Arc;
use std::time::Duration;

use crate::discovery::source::EndpointAddress;
use crate::limits;
use crate::proxy::deadlines::DeadlineSettings;
use crate::routing::matches::HostPattern;
use crate::tls::{CertificatePlan, PemSource};

/// One address that clients connect to.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerPlan {
    /// Its name; routes refer to it. Defaults to the address.
    pub name: Arc<str>,
    /// Where to listen.
    pub address: EndpointAddress,
    /// A client that closes its sending side after a complete request still gets the response.
    pub half_close: bool,
    /// Heads are checked on the raw bytes before hyper reads them; off only behind a trusted proxy.
    pub strict_framing: bool,
    /// `Some` speaks TLS.
    pub tls: Option<ListenerTls>,
    /// Connections begin with a PROXY protocol header, which alone says who the client is.
    pub proxy_protocol: bool,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// What it shows clients by the name that they ask for; the first is the default.
    pub certificates: Vec<CertificatePlan>,
    /// `Some` asks clients for a certificate.
    pub client: Option<ClientVerification>,
    /// TLS 1.2 is refused.
    pub tls13_only: bool,
}

/// How clients are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientVerification {
    /// The roots that their certificates must lead to.
    pub ca: PemSource,
    /// Clients without a certificate are refused; one that is not valid always is.
    pub required: bool,
    /// A client is never refused: one whose certificate is not valid is as one without.
    pub fallback: bool,
}

/// A part of a listener, for the hosts that it takes. The most specific one takes a request, and only
/// routes that serve it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionPlan {
    /// Its name; routes refer to it as to a listener.
    pub name: Arc<str>,
    /// Name of the listener that it is a part of.
    pub listener: Arc<str>,
    /// The hosts that it takes; `None` is any.
    pub host: Option<HostPattern>,
    /// What is inside.
    pub mode: SectionMode,
}

/// What a part of a listener does with a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SectionMode {
    /// It speaks HTTP, under TLS if the listener does.
    #[default]
    Http,
    /// TLS ends here, and what is inside goes on as bytes.
    Terminate,
    /// TLS goes on as it is.
    Passthrough,
}

/// What is taken of clients, on all listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Fields of a request's head.
    pub head_fields: usize,
    /// Bytes of a request's target.
    pub target_bytes: usize,
    /// From accepting a connection to its first byte.
    pub first_byte: Duration,
    /// From a head's first byte to its last.
    pub head_time: Duration,
    /// A client's TLS handshake.
    pub tls_handshake: Duration,
    /// A connection without a request.
    pub idle: Duration,
    /// A write to a client that makes no progress.
    pub write_stall: Duration,
    /// Streams that one HTTP/2 connection may have open.
    pub http2_streams: u32,
    /// Connections in all.
    pub connections: usize,
    /// Connections of one client address; `None` is as many as in all.
    pub connections_per_address: Option<usize>,
    /// Requests in flight; copies are skipped from [`limits::SHED_COPIES`] of it on.
    pub in_flight: Option<usize>,
    /// Bytes of memory that the process may take before it sheds load, copies first.
    pub memory: Option<usize>,
    /// Bytes of a request's body, where a route does not say otherwise.
    pub body: Option<u64>,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            head_bytes: limits::HEAD_BYTES,
            head_fields: limits::HEAD_FIELDS,
            target_bytes: limits::TARGET_BYTES,
            first_byte: limits::FIRST_BYTE,
            head_time: limits::HEAD_TIME,
            tls_handshake: limits::TLS_HANDSHAKE,
            idle: limits::CLIENT_IDLE,
            write_stall: limits::WRITE_STALL,
            http2_streams: limits::HTTP2_STREAMS,
            connections: limits::CLIENT_CONNECTIONS,
            connections_per_address: None,
            in_flight: None,
            memory: None,
            body: None,
        }
    }
}

impl ClientLimits {
    /// The deadlines among them.
    pub fn deadlines(&self) -> DeadlineSettings {
        DeadlineSettings {
            first_byte: self.first_byte,
            head: self.head_time,
            idle: self.idle,
            write_stall: self.write_stall,
            drain: limits::DRAIN_REQUEST_TIME,
        }
    }
}
