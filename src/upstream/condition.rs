//! How an endpoint does: what probes found, which all share, and what traffic met, apart for each
//! lane. It belongs to the endpoint and lives on from set to set.
//!
//! Workers only count failures here; what follows from them is up to [`super::health`].

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::shard::Lane;

/// How an endpoint does.
pub struct Condition {
    unhealthy: AtomicBool,
    lanes: [LaneCondition; 2],
}

struct LaneCondition {
    /// Failures in a row, over all workers.
    failures: AtomicU32,
    ejected: AtomicBool,
    /// Not touched by workers.
    history: Mutex<History>,
}

/// What became of an endpoint in one lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct History {
    /// Since when it takes requests.
    pub(super) since: Instant,
    /// When it comes back, while it is left out.
    pub(super) until: Option<Instant>,
    /// How often it was left out without doing well in between.
    pub(super) times: u32,
}

/// How an endpoint does, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It takes requests.
    Healthy,
    /// It does not answer probes as it should.
    Unhealthy,
    /// It is left out in this lane, or in both.
    Ejected(Option<Lane>),
}

impl Condition {
    pub(super) fn new(now: Instant) -> Self {
        let lane = || LaneCondition {
            failures: AtomicU32::new(0),
            ejected: AtomicBool::new(false),
            history: Mutex::new(History { since: now, until: None, times: 0 }),
        };
        Self { unhealthy: AtomicBool::new(false), lanes: [lane(), lane()] }
    }

    /// How it does.
    pub fn state(&self) -> State {
        let ejected = Lane::ALL.map(|lane| self.is_ejected(lane));
        match (self.is_healthy(), ejected) {
            (false, _) => State::Unhealthy,
            (true, [false, false]) => State::Healthy,
            (true, [true, true]) => State::Ejected(None),
            (true, [primary, _]) => State::Ejected(Some(Lane::ALL[usize::from(!primary)])),
        }
    }

    /// Whether probes find it well; true without any.
    pub(super) fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Ordering::Relaxed)
    }

    /// Probes found it well, or not. Returns whether that is news. One that is well again is new.
    pub(super) fn probed(&self, healthy: bool, now: Instant) -> bool {
        let news = self.unhealthy.swap(!healthy, Ordering::Relaxed) == healthy;
        if news && healthy {
            for lane in Lane::ALL {
                self.history(lane).since = now;
            }
        }
        news
    }

    pub(super) fn is_ejected(&self, lane: Lane) -> bool {
        self.lane(lane).ejected.load(Ordering::Relaxed)
    }

    pub(super) fn is_usable(&self, lane: Lane) -> bool {
        self.is_healthy() && !self.is_ejected(lane)
    }

    /// An exchange went well. Costs one load while all do.
    #[inline]
    pub(super) fn succeeded(&self, lane: Lane) {
        let failures = &self.lane(lane).failures;
        if failures.load(Ordering::Relaxed) != 0 {
            failures.store(0, Ordering::Relaxed);
        }
    }

    /// An exchange failed. Returns how many did in a row.
    pub(super) fn failed(&self, lane: Lane) -> u32 {
        // Wraps after four billion failures in a row: then it is well for a moment.
        self.lane(lane).failures.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    pub(super) fn failures(&self, lane: Lane) -> u32 {
        self.lane(lane).failures.load(Ordering::Relaxed)
    }

    /// For how long it has taken requests in `lane`.
    pub(super) fn age(&self, lane: Lane, now: Instant) -> Duration {
        now.saturating_duration_since(self.history(lane).since)
    }

    /// Leaves it out of `lane` until then.
    pub(super) fn eject(&self, lane: Lane, until: Instant) {
        let mut history = self.history(lane);
        history.until = Some(until);
        history.times = history.times.saturating_add(1);
        self.lane(lane).ejected.store(true, Ordering::Relaxed);
    }

    /// Takes it in again, on probation: it has `failures` already.
    pub(super) fn take_back(&self, lane: Lane, failures: u32, now: Instant) {
        let mut history = self.history(lane);
        history.until = None;
        history.since = now;
        self.lane(lane).failures.store(failures, Ordering::Relaxed);
        self.lane(lane).ejected.store(false, Ordering::Relaxed);
    }

    /// Forgets how often it was left out.
    pub(super) fn forgive(&self, lane: Lane) {
        self.history(lane).times = 0;
    }

    pub(super) fn seen(&self, lane: Lane) -> History {
        *self.history(lane)
    }

    fn lane(&self, lane: Lane) -> &LaneCondition {
        &self.lanes[lane.index()]
    }

    fn history(&self, lane: Lane) -> MutexGuard<'_, History> {
        self.lane(lane).history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
