//! The data plane: *accept → connection → request → route → (mirror tee) → exchange → respond.*
//!
//! Read [`request`] for what happens to a request. This page has the threads it happens on: each
//! worker is one thread with a runtime of its own, which owns its connections from accept to close.

pub mod accept;
pub mod admission;
pub mod client_body;
pub mod connection;
pub mod deadlines;
pub mod framing;
pub mod gather;
pub mod grpc;
mod hello;
pub mod proxy_protocol;
pub mod rate;
pub mod record;
pub mod reply;
pub mod request;
pub mod sanitize;
pub mod service;
pub mod tls;
mod tls_route;
pub mod tunnel;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{mpsc, watch};

use self::accept::Listener;
use self::accept::socket::{Handed, Socket};
use self::admission::Admission;
use self::connection::Counted;
use self::deadlines::Deadlines;
use self::framing::refusal::RefusalCounts;
use crate::limits;
use crate::routing::table::RoutingTable;
use crate::shard::WorkerId;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{Metrics, RouteMetrics};
use crate::telemetry::process;
use crate::telemetry::spans::Traces;
use crate::worker::Worker;
use crate::worker::yielding::nothing_is_ready;

/// What all workers share: an immutable table and where to count.
pub struct Gateway {
    table: ArcSwap<RoutingTable>,
    metrics: Arc<Metrics>,
    access_log: AccessLog,
    traces: Traces,
    unrouted: Arc<RouteMetrics>,
    admission: Admission,
    deadlines: Vec<Arc<Deadlines>>,
    draining: AtomicBool,
    drain: watch::Sender<bool>,
    seats: Vec<Seat>,
}

/// One worker as the others see it.
pub struct Seat {
    connections: Arc<AtomicUsize>,
    orders: mpsc::Sender<Order>,
}

/// What a worker is told.
enum Order {
    Listen(Socket, Arc<Listener>),
    Serve(Handed, (SocketAddr, Counted), Arc<Listener>),
    Stop { requests: Duration, copies: Duration },
}

/// The threads of the data plane.
pub struct Workers(Vec<JoinHandle<()>>);

impl Gateway {
    /// Starts `workers` threads that serve by `table`.
    pub fn start(
        workers: usize,
        table: RoutingTable,
        metrics: Arc<Metrics>,
        (access_log, traces): (AccessLog, Traces),
    ) -> io::Result<(Arc<Self>, Workers)> {
        let mut inboxes = Vec::new();
        let mut seats = Vec::new();
        for _ in 0..workers.max(1) {
            let (orders, inbox) = mpsc::channel(limits::HANDOVER_QUEUE);
            seats.push(Seat { connections: Arc::default(), orders });
            inboxes.push(inbox);
        }
        let homes: Vec<_> =
            (0..seats.len()).map(|number| Worker::new(WorkerId(number), fastrand::u64(..))).collect();
        let gateway = Arc::new(Self {
            table: ArcSwap::from_pointee(table),
            unrouted: metrics.route(&"none".into()),
            metrics,
            access_log,
            traces,
            admission: Admission::default(),
            deadlines: homes.iter().map(|worker| worker.deadlines().clone()).collect(),
            draining: AtomicBool::new(false),
            drain: watch::Sender::new(false),
            seats,
        });
        let mut threads = Vec::new();
        gateway.set_deadlines();
        let copies = copies_of_one(gateway.seats.len());
        for (number, (worker, inbox)) in homes.into_iter().zip(inboxes).enumerate() {
            gateway.metrics.gateway.watch(worker.clone());
            worker.copies_within(copies);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_io_events_per_tick(limits::EVENTS_AT_ONCE)
                .event_interval(limits::TASKS_AT_ONCE)
                .on_thread_park(nothing_is_ready)
                .build()?;
            let gateway = gateway.clone();
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            threads.push(thread.spawn(move || runtime.block_on(work(gateway, worker, inbox)))?);
        }
        Ok((gateway, Workers(threads)))
    }

    /// The table in use. The guard must not be held across an await.
    pub fn table(&self) -> Guard<Arc<RoutingTable>> {
        self.table.load()
    }

    /// Puts another table into use; requests under way keep theirs.
    pub fn swap(&self, table: RoutingTable) {
        self.table.store(Arc::new(table));
        self.set_deadlines();
    }

    fn set_deadlines(&self) {
        let settings = self.table().limits().deadlines();
        self.deadlines.iter().for_each(|deadlines| deadlines.set(settings));
    }

    /// What the process takes on.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Where to count.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Where transactions are recorded.
    pub fn access_log(&self) -> &AccessLog {
        &self.access_log
    }

    /// Where their spans go.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Where requests are counted that no route took.
    pub fn unrouted(&self) -> &RouteMetrics {
        &self.unrouted
    }

    /// Where requests are counted whose framing was refused.
    pub fn refusals(&self) -> &Arc<RefusalCounts> {
        &self.metrics.gateway.framing
    }

    /// Whether the process is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Tells connections to close when their request is done, and copies not to begin.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.drain.send_replace(true);
    }

    pub(crate) fn draining(&self) -> watch::Receiver<bool> {
        self.drain.subscribe()
    }

    /// Lets the workers take turns at accepting from `socket`.
    pub fn listen(&self, socket: Socket, listener: Arc<Listener>) {
        let seat = &self.seats[listener.id.0 % self.seats.len()];
        if seat.orders.try_send(Order::Listen(socket, listener)).is_err() {
            tracing::error!("a worker takes no orders: it cannot listen");
        }
    }

    /// Ends every worker: when its requests are done or after `requests`, and then when its copies
    /// are done or `copies` have passed in all.
    pub fn stop(&self, requests: Duration, copies: Duration) {
        for seat in &self.seats {
            // A worker that takes no orders has ended already.
            let _ended = seat.orders.try_send(Order::Stop { requests, copies });
        }
    }

    /// Client connections open now.
    pub fn connections(&self) -> usize {
        self.seats.iter().map(Seat::load).sum()
    }

    pub(crate) fn seats(&self) -> &[Seat] {
        &self.seats
    }
}

impl Seat {
    fn load(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn hand(&self, stream: Handed, peer: (SocketAddr, Counted), listener: Arc<Listener>) -> bool {
        self.orders.try_send(Order::Serve(stream, peer, listener)).is_ok()
    }

    pub(crate) fn count(&self) -> Arc<AtomicUsize> {
        self.connections.clone()
    }
}

impl Workers {
    /// Waits for all of them to end.
    pub fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// Copies that one of `workers` may deliver at once.
fn copies_of_one(workers: usize) -> usize {
    let (part, whole) = limits::MIRROR_DESCRIPTORS;
    process::descriptors().map_or(usize::MAX, |most| (most / whole * part / workers).max(1))
}

async fn work(gateway: Arc<Gateway>, worker: Arc<Worker>, mut inbox: mpsc::Receiver<Order>) {
    worker.spawn(worker.clone().keep_time());
    worker.spawn(worker.clone().give_back_memory());
    let mut ending = None;
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Listen(socket, listener) => {
                worker.spawn(accept::run(gateway.clone(), worker.clone(), socket, listener));
            }
            Order::Serve(stream, peer, listener) => {
                if let Ok(stream) = stream.into_stream() {
                    connection::spawn(&gateway, &worker, stream, peer, &listener);
                }
            }
            Order::Stop { requests, copies } => {
                ending = Some((requests, copies));
                // Who was accepted just before the listeners closed is served, too; left in the inbox it
                // would be waited for until the end.
                inbox.close();
            }
        }
    }
    if let Some((requests, copies)) = ending {
        finish(&gateway, &worker, requests, copies).await;
    }
}

/// Polls instead of waiting for an event: it happens once in a process' life, and no request pays
/// for it.
async fn finish(gateway: &Gateway, worker: &Worker, requests: Duration, copies: Duration) {
    const TICK: Duration = Duration::from_millis(5);
    let begun = tokio::time::Instant::now();
    while gateway.seats[worker.id().0].load() > 0 && begun.elapsed() < requests {
        tokio::time::sleep(TICK).await;
    }
    while worker.copies_in_flight() > 0 && begun.elapsed() < copies {
        tokio::time::sleep(TICK).await;
    }
}
