//! Durations in fixed buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;

/// Upper bounds in nanoseconds, inclusive: 100 µs to 60 s, two or three to a decade, which tells
/// 100 µs from 250 µs on a fast network and still covers the default timeout. What is longer is
/// counted above all of them.
const BOUNDS: [u64; 18] = [
    100 * MICROSECOND,
    250 * MICROSECOND,
    500 * MICROSECOND,
    MILLISECOND,
    2_500 * MICROSECOND,
    5 * MILLISECOND,
    10 * MILLISECOND,
    25 * MILLISECOND,
    50 * MILLISECOND,
    100 * MILLISECOND,
    250 * MILLISECOND,
    500 * MILLISECOND,
    SECOND,
    2_500 * MILLISECOND,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
    60 * SECOND,
];
const BUCKETS: usize = BOUNDS.len() + 1;

/// One worker's durations of one series.
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// Nanoseconds; lasts for 584 years of durations.
    sum: AtomicU64,
}

/// Histograms added up.
#[derive(Debug, PartialEq)]
pub(super) struct Distribution {
    /// Upper bound in seconds and how many lie in that bucket alone; the last bound is infinite.
    pub(super) buckets: Vec<(f64, u64)>,
    /// How many there are.
    pub(super) count: u64,
    /// What they add up to, in seconds.
    pub(super) sum: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub(super) fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanoseconds);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl Distribution {
    /// Adds up `shards`.
    pub(super) fn of<'a>(shards: impl Iterator<Item = &'a Histogram>) -> Self {
        let mut counts = [0u64; BUCKETS];
        let mut nanoseconds = 0u64;
        for shard in shards {
            for (total, count) in counts.iter_mut().zip(&shard.buckets) {
                *total += count.load(Ordering::Relaxed);
            }
            nanoseconds = nanoseconds.wrapping_add(shard.sum.load(Ordering::Relaxed));
        }
        let bounds = BOUNDS.iter().map(|bound| *bound as f64 / SECOND as f64).chain([f64::INFINITY]);
        Self {
            buckets: bounds.zip(counts).collect(),
            // Added up from the buckets, so that `_count` and the `+Inf` bucket never differ.
            count: counts.iter().sum(),
            sum: nanoseconds as f64 / SECOND as f64,
        }
    }
}

impl Distribution {
    /// Seconds within which `share` (0 to 1) of them lie; within a bucket they are taken to lie evenly.
    /// What lies above the last bound is taken for it.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let wanted = share * self.count as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for &(upper, count) in &self.buckets {
            let through = below + count as f64;
            if upper.is_infinite() {
                break;
            }
            if count > 0 && through >= wanted {
                return lower + (upper - lower) * ((wanted - below) / count as f64).clamp(0.0, 1.0);
            }
            (below, lower) = (through, upper);
        }
        lower
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn bounds_ascend_and_are_inclusive() {
        assert!(BOUNDS.is_sorted());
        let shards = [Histogram::default(), Histogram::default()];
        shards[0].observe(Duration::from_micros(100));
        shards[1].observe(Duration::from_nanos(100_001));
        shards[1].observe(Duration::from_secs(61));
        shards[0].observe(Duration::ZERO);
        let total = Distribution::of(shards.iter());
        assert_eq!(total.count, 4);
        assert_eq!(total.buckets[0], (0.0001, 2));
        assert_eq!(total.buckets[1], (0.00025, 1));
        assert_eq!(total.buckets[BUCKETS - 1], (f64::INFINITY, 1));
        assert!((total.sum - 61.000_200_001).abs() < 1e-9);
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let shard = Histogram::default();
        for _ in 0..90 {
            shard.observe(Duration::from_micros(400));
        }
        for _ in 0..10 {
            shard.observe(Duration::from_secs(100));
        }
        let total = Distribution::of([&shard].into_iter());
        assert!((0.000_25..=0.000_5).contains(&total.quantile(0.5)));
        assert!((total.quantile(0.9) - 0.000_5).abs() < 1e-9);
        assert!((total.quantile(0.99) - 60.0).abs() < 1e-9, "above all bounds");
    }
}
