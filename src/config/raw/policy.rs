//! What a backend does with its endpoints, and when requests are sent again, as it is written.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::HeaderName;
use serde_json::{Value, json};

use crate::config::decode::{List, Located, Scalar, WordOr, record};
use crate::config::error::Problem;
use crate::config::http_values::{HostName, Name, Text, UrlPath};
use crate::config::units::{Size, Whole};
use crate::discovery::resolver::WhenTooOld;
use crate::limits;
use crate::plan::BalancePlan;

record! {
    /// Who is asked for names.
    pub(in crate::config) struct ResolverSettings {
        /// Addresses of name servers, with a port other than 53 if need be; asked in this order.
        servers: List<Located<ServerAddress>>,
        /// Domains that names without a final dot are tried in as well, as resolv.conf(5) has it: a name
        /// of one label before it is asked for as it is written, others after that. None if absent.
        search: Option<List<Located<HostName>>>,
    }
}

record! {
    /// A choice of endpoints that takes more than a word.
    pub(in crate::config) struct Balance {
        /// What decides, so that equal requests go to the same endpoint: `path`, `client`, or one of
        /// `{ header: … }`, `{ cookie: … }` and `{ query: … }`.
        consistent: WordOr<Located<KeyWord>, ConsistentChoice>,
    }
}

record! {
    /// One of `header`, `cookie` and `query`.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
    pub(in crate::config) struct ConsistentChoice {
        /// The value of a header field.
        header: Option<Located<HeaderName>>,
        /// The value of a cookie.
        cookie: Option<Located<Name>>,
        /// The value of a parameter of the query.
        query: Option<Located<Name>>,
    }
}

record! {
    /// Probes: one of `http`, `tcp` and `grpc`.
    #[schemars(transform = one_probe)]
    pub(in crate::config) struct Health {
        /// A request in the backend's protocol.
        http: Option<HttpProbe>,
        /// A connection, and nothing else: `tcp: {}`.
        tcp: Option<TcpProbe>,
        /// `grpc.health.v1.Health/Check`, for backends of protocol `h2c`.
        grpc: Option<GrpcProbe>,
        /// From one probe of an endpoint to the next; 5s if absent.
        interval: Option<Located<Duration>>,
        /// One probe; 2s if absent.
        timeout: Option<Located<Duration>>,
        /// Good probes in a row that make an unhealthy endpoint healthy; 2 if absent.
        healthy: Option<Located<Whole<1, 1000>>>,
        /// Bad probes in a row that make a healthy endpoint unhealthy; 3 if absent. The first probe of
        /// an endpoint decides alone.
        unhealthy: Option<Located<Whole<1, 1000>>>,
    }
}

record! {
    /// A request of a probe.
    pub(in crate::config) struct HttpProbe shorthand path {
        /// The path that is asked for.
        path: Located<UrlPath>,
        /// Statuses of a healthy endpoint, single ones or ranges; 200-399 if absent.
        expected: Option<List<Located<StatusRange>>>,
    }
}

record! {
    /// A probe without any setting.
    pub(in crate::config) struct TcpProbe {
    }
}

record! {
    /// A health check of gRPC.
    pub(in crate::config) struct GrpcProbe {
        /// The service that is asked for; the server as a whole if absent.
        service: Option<Located<Text>>,
    }
}

record! {
    /// When an endpoint is left out because of what requests met there.
    pub(in crate::config) struct Ejection {
        /// Failures in a row; 5 if absent.
        failures: Option<Located<Whole<1, 1_000_000>>>,
        /// What counts as a failure: `connect`, `reset`, `timeout`, statuses from 500 on; `connect` if
        /// absent.
        on: Option<List<Located<FailureWord>>>,
        /// A response whose head takes longer counts as a failure, too; none if absent.
        slower_than: Option<Located<Duration>>,
        /// How long an endpoint is left out for the first time; doubles with each time; 10s if absent.
        time: Option<Located<Duration>>,
        /// How long at most; 5m if absent.
        longest: Option<Located<Duration>>,
        /// Part of the endpoints that may be left out at once, in percent; 50 if absent.
        most_percent: Option<Located<Whole<0, 100>>>,
    }
}

record! {
    /// When a set of endpoints is too old.
    pub(in crate::config) struct MaxAge shorthand after {
        /// Time since its source last confirmed it.
        after: Located<Duration>,
        /// `keep` (the default) uses it and says so, `empty` answers 503 until the source is back.
        then: Option<Located<WhenTooOldWord>>,
    }
}

record! {
    /// When a request is sent again, to an endpoint that it was not sent to.
    pub(in crate::config) struct Retries {
        /// How often at most; 1 if absent.
        attempts: Option<Located<Whole<1, { limits::RETRIES_MOST }>>>,
        /// After what: `connect`, `reset`, `timeout`, statuses as 503 or 502-504.
        on: List<Located<FailureWord>>,
        /// One attempt, up to the head of its response; the route's `timeouts.backend` if absent.
        per_try_timeout: Option<Located<Duration>>,
        /// Longest body that is kept to be sent again; 64KiB if absent.
        max_body: Option<Located<Size>>,
    }
}

macro_rules! words {
    ($(#[$attribute:meta])* $Name:ident($Value:ty), $expected:literal: $($word:literal => $value:expr),*) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(in crate::config) struct $Name(pub(in crate::config) $Value);

        impl Scalar for $Name {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Result<Self, Problem> {
                match text {
                    $($word => Ok(Self($value)),)*
                    _ => Err(Problem::new(format!("expected {}, found {text:?}", $expected))),
                }
            }

            fn schema() -> Value {
                json!({ "enum": [$($word),*] })
            }
        }
    };
}

words! {
    /// A choice of endpoints that takes no setting.
    BalanceWord(BalancePlan), "least_load, round_robin, random or a mapping":
    "least_load" => BalancePlan::LeastLoad,
    "round_robin" => BalancePlan::RoundRobin,
    "random" => BalancePlan::Random
}

words! {
    /// A key that every request has.
    KeyWord(crate::plan::HashKey), "path, client or a mapping":
    "path" => crate::plan::HashKey::Path,
    "client" => crate::plan::HashKey::Client
}

words! {
    /// No ejection.
    EjectionWord(()), "`off` or a mapping": "off" => ()
}

words! {
    /// What happens to a set that is too old.
    WhenTooOldWord(WhenTooOld), "keep or empty":
    "keep" => WhenTooOld::Keep,
    "empty" => WhenTooOld::Empty
}

/// Status codes, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct StatusRange(pub(in crate::config) std::ops::RangeInclusive<u16>);

impl Scalar for StatusRange {
    const EXPECTED: &'static str = "a status or a range of them";

    fn parse(text: &str) -> Result<Self, Problem> {
        let code = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|code| digits && (100..=599).contains(code))
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (code(first), code(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self(first..=last)),
            _ => Err(Problem::new(format!("{text:?} is not a status")).hint("write 503 or 500-599")),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 100, "maximum": 599 },
            { "type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$" }
        ] })
    }
}

/// A way to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum FailureWord {
    Connect,
    Reset,
    Timeout,
    Statuses(StatusRange),
}

impl Scalar for FailureWord {
    const EXPECTED: &'static str = "connect, reset, timeout or a status";

    fn parse(text: &str) -> Result<Self, Problem> {
        match text {
            "connect" => Ok(Self::Connect),
            "reset" => Ok(Self::Reset),
            "timeout" => Ok(Self::Timeout),
            _ => StatusRange::parse(text).map(Self::Statuses).map_err(|_| {
                Problem::new(format!("expected {}, found {text:?}", Self::EXPECTED))
                    .hint("write connect, reset, timeout, 503 or 500-599")
            }),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "enum": ["connect", "reset", "timeout"] }, StatusRange::schema()] })
    }
}

/// A name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct ServerAddress(pub(in crate::config) SocketAddr);

impl Scalar for ServerAddress {
    const EXPECTED: &'static str = "an IP address, with or without a port";

    fn parse(text: &str) -> Result<Self, Problem> {
        let plain = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
        plain.or_else(|_| text.parse::<SocketAddr>()).map(Self).map_err(|_| {
            Problem::new(format!("{text:?} is not an address")).hint("write 10.0.0.2 or 10.0.0.2:5353")
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "examples": ["10.0.0.2", "10.0.0.2:5353", "[::1]:53"] })
    }
}

fn one_probe(schema: &mut schemars::Schema) {
    let probes = ["http", "tcp", "grpc"].map(|key| json!({ "required": [key] }));
    schema.insert("oneOf".into(), json!(probes));
}
