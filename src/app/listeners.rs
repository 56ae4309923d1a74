//! The listening sockets, as one configuration after the other wants them.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Unusable;
use crate::plan::ListenerPlan;
use crate::proxy::Gateway;
use crate::proxy::accept::{Listener, bind};
use crate::routing::table::Builder;

/// The listening sockets in use.
pub(super) struct Listeners {
    builder: Arc<Builder>,
    open: Mutex<HashMap<SocketAddr, (ListenerPlan, Arc<Listener>)>>,
}

/// A socket that is bound and not yet accepted from.
pub(super) struct Bound(ListenerPlan, TcpListener);

impl Listeners {
    pub(super) fn new(builder: Arc<Builder>) -> Self {
        Self { builder, open: Mutex::default() }
    }

    /// Binds what `wanted` adds to what is open; all failures are told at once, and then nothing is
    /// changed.
    pub(super) fn bind(&self, wanted: &[ListenerPlan]) -> Result<Vec<Bound>, Unusable> {
        let mut errors = Vec::new();
        let mut bound = Vec::new();
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for plan in wanted {
            if open.contains_key(&plan.address) {
                continue;
            }
            match bind(plan.address) {
                Ok(socket) => bound.push(Bound(plan.clone(), socket)),
                Err(error) => errors.push(format!(
                    "cannot listen on {}: {error}{}",
                    plan.address,
                    hint(&error).map(|hint| format!("; hint: {hint}")).unwrap_or_default(),
                )),
            }
        }
        if errors.is_empty() { Ok(bound) } else { Err(Unusable(errors.join("\n"))) }
    }

    /// Accepts from `bound`.
    pub(super) fn open(&self, gateway: &Gateway, bound: Vec<Bound>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for Bound(plan, socket) in bound {
            // The port is the one that the system chose if the plan said 0.
            let address = socket.local_addr().unwrap_or(plan.address);
            let listener = Arc::new(Listener {
                id: self.builder.listener(&plan.name),
                name: plan.name.clone(),
                address,
                half_close: plan.half_close,
                strict_framing: plan.strict_framing,
                closed: watch::Sender::new(false),
            });
            tracing::info!("listening on http://{address}");
            gateway.listen(socket, listener.clone());
            open.insert(plan.address, (plan, listener));
        }
    }

    /// Stops accepting on what `wanted` does not have; what changed but for its address is opened
    /// again with its own socket. Connections go on.
    pub(super) fn keep(&self, gateway: &Gateway, wanted: &[ListenerPlan]) {
        let mut changed = Vec::new();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|address, (plan, listener)| {
            let found = wanted.iter().find(|wanted| wanted.address == *address);
            let same = found.is_some_and(|wanted| wanted == plan);
            if !same {
                listener.closed.send_replace(true);
                changed.extend(found.cloned());
            }
            same
        });
        drop(open);
        for plan in changed {
            // The old socket may take a moment to go.
            match retry_bind(plan.address) {
                Ok(socket) => self.open(gateway, vec![Bound(plan, socket)]),
                Err(error) => tracing::error!("cannot listen on {} again: {error}", plan.address),
            }
        }
    }

    /// The name of each and where it listens, ordered by name.
    pub(super) fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut addresses: Vec<_> =
            open.values().map(|(_, listener)| (listener.name.clone(), listener.address)).collect();
        addresses.sort();
        addresses
    }

    /// Stops accepting.
    pub(super) fn close(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().for_each(|(_, listener)| {
            listener.closed.send_replace(true);
        });
    }
}

fn retry_bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    const TRIES: u32 = 50;
    let mut last = bind(address);
    for _ in 0..TRIES {
        if last.is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        last = bind(address);
    }
    last
}

fn hint(error: &std::io::Error) -> Option<&'static str> {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => Some("another process listens there; stop it or take another port"),
        std::io::ErrorKind::PermissionDenied => {
            Some("ports below 1024 need a privilege (CAP_NET_BIND_SERVICE)")
        }
        std::io::ErrorKind::AddrNotAvailable => Some("no interface of this machine has that address"),
        _ => None,
    }
}
