//! The configuration as it is written: one [`record!`] for each mapping, its comments the text that
//! editors show. What the values mean together is up to `super::compile`.

mod policy;
mod route;

use policy::{Balance, BalanceWord};
pub(super) use policy::{
    ConsistentChoice, Ejection, EjectionWord, FailureWord, Health, MaxAge, ResolverSettings, Retries,
};
pub(super) use route::{
    HeaderEdits, Match, Mirror, PathChoice, PathRewrite, Ramp, RateKey, Redirect, Route, RouteLimits, Stop,
    ValueChoice, WeightedBackend,
};

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::address::{HostPort, ListenAddress, Reference, ServiceName};
use super::decode::{List, Located, Scalar, Table, WordOr, record};
use super::error::Problem;
use super::http_values::{
    ClientModeWord, FilePath, HostName, HostWord, LogWord, Name, ProtocolWord, ProxyWord, Pseudonym,
    TlsVersionWord,
};
use super::units::{Percent, Size, Whole};
use crate::discovery::source::EndpointAddress;
use crate::limits;

record! {
    /// Configuration of mirrorgate.
    pub(super) struct File {
        /// Where clients connect; at least one.
        listeners: List<Listener>,
        /// The admin API: an address, `off`, or a mapping. 127.0.0.1:9901 if absent.
        admin: Option<WordOr<Located<AdminWord>, Admin>>,
        /// Where access records go: `off` (the default), `stdout`, or `{ file: path }`.
        access_log: Option<WordOr<Located<LogWord>, LogFile>>,
        /// Where spans of requests and copies go, by OTLP over HTTP; nowhere if absent.
        traces: Option<Traces>,
        /// How many proxies stand in front whose X-Forwarded-*, X-Request-Id and copy marker are
        /// believed; 0 if absent.
        trusted_hops: Option<Located<Whole<0, { u32::MAX }>>>,
        /// The name that `Via` is written with; no `Via` if absent.
        via: Option<Located<Pseudonym>>,
        /// Data-plane threads; one a core if absent.
        workers: Option<Located<Whole<1, { limits::WORKERS as u32 }>>>,
        /// The zone that this gateway runs in: endpoints of the same zone are preferred.
        zone: Option<Located<Name>>,
        /// Who is asked for names; the system's own settings if absent.
        resolver: Option<ResolverSettings>,
        /// What is taken of clients.
        limits: Option<Limits>,
        /// Which requests go where. Among equally specific matches the earlier route wins.
        routes: Option<List<Route>>,
        /// Backends by name.
        backends: Option<Table<Backend>>,
    }
}

record! {
    /// Spans, one for each request that is traced and one for each copy of it. Only in a program that
    /// was built with the feature `otlp`.
    pub(super) struct Traces shorthand collector {
        /// The name of an entry in `backends`, or a URL: who takes them, at `/v1/traces`.
        collector: Located<Reference>,
        /// How many in a hundred of the requests that come without a `traceparent` are traced; all if
        /// absent, 0 is none. Those that come with a sampled one always are.
        percent: Option<Located<Percent>>,
    }
}

record! {
    /// An address to listen at, or a mapping.
    pub(super) struct Listener shorthand address {
        /// What routes call it; its address if absent.
        name: Option<Located<Name>>,
        /// IP address and port, or `unix:` and a path.
        address: Located<ListenAddress>,
        /// A client that closes its sending side after a complete request still gets the response;
        /// false if absent.
        half_close: Option<Located<bool>>,
        /// Heads are checked on the raw bytes; true if absent. Only for listeners behind a trusted
        /// proxy to switch off.
        strict_framing: Option<Located<bool>>,
        /// Speaks TLS.
        tls: Option<ListenerTls>,
        /// Connections begin with a PROXY protocol header of version 1 or 2, which says who the client
        /// is; false if absent. Only for listeners that nobody but the proxy in front can reach.
        proxy_protocol: Option<Located<bool>>,
    }
}

record! {
    /// TLS 1.2 and 1.3, with HTTP/2 and HTTP/1.1 by ALPN. Files are read again when they change.
    pub(super) struct ListenerTls {
        /// Certificates; clients get one for the name that they ask for, else the first.
        certificates: List<Certificate>,
        /// Asks clients for a certificate.
        client: Option<ClientVerification>,
        /// The least version: `TLSv1.2` (the default) or `TLSv1.3`.
        min_version: Option<Located<TlsVersionWord>>,
    }
}

record! {
    /// A certificate and its key.
    pub(super) struct Certificate {
        /// A PEM file: the certificate, then those that lead to its root.
        cert: Located<FilePath>,
        /// A PEM file with the private key.
        key: Located<FilePath>,
    }
}

record! {
    /// How clients are verified. Backends are told by X-Forwarded-Client-Cert, which no client can
    /// forge.
    pub(super) struct ClientVerification {
        /// A PEM file with the roots that their certificates lead to.
        ca: Located<FilePath>,
        /// `require` (the default), or `optional`: a client may have none, but not an invalid one.
        mode: Option<Located<ClientModeWord>>,
    }
}

record! {
    /// TLS to endpoints.
    pub(super) struct BackendTls {
        /// A PEM file with the roots to trust; those of the system if absent.
        ca: Option<Located<FilePath>>,
        /// The name to ask for and to verify; if absent the name in `dns` or `srv`, or else the
        /// endpoint's IP address.
        server_name: Option<Located<HostName>>,
        /// What is shown to endpoints that ask who we are.
        certificate: Option<Certificate>,
    }
}

record! {
    /// What is taken of clients, on all listeners.
    pub(super) struct Limits {
        /// Bytes of a request's head; 64KiB if absent.
        head: Option<Located<Size>>,
        /// Bytes of a request's target, its path and query; above it 414; 16KiB if absent.
        target: Option<Located<Size>>,
        /// Fields of a request's head; 100 if absent.
        fields: Option<Located<Whole<1, 1000>>>,
        /// From accepting a connection to its first byte; 10s if absent.
        first_byte: Option<Located<Duration>>,
        /// From the first byte of a head to its last; 10s if absent.
        head_time: Option<Located<Duration>>,
        /// A TLS handshake; 10s if absent.
        tls_handshake: Option<Located<Duration>>,
        /// A connection without a request; 5m if absent.
        idle: Option<Located<Duration>>,
        /// A write to a client that makes no progress; 30s if absent.
        write_stall: Option<Located<Duration>>,
        /// Streams that one HTTP/2 connection may have open; 128 if absent.
        http2_streams: Option<Located<Whole<1, 10_000>>>,
        /// Connections in all; 100000 if absent.
        connections: Option<Located<Whole<1, 100_000>>>,
        /// Connections of one client address; as many as in all if absent.
        connections_per_address: Option<Located<Whole<1, 100_000>>>,
        /// Requests in flight in the process. From 80 % of it on copies are skipped, above it requests
        /// are answered 503. Absent: no bound.
        in_flight: Option<Located<Whole<1, 10_000_000>>>,
        /// Memory that the process takes before it sheds load in the same way. Absent: no bound.
        memory: Option<Located<Size>>,
        /// Bytes of a request's body, for routes that do not say otherwise; above it 413. Absent: no
        /// bound.
        body: Option<Located<Size>>,
    }
}

record! {
    /// The admin API.
    pub(super) struct Admin {
        /// IP address and port; 127.0.0.1:9901 if absent.
        address: Option<Located<SocketAddr>>,
        /// A file with the bearer token that allows changes from beyond loopback.
        token_file: Option<Located<FilePath>>,
    }
}

record! {
    /// Access records in a file.
    pub(super) struct LogFile {
        /// The file that they are appended to.
        file: Located<FilePath>,
    }
}

record! {
    /// A named pool of endpoints: one of `endpoints`, `dns`, `srv` and `file`.
    #[schemars(transform = one_source)]
    pub(super) struct Backend {
        /// A list that never changes.
        endpoints: Option<List<Endpoint>>,
        /// A name with a port: its A and AAAA records, refreshed by TTL.
        dns: Option<Located<HostPort>>,
        /// A name whose SRV records name the endpoints.
        srv: Option<Located<ServiceName>>,
        /// A watched file with a key `endpoints`.
        file: Option<Located<FilePath>>,
        /// What the endpoints speak: `http1` (the default), `h2c`, or over TLS also `h2` and `auto`,
        /// which is `h2` where they speak it.
        protocol: Option<Located<ProtocolWord>>,
        /// `client` (the default) sends the client's Host, `upstream` the name in `dns` or `srv`.
        host: Option<Located<HostWord>>,
        /// Who takes the next request: `least_load` (the default), `round_robin`, `random`, or
        /// `{ consistent: … }`.
        balance: Option<WordOr<Located<BalanceWord>, Balance>>,
        /// Time over which the share of an endpoint grows to the whole that just came into use;
        /// it has its whole share at once if absent.
        slow_start: Option<Located<Duration>>,
        /// Whether endpoints of the gateway's own `zone` are used alone while one of them can be; true
        /// if absent.
        prefer_zone: Option<Located<bool>>,
        /// Probes of the endpoints; their source's word is taken if absent.
        health: Option<Health>,
        /// When an endpoint is left out because of what requests met there: `off`, or a mapping; after
        /// 5 connections in a row that failed if absent.
        ejection: Option<WordOr<Located<EjectionWord>, Ejection>>,
        /// When a set that its source no longer confirms is too old; never if absent.
        max_age: Option<MaxAge>,
        /// Time that requests in flight with an endpoint are given when it is removed; as long as they
        /// take if absent.
        drain: Option<Located<Duration>>,
        /// Speaks TLS to the endpoints; `{}` for all defaults.
        tls: Option<BackendTls>,
        /// Begins each connection with a PROXY protocol header that names the client, `v1` or `v2`; none
        /// if absent. A connection then serves one client's connection alone.
        proxy_protocol: Option<Located<ProxyWord>>,
    }
}

record! {
    /// An address, or a mapping.
    pub(super) struct Endpoint shorthand address {
        /// IP address and port, or `unix:` and a path.
        address: Located<EndpointAddress>,
        /// Share relative to the other endpoints; 1 if absent, 0 takes none.
        weight: Option<Located<Whole<0, 1_000_000>>>,
        /// The zone that it is in.
        zone: Option<Located<Name>>,
    }
}

record! {
    /// The endpoints of a backend, in a file of their own.
    pub(super) struct EndpointFile {
        /// All of them. Empty is an answer and is obeyed.
        endpoints: List<Endpoint>,
    }
}

/// `off`, or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AdminWord(pub(super) Option<SocketAddr>);

impl Scalar for AdminWord {
    const EXPECTED: &'static str = "an address or `off`";

    fn parse(text: &str) -> Result<Self, Problem> {
        match text {
            "off" => Ok(Self(None)),
            "false" | "no" | "none" => {
                Err(Problem::new(format!("{text:?} is not an address to listen at")).hint("write off"))
            }
            _ => SocketAddr::parse(text).map(|address| Self(Some(address))),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "const": "off" }, SocketAddr::schema()] })
    }
}

fn one_source(schema: &mut schemars::Schema) {
    let sources = ["endpoints", "dns", "srv", "file"].map(|key| json!({ "required": [key] }));
    schema.insert("oneOf".into(), json!(sources));
}
