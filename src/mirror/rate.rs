//! A bound on copies per second, for all workers together.
//!
//! A pure core: time comes as nanoseconds from whoever calls. Called by [`super::budget`].

use crate::limits;
use crate::sync::atomic::{AtomicU64, Ordering};

/// A token bucket in the form of one number, the time at which the next token is due (GCRA): no
/// timer refills it and no two fields can disagree.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// Nanoseconds from one token to the next; 0 is no bound.
    interval: AtomicU64,
    due: AtomicU64,
}

impl Rate {
    /// Sets the bound, in copies per second.
    pub(super) fn set(&self, rate: Option<u32>) {
        let interval = rate.map_or(0, |rate| 1_000_000_000 / u64::from(rate.max(1)));
        self.interval.store(interval, Ordering::Relaxed);
    }

    /// Takes a token if there is one. `now` is asked for only when there is a bound.
    pub(super) fn admit(&self, now: impl FnOnce() -> u64) -> bool {
        let interval = self.interval.load(Ordering::Relaxed);
        if interval == 0 {
            return true;
        }
        let now = now();
        let saved = now.saturating_sub(limits::RATE_BURST.as_nanos() as u64);
        self.due
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
                let token = due.max(saved);
                (token <= now).then_some(token.saturating_add(interval))
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Copies admitted when requests come `step` nanoseconds apart for `seconds`.
    fn admitted(rate: u32, step: u64, seconds: u64) -> u64 {
        let bucket = Rate::default();
        bucket.set(Some(rate));
        let times = (SECOND..(1 + seconds) * SECOND).step_by(step as usize);
        times.filter(|now| bucket.admit(|| *now)).count() as u64
    }

    #[test]
    fn what_comes_faster_is_bounded_and_what_comes_slower_is_not() {
        for rate in [1, 7, 100, 5000] {
            let burst = u64::from(rate) / 10 + 1;
            let through = admitted(rate, 37_000, 10);
            let bound = 10 * u64::from(rate);
            assert!((bound - 1..=bound + burst).contains(&through), "{rate}: {through}");
        }
        assert_eq!(admitted(100, SECOND / 99, 10), 10 * 99 + 1);
    }

    #[test]
    fn after_a_pause_a_tenth_of_a_second_is_made_up_for() {
        let bucket = Rate::default();
        bucket.set(Some(1000));
        let burst = (0..10_000).filter(|_| bucket.admit(|| 3600 * SECOND)).count();
        assert_eq!(burst, 101);
    }

    #[test]
    fn without_a_bound_nobody_looks_at_the_clock() {
        let bucket = Rate::default();
        bucket.set(Some(1));
        bucket.set(None);
        assert!((0..10).all(|_| bucket.admit(|| unreachable!("no clock"))));
    }
}
