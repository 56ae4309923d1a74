//! What a configuration means, as plain data: no handle, no IO, nothing started.
//!
//! A configuration file, the command line and Gateway API resources all become a [`Plan`];
//! [`crate::routing::RoutingTable`] is what the data plane makes of it. Only this step between the
//! two takes references to backends, so a plan that is thrown away leaves no trace.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use crate::discovery::source::SourceSpec;
use crate::limits;
use crate::proxy::deadlines::DeadlineSettings;
use crate::routing::filter::{Filters, HeaderEdits, PathRewrite, Redirect};
use crate::routing::matches::{HostPattern, RouteMatch};
use crate::tls::{CertificatePlan, PemSource};

/// Everything that a process is told to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where clients connect.
    pub listeners: Vec<ListenerPlan>,
    /// Listeners that share a socket and are told apart by host; empty for a listener that does not.
    pub sections: Vec<SectionPlan>,
    /// The admin API; `None` switches it off.
    pub admin: Option<AdminPlan>,
    /// Where access records go.
    pub access_log: AccessLogPlan,
    /// Every backend that a route may name, in order of appearance, each name once.
    pub backends: Vec<BackendSpec>,
    /// Routes in order of precedence among equals.
    pub routes: Vec<RoutePlan>,
    /// Proxies in front of this one whose `X-Forwarded-*`, request id and copy marker are believed.
    pub trusted_hops: u32,
    /// The pseudonym that `Via` is written with; `None` writes no `Via`.
    pub via: Option<String>,
    /// Data-plane threads; `None` takes one a core.
    pub workers: Option<usize>,
    /// What is taken of clients.
    pub limits: ClientLimits,
}

/// One address that clients connect to.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerPlan {
    /// Its name; routes refer to it. Defaults to the address.
    pub name: Arc<str>,
    /// Where to listen.
    pub address: SocketAddr,
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
}

/// What is taken of clients, on all listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Fields of a request's head.
    pub head_fields: usize,
    /// From accepting a connection to its first byte.
    pub first_byte: Duration,
    /// From a head's first byte to its last.
    pub head_time: Duration,
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
            first_byte: limits::FIRST_BYTE,
            head_time: limits::HEAD_TIME,
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

/// What a route takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// Bytes of a request's body; above it 413.
    pub body: Option<u64>,
    /// Requests a time; above it 429.
    pub rate: Option<RatePlan>,
}

/// Requests a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RatePlan {
    /// So many…
    pub requests: u32,
    /// …in this time.
    pub per: Duration,
    /// Requests that may come at once.
    pub burst: u32,
    /// Whose requests are counted together.
    pub key: RateKey,
}

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateKey {
    /// Everybody's.
    All,
    /// Those of one client address.
    Client,
    /// Those with the same value of a header field; those without it are one.
    Header(HeaderName),
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminPlan {
    /// Where it listens.
    pub address: SocketAddr,
    /// A file with the bearer token that allows changes from beyond loopback.
    pub token_file: Option<PathBuf>,
}

/// Where access records go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLogPlan {
    /// Nowhere.
    #[default]
    Off,
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// A named pool of endpoints, as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendSpec {
    /// Its name in the configuration, or its URL.
    pub name: Arc<str>,
    /// Where its endpoints come from.
    pub source: SourceSpec,
    /// How its endpoints are spoken to.
    pub protocol: Protocol,
    /// `Some` sends this Host upstream instead of the client's (`host: upstream`).
    pub host: Option<HeaderValue>,
    /// What lies between the protocol and the socket.
    pub transport: Transport,
}

/// What lies between the protocol and the socket to an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// `Some` speaks TLS.
    pub tls: Option<BackendTls>,
}

/// TLS to the endpoints of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendTls {
    /// The roots that certificates must lead to; `None` is what the system trusts.
    pub ca: Option<PemSource>,
    /// The name that is asked for and verified; `None` verifies the endpoint's IP address.
    pub server_name: Option<Arc<str>>,
    /// What we show when we are asked who we are.
    pub certificate: Option<CertificatePlan>,
}

impl BackendTls {
    /// The files that it is made of.
    pub fn files(&self) -> impl Iterator<Item = &std::path::Path> {
        let certificate = self.certificate.iter().flat_map(CertificatePlan::files);
        self.ca.iter().filter_map(PemSource::file).chain(certificate)
    }
}

/// What is spoken to a backend's endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 in plain text.
    #[default]
    Http1,
    /// HTTP/2 in plain text, with prior knowledge.
    H2c,
    /// HTTP/2 over TLS.
    H2,
    /// Over TLS, HTTP/2 where the endpoint speaks it and HTTP/1.1 else.
    Auto,
}

/// Hosts and matches → backends and mirrors.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutePlan {
    /// Its name, unique; `route-<n>` when the configuration gives none.
    pub name: Arc<str>,
    /// Names of the listeners it serves; `None` is all.
    pub listeners: Option<Vec<Arc<str>>>,
    /// Hosts it serves; empty is any.
    pub hosts: Vec<HostPattern>,
    /// Alternatives, one of which must hold; empty is everything.
    pub matches: Vec<RouteMatch>,
    /// What happens to a request that matches.
    pub action: RouteAction,
    /// Edits of the request and of the response.
    pub filters: Filters,
    /// Deadlines of the transaction.
    pub timeouts: Timeouts,
    /// What it takes.
    pub limits: RouteLimits,
    /// Who gets copies.
    pub mirrors: Vec<MirrorPlan>,
}

/// What happens to a request that matches a route.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteAction {
    /// It is sent to one of these, drawn by weight. Empty, or all of weight 0: answered 500, as
    /// Gateway API has it for a rule without a valid backend.
    Forward(Vec<WeightedBackend>),
    /// It is answered with a redirect.
    Redirect(Redirect),
    /// It is answered 500: the route asks for something that cannot be done.
    Fail,
}

/// A backend and its share of a route's traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedBackend {
    /// Name of an entry in [`Plan::backends`]. A name that is not among them takes its share all the
    /// same, which is answered 500, as Gateway API has it for a backend that cannot be resolved.
    pub backend: Arc<str>,
    /// Share relative to the others; 0 takes none.
    pub weight: u32,
    /// Edits of the requests that go there and of their responses, after the route's.
    pub filters: Filters,
    /// Who gets copies of these requests, beside the route's mirrors.
    pub mirrors: Vec<MirrorPlan>,
}

impl WeightedBackend {
    /// A share of a backend, without filters of its own.
    pub fn new(backend: Arc<str>, weight: u32) -> Self {
        Self { backend, weight, filters: Filters::default(), mirrors: Vec::new() }
    }
}

/// Deadlines of one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The whole transaction, to the last byte of the response.
    pub request: Option<Duration>,
    /// One attempt, up to the response's head.
    pub backend: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { request: None, backend: Some(limits::BACKEND_TIMEOUT) }
    }
}

/// One mirror of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct MirrorPlan {
    /// Name of an entry in [`Plan::backends`].
    pub backend: Arc<str>,
    /// How many of the requests are copied.
    pub share: SharePlan,
    /// What decides whether a request is among them; `None` draws for each request.
    pub sample_by: Option<SampleKey>,
    /// Methods that are copied; `None` is all.
    pub methods: Option<Vec<Method>>,
    /// Alternatives, one of which must hold for what the primary gets; empty is everything.
    pub matches: Vec<RouteMatch>,
    /// What is changed in the copy, after the route's filters.
    pub edits: CopyEdits,
    /// Deadlines of one copy.
    pub timeouts: CopyTimeouts,
    /// Bytes of a declared body above which `on_oversize` applies; `None` is no bound.
    pub max_body: Option<u64>,
    /// What happens to a request whose declared body is larger than that.
    pub on_oversize: Oversize,
    /// Copies in flight at once.
    pub in_flight: usize,
    /// Bytes that one copy may lag behind the primary.
    pub lag: usize,
    /// Copies begun per second; `None` is no bound.
    pub rate: Option<u32>,
}

impl MirrorPlan {
    /// A mirror of every request, with the defaults.
    pub fn new(backend: Arc<str>) -> Self {
        Self {
            backend,
            share: SharePlan::default(),
            sample_by: None,
            methods: None,
            matches: Vec::new(),
            edits: CopyEdits::default(),
            timeouts: CopyTimeouts::default(),
            max_body: None,
            on_oversize: Oversize::Stream,
            in_flight: limits::MIRROR_IN_FLIGHT,
            lag: limits::MIRROR_LAG,
            rate: None,
        }
    }
}

/// How many requests are copied, and what changes that by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct SharePlan {
    /// The share; with a ramp, its first step.
    pub fraction: Fraction,
    /// The share grows by itself.
    pub ramp: Option<RampPlan>,
    /// The mirror is stopped by itself.
    pub stop: Option<StopPlan>,
}

impl Default for SharePlan {
    fn default() -> Self {
        Self { fraction: Fraction::ALL, ramp: None, stop: None }
    }
}

/// A share that grows while the mirror does well.
#[derive(Clone, Debug, PartialEq)]
pub struct RampPlan {
    /// The shares, ascending, at least one.
    pub steps: Vec<Fraction>,
    /// How long the mirror does well before the next.
    pub every: Duration,
}

/// When a mirror is stopped. Rates are shares, 0 to 1, of the requests that were to be copied.
#[derive(Clone, Debug, PartialEq)]
pub struct StopPlan {
    /// Share of copies that failed, were refused by the breaker, or were answered 5xx where the
    /// primary did not answer so.
    pub error_rate: f64,
    /// Share of copies that a budget skipped or cut.
    pub drop_rate: f64,
    /// Over how long.
    pub window: Duration,
    /// Requests to be copied in that time, below which nothing is concluded.
    pub minimum: u64,
}

impl Default for StopPlan {
    fn default() -> Self {
        Self {
            error_rate: limits::STOP_RATE,
            drop_rate: limits::STOP_RATE,
            window: limits::STOP_WINDOW,
            minimum: limits::STOP_MINIMUM,
        }
    }
}

/// By what requests are sampled: the same key is always in or always out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SampleKey {
    /// The first field of that name.
    Header(HeaderName),
    /// The first cookie of that name.
    Cookie(String),
    /// The first parameter of that name.
    Query(String),
    /// The path, without the query.
    Path,
    /// The client's address.
    Client,
}

/// What is changed in a copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CopyEdits {
    /// Edits of its head.
    pub headers: HeaderEdits,
    /// A new Host.
    pub host: Option<HeaderValue>,
    /// A new path.
    pub path: Option<PathRewrite>,
    /// Takes away what proves who the client is: `Authorization`, `Proxy-Authorization`, `Cookie`.
    pub strip_credentials: bool,
}

/// Deadlines of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyTimeouts {
    /// To establish a connection.
    pub connect: Duration,
    /// From the end of the request to the head of the answer; `None` leaves it to `total`.
    pub first_byte: Option<Duration>,
    /// From the end of the request to the end of the copy.
    pub total: Duration,
}

impl Default for CopyTimeouts {
    fn default() -> Self {
        Self { connect: limits::CONNECT, first_byte: None, total: limits::MIRROR_TIMEOUT }
    }
}

/// What happens to a request whose body is declared larger than the mirror wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversize {
    /// It is copied all the same.
    Stream,
    /// It is not copied.
    Skip,
    /// Its head is copied.
    HeadersOnly,
}

/// A share, exact: `numerator` of `denominator`, with `numerator <= denominator` and
/// `denominator >= 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    /// How many…
    pub numerator: u32,
    /// …of how many.
    pub denominator: u32,
}

impl Fraction {
    /// Everything.
    pub const ALL: Self = Self { numerator: 1, denominator: 1 };

    /// Where in the 64-bit number line this share ends: a uniform draw below it is in. `None` means
    /// that every draw is in. Since a smaller share ends earlier, 5 % lies within 10 %.
    pub fn threshold(self) -> Option<u64> {
        if self.numerator >= self.denominator {
            return None;
        }
        Some(((u128::from(self.numerator) << 64) / u128::from(self.denominator)) as u64)
    }

    /// Its percentage, as near as can be, for people.
    pub fn percent(self) -> f64 {
        f64::from(self.numerator) * 100.0 / f64::from(self.denominator)
    }
}
