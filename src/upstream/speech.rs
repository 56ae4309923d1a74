//! How a backend's endpoints are spoken to, and where attempts to connect to them are counted. Plain values that
//! every attempt is handed; made by `backend` and by health checks.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;

use super::ExchangeError;
use super::connect::ConnectError;
use super::pace::Pace;
use super::tls::Connector;
use crate::plan::{Protocol, Transport};
use crate::shard::{Lane, WorkerId};
use crate::telemetry::metrics::{BackendMetrics, Connect};

/// How a backend's endpoints are spoken to.
pub struct Speech {
    /// The backend's name.
    pub(crate) name: Arc<str>,
    pub(crate) protocol: Protocol,
    /// The Host that they are sent instead of the client's.
    pub(crate) host: Option<HeaderValue>,
    /// What lies between the protocol and the socket.
    pub(crate) transport: Transport,
    /// What begins TLS, if they speak it.
    pub(crate) connector: Option<Arc<Connector>>,
    /// Where attempts to connect are counted; probes are not.
    pub(crate) counts: Option<Connects>,
}

/// What is kept of attempts to connect.
#[derive(Clone)]
pub(crate) struct Connects {
    pub(crate) metrics: Arc<BackendMetrics>,
    pub(crate) pace: Arc<Pace>,
}

impl Connects {
    pub(super) fn connected<T>(&self, worker: WorkerId, lane: Lane, ended: &Result<T, ExchangeError>) {
        let how = match ended {
            Ok(_) => Connect::Established,
            Err(ExchangeError::Connect(ConnectError::Removed)) => Connect::Removed,
            Err(_) => Connect::Failed,
        };
        self.metrics.connected(worker, lane, how);
        self.pace.connected(worker, lane, Instant::now());
    }
}

impl Speech {
    /// Whether an endpoint has words for a request that it did not look at: HTTP/2 has.
    pub(crate) fn may_refuse(&self) -> bool {
        self.protocol != Protocol::Http1
    }

    /// The same without being counted.
    pub(crate) fn uncounted(&self) -> Self {
        let Self { name, protocol, host, transport, connector, .. } = self;
        let (host, transport, connector) = (host.clone(), transport.clone(), connector.clone());
        Self { name: name.clone(), protocol: *protocol, host, transport, connector, counts: None }
    }
}
