//! When each endpoint is probed, and what follows from the answers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::probe::{Target, probe};
use crate::limits;
use crate::plan::HealthPlan;
use crate::shard::WorkerId;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint_set::EndpointSet;
use crate::upstream::registry::BackendRef;
use crate::worker::Worker;

/// The probes of one backend.
#[derive(Default)]
pub(super) struct Probing {
    plan: Option<Arc<HealthPlan>>,
    generation: u64,
    probed: HashMap<usize, Probed>,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    running: JoinSet<(usize, bool)>,
    worker: Option<Arc<Worker>>,
    news: bool,
}

/// One endpoint that is probed.
struct Probed {
    endpoint: Arc<Endpoint>,
    judgement: Judgement,
}

/// What an endpoint's answers say so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It has not been probed.
    Unknown,
    /// It is well, or not; and so many probes in a row said otherwise.
    Known { healthy: bool, against: u32 },
}

impl Judgement {
    /// One more answer.
    pub(super) fn with(self, answer: bool, plan: &HealthPlan) -> Self {
        match self {
            // Waiting for more would send requests to somebody who is known to be down.
            Self::Unknown => Self::Known { healthy: answer, against: 0 },
            Self::Known { healthy, .. } if healthy == answer => Self::Known { healthy, against: 0 },
            Self::Known { healthy, against } => {
                let enough = if healthy { plan.unhealthy } else { plan.healthy };
                if against + 1 >= enough {
                    Self::Known { healthy: answer, against: 0 }
                } else {
                    Self::Known { healthy, against: against + 1 }
                }
            }
        }
    }
}

impl Probing {
    /// Starts the probes that are due. Returns whether somebody's health changed since the last call.
    pub(super) fn turn(&mut self, backend: &BackendRef, set: &EndpointSet, now: Instant) -> bool {
        self.follow(set, now);
        let Some(plan) = self.plan.clone() else { return std::mem::take(&mut self.news) };
        while self.running.len() < limits::PROBES {
            let Some(Reverse((at, id))) = self.due.peek().copied() else { break };
            if at > now {
                break;
            }
            self.due.pop();
            // One that is no longer in the set is forgotten with its turn.
            let Some(probed) = self.probed.get(&id) else { continue };
            let worker = self.worker.get_or_insert_with(|| Worker::new(WorkerId(0), fastrand::u64(..)));
            let target = Target::new(backend, probed.endpoint.address());
            let (worker, plan) = (worker.clone(), plan.clone());
            self.running.spawn(async move {
                let answer = tokio::time::timeout(plan.timeout, probe(&worker, &target, &plan.check)).await;
                (id, matches!(answer, Ok(true)))
            });
        }
        std::mem::take(&mut self.news)
    }

    /// Waits for an answer; for ever when there is none to come.
    pub(super) async fn heard(&mut self) {
        let Some(ended) = self.running.join_next().await else { return std::future::pending().await };
        // A probe that panicked or was broken off said nothing.
        let (Ok((id, answer)), Some(plan)) = (ended, &self.plan) else { return };
        let Some(probed) = self.probed.get_mut(&id) else { return };
        probed.judgement = probed.judgement.with(answer, plan);
        let now = Instant::now();
        if let Judgement::Known { healthy, .. } = probed.judgement {
            self.news |= probed.endpoint.condition().probed(healthy, now);
        }
        let pause = plan.interval.mul_f64(1.0 - 0.1 * fastrand::f64());
        self.due.push(Reverse((now + pause, id)));
    }

    /// When the next probe is due; `None` when an answer comes first.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.running.len() >= limits::PROBES {
            return None;
        }
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// Keeps to the set and the plan in use.
    fn follow(&mut self, set: &EndpointSet, now: Instant) {
        let plan = set.policy().health.as_ref();
        if self.plan.as_deref() != plan {
            self.plan = plan.cloned().map(Arc::new);
            self.generation = 0;
            self.probed.clear();
            self.due.clear();
            self.running.abort_all();
            if plan.is_none() {
                for entry in set.entries() {
                    self.news |= entry.endpoint.condition().probed(true, now);
                }
            }
        }
        if self.plan.is_none() || self.generation == set.generation() {
            return;
        }
        self.generation = set.generation();
        let mut last = std::mem::take(&mut self.probed);
        for entry in set.entries() {
            let id = Arc::as_ptr(&entry.endpoint).addr();
            let probed = last.remove(&id).unwrap_or_else(|| {
                self.due.push(Reverse((now, id)));
                Probed { endpoint: entry.endpoint.clone(), judgement: Judgement::Unknown }
            });
            self.probed.insert(id, probed);
        }
        // An endpoint that takes the memory of one that goes must not get its turns as well.
        if !last.is_empty() {
            let due = std::mem::take(&mut self.due);
            self.due = due.into_iter().filter(|Reverse((_, id))| self.probed.contains_key(id)).collect();
        }
    }
}
