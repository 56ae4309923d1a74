//! What one worker has open to one endpoint in one lane: idle HTTP/1 connections, shared HTTP/2
//! connections, and the count of exchanges in flight that the balancer looks at.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::endpoint::Endpoint;
use super::http2;
use super::stream::Stream;
use crate::limits;
use crate::shard::Lane;
use crate::worker::Worker;

/// What one worker has open to one endpoint in one lane.
#[derive(Default)]
pub struct Pool {
    kept: Mutex<Kept>,
    in_flight: AtomicUsize,
    open: AtomicUsize,
    expired: AtomicBool,
    expiry: Arc<Notify>,
    /// One dial at a time for HTTP/2, since the others can share what it brings.
    dialling: tokio::sync::Mutex<()>,
    /// Whether the last connection turned out to speak HTTP/2.
    http2: AtomicBool,
}

#[derive(Default)]
struct Kept {
    /// Set under this lock when the endpoint is retired, so that a connection given back at that
    /// very moment cannot slip in behind.
    closed: bool,
    /// The most recently used last.
    idle: VecDeque<(Stream, Instant, Owner)>,
    shared: Vec<Shared>,
}

/// A connection that exchanges share, and when it was last seen in use.
struct Shared {
    connection: http2::Connection,
    /// What it had answered then.
    answers: usize,
    used: Instant,
}

/// The client whose connection it is, where the PROXY protocol has named one: nobody else's request
/// may go there.
type Owner = Option<Box<SocketAddr>>;

/// One exchange in flight with one endpoint, counted from the pick to the end of the response.
pub struct Lease {
    worker: Arc<Worker>,
    endpoint: Arc<Endpoint>,
    lane: Lane,
    /// Whether a connection of the pool belongs to it, which goes when it is dropped.
    connected: bool,
    owner: Owner,
    /// Whether it ends when its removed endpoint has had its time.
    expires: bool,
}

/// Waits for the end of a lease; made once there is something to wait for.
#[derive(Default)]
pub(super) struct Expiry(Option<Pin<Box<OwnedNotified>>>);

impl Pool {
    /// Exchanges in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Connections open, idle ones included.
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether its connections are shared, as far as is known.
    pub(super) fn speaks_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// Waits for the turn to dial.
    pub(super) async fn dialling(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.dialling.lock().await
    }

    /// Closes idle connections; takes none back from now on. Shared connections end by themselves
    /// with their last stream.
    pub(super) fn close(&self) {
        let mut kept = self.kept();
        let closed = std::mem::replace(&mut *kept, Kept { closed: true, ..Kept::default() });
        drop(kept);
        // Closing sockets takes a while: no worker is to wait for it at the lock.
        self.open.fetch_sub(closed.idle.len() + closed.shared.len(), Ordering::Relaxed);
    }

    /// Breaks off the exchanges that may be.
    pub(super) fn expire(&self) {
        self.expired.store(true, Ordering::Release);
        self.expiry.notify_waiters();
    }

    /// Closes what has been idle for too long at `now`, and what the endpoint closed. A shared connection
    /// ends by itself once nobody holds it.
    pub(super) fn reap(&self, now: Instant) {
        let mut kept = self.kept();
        let before = kept.idle.len() + kept.shared.len();
        while kept.surplus(now).is_some() {}
        kept.idle.retain_mut(|(stream, since, _)| {
            now.saturating_duration_since(*since) <= limits::IDLE_AGE && stream.is_quiet()
        });
        kept.shared
            .retain_mut(|shared| shared.connection.is_open() && shared.unused(now) <= limits::IDLE_AGE);
        self.open.fetch_sub(before - kept.idle.len() - kept.shared.len(), Ordering::Relaxed);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The connection that has been idle for longest, if at `now` there are more than are kept.
    fn surplus(&mut self, now: Instant) -> Option<Stream> {
        let (_, since, _) = self.idle.front()?;
        match is_surplus(self.idle.len(), now.saturating_duration_since(*since)) {
            true => self.idle.pop_front().map(|(stream, ..)| stream),
            false => None,
        }
    }
}

impl Shared {
    fn new(connection: http2::Connection) -> Self {
        Self { answers: connection.answers(), connection, used: Instant::now() }
    }

    /// For how long it has had no exchange at `now`, as far as those see who look now and then.
    fn unused(&mut self, now: Instant) -> Duration {
        let answers = self.connection.answers();
        if self.connection.streams() > 0 || answers != self.answers {
            (self.answers, self.used) = (answers, now);
        }
        now.saturating_duration_since(self.used)
    }
}

/// Whether of `idle` connections the oldest, unused for `age`, is one too many.
///
/// A load of several hundred requests at once gives as many connections back and wants them again in
/// the same moment. Without [`limits::IDLE_BURST`] it made 0.59 connects a request.
fn is_surplus(idle: usize, age: Duration) -> bool {
    let (most, moment) = limits::IDLE_BURST;
    idle > most || (idle > limits::IDLE_PER_ENDPOINT && age > moment)
}

impl Lease {
    /// Counts an exchange with `endpoint` from now on.
    pub(super) fn new(worker: Arc<Worker>, endpoint: Arc<Endpoint>, lane: Lane) -> Self {
        endpoint.pool(worker.id(), lane).in_flight.fetch_add(1, Ordering::Relaxed);
        Self { worker, endpoint, lane, connected: false, owner: None, expires: false }
    }

    /// Lets it end when its endpoint was removed and has had its time.
    pub(super) fn expires(&mut self) {
        self.expires = true;
    }

    /// Ready when it is to be broken off. `expiry` belongs to this lease alone.
    pub(super) fn poll_expired(&self, expiry: &mut Expiry, context: &mut Context<'_>) -> Poll<()> {
        if !self.expires {
            return Poll::Pending;
        }
        let expiry = expiry.0.get_or_insert_with(|| Box::pin(self.pool().expiry.clone().notified_owned()));
        let notified = expiry.as_mut().poll(context).is_ready();
        // Looked at last: one that came just before is not missed.
        if notified || self.pool().expired.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Resolves when it is to be broken off.
    pub async fn expired(&self) {
        let mut expiry = Expiry::default();
        poll_fn(|context| self.poll_expired(&mut expiry, context)).await;
    }

    /// Whose exchange it is.
    pub fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// Whom it is with.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// What it is for.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    fn pool(&self) -> &Pool {
        self.endpoint.pool(self.worker.id(), self.lane)
    }

    /// Its connection belongs to `client` alone.
    pub(super) fn belongs_to(&mut self, client: SocketAddr) {
        self.owner = Some(Box::new(client));
    }

    /// The most recently used idle connection that is still open.
    pub fn take_idle(&mut self) -> Option<Stream> {
        let mut closed = 0;
        let mut kept = self.pool().kept();
        let found = loop {
            let taken = match &self.owner {
                None => kept.idle.pop_back(),
                owner => match kept.idle.iter().rposition(|(_, _, other)| other == owner) {
                    Some(own) => kept.idle.remove(own),
                    None => None,
                },
            };
            match taken {
                None => break None,
                Some((mut stream, ..)) => match stream.is_quiet() {
                    true => break Some(stream),
                    false => closed += 1,
                },
            }
        };
        drop(kept);
        self.pool().open.fetch_sub(closed, Ordering::Relaxed);
        self.connected = found.is_some();
        found
    }

    /// A connection was made for this exchange.
    pub fn connected(&mut self) {
        if !std::mem::replace(&mut self.connected, true) {
            self.pool().open.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The exchange is over and its connection may serve another.
    pub fn give_back(mut self, stream: Stream) {
        let owner = self.owner.take();
        let mut kept = self.pool().kept();
        if kept.closed {
            return;
        }
        let now = Instant::now();
        kept.idle.push_back((stream, now, owner));
        let surplus = kept.surplus(now);
        drop(kept);
        if surplus.is_some() {
            self.pool().open.fetch_sub(1, Ordering::Relaxed);
        }
        self.connected = false;
    }

    /// The shared connection with the fewest streams that takes one more.
    pub(super) fn shared(&self) -> Option<http2::Connection> {
        let mut kept = self.pool().kept();
        let before = kept.shared.len();
        kept.shared.retain(|shared| shared.connection.is_open());
        self.pool().open.fetch_sub(before - kept.shared.len(), Ordering::Relaxed);
        let may_dial = kept.shared.len() < limits::HTTP2_CONNECTIONS_PER_ENDPOINT;
        let connections = kept.shared.iter().map(|shared| &shared.connection);
        let heard = connections.filter(|connection| !connection.is_silent());
        let least = heard.min_by_key(|connection| connection.streams())?;
        (!may_dial || least.has_room()).then(|| least.clone())
    }

    /// Shares a new connection with the exchanges to come.
    pub(super) fn share(&self, connection: http2::Connection) {
        self.pool().http2.store(true, Ordering::Relaxed);
        let mut kept = self.pool().kept();
        // What it replaces ends with its last stream.
        let before = kept.shared.len();
        kept.shared.retain(|shared| !shared.connection.is_silent());
        self.pool().open.fetch_sub(before - kept.shared.len(), Ordering::Relaxed);
        if !kept.closed && kept.shared.len() < limits::HTTP2_CONNECTIONS_PER_ENDPOINT {
            kept.shared.push(Shared::new(connection));
            self.pool().open.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let pool = self.pool();
        pool.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.connected {
            pool.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
