//! Who of a set takes requests in one lane at present, and how the next one is picked.
//!
//! Made on the control runtime whenever the set, somebody's health or somebody's share changes, so
//! that a pick looks at none of these.

use std::sync::Arc;
use std::time::Instant;

use super::balance::{Balance, Chance};
use super::endpoint::Endpoint;
use super::endpoint_set::Entry;
use crate::discovery::source::EndpointAddress;
use crate::limits;
use crate::plan::{BackendPolicy, HashKey};
use crate::shard::Lane;

/// Who of a set takes requests in one lane.
pub(super) struct Members {
    endpoints: Box<[Arc<Endpoint>]>,
    /// Which of them can be used, where the balance has to know the others too.
    available: Option<Box<[bool]>>,
    balance: Balance,
}

/// What a pick has to know of the request and of the worker.
pub(super) trait Circumstances {
    /// Uniform over 64 bits.
    fn random(&self) -> u64;
    /// Counts the picks of this worker.
    fn turn(&self) -> u64;
    /// The request's key; `None` when it has none.
    fn key(&self, by: &HashKey) -> Option<u64>;
    /// Exchanges that this worker has in flight there.
    fn load(&self, endpoint: &Endpoint) -> usize;
}

/// Who is in, with what share: equal ones make equal members.
#[derive(PartialEq, Eq)]
pub(super) struct Shares {
    /// Positions in the set, their shares, and whether they can be used.
    chosen: Vec<(usize, u64, bool)>,
}

impl Shares {
    /// Of the `entries`, those of the preferred zone that can be used in `lane`; without any, those
    /// that can be used; without any, those that at least answer probes; without any, all: a
    /// request that may fail is better than one that must.
    pub(super) fn of(entries: &[Entry], policy: &BackendPolicy, lane: Lane, now: Instant) -> Self {
        let usable = |entry: &Entry| entry.endpoint.condition().is_usable(lane);
        let probed = |entry: &Entry| entry.endpoint.condition().is_healthy();
        let near = |entry: &Entry| policy.zone.is_none() || entry.zone == policy.zone;
        let any = |allowed: &dyn Fn(&Entry) -> bool| entries.iter().any(allowed);
        let allowed: &dyn Fn(&Entry) -> bool = if any(&|entry| near(entry) && usable(entry)) {
            &|entry| near(entry) && usable(entry)
        } else if any(&usable) {
            &usable
        } else if any(&probed) {
            &probed
        } else {
            &|_| true
        };
        let all = Balance::wants_all(&policy.balance);
        // The zone is left only as a whole, so that keys stay within it as long as it has anybody.
        let within = any(&|entry| near(entry) && usable(entry));
        let chosen = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (index, entry, allowed(entry)))
            .filter(|(_, entry, allowed)| *allowed || all && (near(entry) || !within))
            .map(|(index, entry, allowed)| (index, share(entry, policy, lane, now), allowed))
            .collect();
        Self { chosen }
    }
}

/// The weight, in thousandths: less while the endpoint is new.
fn share(entry: &Entry, policy: &BackendPolicy, lane: Lane, now: Instant) -> u64 {
    let weight = u64::from(entry.weight);
    match policy.slow_start {
        None => weight,
        Some(window) => weight * grown(entry.endpoint.condition().age(lane, now), window),
    }
}

/// How much of its share an endpoint of this age has, in thousandths.
fn grown(age: std::time::Duration, window: std::time::Duration) -> u64 {
    let steps = u128::from(limits::SLOW_START_STEPS);
    // In steps, so that endpoints that are not new have exactly equal shares.
    let step = (age.as_nanos() * steps / window.as_nanos().max(1)).min(steps);
    ((step * 1000 / steps) as u64).clamp(limits::SLOW_START_LEAST, 1000)
}

impl Members {
    /// Nobody.
    pub(super) fn none(policy: &BackendPolicy) -> Self {
        let balance = Balance::new(&policy.balance, &[], std::iter::empty(), None);
        Self { endpoints: Box::default(), available: None, balance }
    }

    /// The `shares` of `entries`.
    pub(super) fn new(entries: &[Entry], policy: &BackendPolicy, shares: &Shares, last: &Self) -> Self {
        let chosen = || shares.chosen.iter().filter_map(|(index, ..)| entries.get(*index));
        let endpoints: Box<[_]> = chosen().map(|entry| entry.endpoint.clone()).collect();
        let all = Balance::wants_all(&policy.balance);
        let names: Vec<String> =
            if all { chosen().map(|entry| name(entry.endpoint.address())).collect() } else { Vec::new() };
        let parts: Vec<u64> = shares.chosen.iter().map(|(_, share, _)| *share).collect();
        let names = names.iter().map(String::as_bytes);
        Self {
            available: all.then(|| shares.chosen.iter().map(|(.., usable)| *usable).collect()),
            balance: Balance::new(&policy.balance, &parts, names, Some(&last.balance)),
            endpoints,
        }
    }

    /// An endpoint that is not among `tried`, or `None` when there is none left.
    pub(super) fn pick(
        &self,
        tried: &[Arc<Endpoint>],
        circumstances: &impl Circumstances,
    ) -> Option<&Arc<Endpoint>> {
        let index = self.balance.pick(self.endpoints.len(), &Picking { members: self, tried, circumstances });
        self.endpoints.get(index?)
    }
}

fn name(address: &EndpointAddress) -> String {
    address.to_string()
}

struct Picking<'a, C> {
    members: &'a Members,
    tried: &'a [Arc<Endpoint>],
    circumstances: &'a C,
}

impl<C: Circumstances> Chance for Picking<'_, C> {
    #[inline]
    fn random(&self) -> u64 {
        self.circumstances.random()
    }

    #[inline]
    fn turn(&self) -> u64 {
        self.circumstances.turn()
    }

    #[inline]
    fn key(&self, by: &HashKey) -> Option<u64> {
        self.circumstances.key(by)
    }

    #[inline]
    fn usable(&self, index: usize) -> bool {
        let available = self.members.available.as_ref();
        available.is_none_or(|available| available.get(index).is_some_and(|usable| *usable))
            && (self.tried.is_empty()
                || self
                    .members
                    .endpoints
                    .get(index)
                    .is_some_and(|one| !self.tried.iter().any(|tried| Arc::ptr_eq(tried, one))))
    }

    #[inline]
    fn load(&self, index: usize) -> u64 {
        self.members.endpoints.get(index).map_or(0, |endpoint| self.circumstances.load(endpoint) as u64)
    }
}

#[cfg(test)]
mod tests;
