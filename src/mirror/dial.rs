//! How many requests a mirror gets, and who said so: the configuration, a person, or the mirror's own
//! record. Lives as long as the mirror is configured, across reloads.
//!
//! The data plane reads one number, `Dial::gate`. Everything else happens on the control runtime,
//! with the time as an argument: what a person sets stays until the file changes that mirror's own
//! share; a mirror that does badly is stopped; one that does well gets its next step.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::outcome::Outcome;
use super::record::{Reading, Record};
use crate::plan::{Fraction, RampPlan, SharePlan};

/// The gate when every request passes.
const ALL: u64 = u64::MAX;

/// How many requests a mirror gets.
pub struct Dial {
    /// A draw below it is in; [`ALL`] takes every draw.
    gate: AtomicU64,
    /// Why nothing passes, where the gate is 0: an index into [`HELD`].
    held: AtomicU8,
    settings: Mutex<Settings>,
}

const HELD: [Outcome; 3] = [Outcome::SkippedSampledOut, Outcome::SkippedPaused, Outcome::SkippedStopped];

/// What a person may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// This share from now on, until the file changes the mirror's own. Ends a ramp.
    Share(Fraction),
    /// No copies until told otherwise.
    Pause,
    /// Go on after a pause or a stop.
    Resume,
}

/// Whether copies are made, and why not.
#[derive(Clone, Debug, PartialEq)]
pub enum DialState {
    /// The share is in force.
    Active,
    /// Somebody paused it.
    Paused,
    /// It was stopped by itself, for this reason.
    Stopped(String),
}

impl DialState {
    /// The values of the `state` label.
    pub const WORDS: [&str; 3] = ["active", "paused", "stopped"];

    /// One of [`Self::WORDS`].
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Stopped(_) => "stopped",
        }
    }
}

/// What a dial did by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum DialEvent {
    /// It stopped, for this reason.
    Stopped(String),
    /// It went on to this share.
    Stepped(Fraction),
}

/// A dial for people to see.
#[derive(Clone, Debug, PartialEq)]
pub struct DialView {
    /// The share that is in force when nothing holds it.
    pub fraction: Fraction,
    /// The share that the configuration gives it; with a ramp, its first step.
    pub configured: Fraction,
    /// Whether copies are made.
    pub state: DialState,
    /// Whether a person has set the share.
    pub set_by_hand: bool,
    /// The ramp's step, counted from 1, of how many.
    pub step: Option<(usize, usize)>,
    /// Until the next step, if the mirror does well.
    pub next_step: Option<Duration>,
}

struct Settings {
    plan: SharePlan,
    fraction: Fraction,
    by_hand: bool,
    state: DialState,
    record: Record,
    step: usize,
    /// Since when the mirror has done well at this step.
    well_since: Instant,
    /// Copies delivered when the step began: a mirror that got none has not done well.
    delivered_before: Option<u64>,
}

impl Dial {
    /// As `plan` has it.
    pub fn new(plan: SharePlan, now: Instant) -> Self {
        let dial = Self {
            gate: AtomicU64::new(0),
            held: AtomicU8::new(0),
            settings: Mutex::new(Settings::new(plan, now)),
        };
        dial.apply(&dial.settings());
        dial
    }

    /// Whether a request is in whose draw `draw` makes: one load, and no draw where none is needed.
    pub fn admit(&self, draw: impl FnOnce() -> u64) -> Result<(), Outcome> {
        match self.gate.load(Ordering::Relaxed) {
            ALL => Ok(()),
            0 => Err(self.held()),
            gate if draw() < gate => Ok(()),
            _ => Err(Outcome::SkippedSampledOut),
        }
    }

    /// The configuration was loaded again. What a person or the mirror's record has set stays, unless
    /// the mirror's own share or ramp changed.
    pub fn configure(&self, plan: SharePlan, now: Instant) {
        let mut settings = self.settings();
        let same = settings.plan.fraction == plan.fraction && settings.plan.ramp == plan.ramp;
        if same {
            settings.plan = plan;
        } else {
            *settings = Settings::new(plan, now);
        }
        self.apply(&settings);
    }

    /// Does what a person asks for.
    pub fn turn(&self, order: Order, now: Instant) {
        let mut settings = self.settings();
        match order {
            Order::Share(fraction) => {
                settings.fraction = fraction;
                settings.by_hand = true;
            }
            Order::Pause => settings.state = DialState::Paused,
            Order::Resume => settings.state = DialState::Active,
        }
        settings.begin_step(now);
        self.apply(&settings);
    }

    /// Whether it has to be told how the mirror does.
    pub fn looks(&self) -> bool {
        let settings = self.settings();
        settings.state == DialState::Active && (settings.plan.stop.is_some() || settings.ramp().is_some())
    }

    /// How the mirror has done until now.
    pub fn look(&self, reading: Reading, now: Instant) -> Option<DialEvent> {
        let mut settings = self.settings();
        let event = settings.look(reading, now);
        if event.is_some() {
            self.apply(&settings);
        }
        event
    }

    /// What there is to see of it.
    pub fn view(&self, now: Instant) -> DialView {
        let settings = self.settings();
        let ramp = settings.ramp();
        let more = ramp.filter(|ramp| settings.step + 1 < ramp.steps.len());
        DialView {
            fraction: settings.fraction,
            configured: settings.plan.fraction,
            state: settings.state.clone(),
            set_by_hand: settings.by_hand,
            step: ramp.map(|ramp| (settings.step + 1, ramp.steps.len())),
            next_step: more
                .filter(|_| settings.state == DialState::Active)
                .map(|ramp| ramp.every.saturating_sub(now.saturating_duration_since(settings.well_since))),
        }
    }

    /// Why nothing passes.
    fn held(&self) -> Outcome {
        let index = usize::from(self.held.load(Ordering::Relaxed));
        HELD.get(index).copied().unwrap_or(Outcome::SkippedSampledOut)
    }

    fn apply(&self, settings: &Settings) {
        let (held, gate) = match settings.state {
            DialState::Active => (0, settings.fraction.threshold().unwrap_or(ALL)),
            DialState::Paused => (1, 0),
            DialState::Stopped(_) => (2, 0),
        };
        // The reason first: whoever finds the gate shut a moment too early is told the right one.
        self.held.store(held, Ordering::Relaxed);
        self.gate.store(gate, Ordering::Relaxed);
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settings {
    fn new(plan: SharePlan, now: Instant) -> Self {
        Self {
            fraction: plan.fraction,
            by_hand: false,
            state: DialState::Active,
            record: Record::default(),
            step: 0,
            well_since: now,
            delivered_before: None,
            plan,
        }
    }

    /// The ramp, unless a person took over.
    fn ramp(&self) -> Option<&RampPlan> {
        self.plan.ramp.as_ref().filter(|_| !self.by_hand)
    }

    fn begin_step(&mut self, now: Instant) {
        self.record = Record::default();
        self.well_since = now;
        self.delivered_before = None;
    }

    fn look(&mut self, reading: Reading, now: Instant) -> Option<DialEvent> {
        if self.state != DialState::Active {
            return None;
        }
        // A ramp needs a measure of doing well, also where nothing is to be stopped.
        let measure = self.plan.stop.clone().unwrap_or_default();
        let delivered_before = *self.delivered_before.get_or_insert(reading.delivered);
        if let Some(reason) = self.record.trouble(reading, &measure, now) {
            if self.plan.stop.is_some() {
                self.state = DialState::Stopped(reason.clone());
                return Some(DialEvent::Stopped(reason));
            }
            self.well_since = now;
            return None;
        }
        let ramp = self.ramp()?;
        let done = now.saturating_duration_since(self.well_since) >= ramp.every
            && reading.delivered > delivered_before;
        let next = ramp.steps.get(self.step + 1).copied().filter(|_| done)?;
        self.step += 1;
        self.fraction = next;
        self.begin_step(now);
        Some(DialEvent::Stepped(next))
    }
}

#[cfg(test)]
mod tests;
