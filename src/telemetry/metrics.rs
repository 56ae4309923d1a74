//! Counters of the data plane. Handles are resolved when a table is compiled; a request touches only
//! its worker's shard: no label is hashed, no lock taken, every step one relaxed addition.
//!
//! [`Metrics`] holds its handles weakly. A reload finds the handle that the table in use still holds
//! and counts on; when the last holder of a removed route goes, so do its series. A shard is made when
//! its worker first serves the route and takes 512 bytes: 20 MiB for 10,000 routes, all of them busy
//! on each of 4 workers.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::StatusCode;

use super::codes::{self, CodeCounts, RareCodes};
pub use super::gateway::{GatewayMetrics, Refusal, Reload};
use super::handles::Handles;
use super::histogram::{Distribution, Histogram};
use crate::limits;
use crate::memory::Account;
use crate::mirror::dial::DialView;
use crate::mirror::outcome::Outcome;
use crate::mirror::pair::Agreement;
use crate::proxy::grpc;
use crate::shard::{Lane, Sharded, WorkerId};

/// Every metric of the process.
pub struct Metrics {
    workers: usize,
    /// What belongs to no route.
    pub gateway: GatewayMetrics,
    routes: Handles<Arc<str>, RouteMetrics>,
    backends: Handles<Arc<str>, BackendMetrics>,
    mirrors: Handles<MirrorKey, MirrorMetrics>,
}

/// The names of a route and of its mirror, which is that of the backend unless the route has several
/// mirrors to it.
pub type MirrorKey = (Arc<str>, Arc<str>);

/// One route.
pub struct RouteMetrics {
    shards: Sharded<RouteShard>,
    rare: RareCodes,
    /// Made with the first call, since few routes have any.
    grpc: OnceLock<Box<[AtomicU64; grpc::STATUSES]>>,
}

#[derive(Default)]
struct RouteShard {
    codes: CodeCounts,
    durations: Histogram,
    forwarded: AtomicU64,
}

/// One backend.
pub struct BackendMetrics {
    lanes: [BackendLane; 2],
    generation: AtomicU64,
    endpoints: AtomicUsize,
    propagation: Histogram,
    first_use: Histogram,
    /// How often the source could not tell, and whether that is so now.
    source_failures: AtomicU64,
    source_failing: AtomicBool,
}

struct BackendLane {
    shards: Sharded<BackendShard>,
    rare: RareCodes,
}

#[derive(Default)]
struct BackendShard {
    codes: CodeCounts,
    retried: AtomicU64,
    retry_denied: AtomicU64,
    sent_to_removed: AtomicU64,
    connected: AtomicU64,
    connect_failed: AtomicU64,
}

/// One mirror of one route.
pub struct MirrorMetrics {
    /// Copies that were begun and have no outcome yet.
    pub in_flight: AtomicUsize,
    shards: Apart<Sharded<MirrorShard>>,
    dial: Mutex<Option<DialView>>,
    stops: AtomicU64,
}

/// Parts of each bucket of answers, for quantiles without a Prometheus: 2 KiB for each worker of a
/// mirror, for quantiles that are mostly within a tenth of the truth.
const ANSWER_PARTS: usize = 8;

struct MirrorShard {
    offered: AtomicU64,
    outcomes: [AtomicU64; Outcome::COUNT],
    agreements: [AtomicU64; Agreement::ALL.len()],
    /// By lane, of requests that both answered.
    answers: [Histogram<ANSWER_PARTS>; 2],
    omitted_bodies: AtomicU64,
    unread_answers: AtomicU64,
    /// What the copies of this worker pin.
    buffered: OnceLock<Arc<Account>>,
}

/// Keeps what all workers read off the cache line of what all workers write.
#[repr(align(128))]
struct Apart<T>(T);

impl Default for MirrorShard {
    fn default() -> Self {
        Self {
            offered: AtomicU64::new(0),
            outcomes: [const { AtomicU64::new(0) }; Outcome::COUNT],
            agreements: [const { AtomicU64::new(0) }; Agreement::ALL.len()],
            answers: [Histogram::default(), Histogram::default()],
            omitted_bodies: AtomicU64::new(0),
            unread_answers: AtomicU64::new(0),
            buffered: OnceLock::new(),
        }
    }
}

impl Metrics {
    /// No series yet, with shards for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            gateway: GatewayMetrics::default(),
            routes: Handles::default(),
            backends: Handles::default(),
            mirrors: Handles::default(),
        }
    }

    /// The living handle of the route called `name`, or a new one.
    pub fn route(&self, name: &Arc<str>) -> Arc<RouteMetrics> {
        self.routes.living_or(name.clone(), || RouteMetrics {
            shards: Sharded::new(self.workers),
            grpc: OnceLock::new(),
            rare: RareCodes::default(),
        })
    }

    /// The living handle of the backend called `name`, or a new one.
    pub fn backend(&self, name: &Arc<str>) -> Arc<BackendMetrics> {
        let lane = || BackendLane { shards: Sharded::new(self.workers), rare: RareCodes::default() };
        self.backends.living_or(name.clone(), || BackendMetrics {
            lanes: [lane(), lane()],
            generation: AtomicU64::new(0),
            endpoints: AtomicUsize::new(0),
            propagation: Histogram::default(),
            first_use: Histogram::default(),
            source_failures: AtomicU64::new(0),
            source_failing: AtomicBool::new(false),
        })
    }

    /// The living handle of the mirror to `backend` of `route`, or a new one.
    pub fn mirror(&self, route: &Arc<str>, mirror: &Arc<str>) -> Arc<MirrorMetrics> {
        self.mirrors.living_or((route.clone(), mirror.clone()), || MirrorMetrics {
            in_flight: AtomicUsize::new(0),
            shards: Apart(Sharded::new(self.workers)),
            dial: Mutex::new(None),
            stops: AtomicU64::new(0),
        })
    }

    /// Routes with a living handle, ordered by name.
    pub fn routes(&self) -> Vec<(Arc<str>, Arc<RouteMetrics>)> {
        self.routes.living()
    }

    /// Backends with a living handle, ordered by name.
    pub fn backends(&self) -> Vec<(Arc<str>, Arc<BackendMetrics>)> {
        self.backends.living()
    }

    /// Mirrors with a living handle, ordered by route and backend.
    pub fn mirrors(&self) -> Vec<(MirrorKey, Arc<MirrorMetrics>)> {
        self.mirrors.living()
    }
}

impl RouteMetrics {
    /// A response was sent to a client.
    #[inline]
    pub fn responded(&self, worker: WorkerId, code: StatusCode, duration: Duration) {
        let shard = self.shards.of(worker);
        shard.codes.add(Some(code), &self.rare);
        shard.durations.observe(duration);
    }

    /// A gRPC call ended, with its status or without one.
    pub fn grpc(&self, status: Option<u16>) {
        let counts = self.grpc.get_or_init(Box::default);
        // What is no status of gRPC is counted with what has none.
        let slot = status.map_or(usize::MAX, usize::from).min(counts.len() - 1);
        if let Some(count) = counts.get(slot) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends of gRPC calls by status; `none` for those without one.
    pub fn grpc_statuses(&self) -> Vec<(String, u64)> {
        let counts = self.grpc.get().into_iter().flat_map(|counts| counts.iter().enumerate());
        counts
            .map(|(status, count)| (status, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .map(|(status, count)| match status + 1 {
                grpc::STATUSES => ("none".to_owned(), count),
                _ => (status.to_string(), count),
            })
            .collect()
    }

    /// A request was sent on to a backend (what mirror outcomes add up to).
    #[inline]
    pub fn forwarded(&self, worker: WorkerId) {
        self.shards.of(worker).forwarded.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests sent on to a backend.
    pub fn forwarded_total(&self) -> u64 {
        sum(self.shards.iter().map(|shard| &shard.forwarded))
    }

    /// Responses sent to clients, by the `code` label, without zeroes.
    pub fn responses(&self) -> Vec<(String, u64)> {
        codes::totals(self.shards.iter().map(|shard| &shard.codes), &self.rare)
    }

    pub(super) fn durations(&self) -> Distribution {
        Distribution::of(self.shards.iter().map(|shard| &shard.durations))
    }
}

impl BackendMetrics {
    /// An endpoint answered, or `None`: the exchange failed (label `code="none"`).
    #[inline]
    pub fn answered(&self, worker: WorkerId, lane: Lane, code: Option<StatusCode>) {
        let lane = self.lane(lane);
        lane.shards.of(worker).codes.add(code, &lane.rare);
    }

    /// An attempt failed and another endpoint was tried.
    pub fn retried(&self, worker: WorkerId, lane: Lane) {
        self.lane(lane).shards.of(worker).retried.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt failed and was not repeated, since the budget for that was used up.
    pub fn retry_denied(&self, worker: WorkerId, lane: Lane) {
        self.lane(lane).shards.of(worker).retry_denied.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was handed to a connection of an endpoint that was retired before the pick.
    pub fn sent_to_removed(&self, worker: WorkerId, lane: Lane) {
        self.lane(lane).shards.of(worker).sent_to_removed.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt to connect to an endpoint ended, well or not.
    pub fn connected(&self, worker: WorkerId, lane: Lane, established: bool) {
        let shard = self.lane(lane).shards.of(worker);
        let count = if established { &shard.connected } else { &shard.connect_failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// A new set is in use, `delay` after its source learned of it.
    pub fn published(&self, generation: u64, endpoints: usize, delay: Duration) {
        self.generation.store(generation, Ordering::Relaxed);
        self.endpoints.store(endpoints, Ordering::Relaxed);
        self.propagation.observe(delay);
    }

    /// The first request went by the set in use, `delay` after its source learned of what is new.
    pub fn first_used(&self, delay: Duration) {
        self.first_use.observe(delay);
    }

    /// The source could not tell what its endpoints are.
    pub fn source_failed(&self) {
        self.source_failures.fetch_add(1, Ordering::Relaxed);
        self.source_failing.store(true, Ordering::Relaxed);
    }

    /// The source has told.
    pub fn source_answered(&self) {
        self.source_failing.store(false, Ordering::Relaxed);
    }

    /// How often the source could not tell, and whether that is so now.
    pub fn source_failures(&self) -> (u64, bool) {
        (self.source_failures.load(Ordering::Relaxed), self.source_failing.load(Ordering::Relaxed))
    }

    /// Generation of the set in use; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Endpoints of the set in use.
    pub fn endpoints(&self) -> usize {
        self.endpoints.load(Ordering::Relaxed)
    }

    /// Answers in `lane`, by the `code` label, without zeroes.
    pub fn answers(&self, lane: Lane) -> Vec<(String, u64)> {
        let lane = self.lane(lane);
        codes::totals(lane.shards.iter().map(|shard| &shard.codes), &lane.rare)
    }

    /// Attempts in `lane` that went to another endpoint.
    pub fn retried_total(&self, lane: Lane) -> u64 {
        sum(self.lane(lane).shards.iter().map(|shard| &shard.retried))
    }

    /// Attempts in `lane` that the budget for retries did not allow.
    pub fn retry_denied_total(&self, lane: Lane) -> u64 {
        sum(self.lane(lane).shards.iter().map(|shard| &shard.retry_denied))
    }

    /// Requests in `lane` that were sent to an endpoint after it was removed.
    pub fn sent_to_removed_total(&self, lane: Lane) -> u64 {
        sum(self.lane(lane).shards.iter().map(|shard| &shard.sent_to_removed))
    }

    /// Connections of `lane` that were established, and attempts that failed.
    pub fn connects_total(&self, lane: Lane) -> (u64, u64) {
        let shards = &self.lane(lane).shards;
        let established = sum(shards.iter().map(|shard| &shard.connected));
        (established, sum(shards.iter().map(|shard| &shard.connect_failed)))
    }

    pub(super) fn propagation(&self) -> Distribution {
        Distribution::of([&self.propagation].into_iter())
    }

    pub(super) fn first_use(&self) -> Distribution {
        Distribution::of([&self.first_use].into_iter())
    }

    fn lane(&self, lane: Lane) -> &BackendLane {
        &self.lanes[lane.index()]
    }
}

impl MirrorMetrics {
    /// The route forwards a request and this is one of its mirrors. Called beside
    /// [`RouteMetrics::forwarded`], once for each mirror of the table that the request goes by: a
    /// mirror that came with a reload has had fewer requests than its route.
    #[inline]
    pub fn offered(&self, worker: WorkerId) {
        self.shards.0.of(worker).offered.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that was offered has its outcome. Leaves [`Self::in_flight`] to its caller.
    #[inline]
    pub fn ended(&self, worker: WorkerId, outcome: Outcome) {
        if let Some(count) = self.shards.0.of(worker).outcomes.get(outcome.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Primary and copy have both been answered: how alike, and after how long, by lane.
    pub fn compared(&self, worker: WorkerId, agreement: Agreement, times: [Duration; 2]) {
        let shard = self.shards.0.of(worker);
        if let Some(count) = shard.agreements.get(agreement.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        shard.answers.iter().zip(times).for_each(|(answers, time)| answers.observe(time));
    }

    /// A copy was made of a request's head alone, for the size of its body.
    pub fn omitted_body(&self, worker: WorkerId) {
        self.shards.0.of(worker).omitted_bodies.fetch_add(1, Ordering::Relaxed);
    }

    /// A copy was delivered, and its answer not read to the end: it was too long, or took too long.
    pub fn left_unread(&self, worker: WorkerId) {
        self.shards.0.of(worker).unread_answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Where what copies of `worker` pin is booked, within what all its copies may pin.
    pub fn account(&self, worker: WorkerId, all: &Arc<Account>) -> &Arc<Account> {
        self.shards.0.of(worker).buffered.get_or_init(|| Account::within(all, usize::MAX))
    }

    /// The dial was turned.
    pub fn dialled(&self, view: &DialView) {
        *self.dial.lock().unwrap_or_else(PoisonError::into_inner) = Some(view.clone());
    }

    /// The mirror was stopped by itself.
    pub fn stopped(&self) {
        self.stops.fetch_add(1, Ordering::Relaxed);
    }

    /// Times that the mirror was stopped by itself.
    pub fn stops_total(&self) -> u64 {
        self.stops.load(Ordering::Relaxed)
    }

    /// The dial as it was last turned.
    pub fn dial(&self) -> Option<DialView> {
        self.dial.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes that copies in flight pin.
    pub fn buffered_bytes(&self) -> usize {
        self.shards.0.iter().filter_map(|shard| shard.buffered.get()).map(|account| account.used()).sum()
    }

    /// Answers of primary and copy that agreed so.
    pub fn agreement_total(&self, agreement: Agreement) -> u64 {
        sum(self.shards.0.iter().filter_map(|shard| shard.agreements.get(agreement.index())))
    }

    /// Copies that were answered 5xx where the primary did not answer so.
    pub fn worse_total(&self) -> u64 {
        self.agreement_total(Agreement::MirrorFailed)
    }

    /// Copies of a head alone.
    pub fn omitted_bodies_total(&self) -> u64 {
        sum(self.shards.0.iter().map(|shard| &shard.omitted_bodies))
    }

    /// Answers that were not read to their end.
    pub fn unread_answers_total(&self) -> u64 {
        sum(self.shards.0.iter().map(|shard| &shard.unread_answers))
    }

    /// Seconds within which these shares (0 to 1) of the requests that both answered were answered in
    /// `lane`, and how many there were; `None` if there were none.
    pub fn answer_quantiles<const N: usize>(&self, lane: Lane, shares: [f64; N]) -> Option<([f64; N], u64)> {
        let answers = Distribution::in_parts(self.answer_shards(lane));
        (answers.count > 0).then(|| (shares.map(|share| answers.quantile(share)), answers.count))
    }

    pub(super) fn answers(&self, lane: Lane) -> Distribution {
        Distribution::of(self.answer_shards(lane))
    }

    fn answer_shards(&self, lane: Lane) -> impl Iterator<Item = &Histogram<ANSWER_PARTS>> {
        self.shards.0.iter().filter_map(move |shard| shard.answers.get(lane.index()))
    }

    /// Requests offered.
    pub fn offered_total(&self) -> u64 {
        sum(self.shards.0.iter().map(|shard| &shard.offered))
    }

    /// Requests that ended in `outcome`.
    pub fn outcome_total(&self, outcome: Outcome) -> u64 {
        sum(self.shards.0.iter().filter_map(|shard| shard.outcomes.get(outcome.index())))
    }

    /// Outcomes plus copies in flight less requests offered: 0, or a copy was lost (below 0) or
    /// counted twice (above).
    ///
    /// Requests go on while this reads. A copy is offered, then in flight, then has an outcome; so a
    /// loss is measured against what was offered *before* the rest was read, and a surplus against
    /// what was offered *after*: neither can come from requests that began or ended meanwhile. What
    /// remains are the instants within one request between two of its steps; as they pass and a real
    /// error stays, it is an error only if it shows in each of a few reads.
    pub fn accounting_error(&self) -> i64 {
        let mut error = 0;
        for _ in 0..limits::ACCOUNTING_READS {
            error = self.read_accounting_error();
            if error == 0 {
                break;
            }
            std::thread::yield_now();
        }
        error
    }

    fn read_accounting_error(&self) -> i64 {
        let offered_before = self.offered_total();
        let flying_before = self.in_flight.load(Ordering::Acquire) as u64;
        let ended: u64 = Outcome::ALL.iter().map(|outcome| self.outcome_total(*outcome)).sum();
        let flying_after = self.in_flight.load(Ordering::Acquire) as u64;
        let offered_after = self.offered_total();
        let loss = (ended + flying_before).wrapping_sub(offered_before) as i64;
        let surplus = (ended + flying_after).wrapping_sub(offered_after) as i64;
        if loss < 0 { loss } else { surplus.max(0) }
    }
}

fn sum<'a>(counts: impl Iterator<Item = &'a AtomicU64>) -> u64 {
    counts.map(|count| count.load(Ordering::Relaxed)).sum()
}

#[cfg(test)]
mod tests;
