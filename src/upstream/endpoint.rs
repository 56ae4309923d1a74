//! One address of a backend. Owns its connections, apart for each worker and lane, so that retiring
//! it is all it takes to close them, and nothing that a copy does shows in the primary's lane.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::condition::Condition;
use super::pool::Pool;
use crate::discovery::source::EndpointAddress;
use crate::shard::{Lane, Sharded, WorkerId};

/// One address of a backend.
pub struct Endpoint {
    address: EndpointAddress,
    /// Generation of the first set that it is not in; 0 while it is in use.
    retired: AtomicU64,
    condition: Condition,
    lanes: [Sharded<Pool>; 2],
}

impl Endpoint {
    pub(super) fn new(address: EndpointAddress, workers: usize, now: Instant) -> Self {
        Self {
            address,
            retired: AtomicU64::new(0),
            condition: Condition::new(now),
            lanes: [Sharded::new(workers), Sharded::new(workers)],
        }
    }

    /// Where it listens.
    pub fn address(&self) -> &EndpointAddress {
        &self.address
    }

    /// Generation of the first set that it is not in; `None` while it is in use.
    pub fn retired(&self) -> Option<u64> {
        match self.retired.load(Ordering::Acquire) {
            0 => None,
            generation => Some(generation),
        }
    }

    /// How it does.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// What `worker` has open to it in `lane`.
    pub fn pool(&self, worker: WorkerId, lane: Lane) -> &Pool {
        self.lanes[lane.index()].of(worker)
    }

    /// Exchanges in flight and connections open in `lane`, over all workers.
    pub fn load(&self, lane: Lane) -> (usize, usize) {
        self.lanes[lane.index()]
            .iter()
            .fold((0, 0), |(flying, open), pool| (flying + pool.in_flight(), open + pool.connections()))
    }

    /// Closes connections that have been idle for too long at `now`.
    pub(super) fn reap(&self, now: Instant) {
        self.lanes.iter().flat_map(Sharded::iter).for_each(|pool| pool.reap(now));
    }

    /// Breaks off what it still has in flight, of those exchanges that may be broken off.
    pub(super) fn expire(&self) {
        self.lanes.iter().flat_map(Sharded::iter).for_each(Pool::expire);
    }

    /// Takes it out of use as of `generation`: idle connections close now, leased ones when their
    /// exchange ends, since a pool takes nothing back for a retired endpoint.
    pub(super) fn retire(&self, generation: u64) {
        self.retired.store(generation, Ordering::Release);
        for lane in &self.lanes {
            lane.iter().for_each(Pool::close);
        }
    }
}
