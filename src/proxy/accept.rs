//! Accepting connections, and handing each to the worker that has the fewest.

pub mod socket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use self::socket::{Handed, Socket};
use super::connection::Counted;
use super::tls::Terminator;
use super::{Gateway, connection};
use crate::discovery::source::EndpointAddress;
use crate::routing::table::ListenerId;
use crate::telemetry::gateway::Refusal;
use crate::upstream::stream::Stream;
use crate::worker::Worker;

/// What all connections of one listener share.
pub struct Listener {
    /// Its number, by which routes refer to it.
    pub id: ListenerId,
    /// Its name.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: EndpointAddress,
    /// See [`crate::plan::ListenerPlan::half_close`].
    pub half_close: bool,
    /// See [`crate::plan::ListenerPlan::strict_framing`].
    pub strict_framing: bool,
    /// `Some` speaks TLS.
    pub tls: Option<Arc<Terminator>>,
    /// See [`crate::plan::ListenerPlan::proxy_protocol`].
    pub proxy_protocol: bool,
    /// True once it accepts no more.
    pub closed: watch::Sender<bool>,
}

/// Accepts until the listener is closed. Runs on one worker; most connections go to others.
pub(super) async fn run(gateway: Arc<Gateway>, worker: Arc<Worker>, socket: Socket, listener: Arc<Listener>) {
    let socket = match socket.into_acceptor() {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(listener = %listener.name, %error, "cannot listen"),
    };
    let mut closed = listener.closed.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = closed.wait_for(|closed| *closed) => return,
        };
        match accepted {
            Ok((stream, peer)) => place(&gateway, &worker, stream, peer, &listener),
            Err(error) => {
                gateway.metrics().gateway.accept_errors.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(pause_after(&error)).await;
            }
        }
    }
}

/// Gives the connection to the worker with the fewest, here first among equals.
fn place(
    gateway: &Arc<Gateway>,
    worker: &Arc<Worker>,
    stream: Stream,
    peer: SocketAddr,
    listener: &Arc<Listener>,
) {
    let seats = gateway.seats();
    let here = seats[worker.id().0].load();
    let total: usize = seats.iter().map(super::Seat::load).sum();
    if total >= gateway.table().limits().connections {
        gateway.metrics().gateway.refused(Refusal::ConnectionLimit);
        return;
    }
    let least = seats.iter().filter(|seat| seat.load() < here).min_by_key(|seat| seat.load());
    // Counted before it is handed over: several are accepted in one turn, and all of them would go to
    // the worker that had the fewest at its beginning.
    let counted = Counted::new(gateway, least.unwrap_or(&seats[worker.id().0]));
    match least {
        None => connection::spawn(gateway, worker, stream, (peer, counted), listener),
        Some(seat) => {
            let handed =
                Handed::new(stream).is_ok_and(|stream| seat.hand(stream, (peer, counted), listener.clone()));
            if !handed {
                // A worker that is about to end takes nobody any more.
                let draining = gateway.is_draining();
                let reason = if draining { Refusal::Draining } else { Refusal::ConnectionLimit };
                gateway.metrics().gateway.refused(reason);
            }
        }
    }
}

/// An error of one connection says nothing of the next; lack of descriptors or memory lasts, and
/// trying at once would only burn the processor.
fn pause_after(error: &io::Error) -> Duration {
    match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => {
            Duration::ZERO
        }
        _ => Duration::from_millis(50),
    }
}
