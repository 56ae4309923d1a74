//! How a mirror has done lately: readings of its counters, and whether they are bad.
//!
//! A pure core, with the time as an argument. Called by [`super::dial`].

use std::collections::VecDeque;
use std::time::Instant;

use super::outcome::Outcome;
use crate::limits;
use crate::plan::StopPlan;

/// Counters of a mirror at one time; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Copies delivered.
    pub delivered: u64,
    /// Requests to be copied: those that neither a choice nor a person kept from it.
    pub wanted: u64,
    /// Copies that failed, or were refused by the breaker, or were answered 5xx where the primary did
    /// not answer so.
    pub errors: u64,
    /// Copies that a budget skipped or cut.
    pub drops: u64,
}

/// The readings of the last while, oldest first.
#[derive(Debug, Default)]
pub(super) struct Record(VecDeque<(Instant, Reading)>);

impl Reading {
    /// Of the counts by outcome, and of answers that were worse than the primary's.
    pub fn of(count: impl Fn(Outcome) -> u64, worse: u64) -> Self {
        let mut reading = Self { errors: worse, ..Self::default() };
        for &outcome in Outcome::ALL {
            use Outcome::*;
            let number = count(outcome);
            match outcome {
                Delivered => reading.delivered += number,
                FailedConnect | FailedDns | FailedTls | FailedTimeout | FailedReset | FailedProtocol
                | SkippedBreaker => reading.errors += number,
                CutLag | CutBytes | SkippedInFlight | SkippedBytes | SkippedOverload => {
                    reading.drops += number;
                }
                // Not the mirror's doing, or as it was asked for: a rate is a choice.
                CutClientGone | CutDraining | SkippedSampledOut | SkippedCondition | SkippedMethod
                | SkippedRate | SkippedOversize | SkippedNoEndpoints | SkippedPaused | SkippedStopped
                | SkippedLoop | SkippedUpgrade | SkippedDraining => {}
            }
        }
        // Answers that were worse were delivered too.
        reading.wanted = reading.delivered + (reading.errors - worse) + reading.drops;
        reading
    }

    fn since(self, before: Self) -> Self {
        Self {
            delivered: self.delivered.saturating_sub(before.delivered),
            wanted: self.wanted.saturating_sub(before.wanted),
            errors: self.errors.saturating_sub(before.errors),
            drops: self.drops.saturating_sub(before.drops),
        }
    }
}

impl Record {
    /// Adds a reading and says what is wrong by `measure`, if anything is.
    pub(super) fn trouble(&mut self, reading: Reading, measure: &StopPlan, now: Instant) -> Option<String> {
        let age = |at: &Instant| now.saturating_duration_since(*at);
        // The oldest that is kept lies at or just before the start of the window.
        while self.0.get(1).is_some_and(|(at, _)| age(at) >= measure.window) {
            self.0.pop_front();
        }
        let spacing = measure.window / limits::MIRROR_READINGS as u32;
        if self.0.back().is_none_or(|(at, _)| age(at) >= spacing) {
            self.0.push_back((now, reading));
        }
        let (_, before) = self.0.front()?;
        let lately = reading.since(*before);
        if lately.wanted < measure.minimum.max(1) {
            return None;
        }
        let rate = |count: u64| count as f64 / lately.wanted as f64;
        let over = [
            ("failed", lately.errors, measure.error_rate),
            ("were dropped by a budget", lately.drops, measure.drop_rate),
        ];
        let (what, count, _) = over.into_iter().find(|(_, count, bound)| rate(*count) > *bound)?;
        Some(format!("{count} of {} copies {what} within {:?}", lately.wanted, measure.window))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_request_that_was_to_be_copied_is_wanted_once() {
        let each = Reading::of(|_| 1, 0);
        assert_eq!(each, Reading { delivered: 1, wanted: 13, errors: 7, drops: 5 });
        let worse = Reading::of(|outcome| u64::from(outcome == Outcome::Delivered) * 10, 4);
        assert_eq!(worse, Reading { delivered: 10, wanted: 10, errors: 4, drops: 0 });
    }

    #[test]
    fn only_what_lies_within_the_window_counts() {
        let measure = StopPlan { window: Duration::from_secs(10), ..StopPlan::default() };
        let start = Instant::now();
        let mut record = Record::default();
        // A hundred failures a second ago are trouble; the same after eleven good seconds are not.
        let failing = |errors| Reading { errors, wanted: errors, ..Reading::default() };
        assert_eq!(record.trouble(failing(0), &measure, start), None);
        let told = record.trouble(failing(100), &measure, start + Duration::from_secs(1));
        assert_eq!(told.as_deref(), Some("100 of 100 copies failed within 10s"));
        for second in 2..30 {
            let reading = Reading { wanted: 100 + 1000 * second, ..failing(100) };
            let told = record.trouble(reading, &measure, start + Duration::from_secs(second));
            assert_eq!(told, None, "{second}");
            assert!(record.0.len() <= limits::MIRROR_READINGS + 2);
        }
        let few = Reading { errors: 199, wanted: 29_199, ..Reading::default() };
        assert_eq!(
            record.trouble(few, &measure, start + Duration::from_secs(3600)),
            None,
            "below the minimum"
        );
    }
}
