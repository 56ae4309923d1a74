//! When a request may be sent again, beyond what is always safe: as its route says, for as long as
//! the budget lasts and the body is still there.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;

use super::ExchangeError;
use super::body::RequestBody;
use super::replay::Replay;
use crate::limits;
use crate::plan::{FailureSet, RetryPlan};

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection.
    Connect,
    /// The connection ended, or what came is not HTTP, before a response.
    Reset,
    /// No response in time.
    Timeout,
    /// A response of this status, which may or may not count as a failure.
    Status(StatusCode),
}

impl Failure {
    /// What `error` is for the endpoint; `None` when it says nothing of it.
    pub(super) fn of(error: &ExchangeError) -> Option<Self> {
        match error {
            ExchangeError::Connect(_) | ExchangeError::Tls(_) => Some(Self::Connect),
            ExchangeError::Reset | ExchangeError::Removed | ExchangeError::Protocol(_) => Some(Self::Reset),
            ExchangeError::Timeout(_) => Some(Self::Timeout),
            ExchangeError::NoEndpoints | ExchangeError::Request(_) => None,
        }
    }

    pub(super) fn is_in(self, set: &FailureSet) -> bool {
        match self {
            Self::Connect => set.connect,
            Self::Reset => set.reset,
            Self::Timeout => set.timeout,
            Self::Status(status) => set.statuses.contains(status),
        }
    }
}

/// One request's right to be sent again.
///
/// Boxed, since most have none and a request's future has room for it all the same.
pub struct Retries<'route>(Option<Box<Planned<'route>>>);

struct Planned<'route> {
    /// `None` for one that is sent again only if it was not looked at.
    plan: Option<&'route RetryPlan>,
    left: u32,
    body: Kept,
}

enum Kept {
    /// There is no body.
    None,
    /// It is kept as it goes.
    Replay(Replay),
}

impl<'route> Retries<'route> {
    /// The right of a request with this body, and the body as it is to be sent. Where `refusable`, its
    /// endpoint may say that it did not look at it, which no plan is needed for.
    pub fn new(plan: Option<&'route RetryPlan>, body: RequestBody, refusable: bool) -> (Self, RequestBody) {
        if plan.is_none() && !(refusable && body.is_some()) {
            return (Self(None), body);
        }
        let most = plan.map_or(limits::RETRY_BODY.0, |plan| plan.max_body);
        let replay = body.map(|body| Replay::new(body, most));
        let body = replay.as_ref().map(Replay::body);
        let kept = replay.map_or(Kept::None, Kept::Replay);
        let left = plan.map_or(0, |plan| plan.attempts);
        (Self(Some(Box::new(Planned { plan, left, body: kept }))), body)
    }

    /// Time for one attempt, where the route allows `default`.
    pub fn patience(&self, default: Option<Duration>) -> Option<Duration> {
        self.plan().and_then(|plan| plan.per_try_timeout).or(default)
    }

    /// Whether those that failed so may be asked again, the budget aside.
    pub(super) fn cover_all_again(&self, failure: Option<Failure>) -> bool {
        self.may_repeat_endpoints() && self.cover(failure)
    }

    /// Whether an endpoint that it was sent to may be asked again when there is no other.
    pub(super) fn may_repeat_endpoints(&self) -> bool {
        self.plan().is_some_and(|plan| plan.same_endpoint)
    }

    /// Waits for as long as its route wants between two attempts.
    pub(super) async fn pause(&self) {
        if let Some(time) = self.plan().and_then(|plan| plan.backoff) {
            // Boxed: most requests never wait, and all have room for what they might.
            Box::pin(tokio::time::sleep(time)).await;
        }
    }

    /// Whether it has any beyond what every request has.
    pub(super) fn are_planned(&self) -> bool {
        self.plan().is_some()
    }

    /// Most endpoints that it may go to.
    pub(super) fn endpoints(&self, default: u32) -> u32 {
        self.plan().map_or(default, |plan| default.max(plan.attempts.saturating_add(1)))
    }

    /// Whether it may be sent again after `failure`, the budget aside.
    pub(super) fn cover(&self, failure: Option<Failure>) -> bool {
        let (Some(planned), Some(plan), Some(failure)) = (&self.0, self.plan(), failure) else {
            return false;
        };
        planned.left > 0 && failure.is_in(&plan.on) && planned.body.is_whole()
    }

    /// The body for one more attempt after one that was not looked at, which costs nothing of the right;
    /// `None` when it is not there any more.
    pub(super) fn untouched(&self, has_body: bool) -> Option<RequestBody> {
        match &self.0 {
            _ if !has_body => Some(None),
            Some(planned) if planned.body.is_whole() => Some(planned.body.again()),
            _ => None,
        }
    }

    /// The body for one more attempt; what had it before gets nothing more of it.
    pub(super) fn spend(&mut self) -> RequestBody {
        let planned = self.0.as_mut()?;
        planned.left = planned.left.saturating_sub(1);
        planned.body.again()
    }

    fn plan(&self) -> Option<&'route RetryPlan> {
        self.0.as_ref()?.plan
    }
}

impl Kept {
    fn is_whole(&self) -> bool {
        match self {
            Self::None => true,
            Self::Replay(replay) => replay.is_whole(),
        }
    }

    fn again(&self) -> RequestBody {
        match self {
            Self::None => None,
            Self::Replay(replay) => Some(replay.body()),
        }
    }
}

/// What one worker may send again to one backend in one lane: a part of its requests, and a few a
/// second. Else a backend in trouble would be sent a multiple of its load just then.
pub(super) struct Budget(Mutex<Purse>);

/// In thousandths of a retry.
struct Purse {
    saved: u64,
    refilled: Instant,
}

impl Default for Budget {
    fn default() -> Self {
        let saved = 1000 * u64::from(limits::RETRIES_PER_SECOND);
        Self(Mutex::new(Purse { saved, refilled: Instant::now() }))
    }
}

impl Budget {
    /// A request that may be sent again was made.
    pub(super) fn earn(&self) {
        let mut purse = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        purse.add(10 * u64::from(limits::RETRY_PERCENT));
    }

    /// Whether one more may be sent again, which then is.
    pub(super) fn spend(&self, now: Instant) -> bool {
        let mut purse = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(purse.refilled).min(Duration::from_secs(1000));
        let earned = since.as_millis() as u64 * u64::from(limits::RETRIES_PER_SECOND);
        purse.add(earned);
        purse.refilled = now;
        match purse.saved.checked_sub(1000) {
            Some(rest) => {
                purse.saved = rest;
                true
            }
            None => false,
        }
    }
}

impl Purse {
    fn add(&mut self, earned: u64) {
        self.saved = (self.saved + earned).min(1000 * u64::from(limits::RETRIES_SAVED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests_may_be_sent_again_and_a_few_a_second() {
        let budget = Budget::default();
        let begun = Instant::now();
        let spent = |now| (0..1000).filter(|_| budget.spend(now)).count() as u32;
        assert_eq!(spent(begun), limits::RETRIES_PER_SECOND, "to begin with");
        (0..100).for_each(|_| budget.earn());
        assert_eq!(spent(begun), 100 * limits::RETRY_PERCENT / 100);
        assert_eq!(spent(begun + Duration::from_secs(2)), 2 * limits::RETRIES_PER_SECOND);
        (0..1_000_000).for_each(|_| budget.earn());
        assert_eq!(spent(begun + Duration::from_secs(2)), limits::RETRIES_SAVED, "no more can be saved");
    }

    #[test]
    fn a_failure_is_covered_as_the_plan_says() {
        let on =
            FailureSet { reset: true, statuses: [502..=504].into_iter().collect(), ..Default::default() };
        let plan = RetryPlan {
            attempts: 1,
            on,
            per_try_timeout: None,
            max_body: 1,
            backoff: None,
            same_endpoint: false,
        };
        let (mut retries, body) = Retries::new(Some(&plan), None, false);
        assert!(body.is_none());
        let covered = |retries: &Retries<'_>, failure| retries.cover(Some(failure));
        let status = Failure::Status;
        assert!(covered(&retries, Failure::Reset) && covered(&retries, status(StatusCode::BAD_GATEWAY)));
        assert!(!covered(&retries, Failure::Timeout) && !covered(&retries, status(StatusCode::OK)));
        assert!(retries.spend().is_none());
        assert!(!retries.cover(Some(Failure::Reset)), "only as often as the plan says");
        assert!(!Retries::new(None, None, true).0.cover(Some(Failure::Reset)));
    }
}
