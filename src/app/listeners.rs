//! The listening sockets, as one configuration after the other wants them.

mod certificates;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Unusable;
use crate::discovery::source::EndpointAddress;
use crate::file_watch::FileWatch;
use crate::plan::ListenerPlan;
use crate::proxy::Gateway;
use crate::proxy::accept::Listener;
use crate::proxy::accept::socket::Socket;
use crate::proxy::tls::Terminator;
use crate::routing::table::Builder;

/// The listening sockets in use.
pub(super) struct Listeners {
    builder: Arc<Builder>,
    files: FileWatch,
    open: Mutex<HashMap<EndpointAddress, Open>>,
}

struct Open {
    plan: ListenerPlan,
    listener: Arc<Listener>,
    /// The same socket as the accepting one: a listener that changes goes on with it, so that no
    /// client is refused in between.
    socket: Socket,
}

/// A socket that is bound and not yet accepted from.
pub(super) struct Bound {
    plan: ListenerPlan,
    socket: Socket,
    tls: Option<Arc<Terminator>>,
}

impl Listeners {
    pub(super) fn new(builder: Arc<Builder>) -> Self {
        Self { builder, files: FileWatch::default(), open: Mutex::default() }
    }

    /// Binds what `wanted` adds to what is open, and what is open but changed with the socket that it
    /// has; reads certificates. All failures are told at once, and then nothing is changed.
    pub(super) fn bind(&self, wanted: &[ListenerPlan]) -> Result<Vec<Bound>, Unusable> {
        let mut errors = Vec::new();
        let mut bound = Vec::new();
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for plan in wanted {
            let socket = match open.get(&plan.address) {
                Some(open) if open.plan == *plan => continue,
                Some(open) => open.socket.try_clone(),
                None => Socket::bind(&plan.address),
            };
            let socket = socket.map_err(|error| {
                errors.push(format!(
                    "cannot listen on {}: {error}{}",
                    plan.address,
                    hint(&error).map(|hint| format!("; hint: {hint}")).unwrap_or_default(),
                ));
            });
            let tls = plan.tls.as_ref().map(Terminator::new).transpose().map_err(|wrong| {
                errors.extend(wrong.iter().map(|error| format!("listener {}: {error}", plan.name)));
            });
            if let (Ok(socket), Ok(tls)) = (socket, tls) {
                bound.push(Bound { plan: plan.clone(), socket, tls: tls.map(Arc::new) });
            }
        }
        if errors.is_empty() { Ok(bound) } else { Err(Unusable(errors.join("\n"))) }
    }

    /// The same, but what cannot be bound is left out; the listener and why are handed back.
    pub(super) fn bind_possible(&self, wanted: &[ListenerPlan]) -> (Vec<Bound>, Vec<(Arc<str>, String)>) {
        let mut failed = Vec::new();
        let mut bound = Vec::new();
        for plan in wanted {
            match self.bind(std::slice::from_ref(plan)) {
                Ok(one) => bound.extend(one),
                Err(error) => failed.push((plan.name.clone(), error.to_string())),
            }
        }
        (bound, failed)
    }

    /// Whether there is any that is accepted from.
    pub(super) fn is_any_open(&self) -> bool {
        !self.open.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether every one of `wanted` is open as it is wanted.
    pub(super) fn are_open(&self, wanted: &[ListenerPlan]) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.iter().all(|plan| open.get(&plan.address).is_some_and(|open| open.plan == *plan))
    }

    /// Accepts from `bound`; stops accepting on what `wanted` does not have. Connections go on.
    pub(super) fn open(&self, gateway: &Arc<Gateway>, bound: Vec<Bound>, wanted: &[ListenerPlan]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|address, open| {
            let same = wanted.iter().any(|wanted| wanted.address == *address && *wanted == open.plan);
            if !same {
                open.listener.closed.send_replace(true);
            }
            if wanted.iter().all(|wanted| wanted.address != *address) {
                open.socket.leave();
            }
            same
        });
        for Bound { plan, socket, tls } in bound {
            // The port is the one that the system chose if the plan said 0.
            let address = socket.address().unwrap_or_else(|_| plan.address.clone());
            let kept = match socket.try_clone() {
                Ok(kept) => kept,
                Err(error) => {
                    tracing::error!("cannot listen on {address}: {error}");
                    continue;
                }
            };
            let listener = Arc::new(Listener {
                id: self.builder.listener(&plan.name),
                name: plan.name.clone(),
                address: address.clone(),
                half_close: plan.half_close,
                strict_framing: plan.strict_framing,
                tls,
                proxy_protocol: plan.proxy_protocol,
                closed: watch::Sender::new(false),
            });
            let scheme = if listener.tls.is_some() { "https" } else { "http" };
            tracing::info!("listening on {scheme}://{address}");
            gateway.listen(socket, listener.clone());
            if listener.tls.is_some() {
                tokio::spawn(certificates::follow(self.files.clone(), listener.clone(), gateway.clone()));
            }
            open.insert(plan.address.clone(), Open { plan, listener, socket: kept });
        }
    }

    /// The name of each that listens at an IP address, and that, ordered by name.
    pub(super) fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_tcp = |open: &Open| match open.listener.address {
            EndpointAddress::Tcp(address) => Some((open.listener.name.clone(), address)),
            EndpointAddress::Unix(_) => None,
        };
        let mut addresses: Vec<_> = open.values().filter_map(of_tcp).collect();
        addresses.sort();
        addresses
    }

    /// The first by name.
    pub(super) fn first(&self) -> Option<Arc<Listener>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().map(|open| &open.listener).min_by_key(|listener| &listener.name).cloned()
    }

    /// Stops accepting.
    pub(super) fn close(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, open) in open.drain() {
            open.listener.closed.send_replace(true);
            open.socket.leave();
        }
    }
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
