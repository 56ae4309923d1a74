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
    /// Most connections that an endpoint had left after it was removed.
    pub(crate) lingering: [usize; 2],
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
            "| median / p99 / most, ms | lane | changes | set in use | first request to the new | last request to \
             the old | connections left | requests | failed | to removed |\n|---|---|---|---|---|---|---|---|---|---|"
        );
    }

    /// One run's lines.
    pub(crate) fn print(&self, name: &str) {
        for (index, lane) in crate::NAMES.into_iter().enumerate() {
            let [published, first, last] =
                [&self.published, &self.first, &self.last].map(|times| quantiles(&times[index]));
            let removed = self.removed.map_or("–".to_owned(), |count| count.to_string());
            println!(
                "| {name} | {lane} | {} | {published} | {first} | {last} | {} | {} | {} | {removed} |",
                self.first[index].len(),
                self.lingering[index],
                self.requests,
                self.failed
            );
        }
    }
}

/// Median, 99th percentile and most, in milliseconds.
pub(crate) fn quantiles(times: &[Duration]) -> String {
    of(times, |time| format!("{:.2}", time.as_secs_f64() * 1e3))
}

/// The same in microseconds.
pub(crate) fn micros(times: &[Duration]) -> String {
    of(times, |time| format!("{:.1}", time.as_secs_f64() * 1e6))
}

fn of(times: &[Duration], told: impl Fn(Duration) -> String) -> String {
    if times.is_empty() {
        return "–".to_owned();
    }
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |part: f64| {
        let index = ((sorted.len() as f64 * part) as usize).min(sorted.len() - 1);
        told(sorted[index])
    };
    format!("{} / {} / {}", at(0.5), at(0.99), at(1.0))
}
