//! Durations, and how they are told.

use std::time::Duration;

/// What one run came to. Times count from just before the change is made.
#[derive(Default)]
pub(crate) struct Figures {
    /// To the set in use, for primary and mirror; empty where it cannot be seen from outside.
    pub(crate) published: [Vec<Duration>; 2],
    /// To the first request at the new address.
    pub(crate) first: [Vec<Duration>; 2],
    /// To the last request at the old address.
    pub(crate) last: [Vec<Duration>; 2],
    /// Client requests.
    pub(crate) requests: u64,
    /// Of these, those that were not answered with 200.
    pub(crate) failed: u64,
    /// Requests that were sent to a removed endpoint, as the gateway itself counts them.
    pub(crate) removed: Option<u64>,
}

impl Figures {
    /// The head of the table.
    pub(crate) fn heading() {
        println!(
            "{:<24}{:<9}{:>26}{:>26}{:>26}  requests, failed, to removed",
            "median/p99/most, ms", "lane", "published", "first use of the new", "last use of the old"
        );
    }

    /// One run's lines.
    pub(crate) fn print(&self, name: &str) {
        for (index, lane) in ["primary", "mirror"].into_iter().enumerate() {
            let [published, first, last] =
                [&self.published, &self.first, &self.last].map(|times| quantiles(&times[index]));
            let removed = self.removed.map_or("-".to_owned(), |count| count.to_string());
            println!(
                "{name:<24}{lane:<9}{published:>26}{first:>26}{last:>26}  {}, {}, {removed}",
                self.requests, self.failed
            );
        }
    }
}

/// Median, 99th percentile and most, in milliseconds.
pub(crate) fn quantiles(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |part: f64| {
        let index = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(index).map_or("-".to_owned(), |time| format!("{:.2}", time.as_secs_f64() * 1000.0))
    };
    format!("{}/{}/{}", at(0.5), at(0.99), at(1.0))
}
