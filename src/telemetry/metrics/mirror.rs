//! What became of the copies of one mirror: every request that was offered has one outcome.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::sum;
use crate::limits;
use crate::memory::Account;
use crate::mirror::dial::DialView;
use crate::mirror::outcome::Outcome;
use crate::mirror::pair::Agreement;
use crate::shard::{Lane, Sharded, WorkerId};
use crate::telemetry::histogram::{Distribution, Histogram};

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

impl MirrorMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            in_flight: AtomicUsize::new(0),
            shards: Apart(Sharded::new(workers)),
            dial: Mutex::new(None),
            stops: AtomicU64::new(0),
        }
    }

    /// The route forwards a request and this is one of its mirrors. Called beside
    /// [`forwarded`](super::RouteMetrics::forwarded), once for each mirror of the table that the request goes by: a
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

    pub(in crate::telemetry) fn answers(&self, lane: Lane) -> Distribution {
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
