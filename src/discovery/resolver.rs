//! What is believed of one backend's source, and what is to be done next: a state machine without
//! IO, driven by answers and a clock, so that every history can be replayed in a test.
//!
//! It is level-triggered: what was heard is kept apart from what was applied, and [`Resolver::step`]
//! names whatever still lies between the two. Nothing is lost by calling it late or twice. It also
//! keeps the schedule on which the source is asked, so that no source invents its own.
//!
//! It must never learn who refers to a backend or why: `task` runs one for each that lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::source::{EndpointSpec, Update};
use crate::limits;

/// What a source said, and when it wants to be asked again.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What it said.
    pub update: Update,
    /// When the source learned of it.
    pub event: Instant,
    /// How long the answer is good for; `None` when the source will speak up by itself.
    pub refresh: Option<Duration>,
    /// What is not quite right although there is an answer, to be shown as an error.
    pub warning: Option<String>,
}

/// How much a source is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverPolicy {
    /// First and greatest pause after a failure.
    pub backoff: (Duration, Duration),
    /// An answer without endpoints is obeyed only when a second look-up, made at once, agrees.
    pub confirm_empty: bool,
    /// When a set that the source no longer confirms is too old, and what then.
    pub max_age: Option<MaxAge>,
}

/// When a set is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxAge {
    /// Time since the source last confirmed the set.
    pub after: Duration,
    /// What happens to it then.
    pub then: WhenTooOld,
}

/// What happens to a set that is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenTooOld {
    /// It stays in use; an error says so.
    Keep,
    /// It is treated as empty until the source answers again.
    Empty,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask the source, then call [`Resolver::heard`].
    Ask,
    /// Put this set into use, then call [`Resolver::applied`] or [`Resolver::apply_failed`].
    Apply {
        /// The whole set.
        set: Arc<[EndpointSpec]>,
        /// When the source learned of it.
        event: Instant,
        /// When the source was last heard; `None` before its first answer.
        confirmed: Option<Instant>,
    },
    /// The set in use is still right.
    Confirm,
    /// The set in use stays; show why it may be wrong.
    KeepLast {
        /// What went wrong.
        error: String,
    },
    /// Nothing until then, or until something is heard when `None`.
    Wait(Option<Instant>),
}

/// The state of one backend's source. See the module's documentation.
pub struct Resolver {
    policy: ResolverPolicy,
    random: fastrand::Rng,
    wanted: Option<Wanted>,
    /// Version of the set that is in use; 0 for one that this resolver did not apply.
    applied: u64,
    /// Version that the last `Apply` named.
    offered: u64,
    apply_failures: u32,
    apply_error: Option<String>,
    apply_at: Instant,
    ask_at: Option<Instant>,
    failures: u32,
    /// A source that was seen to change since it was last asked learned of it then.
    event: Option<Instant>,
    /// The same for the question that it is asked now.
    asked_event: Option<Instant>,
    /// When the source first named no endpoints, while that is not obeyed yet.
    suspicion: Option<Instant>,
    /// The last answer is good for ever.
    settled: bool,
    begun: Instant,
    confirmed: Option<Instant>,
    expired: bool,
    confirmation_due: bool,
    error: Option<String>,
    error_shown: bool,
}

struct Wanted {
    set: Arc<[EndpointSpec]>,
    event: Instant,
    version: u64,
}

impl Resolver {
    /// A resolver that has heard nothing and asks at once. `seed` spreads the schedules of many.
    pub fn new(policy: ResolverPolicy, seed: u64, now: Instant) -> Self {
        Self {
            policy,
            random: fastrand::Rng::with_seed(seed),
            wanted: None,
            applied: 0,
            offered: 0,
            apply_failures: 0,
            apply_error: None,
            apply_at: now,
            ask_at: Some(now),
            failures: 0,
            event: None,
            asked_event: None,
            suspicion: None,
            settled: false,
            begun: now,
            confirmed: None,
            expired: false,
            confirmation_due: false,
            error: None,
            error_shown: true,
        }
    }

    /// What is to be done at `now`. Anything but [`Action::Wait`] is to be done, and then `step`
    /// called again.
    pub fn step(&mut self, now: Instant) -> Action {
        self.expire(now);
        if let Some(wanted) = &self.wanted
            && wanted.version != self.applied
            && self.apply_at <= now
        {
            self.offered = wanted.version;
            let (set, event) = (wanted.set.clone(), wanted.event);
            return Action::Apply { set, event, confirmed: self.confirmed };
        }
        if self.confirmation_due {
            self.confirmation_due = false;
            self.error_shown = false;
            return Action::Confirm;
        }
        if !self.error_shown {
            self.error_shown = true;
            if let Some(error) = self.error_to_show() {
                return Action::KeepLast { error };
            }
        }
        if self.ask_at.is_some_and(|at| at <= now) {
            self.ask_at = None;
            self.asked_event = self.event.take();
            return Action::Ask;
        }
        Action::Wait(self.wake())
    }

    /// The source was seen to change at `event`: it is asked at once.
    pub fn changed(&mut self, event: Instant) {
        self.event = Some(self.event.map_or(event, |earlier| earlier.min(event)));
        self.ask_at = Some(event);
        self.settled = false;
    }

    /// The source answered.
    pub fn heard(&mut self, answer: Answer, now: Instant) {
        let event = self.asked_event.take().unwrap_or(answer.event);
        match answer.update {
            Update::Failed(error) => {
                let pause = self.pause(self.failures);
                self.failures = self.failures.saturating_add(1);
                self.ask_next(Some(now + pause));
                self.show(Some(error.to_string()));
            }
            Update::Full(set) if !set.is_empty() => {
                self.suspicion = None;
                self.obey(set, event, answer.refresh, answer.warning, now);
                self.confirm(now);
            }
            Update::Kept { endpoints, since, why } => {
                self.suspicion = None;
                // What is too old to be used does not become younger by being told again.
                let empty = self
                    .policy
                    .max_age
                    .is_some_and(|max_age| max_age.then == WhenTooOld::Empty && since + max_age.after <= now);
                let set = if empty { Vec::new() } else { endpoints };
                self.obey(set, event, answer.refresh, Some(why), now);
                (self.confirmed, self.confirmation_due) = (Some(since), false);
            }
            Update::Full(set) => self.heard_nothing(set, event, answer.refresh, answer.warning, now),
            Update::Gone(reason) => {
                self.heard_nothing(Vec::new(), event, answer.refresh, Some(reason), now);
            }
        }
    }

    /// The set that the last [`Action::Apply`] named is in use.
    pub fn applied(&mut self) {
        self.applied = self.offered;
        self.apply_failures = 0;
        self.apply_error = None;
        self.confirmation_due = false;
        // Putting a set into use says that all is well; what is not must be said again.
        self.error_shown = false;
    }

    /// The set that the last [`Action::Apply`] named could not be put into use. It, or what is
    /// wanted by then, is tried again.
    pub fn apply_failed(&mut self, error: String, now: Instant) {
        self.apply_at = now + self.pause(self.apply_failures);
        self.apply_failures = self.apply_failures.saturating_add(1);
        self.apply_error = Some(error);
        self.error_shown = false;
    }

    fn heard_nothing(
        &mut self,
        set: Vec<EndpointSpec>,
        event: Instant,
        refresh: Option<Duration>,
        warning: Option<String>,
        now: Instant,
    ) {
        let obeyed = self.wanted.as_ref().is_some_and(|wanted| wanted.set.is_empty());
        if self.policy.confirm_empty && !obeyed && self.suspicion.is_none() {
            self.suspicion = Some(event);
            self.ask_next(Some(now));
            return;
        }
        let event = self.suspicion.take().unwrap_or(event);
        self.obey(set, event, refresh, warning, now);
        self.confirm(now);
    }

    fn obey(
        &mut self,
        set: Vec<EndpointSpec>,
        event: Instant,
        refresh: Option<Duration>,
        warning: Option<String>,
        now: Instant,
    ) {
        self.failures = 0;
        self.expired = false;
        self.settled = refresh.is_none() && self.event.is_none();
        let next = refresh.map(|time| now + self.shortened(time));
        self.ask_next(next);
        self.show(warning);
        self.want(set.into(), event, now);
    }

    /// What is wanted was right at `now`.
    fn confirm(&mut self, now: Instant) {
        self.confirmed = Some(now);
        self.confirmation_due = self.wanted.as_ref().is_some_and(|wanted| wanted.version == self.applied);
    }

    fn want(&mut self, set: Arc<[EndpointSpec]>, event: Instant, now: Instant) {
        let version = match &self.wanted {
            Some(wanted) if wanted.set == set => return,
            Some(wanted) => wanted.version + 1,
            None => 1,
        };
        // What is new is not held back by the failure of what it replaces.
        self.apply_at = now;
        self.wanted = Some(Wanted { set, event, version });
    }

    fn expire(&mut self, now: Instant) {
        let Some(max_age) = self.policy.max_age else { return };
        if self.expires_at().is_none_or(|at| now < at) {
            return;
        }
        self.expired = true;
        self.error_shown = false;
        if max_age.then == WhenTooOld::Empty {
            self.want(Arc::new([]), now, now);
        }
    }

    fn expires_at(&self) -> Option<Instant> {
        let max_age = self.policy.max_age.filter(|_| !self.expired && !self.settled)?;
        Some(self.confirmed.unwrap_or(self.begun) + max_age.after)
    }

    /// A change that was seen while the source was being asked is not covered by its answer, so
    /// that the question stands whatever the answer's own schedule is.
    fn ask_next(&mut self, at: Option<Instant>) {
        if self.event.is_none() {
            self.ask_at = at;
        }
    }

    /// What is wrong at present, if something is.
    pub fn error_to_show(&self) -> Option<String> {
        let error = self.apply_error.as_ref().or(self.error.as_ref());
        match self.policy.max_age.filter(|_| self.expired) {
            None => error.cloned(),
            Some(max_age) => {
                let cause = error.map_or("the source did not answer", String::as_str);
                Some(format!("not confirmed for {:?}: {cause}", max_age.after))
            }
        }
    }

    fn show(&mut self, error: Option<String>) {
        if error.is_some() || self.error.is_some() {
            self.error = error;
            self.error_shown = false;
        }
    }

    fn wake(&self) -> Option<Instant> {
        let unapplied = self.wanted.as_ref().is_some_and(|wanted| wanted.version != self.applied);
        let apply = unapplied.then_some(self.apply_at);
        [apply, self.ask_at, self.expires_at()].into_iter().flatten().min()
    }

    /// Doubles from the first pause to the greatest.
    fn pause(&mut self, failures: u32) -> Duration {
        let (first, greatest) = self.policy.backoff;
        let doubled = first.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
        self.shortened(doubled.min(greatest))
    }

    /// Up to a tenth less, never more: no schedule may outlast what the source allowed.
    fn shortened(&mut self, time: Duration) -> Duration {
        time.mul_f64(1.0 - 0.1 * self.random.f64())
    }
}

impl Default for ResolverPolicy {
    fn default() -> Self {
        Self { backoff: limits::SOURCE_BACKOFF, confirm_empty: false, max_age: None }
    }
}

#[cfg(test)]
mod tests;
