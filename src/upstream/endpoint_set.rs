//! An immutable list of endpoints with a generation, and the step from one to the next.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::endpoint::Endpoint;
use crate::discovery::source::{EndpointAddress, EndpointSpec};
use crate::limits;

/// The endpoints of one backend at one time. Generation 0 is the set before any source answered.
#[derive(Default)]
pub struct EndpointSet {
    generation: u64,
    entries: Vec<Entry>,
    /// Running totals of the weights when they differ; `None` when each is as good as the other.
    cumulative: Option<Vec<u64>>,
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

impl EndpointSet {
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

    /// The entry that `draw`, uniform over 64 bits, falls on: each with the chance of its weight.
    /// `None` for an empty set.
    pub fn draw(&self, draw: u64) -> Option<&Entry> {
        let scaled = |range: u64| ((u128::from(draw) * u128::from(range)) >> 64) as u64;
        let index = match &self.cumulative {
            None => scaled(self.entries.len() as u64) as usize,
            Some(totals) => {
                let point = scaled(totals.last().copied().unwrap_or(0));
                totals.partition_point(|total| *total <= point)
            }
        };
        self.entries.get(index)
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

    /// The next set, with the endpoints that stay as they are, and those that go.
    pub(super) fn successor(&self, wanted: &[EndpointSpec], workers: usize) -> (Self, Vec<Arc<Endpoint>>) {
        let mut staying: HashMap<&EndpointAddress, &Arc<Endpoint>> =
            self.entries.iter().map(|entry| (entry.endpoint.address(), &entry.endpoint)).collect();
        let entries: Vec<Entry> = usable(wanted)
            .map(|spec| Entry {
                endpoint: staying
                    .remove(&spec.address)
                    .cloned()
                    .unwrap_or_else(|| Arc::new(Endpoint::new(spec.address.clone(), workers))),
                weight: spec.weight,
                zone: spec.zone.clone(),
            })
            .collect();
        let removed = staying.into_values().cloned().collect();
        let next = Self { generation: self.generation + 1, cumulative: cumulative(&entries), entries };
        (next, removed)
    }
}

/// What of a source's answer can be used: the first of each address, of a weight above 0, within the
/// bound. A source may repeat itself (two A records, two slices); a request must not count twice.
fn usable(wanted: &[EndpointSpec]) -> impl Iterator<Item = &EndpointSpec> {
    let mut seen = HashSet::with_capacity(wanted.len());
    wanted.iter().filter(move |spec| spec.weight > 0 && seen.insert(&spec.address)).take(limits::ENDPOINTS)
}

fn cumulative(entries: &[Entry]) -> Option<Vec<u64>> {
    let first = entries.first()?.weight;
    if entries.iter().all(|entry| entry.weight == first) {
        return None;
    }
    let mut total = 0;
    Some(
        entries
            .iter()
            .map(|entry| {
                total += u64::from(entry.weight);
                total
            })
            .collect(),
    )
}
