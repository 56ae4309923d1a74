//! What a configuration means, as plain data: no handle, no IO, nothing started.
//!
//! A configuration file, the command line and Gateway API resources all become a [`Plan`];
//! [`crate::routing::RoutingTable`] is what the data plane makes of it. Only this step between the
//! two takes references to backends, so a plan that is thrown away leaves no trace.

mod backend;
mod listener;
mod mirror;
mod policy;
mod route;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

pub use self::backend::{BackendSpec, BackendTls, Protocol, ProxyVersion, SubjectName, Transport};
pub use self::listener::{
    ClientLimits, ClientVerification, ListenerPlan, ListenerTls, SectionMode, SectionPlan,
};
pub use self::mirror::{
    CopyEdits, CopyTimeouts, Fraction, MirrorPlan, Oversize, RampPlan, SampleKey, SharePlan, StopPlan,
};
pub use self::policy::{
    BackendPolicy, BalancePlan, EjectionPlan, FailureSet, HashKey, HealthCheck, HealthPlan, RetryPlan,
    StatusSet,
};
pub use self::route::{
    RateKey, RatePlan, RouteAction, RouteLimits, RoutePlan, StreamPlan, Timeouts, WeightedBackend,
};

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
    /// Where spans go; `None`: there are none.
    pub traces: Option<TracesPlan>,
    /// Every backend that a route may name, in order of appearance, each name once.
    pub backends: Vec<BackendSpec>,
    /// Routes in order of precedence among equals.
    pub routes: Vec<RoutePlan>,
    /// Routes of TLS that is not looked into.
    pub streams: Vec<StreamPlan>,
    /// Proxies in front of this one whose `X-Forwarded-*`, request id and copy marker are believed.
    pub trusted_hops: u32,
    /// The pseudonym that `Via` is written with; `None` writes no `Via`.
    pub via: Option<String>,
    /// Who is asked for names. Taken at start.
    pub name_servers: NameServersPlan,
    /// Where this gateway runs. Backends say themselves whether they prefer it; this is for those that
    /// are made of something else than a configuration.
    pub zone: Option<Arc<str>>,
    /// Data-plane threads; `None` takes one a core.
    pub workers: Option<usize>,
    /// What is taken of clients.
    pub limits: ClientLimits,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminPlan {
    /// Where it listens.
    pub address: SocketAddr,
    /// A file with the bearer token that allows changes from beyond loopback.
    pub token_file: Option<PathBuf>,
}

/// Who is asked for names; by default those that the system asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameServersPlan {
    /// These, in this order; empty: those of the system, with its search list.
    pub servers: Vec<SocketAddr>,
    /// Domains that names are tried in, when `servers` are given.
    pub search: Vec<String>,
}

/// Where spans go, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracesPlan {
    /// The backend that takes them by OTLP over HTTP.
    pub collector: Arc<str>,
    /// The share of those requests that come without a trace.
    pub fraction: Fraction,
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
