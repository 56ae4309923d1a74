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

/// One worker's durations of one series, each bucket in as many equal parts.
pub(super) struct Histogram<const PARTS: usize = 1> {
    buckets: [[AtomicU64; PARTS]; BUCKETS],
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

impl<const PARTS: usize> Default for Histogram<PARTS> {
    fn default() -> Self {
        Self { buckets: [const { [const { AtomicU64::new(0) }; PARTS] }; BUCKETS], sum: AtomicU64::new(0) }
    }
}

impl<const PARTS: usize> Histogram<PARTS> {
    /// Counts one duration.
    #[inline]
    pub(super) fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanoseconds);
        if let Some(count) =
            self.buckets.get(bucket).and_then(|parts| parts.get(part::<PARTS>(bucket, nanoseconds)))
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

/// Where the bucket begins and ends, the first one exclusive; what lies above all bounds has no end.
fn bounds(bucket: usize) -> (u64, Option<u64>) {
    let lower = bucket.checked_sub(1).and_then(|below| BOUNDS.get(below)).copied().unwrap_or(0);
    (lower, BOUNDS.get(bucket).copied())
}

/// Which of the equal parts of `bucket` it lies in.
#[inline]
fn part<const PARTS: usize>(bucket: usize, nanoseconds: u64) -> usize {
    let (lower, Some(upper)) = bounds(bucket) else { return 0 };
    if PARTS == 1 {
        return 0;
    }
    // Ends are inclusive, as those of buckets are.
    let above = nanoseconds.saturating_sub(lower + 1);
    (above * PARTS as u64 / (upper - lower)) as usize
}

impl Distribution {
    /// Adds up `shards`, in whole buckets.
    pub(super) fn of<'a, const PARTS: usize>(shards: impl Iterator<Item = &'a Histogram<PARTS>>) -> Self {
        let fine = Self::in_parts(shards);
        let whole = fine.buckets.chunks(PARTS.max(1)).map(|parts| {
            let end = parts.last().map_or(f64::INFINITY, |(end, _)| *end);
            (end, parts.iter().map(|(_, count)| count).sum())
        });
        Self { buckets: whole.collect(), ..fine }
    }

    /// Adds up `shards`, with a bucket for each part.
    pub(super) fn in_parts<'a, const PARTS: usize>(
        shards: impl Iterator<Item = &'a Histogram<PARTS>>,
    ) -> Self {
        let mut counts = [[0u64; PARTS]; BUCKETS];
        let mut nanoseconds = 0u64;
        for shard in shards {
            for (total, count) in counts.iter_mut().flatten().zip(shard.buckets.iter().flatten()) {
                *total += count.load(Ordering::Relaxed);
            }
            nanoseconds = nanoseconds.wrapping_add(shard.sum.load(Ordering::Relaxed));
        }
        let ends = (0..BUCKETS).flat_map(|bucket| {
            let (lower, upper) = bounds(bucket);
            (1..=PARTS as u64).map(move |part| match upper {
                Some(upper) => (lower + (upper - lower) * part / PARTS as u64) as f64 / SECOND as f64,
                None => f64::INFINITY,
            })
        });
        Self {
            buckets: ends.zip(counts.into_iter().flatten()).collect(),
            // Added up from the buckets, so that `_count` and the `+Inf` bucket never differ.
            count: counts.iter().flatten().sum(),
            sum: nanoseconds as f64 / SECOND as f64,
        }
    }

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
        let shards: [Histogram; 2] = Default::default();
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
        let shard: Histogram = Histogram::default();
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

    #[test]
    fn parts_add_up_to_their_bucket_and_tell_more() {
        let mut random = fastrand::Rng::with_seed(1);
        // Within how much of the truth a quantile lies: a part of its bucket, or of the first one.
        let close = |told: f64, truth: f64| (told - truth).abs() <= (truth * 0.25).max(0.000_013);
        for _ in 0..50 {
            let (whole, parts): (Histogram, Histogram<8>) = Default::default();
            let around = 10_f64.powf(random.f64() * 5.0 - 4.0);
            let mut times: Vec<_> = (0..999).map(|_| around * (0.5 + random.f64())).collect();
            for time in &times {
                whole.observe(Duration::from_secs_f64(*time));
                parts.observe(Duration::from_secs_f64(*time));
            }
            assert_eq!(Distribution::of([&whole].into_iter()), Distribution::of([&parts].into_iter()));
            times.sort_by(f64::total_cmp);
            let told = Distribution::in_parts([&parts].into_iter());
            for (share, truth) in [(0.01, times[9]), (0.5, times[499]), (0.99, times[989])] {
                let quantile = told.quantile(share);
                assert!(close(quantile, truth), "{share}: {quantile} for {truth}");
            }
        }
    }

    #[test]
    fn each_end_of_a_part_lies_in_it() {
        let parts: Histogram<8> = Histogram::default();
        parts.observe(Duration::from_nanos(12_500));
        parts.observe(Duration::from_nanos(12_501));
        parts.observe(Duration::from_micros(100));
        parts.observe(Duration::from_secs(60));
        let counts: Vec<_> = Distribution::in_parts([&parts].into_iter()).buckets;
        assert_eq!([counts[0].1, counts[1].1, counts[7].1, counts[143].1], [1, 1, 1, 1]);
        assert_eq!((counts[7].0, counts[143].0, counts.len()), (0.000_1, 60.0, 152));
    }
}
