//! An immutable list of endpoints with a generation, and the step from one to the next.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::members::{Circumstances, Members, Shares};
use crate::discovery::source::{EndpointAddress, EndpointSpec};
use crate::limits;
use crate::plan::BackendPolicy;
use crate::shard::Lane;

/// The endpoints of one backend at one time. Generation 0 is the set before any source answered.
///
/// The same generation may come again with other members, when somebody's health changed.
pub struct EndpointSet {
    generation: u64,
    entries: Arc<[Entry]>,
    policy: Arc<BackendPolicy>,
    lanes: [Arc<Members>; 2],
    first_use: Arc<FirstUse>,
}

/// One endpoint and its share.
#[derive(Clone)]
pub struct Entry {
    /// The endpoint, which lives on from set to set.
    pub endpoint: Arc<Endpoint>,
    /// Share relative to the others; never 0, an endpoint of weight 0 is not in the set.
    pub weight: u32,
    /// Zone, if known.
    pub zone: Option<Arc<str>>,
}

struct FirstUse {
    /// When the source learned of what is new in the set.
    event: Instant,
    used: AtomicBool,
}

impl EndpointSet {
    /// The set before any source answered.
    pub(super) fn before_any(policy: BackendPolicy) -> Self {
        let none = Arc::new(Members::none(&policy));
        Self {
            generation: 0,
            entries: Arc::new([]),
            policy: Arc::new(policy),
            lanes: [none.clone(), none],
            first_use: Arc::new(FirstUse { event: Instant::now(), used: AtomicBool::new(true) }),
        }
    }

    /// Counts the sets that this backend has had.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many endpoints there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The endpoints in the source's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Endpoints that take nothing in `lane` for what probes or its traffic met.
    pub fn left_out(&self, lane: Lane) -> usize {
        self.entries.iter().filter(|entry| !entry.endpoint.condition().is_usable(lane)).count()
    }

    /// What the backend does with its endpoints.
    pub fn policy(&self) -> &Arc<BackendPolicy> {
        &self.policy
    }

    /// An endpoint for the next request in `lane`, not among `tried`; `None` when there is none left.
    ///
    /// Somebody who was tried to no avail may go on to endpoints that are out of use, if there is
    /// nobody else.
    pub(super) fn pick(
        &self,
        lane: Lane,
        tried: &[Arc<Endpoint>],
        circumstances: &impl Circumstances,
    ) -> Option<&Arc<Endpoint>> {
        let picked = self.lanes[lane.index()].pick(tried, circumstances);
        if picked.is_none() && !tried.is_empty() {
            let untried = |endpoint| !tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint));
            return self.entries.iter().map(|entry| &entry.endpoint).find(|endpoint| untried(endpoint));
        }
        picked
    }

    /// When asked for the first time: how long ago the source learned of what is new in this set.
    #[inline]
    pub(super) fn first_used(&self) -> Option<Duration> {
        // Read before it is written, so that workers share the line in peace ever after.
        if self.first_use.used.load(Ordering::Relaxed) || self.first_use.used.swap(true, Ordering::Relaxed) {
            return None;
        }
        Some(self.first_use.event.elapsed())
    }

    /// Whether publishing `wanted` would change nothing.
    pub(super) fn same_as(&self, wanted: &[EndpointSpec]) -> bool {
        let mut entries = self.entries.iter();
        let same = usable(wanted).all(|spec| {
            entries.next().is_some_and(|entry| {
                *entry.endpoint.address() == spec.address
                    && entry.weight == spec.weight
                    && entry.zone == spec.zone
            })
        });
        same && entries.next().is_none()
    }

    /// The next set, with the endpoints that stay as they are, and those that go. `event` is when the
    /// source learned of it.
    pub(super) fn successor(
        &self,
        wanted: &[EndpointSpec],
        workers: usize,
        event: Instant,
    ) -> (Self, Vec<Arc<Endpoint>>) {
        let now = Instant::now();
        let mut staying: HashMap<&EndpointAddress, &Arc<Endpoint>> =
            self.entries.iter().map(|entry| (entry.endpoint.address(), &entry.endpoint)).collect();
        let entries: Arc<[Entry]> = usable(wanted)
            .map(|spec| Entry {
                endpoint: staying
                    .remove(&spec.address)
                    .cloned()
                    .unwrap_or_else(|| Arc::new(Endpoint::new(spec.address.clone(), workers, now))),
                weight: spec.weight,
                zone: spec.zone.clone(),
            })
            .collect();
        let removed = staying.into_values().cloned().collect();
        let next = Self {
            generation: self.generation + 1,
            lanes: self.members(&entries, &self.policy, now),
            entries,
            policy: self.policy.clone(),
            first_use: Arc::new(FirstUse { event, used: AtomicBool::new(false) }),
        };
        (next, removed)
    }

    /// The same endpoints after somebody's health, age or the policy changed.
    pub(super) fn rebalanced(&self, policy: Arc<BackendPolicy>, now: Instant) -> Self {
        Self {
            generation: self.generation,
            entries: self.entries.clone(),
            lanes: self.members(&self.entries, &policy, now),
            policy,
            first_use: self.first_use.clone(),
        }
    }

    fn members(&self, entries: &[Entry], policy: &BackendPolicy, now: Instant) -> [Arc<Members>; 2] {
        let [one, other] = Lane::ALL.map(|lane| Shares::of(entries, policy, lane, now));
        let make =
            |shares, lane: Lane| Arc::new(Members::new(entries, policy, shares, &self.lanes[lane.index()]));
        let first = make(&one, Lane::ALL[0]);
        let second = if one == other { first.clone() } else { make(&other, Lane::ALL[1]) };
        [first, second]
    }
}

/// What of a source's answer can be used: the first of each address, of a weight above 0, within the
/// bound. A source may repeat itself (two A records, two slices); a request must not count twice.
fn usable(wanted: &[EndpointSpec]) -> impl Iterator<Item = &EndpointSpec> {
    let mut seen = HashSet::with_capacity(wanted.len());
    wanted.iter().filter(move |spec| spec.weight > 0 && seen.insert(&spec.address)).take(limits::ENDPOINTS)
}
