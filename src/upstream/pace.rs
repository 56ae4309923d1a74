//! How fast connections to a backend are made: what an endpoint that closes each of them would else cost
//! a worker, which a request on a kept connection does not; and how much is read of answers that nobody
//! wants, so that such a connection can be kept.
//!
//! Counts for each worker and lane alike; who is held back by it is up to whoever asks
//! ([`crate::mirror`], for copies). Never waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::limits;
use crate::shard::{Lane, Sharded, WorkerId};

const BURST: u64 = limits::CONNECTS_BURST * limits::CONNECT_INTERVAL;

/// Connections made to one backend, as a token bucket: the time up to which they are paid for.
pub struct Pace {
    born: Instant,
    /// Nanoseconds from `born`, by lane.
    paid: [Sharded<AtomicU64>; 2],
    /// How often [`limits::UNWANTED_BYTES`] is halved, by lane.
    halved: [Sharded<AtomicU64>; 2],
}

impl Pace {
    pub(super) fn new(workers: usize) -> Self {
        let each_lane = || [Sharded::new(workers), Sharded::new(workers)];
        Self { born: Instant::now(), paid: each_lane(), halved: each_lane() }
    }

    /// A connection was made, or could not be.
    pub(crate) fn connected(&self, worker: WorkerId, lane: Lane, now: Instant) {
        self.pay(worker, lane, 1, now);
    }

    /// Bytes that are read of an answer that nobody wants and whose length is not known: less where answers
    /// were longer of late than was read of them, since all of that was in vain.
    pub(crate) fn unwanted_bytes(&self, worker: WorkerId, lane: Lane) -> u64 {
        limits::UNWANTED_BYTES >> self.halved[lane.index()].of(worker).load(Ordering::Relaxed)
    }

    /// An answer that nobody wanted was read to its end: the next may be longer.
    pub(crate) fn ended(&self, worker: WorkerId, lane: Lane) {
        let halved = self.halved[lane.index()].of(worker);
        let times = halved.load(Ordering::Relaxed);
        // Only this worker writes it, and nearly always there is nothing to write.
        if times > 0 {
            halved.store(times - 1, Ordering::Relaxed);
        }
    }

    /// What came on a connection was said to be too long, and it was closed.
    pub(crate) fn left(&self, worker: WorkerId, lane: Lane, now: Instant) {
        self.pay(worker, lane, limits::LEFT_CONNECTS, now);
    }

    /// What came on a connection had no end, and it was closed: reading so much cost as much as several.
    pub(crate) fn overran(&self, worker: WorkerId, lane: Lane, now: Instant) {
        let halved = self.halved[lane.index()].of(worker);
        let times = halved.load(Ordering::Relaxed) + 2;
        halved.store(times.min(limits::UNWANTED_HALVED_MOST), Ordering::Relaxed);
        self.pay(worker, lane, limits::OVERRUN_CONNECTS, now);
    }

    fn pay(&self, worker: WorkerId, lane: Lane, connections: u64, now: Instant) {
        let saved = self.at(now) - BURST;
        let paid = self.paid[lane.index()].of(worker);
        // Only this worker writes it.
        let until = paid.load(Ordering::Relaxed).max(saved) + connections * limits::CONNECT_INTERVAL;
        paid.store(until, Ordering::Relaxed);
    }

    /// Whether more were made of late than [`limits::CONNECT_INTERVAL`] allows.
    pub fn is_ahead(&self, worker: WorkerId, lane: Lane, now: Instant) -> bool {
        self.paid[lane.index()].of(worker).load(Ordering::Relaxed) > self.at(now)
    }

    /// As if born a burst earlier, so that a new backend has one. (584 years of nanoseconds.)
    fn at(&self, now: Instant) -> u64 {
        BURST + now.saturating_duration_since(self.born).as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let pace = Pace::new(1);
        let worker = WorkerId(0);
        let start = pace.born;
        let mut made = 0;
        // Ten seconds of copies that each would need a connection, one every 50 us.
        for step in 0..200_000_u64 {
            let now = start + Duration::from_micros(50 * step);
            if !pace.is_ahead(worker, Lane::Mirror, now) {
                pace.connected(worker, Lane::Mirror, now);
                made += 1;
            }
        }
        let rate = 1_000_000_000 / limits::CONNECT_INTERVAL;
        let expected = limits::CONNECTS_BURST + 10 * rate;
        assert!((expected - 2..=expected + 2).contains(&made), "{made}");
        assert!(pace.is_ahead(worker, Lane::Mirror, start), "this is a burst's end");
        assert!(!pace.is_ahead(worker, Lane::Primary, start), "the lanes are apart");
        let later = start + Duration::from_secs(11);
        assert!(!pace.is_ahead(worker, Lane::Mirror, later), "a pause makes up for it");
    }

    #[test]
    fn less_is_read_of_what_is_too_long_and_more_again_after_an_end() {
        let pace = Pace::new(1);
        let (worker, now) = (WorkerId(0), pace.born);
        let read = |lane| pace.unwanted_bytes(worker, lane) / 1024;
        let mut seen = vec![read(Lane::Mirror)];
        for _ in 0..3 {
            pace.overran(worker, Lane::Mirror, now);
            seen.push(read(Lane::Mirror));
        }
        assert_eq!(seen, [256, 64, 16, 16]);
        assert_eq!(read(Lane::Primary), 256, "the lanes are apart");
        let again: Vec<_> = (0..5)
            .map(|_| {
                pace.ended(worker, Lane::Mirror);
                read(Lane::Mirror)
            })
            .collect();
        assert_eq!(again, [32, 64, 128, 256, 256]);
    }

    #[test]
    fn what_is_too_long_counts_as_several() {
        let copies = |pay: fn(&Pace, WorkerId, Lane, Instant)| {
            let pace = Pace::new(1);
            let (worker, now) = (WorkerId(0), pace.born);
            let mut made = 0;
            while !pace.is_ahead(worker, Lane::Mirror, now) {
                pace.connected(worker, Lane::Mirror, now);
                pay(&pace, worker, Lane::Mirror, now);
                made += 1;
            }
            made
        };
        assert_eq!(copies(Pace::left), limits::CONNECTS_BURST / (1 + limits::LEFT_CONNECTS) + 1);
        assert_eq!(copies(Pace::overran), limits::CONNECTS_BURST / (1 + limits::OVERRUN_CONNECTS) + 1);
    }
}
