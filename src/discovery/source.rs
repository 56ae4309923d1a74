//! What a source of endpoints is told and what it tells: full sets, never deltas.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Where the endpoints of a backend come from, as configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SourceSpec {
    /// A list that never changes.
    Static(Vec<EndpointSpec>),
    /// A watched file of endpoints.
    File(PathBuf),
    /// The A and AAAA records of a name.
    Dns {
        /// The name to look up.
        host: String,
        /// The port of every endpoint.
        port: u16,
    },
    /// The targets of an SRV record, with their ports and weights.
    Srv(String),
    /// The EndpointSlices of a Service.
    Kubernetes {
        /// The Service's namespace.
        namespace: Arc<str>,
        /// The Service's name.
        service: Arc<str>,
        /// The name of the Service's port; empty if it has none.
        port: Arc<str>,
    },
}

impl SourceSpec {
    /// Whether endpoints are looked up by a name in the DNS.
    pub fn is_name(&self) -> bool {
        matches!(self, Self::Dns { .. } | Self::Srv(_))
    }

    /// One word for `/backends` and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Static(_) => "static",
            Self::File(_) => "file",
            Self::Dns { .. } => "dns",
            Self::Srv(_) => "srv",
            Self::Kubernetes { .. } => "kubernetes",
        }
    }
}

/// One endpoint as a source names it. Two equal ones are the same endpoint, which keeps its
/// connections across updates; the weight is not part of the identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointSpec {
    /// Where to connect to.
    pub address: EndpointAddress,
    /// Share of the traffic relative to the other endpoints; 0 takes none.
    pub weight: u32,
    /// Zone of the endpoint, if its source knows it.
    pub zone: Option<Arc<str>>,
}

impl EndpointSpec {
    /// An endpoint of weight 1.
    pub fn new(address: SocketAddr) -> Self {
        Self { address: EndpointAddress::Tcp(address), weight: 1, zone: None }
    }
}

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// An IPv4 or IPv6 address with a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(Arc<std::path::Path>),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// What a source says about a backend's endpoints.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// These and no others. An empty set is an answer and is obeyed.
    Full(Vec<EndpointSpec>),
    /// The backend is known not to exist: as an empty set, with a reason to show.
    Gone(String),
    /// The best that is known, though it was last known to be right at `since`: it is used, and its age counts
    /// from then.
    Kept {
        /// The whole set.
        endpoints: Vec<EndpointSpec>,
        /// When it was last known to be right.
        since: Instant,
        /// Why that is not known now.
        why: String,
    },
    /// Nothing could be learned: the last good set stays, its age grows.
    Failed(SourceError),
}

/// Why a source could not tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);
