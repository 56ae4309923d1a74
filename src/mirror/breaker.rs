//! The breaker of one mirror: what cannot be reached, or answers nobody, is not tried, but for one
//! probe at a time. Without it a mirror that resets all it gets would need a new connection for each
//! copy, ten times the work of one that is kept, from the worker that serves the primary.
//!
//! A pure core: time comes as milliseconds from whoever calls. Called by [`super::budget`].

use super::outcome::Outcome;
use crate::limits;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Stands for the time of the next probe while one is in flight.
const PROBING: u64 = u64::MAX;

/// Counts failures in a row: after [`limits::BREAKER_FAILURES`] to connect, or
/// [`limits::BREAKER_FRUITLESS`] to be answered, lets one copy through at a time,
/// [`limits::BREAKER_PROBE`] after the last one failed, until one is answered.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// What the failures since the last answer weigh together; open from [`OPENS`] on.
    weight: AtomicU32,
    /// Milliseconds, or [`PROBING`].
    next_probe: AtomicU64,
}

/// What opens it.
const OPENS: u32 = limits::BREAKER_FRUITLESS;

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// It is closed: one of many.
    Closed,
    /// It is open: the one probe. Its end must be told.
    Probe,
}

impl Breaker {
    /// Whether it is open. One load; whoever finds it open sees when the next probe is due.
    pub(super) fn is_open(&self) -> bool {
        self.weight.load(Ordering::Acquire) >= OPENS
    }

    /// Whether a copy may go. `now` is asked for only when it is open.
    pub(super) fn admit(&self, now: impl FnOnce() -> u64) -> Option<Pass> {
        if !self.is_open() {
            return Some(Pass::Closed);
        }
        let due = self.next_probe.load(Ordering::Relaxed);
        let taken = due != PROBING
            && now() >= due
            && self.next_probe.compare_exchange(due, PROBING, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        taken.then_some(Pass::Probe)
    }

    /// A copy that it let through ended.
    pub(super) fn learn(&self, pass: Pass, outcome: Outcome, now: impl FnOnce() -> u64) {
        let answered = outcome == Outcome::Delivered;
        if answered {
            // A load first: while all goes well nobody writes to this line.
            if self.weight.load(Ordering::Relaxed) > 0 {
                self.weight.store(0, Ordering::Relaxed);
            }
        } else if pass == Pass::Closed {
            return self.fail(weight(outcome), now);
        }
        if pass == Pass::Probe {
            // Also when it was neither answered nor failed: somebody has to try again.
            let next = if answered { 0 } else { after(now()) };
            self.next_probe.store(next, Ordering::Relaxed);
        }
    }

    /// Failures that weigh `more`, unless it is open.
    fn fail(&self, more: u32, now: impl FnOnce() -> u64) {
        let (mut weight, mut now) = (self.weight.load(Ordering::Relaxed), Some(now));
        while more > 0 && weight < OPENS {
            if weight + more >= OPENS
                && let Some(now) = now.take()
            {
                // Before it opens, or the first to find it open would probe at once. A probe that is
                // still in flight from the last time stays the only one.
                let next = after(now());
                let _probing = self.next_probe.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
                    (due != PROBING).then_some(next)
                });
            }
            match self.weight.compare_exchange(weight, weight + more, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                // Others failed or succeeded meanwhile: each adds its own, so this ends.
                Err(others) => weight = others,
            }
        }
    }
}

fn after(now: u64) -> u64 {
    now.saturating_add(limits::BREAKER_PROBE.as_millis() as u64)
}

/// What an outcome says against the mirror. A mirror that is slow or in the way says nothing: its
/// budget bounds it.
fn weight(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::FailedConnect | Outcome::FailedTls => OPENS.div_ceil(limits::BREAKER_FAILURES),
        Outcome::FailedReset | Outcome::FailedProtocol => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn open() -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..limits::BREAKER_FAILURES {
            let pass = breaker.admit(|| panic!("a closed breaker needs no clock")).unwrap();
            breaker.learn(pass, Outcome::FailedConnect, || 0);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            breaker.learn(Pass::Closed, Outcome::FailedConnect, || 0);
            breaker.learn(Pass::Closed, Outcome::Delivered, || 0);
        }
        assert!(!breaker.is_open());
        assert!(open().is_open());
    }

    #[test]
    fn one_probe_at_a_time_brings_it_back() {
        let breaker = open();
        assert_eq!(breaker.admit(|| 999), None, "not due");
        assert_eq!(breaker.admit(|| 1000), Some(Pass::Probe));
        assert_eq!(breaker.admit(|| 1_000_000), None, "one is in flight, however long");
        breaker.learn(Pass::Probe, Outcome::FailedConnect, || 4000);
        assert_eq!(breaker.admit(|| 4999), None);
        assert_eq!(breaker.admit(|| 5000), Some(Pass::Probe));
        breaker.learn(Pass::Probe, Outcome::FailedReset, || 5001);
        assert_eq!(breaker.admit(|| 6000), None, "a reset is no answer");
        assert_eq!(breaker.admit(|| 6001), Some(Pass::Probe));
        breaker.learn(Pass::Probe, Outcome::Delivered, || 6002);
        assert_eq!(breaker.admit(|| 6002), Some(Pass::Closed));
    }

    #[test]
    fn a_mirror_that_answers_nobody_gets_a_longer_patience() {
        for outcome in [Outcome::FailedReset, Outcome::FailedProtocol] {
            let breaker = Breaker::default();
            for _ in 0..limits::BREAKER_FRUITLESS {
                assert_eq!(breaker.admit(|| 0), Some(Pass::Closed));
                breaker.learn(Pass::Closed, outcome, || 0);
            }
            assert_eq!(breaker.admit(|| 999), None);
            assert_eq!(breaker.admit(|| 1000), Some(Pass::Probe));
        }
    }

    #[test]
    fn one_answer_among_many_resets_keeps_it_closed() {
        let breaker = Breaker::default();
        for _ in 0..1000 {
            for _ in 1..limits::BREAKER_FRUITLESS {
                breaker.learn(Pass::Closed, Outcome::FailedReset, || 0);
            }
            breaker.learn(Pass::Closed, Outcome::Delivered, || 0);
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_probe_without_a_result_does_not_close_the_way() {
        let breaker = open();
        for outcome in [Outcome::CutDraining, Outcome::CutClientGone, Outcome::FailedTimeout] {
            assert_eq!(breaker.admit(|| 10_000), Some(Pass::Probe), "{outcome:?}");
            breaker.learn(Pass::Probe, outcome, || 0);
            assert!(breaker.is_open());
        }
    }

    #[test]
    fn late_failures_of_copies_begun_before_change_nothing() {
        let breaker = open();
        assert_eq!(breaker.admit(|| 1000), Some(Pass::Probe));
        for _ in 0..1000 {
            breaker.learn(Pass::Closed, Outcome::FailedConnect, || 1001);
        }
        assert_eq!(breaker.admit(|| u64::MAX - 1), None, "the probe is still the only one");
        breaker.learn(Pass::Probe, Outcome::Delivered, || 1002);
        assert!(!breaker.is_open());
    }
}
