//! A gateway inside another program: the same start and the same end as [`super::run`], without a
//! process around it. The demo, the end-to-end benches and the tests run it so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Origin, Running, Unusable};
use crate::proxy::Gateway;
use crate::proxy::service::{MirrorService, Seat};
use crate::telemetry::metrics::Metrics;
use crate::upstream::registry::Registry;

/// A gateway that runs until [`Handle::stop`].
///
/// The runtime that [`start`] was called on is its control runtime and must live as long; the data
/// plane has threads of its own. Dropping the handle ends the control side at once, and leaves the
/// workers to the end of the process.
pub struct Handle {
    running: Running,
    seat: Arc<Seat>,
}

/// Starts a gateway. Port 0 in an address takes a free one, which [`Handle`] tells. With
/// [`Origin::File`] it reloads when the file changes, as the process does.
///
/// # Errors
/// What is wrong with the configuration or with an address, all at once.
pub async fn start(origin: Origin) -> Result<Handle, Unusable> {
    let (configuration, feed, slices) = origin.load().await?;
    let running = Running::start(configuration, feed, slices, None).await?;
    Ok(Handle { seat: Seat::new(&running.gateway), running })
}

impl Handle {
    /// The names and addresses of the listeners that have an IP address, ordered by name.
    pub fn listeners(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.running.listeners.addresses()
    }

    /// The first listener's address: all that a gateway with one needs to tell.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listeners().first().map(|(_, address)| *address)
    }

    /// Where the admin API answers, unless it is off.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.running.admin
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        self.running.gateway.metrics()
    }

    /// The backends in use.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.running.registry
    }

    /// What the data plane's threads share.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.running.gateway
    }

    /// What cannot be read at present of what the configuration comes from, and what cannot be listened
    /// on, a line each.
    pub fn warnings(&self) -> Vec<String> {
        self.running.reloader.problems()
    }

    /// The gateway as a service, for requests of `client` that the program around it took itself; they
    /// count as requests to the first listener, whose routes take them. `None` after that was closed.
    pub fn service(&self, client: SocketAddr) -> Option<MirrorService> {
        MirrorService::new(self.gateway(), &self.seat, self.running.listeners.first()?, client)
    }

    /// Goes on accepting for `delay`, then lets requests and copies under way finish within their
    /// deadlines, and ends. False when something was still under way then.
    pub async fn stop(self, delay: Duration) -> bool {
        let gateway = self.running.gateway.clone();
        self.running.drain(delay).await;
        gateway.connections() == 0
    }
}
