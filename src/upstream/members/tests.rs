#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::plan::BalancePlan;

struct Draws(Cell<u64>);

impl Circumstances for Draws {
    fn random(&self) -> u64 {
        let mut random = fastrand::Rng::with_seed(self.0.get());
        self.0.set(random.u64(..));
        random.u64(..)
    }

    fn turn(&self) -> u64 {
        self.0.replace(self.0.get() + 1)
    }

    fn key(&self, _: &HashKey) -> Option<u64> {
        Some(self.random())
    }

    fn load(&self, _: &Endpoint) -> usize {
        0
    }
}

fn entry(port: u16, zone: Option<&str>, now: Instant) -> Entry {
    let address = EndpointAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
    Entry { endpoint: Arc::new(Endpoint::new(address, 1, now)), weight: 1, zone: zone.map(Into::into) }
}

/// The positions that are ever picked.
fn picked(entries: &[Entry], policy: &BackendPolicy, now: Instant) -> Vec<usize> {
    let shares = Shares::of(entries, policy, Lane::Primary, now);
    let members = Members::new(entries, policy, &shares, &Members::none(policy));
    let draws = Draws(Cell::new(1));
    let mut picked: Vec<usize> = (0..500)
        .map(|_| {
            let one = members.pick(&[], &draws).unwrap();
            entries.iter().position(|entry| Arc::ptr_eq(&entry.endpoint, one)).unwrap()
        })
        .collect();
    picked.sort_unstable();
    picked.dedup();
    picked
}

#[test]
fn a_zone_is_left_only_when_nobody_of_it_can_be_used() {
    let now = Instant::now();
    let entries =
        [entry(1, Some("a"), now), entry(2, Some("b"), now), entry(3, Some("a"), now), entry(4, None, now)];
    for balance in [
        BalancePlan::LeastLoad,
        BalancePlan::RoundRobin,
        BalancePlan::Random,
        BalancePlan::Consistent(HashKey::Path),
    ] {
        let policy = BackendPolicy { zone: Some("a".into()), balance, ..BackendPolicy::default() };
        let of = |index: usize| entries[index].endpoint.condition();
        assert_eq!(picked(&entries, &policy, now), [0, 2]);
        of(0).probed(false, now);
        assert_eq!(picked(&entries, &policy, now), [2], "{policy:?}");
        of(2).eject(Lane::Primary, now);
        assert_eq!(picked(&entries, &policy, now), [1, 3]);
        of(1).probed(false, now);
        of(3).eject(Lane::Primary, now);
        assert_eq!(picked(&entries, &policy, now), [2, 3], "left out beats unwell");
        of(2).probed(false, now);
        of(3).probed(false, now);
        assert_eq!(picked(&entries, &policy, now), [0, 1, 2, 3], "all are out: all are used");
        for entry in &entries {
            entry.endpoint.condition().probed(true, now);
            entry.endpoint.condition().take_back(Lane::Primary, 0, now);
        }
        let elsewhere = BackendPolicy { zone: Some("c".into()), ..policy };
        assert_eq!(picked(&entries, &elsewhere, now), [0, 1, 2, 3]);
    }
}

proptest! {
    #[test]
    fn a_share_never_shrinks_with_age_and_ends_whole(
        window in 1..100_000_u64,
        mut ages in prop::collection::vec(0..200_000_u64, 1..50),
    ) {
        let window = Duration::from_millis(window);
        ages.sort_unstable();
        let shares: Vec<u64> = ages.iter().map(|age| grown(Duration::from_millis(*age), window)).collect();
        prop_assert!(shares.is_sorted(), "{shares:?}");
        prop_assert!(shares.iter().all(|share| (limits::SLOW_START_LEAST..=1000).contains(share)));
        prop_assert_eq!(grown(window, window), 1000);
    }
}

#[test]
fn whoever_is_new_gets_less_until_it_is_not() {
    let now = Instant::now();
    let window = Duration::from_secs(10);
    let policy = BackendPolicy { slow_start: Some(window), ..BackendPolicy::default() };
    let entries = [entry(1, None, now), entry(2, None, now + window)];
    let shares = |at| Shares::of(&entries, &policy, Lane::Primary, at).chosen;
    assert_eq!(shares(now + window), [(0, 1000, true), (1, limits::SLOW_START_LEAST, true)]);
    assert_eq!(shares(now + 2 * window), [(0, 1000, true), (1, 1000, true)]);
}
