//! The admin API: who is alive, what is in use, and the few things that may be changed while the
//! process runs.
//!
//! It runs on the control runtime, on a listener of its own, and never touches the data plane: a
//! scrape only reads shards. What it shows is handed to it as [`AdminState`]; it owns nothing.

mod access;
mod api;
mod backends;
pub mod mirrors;
pub mod readiness;
mod reply;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::access::Access;
use self::mirrors::MirrorsInUse;
use self::readiness::Readiness;
use crate::limits;
use crate::plan::AdminPlan;
use crate::shard::Lane;
use crate::telemetry::logging::RateLimitedLog;
use crate::telemetry::metrics::Metrics;
use crate::upstream::registry::Registry;

/// Something that can be shown as JSON, as it is at the time of the call.
pub type JsonView = Arc<dyn Fn() -> Value + Send + Sync>;
/// The lanes in which the table in use refers to backends, by their names; who is in none is not in it.
pub type LanesInUse = Arc<dyn Fn() -> HashMap<Arc<str>, Vec<Lane>> + Send + Sync>;
/// Sets what is logged; the error is shown to whoever asked.
pub type SetLogLevel = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What is wrong although traffic may come, a line each.
pub type Warnings = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// What the API shows and what it may change.
pub struct AdminState {
    /// `/metrics`.
    pub metrics: Arc<Metrics>,
    /// `/backends`, and how old their sets are.
    pub registry: Arc<Registry>,
    /// Beside them: which lanes refer to a backend.
    pub lanes: LanesInUse,
    /// `/ready`.
    pub readiness: Readiness,
    /// Beside it: what is wrong and does not stop traffic.
    pub warnings: Warnings,
    /// `/mirrors`, and who is dialled there.
    pub mirrors: MirrorsInUse,
    /// `/routes`: the compiled routes.
    pub routes: JsonView,
    /// `/config`: the configuration as loaded, secrets left out, and the last reload error.
    pub configuration: JsonView,
    /// `POST /drain` sends `true`.
    pub drain: watch::Sender<bool>,
    /// `POST /log?level=`.
    pub set_log_level: SetLogLevel,
}

/// The admin listener, bound and not yet answering.
pub struct Admin {
    listener: TcpListener,
    access: Access,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be used.
    #[error("cannot listen on the admin address {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The token cannot be used.
    #[error("cannot use the admin token in {path}: {error}")]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
}

impl Admin {
    /// Binds the listener and looks at the token.
    ///
    /// # Errors
    /// When the address is taken or not ours, or the token file is missing, empty or too long.
    pub async fn bind(plan: &AdminPlan) -> Result<Self, AdminError> {
        let listening = |error| AdminError::Bind { address: plan.address, error };
        let listener = TcpListener::bind(plan.address).await.map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let access = Access::new(address, plan.token_file.clone());
        if let (Err(error), Some(path)) = (access.token().await, &plan.token_file) {
            return Err(AdminError::Token { path: path.clone(), error });
        }
        Ok(Self { listener, access })
    }

    /// Where it listens; the port is the one that the system chose if the plan said 0.
    pub fn address(&self) -> SocketAddr {
        self.access.address()
    }

    /// Answers until it is dropped, which closes every connection.
    pub async fn serve(self, state: Arc<AdminState>) {
        static ACCEPT_ERRORS: RateLimitedLog = RateLimitedLog::new();
        let access = Arc::new(self.access);
        let permits = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            // Taken before accepting: whoever is too many waits in the kernel's queue.
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let connection = answer(stream, state.clone(), access.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    if let Some(suppressed) = ACCEPT_ERRORS.permit() {
                        tracing::warn!(%error, suppressed, "cannot accept admin connections");
                    }
                    tokio::time::sleep(limits::ADMIN_ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn answer(stream: TcpStream, state: Arc<AdminState>, access: Arc<Access>) {
    if let Err(error) = bound_silence(&stream) {
        tracing::debug!(%error, "no deadlines on an admin connection");
    }
    let service = service_fn(move |request| api::answer(request, state.clone(), access.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::ADMIN_IDLE)
        .max_headers(limits::HEAD_FIELDS)
        .max_buf_size(limits::ADMIN_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "admin connection");
    }
}

/// A scraper that stopped reading, or a watcher whose host is gone, would hold one of few connections
/// for ever, and the probes of an orchestrator would find none free.
fn bound_silence(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(limits::WRITE_STALL))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(limits::WRITE_STALL))?;
    Ok(())
}

#[cfg(test)]
mod tests;
