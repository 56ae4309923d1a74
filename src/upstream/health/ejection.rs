//! Leaving out endpoints where traffic fails, and taking them in again. Pure but for the endpoints'
//! own condition: the clock and chance are arguments.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::plan::EjectionPlan;
use crate::shard::Lane;
use crate::upstream::endpoint_set::Entry;

/// What a review came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Review {
    /// Whether somebody was left out or taken in.
    pub(super) news: bool,
    /// When somebody comes back.
    pub(super) next: Option<Instant>,
}

/// Takes in again whose time is over, and leaves out who failed too often in a row, as many as may be
/// left out at once. Each lane for itself.
pub(super) fn review(
    entries: &[Entry],
    plan: Option<&EjectionPlan>,
    now: Instant,
    mut chance: impl FnMut() -> f64,
) -> Review {
    let mut review = Review { news: false, next: None };
    let most = plan.map_or(0, |plan| entries.len() * plan.most_percent as usize / 100);
    // The next failure is enough, a success forgives.
    let failures = plan.map_or(0, |plan| plan.failures.saturating_sub(1));
    for lane in Lane::ALL {
        let mut out = Vec::new();
        for condition in entries.iter().map(|entry| entry.endpoint.condition()) {
            match condition.seen(lane).until {
                None => {}
                Some(until) if until > now => out.push((until, condition)),
                Some(_) => {
                    condition.take_back(lane, failures, now);
                    review.news = true;
                }
            }
        }
        // Also without a plan, and where the others have left the set since: the first to come back
        // comes now.
        out.sort_unstable_by_key(|(until, _)| Reverse(*until));
        for (_, condition) in out.drain(most.min(out.len())..) {
            condition.take_back(lane, failures, now);
            review.news = true;
        }
        let Some(plan) = plan else { continue };
        for condition in entries.iter().map(|entry| entry.endpoint.condition()) {
            if condition.failures(lane) < plan.failures || condition.is_ejected(lane) {
                continue;
            }
            if out.len() >= most {
                break;
            }
            let history = condition.seen(lane);
            if now.saturating_duration_since(history.since) > 2 * pause(plan, history.times) {
                condition.forgive(lane);
            }
            // Shortened, so that those that failed together do not come back together.
            let pause = pause(plan, condition.seen(lane).times).mul_f64(1.0 - 0.2 * chance());
            let until = now + pause;
            condition.eject(lane, until);
            out.push((until, condition));
            review.news = true;
        }
        review.next = out.iter().map(|(until, _)| *until).chain(review.next).min();
    }
    review
}

/// Doubles each time, up to the longest.
fn pause(plan: &EjectionPlan, times: u32) -> Duration {
    plan.time.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(plan.longest)
}
