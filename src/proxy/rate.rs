//! How many requests a second a route takes, in all or of each key.
//!
//! The generic cell rate algorithm: of each key one number is kept, the time at which its next request
//! would be on schedule. A request that comes more than a burst ahead of it is refused, and told when
//! it would not be. Called by [`super::request`]; a limiter outlives reloads that do not change it.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::limits;
use crate::plan::{RateKey, RatePlan};

/// The rate of one route.
pub struct RateLimiter {
    plan: RatePlan,
    begun: Instant,
    /// Nanoseconds between two requests that are on schedule.
    interval: u64,
    /// Nanoseconds by which a request may be ahead.
    tolerance: u64,
    all: AtomicU64,
    keys: [Mutex<HashMap<u64, u64>>; SHARDS],
    hasher: foldhash::fast::RandomState,
}

const SHARDS: usize = 16;

impl RateLimiter {
    /// By `plan`, from now on.
    pub fn new(plan: &RatePlan) -> Self {
        let per = u64::try_from(plan.per.as_nanos()).unwrap_or(u64::MAX);
        let interval = (per / u64::from(plan.requests.max(1))).max(1);
        Self {
            plan: plan.clone(),
            begun: Instant::now(),
            interval,
            tolerance: interval.saturating_mul(u64::from(plan.burst.max(1) - 1)),
            all: AtomicU64::new(0),
            keys: Default::default(),
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    /// What it was made of.
    pub fn plan(&self) -> &RatePlan {
        &self.plan
    }

    /// Takes a request of `client` with `headers` in.
    ///
    /// # Errors
    /// After which time it would be.
    pub fn admit(&self, client: IpAddr, headers: &HeaderMap) -> Result<(), Duration> {
        let now = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let key = match &self.plan.key {
            RateKey::All => return self.admit_all(now),
            RateKey::Client => self.hasher.hash_one(client),
            RateKey::Header(name) => self.hasher.hash_one(headers.get(name).map(|value| value.as_bytes())),
        };
        self.admit_key(key, now)
    }

    fn admit_all(&self, now: u64) -> Result<(), Duration> {
        let mut wait = Ok(());
        // The closure may run more than once; the last run is the one that counts.
        let _kept = self.all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
            let next = self.next(due, now);
            wait = next.map(drop);
            next.ok()
        });
        wait
    }

    fn admit_key(&self, key: u64, now: u64) -> Result<(), Duration> {
        let Some(shard) = self.keys.get(key as usize % SHARDS) else { return Ok(()) };
        let mut keys = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= limits::RATE_KEYS / SHARDS && !keys.contains_key(&key) {
            // Whoever is due is as good as forgotten.
            keys.retain(|_, due| *due > now);
            if keys.len() >= limits::RATE_KEYS / SHARDS {
                // So many are ahead of their schedule at once that the newcomer shares one with all.
                drop(keys);
                return self.admit_all(now);
            }
        }
        let due = keys.entry(key).or_insert(0);
        *due = self.next(*due, now)?;
        Ok(())
    }

    /// When the request after one at `now` is due.
    fn next(&self, due: u64, now: u64) -> Result<u64, Duration> {
        match due.saturating_sub(now).checked_sub(self.tolerance) {
            Some(wait) if wait > 0 => Err(Duration::from_nanos(wait)),
            _ => Ok(due.max(now).saturating_add(self.interval)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn limiter(requests: u32, burst: u32, key: RateKey) -> RateLimiter {
        RateLimiter::new(&RatePlan { requests, per: Duration::from_secs(1), burst, key })
    }

    #[test]
    fn a_burst_goes_and_then_one_an_interval() {
        let limiter = limiter(10, 3, RateKey::All);
        let at = |milliseconds: u64| limiter.admit_all(milliseconds * 1_000_000);
        assert_eq!([at(0), at(0), at(0)], [Ok(()); 3]);
        assert_eq!(at(0), Err(Duration::from_millis(100)));
        assert_eq!(at(60), Err(Duration::from_millis(40)));
        assert_eq!(at(100), Ok(()));
        assert_eq!(at(100), Err(Duration::from_millis(100)));
        // A refusal costs nothing, and a pause gives the burst back, no more.
        assert_eq!([at(5000), at(5000), at(5000)], [Ok(()); 3]);
        assert!(at(5000).is_err());
    }

    #[test]
    fn each_key_has_a_schedule_of_its_own() {
        let limiter = limiter(1, 1, RateKey::Header("x-user".parse().unwrap()));
        let user =
            |name: &'static str| HeaderMap::from_iter([("x-user".parse().unwrap(), name.parse().unwrap())]);
        for name in ["a", "b"] {
            limiter.admit(CLIENT, &user(name)).unwrap();
            limiter.admit(CLIENT, &user(name)).unwrap_err();
        }
        limiter.admit(CLIENT, &HeaderMap::new()).unwrap();
        limiter.admit(CLIENT, &HeaderMap::new()).unwrap_err();
    }

    #[test]
    fn keys_are_bounded() {
        let limiter = limiter(1, 1, RateKey::Client);
        let refused =
            (0..2 * limits::RATE_KEYS as u64).filter(|key| limiter.admit_key(*key, 0).is_err()).count();
        let held: usize = limiter.keys.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert_eq!(held, limits::RATE_KEYS);
        assert_eq!(refused, limits::RATE_KEYS - 1, "newcomers share what is left");
        // Once those are due, there is room again.
        assert_eq!(limiter.admit_key(u64::MAX, 2_000_000_000), Ok(()));
    }
}
