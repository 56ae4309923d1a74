//! The mirror: who gets a copy of a request, and what becomes of it.
//!
//! Called by [`crate::proxy`] once a request is sure to be forwarded. Ends in the same
//! [`crate::upstream::exchange`] as the primary. Must never make a primary wait, nor touch what is the
//! primary's: request, connection, counts.

pub mod budget;
pub mod copy;
pub mod outcome;
pub mod tee;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, request};
use http_body::SizeHint;

use self::budget::{Budget, Permit};
use self::copy::Copy;
use self::outcome::Outcome;
use self::tee::Reader;
use crate::memory::Account;
use crate::routing::filter::HeaderEdits;
use crate::upstream::http1::head::Length;
use crate::upstream::registry::BackendRef;
use crate::worker::Worker;

/// A mirror of one route, ready to be used.
pub struct Mirror {
    /// Who gets the copies.
    pub backend: BackendRef,
    /// A request whose draw is below it is copied; `None` copies all. See
    /// [`crate::plan::Fraction::threshold`].
    pub threshold: Option<u64>,
    /// Methods that are copied; `None` is all.
    pub methods: Option<Vec<Method>>,
    /// Edits of the copy's head.
    pub headers: HeaderEdits,
    /// From the end of the request to the end of the copy.
    pub timeout: Duration,
    /// Bytes that one copy may lag behind the primary.
    pub lag: usize,
    /// What is in flight, and whether more may be.
    pub budget: Arc<Budget>,
}

/// What there is to know of a request that is about to be forwarded.
pub struct Subject<'request> {
    /// Its head as the primary gets it.
    pub parts: &'request request::Parts,
    /// How its body ends.
    pub length: Length,
    /// What is known of its body's size.
    pub size: SizeHint,
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
    for mirror in mirrors {
        mirror.budget.metrics().offered(worker.id());
        match admit(mirror, subject, worker) {
            Ok(permit) => {
                copies.push(Copy::new(mirror.clone(), permit, subject, reader(mirror, subject, worker)))
            }
            Err(outcome) => mirror.budget.skipped(worker.id(), outcome),
        }
    }
    copies
}

/// The cheapest answers first: at 1 % nearly every request ends at the draw.
fn admit(mirror: &Mirror, subject: &Subject<'_>, worker: &Worker) -> Result<Permit, Outcome> {
    if subject.draining {
        return Err(Outcome::SkippedDraining);
    }
    if subject.overloaded {
        return Err(Outcome::SkippedOverload);
    }
    if subject.upgrades {
        return Err(Outcome::SkippedUpgrade);
    }
    if subject.hops.is_some() {
        return Err(Outcome::SkippedLoop);
    }
    if mirror.methods.as_ref().is_some_and(|methods| !methods.contains(&subject.parts.method)) {
        return Err(Outcome::SkippedMethod);
    }
    if mirror.threshold.is_some_and(|threshold| subject.draw >= threshold) {
        return Err(Outcome::SkippedSampledOut);
    }
    if mirror.backend.endpoints().is_empty() {
        return Err(Outcome::SkippedNoEndpoints);
    }
    if subject.length != Length::None && !worker.copies().fits(1) {
        return Err(Outcome::SkippedBytes);
    }
    mirror.budget.admit(worker.id())
}

fn reader(mirror: &Mirror, subject: &Subject<'_>, worker: &Worker) -> Option<Arc<Reader>> {
    if matches!(subject.length, Length::None | Length::Exact(0)) {
        return None;
    }
    let account = Account::within(worker.copies(), mirror.lag);
    Some(Reader::new(account, subject.size.clone()))
}
