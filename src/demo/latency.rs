//! How long requests took, to about 6 %: what the histogram of `/metrics` is too coarse for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets for each power of two of nanoseconds.
const STEPS: u64 = 16;
/// 2^40 nanoseconds are 18 minutes.
const POWERS: u64 = 40;

/// Durations, counted in buckets that grow by a sixteenth of a power of two.
pub(super) struct Latency(Box<[AtomicU64]>);

/// What stands out of many durations.
#[derive(Clone, Copy, Default)]
pub(super) struct Percentiles {
    /// The time within which half of them were over.
    pub(super) p50: Duration,
    /// The time within which 99 % were over.
    pub(super) p99: Duration,
}

impl Latency {
    pub(super) fn new() -> Self {
        Self((0..STEPS * POWERS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Counts one.
    pub(super) fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(STEPS);
        let power = u64::from(nanoseconds.ilog2());
        let step = (nanoseconds >> (power - 4)) & (STEPS - 1);
        let index = (power * STEPS + step).min(STEPS * POWERS - 1);
        if let Some(count) = self.0.get(index as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The percentiles of all, or `None` if there are none.
    pub(super) fn read(&self) -> Option<Percentiles> {
        percentiles(self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect())
    }

    /// The same, and begins anew.
    pub(super) fn take(&self) -> Option<Percentiles> {
        percentiles(self.0.iter().map(|count| count.swap(0, Ordering::Relaxed)).collect())
    }
}

fn percentiles(counts: Vec<u64>) -> Option<Percentiles> {
    let total: u64 = counts.iter().sum();
    let at = |hundredths: u64| {
        let mut left = (total * hundredths).div_ceil(100);
        let index = counts.iter().position(|count| {
            left = left.saturating_sub(*count);
            left == 0
        });
        upper_bound(index.unwrap_or_default() as u64)
    };
    (total > 0).then(|| Percentiles { p50: at(50), p99: at(99) })
}

fn upper_bound(index: u64) -> Duration {
    let (power, step) = (index / STEPS, index % STEPS);
    Duration::from_nanos((STEPS + step + 1) << power >> 4)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn percentiles_are_right_to_a_sixteenth() {
        let latency = Latency::new();
        assert!(latency.read().is_none());
        for micros in 1..=10_000 {
            latency.observe(Duration::from_micros(micros));
        }
        let Percentiles { p50, p99 } = latency.take().unwrap();
        for (found, right) in [(p50, 5_000.0), (p99, 9_900.0)] {
            let ratio = found.as_secs_f64() * 1e6 / right;
            assert!((1.0..=1.0 + 1.0 / 15.0).contains(&ratio), "{found:?} for {right} µs");
        }
        assert!(latency.read().is_none());
    }

    #[test]
    fn the_extremes_have_a_bucket() {
        let latency = Latency::new();
        latency.observe(Duration::ZERO);
        assert!(latency.take().unwrap().p99 < Duration::from_nanos(50));
        latency.observe(Duration::MAX);
        assert!(latency.read().unwrap().p50 > Duration::from_secs(1000));
    }
}
