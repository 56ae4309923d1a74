//! The mirror: who gets a copy of a request, and what becomes of it.
//!
//! Called by [`crate::proxy`] once a request is sure to be forwarded. Ends in the same
//! [`crate::upstream::exchange`] as the primary. Must never make a primary wait (but for the
//! bounded moment of [`tee`]), nor touch what is the primary's: request, connection, counts.

// Whether there is a copy.
mod breaker;
pub mod budget;
pub mod dial;
mod rate;
pub mod record;
pub mod sampling;
mod slots;
pub mod supervise;

// What it is, and what becomes of it.
pub mod copy;
mod head;
pub mod loop_guard;
mod meeting;
pub mod outcome;
pub mod pair;
pub mod tee;
pub(crate) mod trace;

#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::request;
use http_body::SizeHint;

use self::budget::{Budget, Permit};
use self::copy::Copy;
use self::loop_guard::LoopGuard;
use self::outcome::Outcome;
use self::tee::Reader;
use crate::memory::Account;
use crate::plan::{MirrorPlan, Oversize};
use crate::shard::Lane;
use crate::upstream::http1::head::Length;
use crate::upstream::proxy_protocol::Addresses;
use crate::upstream::registry::BackendRef;
use crate::worker::Worker;

/// A mirror of one route, ready to be used.
pub struct Mirror {
    /// The route's name.
    pub route: Arc<str>,
    /// What it is called among the route's mirrors: as its backend, and the second one to the same
    /// backend `backend~2`, so that each has its own counts.
    pub name: Arc<str>,
    /// Who gets the copies.
    pub backend: BackendRef,
    /// Of which requests, with which edits, and within which bounds.
    pub plan: MirrorPlan,
    /// What is in flight, and whether more may be.
    pub budget: Arc<Budget>,
    /// Signs copies, so that they are known if they come back.
    pub guard: LoopGuard,
}

/// What there is to know of a request that is about to be forwarded.
pub struct Subject<'request> {
    /// Its head as the primary gets it.
    pub parts: &'request request::Parts,
    /// How long the part of its path is that the route's prefix matched, as the primary gets it.
    pub prefix: usize,
    /// How its body ends.
    pub length: Length,
    /// What is known of its body's size.
    pub size: SizeHint,
    /// Who asks.
    pub client: IpAddr,
    /// The connection that the request came on.
    pub connection: &'request Addresses,
    /// One draw, uniform over 64 bits, for all mirrors: so 5 % lies within 10 %.
    pub draw: u64,
    /// `Some` when the request is itself a copy, of so many hops.
    pub hops: Option<u32>,
    /// Whether the client asks for another protocol, or for a tunnel.
    pub upgrades: bool,
    /// Whether the process is stopping.
    pub draining: bool,
    /// Whether the process sheds load.
    pub overloaded: bool,
}

/// Decides for each mirror whether it gets a copy; counts why not.
pub fn begin(mirrors: &[Arc<Mirror>], subject: &Subject<'_>, worker: &Arc<Worker>) -> Vec<Copy> {
    let mut copies = Vec::new();
    let mut started = None;
    for mirror in mirrors {
        mirror.budget.metrics().offered(worker.id());
        match admit(mirror, subject, worker, &mut started) {
            Ok(permit) => {
                let started = *started.get_or_insert_with(Instant::now);
                copies.push(Copy::new(mirror.clone(), permit, subject, started, worker));
            }
            Err(outcome) => mirror.budget.skipped(worker.id(), outcome),
        }
    }
    copies
}

/// The cheapest answers first: at 1 % nearly every request ends at the draw.
fn admit(
    mirror: &Mirror,
    subject: &Subject<'_>,
    worker: &Worker,
    started: &mut Option<Instant>,
) -> Result<Permit, Outcome> {
    if subject.draining {
        return Err(Outcome::SkippedDraining);
    }
    if subject.overloaded || worker.is_full_of_copies() {
        return Err(Outcome::SkippedOverload);
    }
    if subject.upgrades {
        return Err(Outcome::SkippedUpgrade);
    }
    if subject.hops.is_some() {
        return Err(Outcome::SkippedLoop);
    }
    if mirror.plan.methods.as_ref().is_some_and(|methods| !methods.contains(&subject.parts.method)) {
        return Err(Outcome::SkippedMethod);
    }
    mirror.budget.dial().admit(|| mirror.draw(subject))?;
    if !mirror.plan.matches.is_empty() && !mirror.plan.matches.iter().any(|one| one.holds(subject.parts)) {
        return Err(Outcome::SkippedCondition);
    }
    if mirror.plan.on_oversize == Oversize::Skip && mirror.is_oversize(subject.length) {
        return Err(Outcome::SkippedOversize);
    }
    if mirror.backend.endpoints().is_empty() {
        return Err(match mirror.backend.is_unresolved() {
            true => Outcome::FailedDns,
            false => Outcome::SkippedNoEndpoints,
        });
    }
    if subject.length != Length::None && !worker.copies().fits(1) {
        return Err(Outcome::SkippedBytes);
    }
    let now = *started.get_or_insert_with(Instant::now);
    if mirror.backend.pace().is_ahead(worker.id(), Lane::Mirror, now) {
        return Err(Outcome::SkippedOverload);
    }
    mirror.budget.admit(worker.id())
}

impl Mirror {
    fn draw(&self, subject: &Subject<'_>) -> u64 {
        let keyed =
            self.plan.sample_by.as_ref().and_then(|by| sampling::draw(by, subject.parts, subject.client));
        keyed.unwrap_or(subject.draw)
    }

    /// Whether a body is declared larger than the mirror wants. One of unknown length is not.
    fn is_oversize(&self, length: Length) -> bool {
        matches!((self.plan.max_body, length), (Some(most), Length::Exact(bytes)) if bytes > most)
    }

    fn reader(&self, subject: &Subject<'_>, worker: &Worker) -> Option<Arc<Reader>> {
        if matches!(subject.length, Length::None | Length::Exact(0)) {
            return None;
        }
        let account = self.budget.metrics().account(worker.id(), worker.copies());
        Some(Reader::new(Account::within(account, self.plan.lag), subject.size))
    }
}
