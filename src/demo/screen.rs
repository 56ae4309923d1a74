//! What is shown: on a terminal one block that is drawn again and again, elsewhere a line a second.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Scene;
use super::latency::Percentiles;
use crate::mirror::outcome::Outcome;
use crate::shard::Lane;
use crate::telemetry::metrics::MirrorMetrics;
use crate::upstream::registry::BackendRef;

/// Writes to standard output.
pub(super) struct Screen {
    terminal: bool,
    begun: Instant,
    /// Lines of the block on the terminal, to be drawn over.
    drawn: usize,
    lines: u64,
    percentiles: Percentiles,
    percentiles_at: Instant,
}

/// How often there is something new on a terminal.
pub(super) const TICK: Duration = Duration::from_millis(250);
const LINE: Duration = Duration::from_secs(1);

impl Screen {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            terminal: io::stdout().is_terminal(),
            begun: now,
            drawn: 0,
            lines: 0,
            percentiles: Percentiles::default(),
            percentiles_at: now,
        }
    }

    /// Shows how things stand and what happened since the last call.
    pub(super) fn show(&mut self, scene: &Scene) -> io::Result<()> {
        let news = std::mem::take(&mut scene.told.lock().news);
        let mut text = String::new();
        let due = self.percentiles_at.elapsed() >= LINE - TICK / 2;
        if due {
            self.percentiles_at = Instant::now();
            self.percentiles = scene.seen.recent.take().unwrap_or_default();
        }
        if self.drawn > 0 {
            // Up to the block's first line, and away with all from there.
            let _ = write!(text, "\x1b[{}F\x1b[J", self.drawn);
        }
        let now = self.begun.elapsed().as_secs_f64();
        for line in news {
            let _ = writeln!(text, "{now:6.1} s  » {line}");
        }
        if self.terminal {
            let block = self.block(scene);
            self.drawn = block.lines().count();
            // No line may be wrapped, or the next draw would not go up far enough.
            let _ = write!(text, "\x1b[?7l{block}\x1b[?7h");
        } else if due {
            if self.lines.is_multiple_of(10) {
                text.push_str(HEADER);
            }
            self.lines += 1;
            text.push_str(&self.line(scene));
        }
        say(&text)
    }

    fn block(&self, scene: &Scene) -> String {
        let (answered, failed) = scene.seen.counts();
        let Percentiles { p50, p99 } = self.percentiles;
        let (same, different) = scene.ledger.compared();
        let told = scene.told.lock();
        let mirror = if told.mirror.is_empty() { "well" } else { told.mirror };
        let mut text = format!(
            "\n  clients   {:>7} answered, {failed} failed      last second: p50 {}, p99 {}\n",
            grouped(answered),
            short(p50),
            short(p99)
        );
        for lane in Lane::ALL {
            let (received, _, _) = scene.services[lane.index()].counts();
            let _ = writeln!(
                text,
                "  {:<9} {:>7} received     {}",
                lane.as_str(),
                grouped(received),
                freshness(&scene.backends[lane.index()], told.published[lane.index()].last)
            );
        }
        let _ = writeln!(text, "  copies    {}", outcomes(&scene.mirror));
        let _ = writeln!(text, "            {same} compared with their request, {different} differ");
        let _ = writeln!(text, "  the mirror: {mirror}");
        text
    }

    fn line(&self, scene: &Scene) -> String {
        let (answered, failed) = scene.seen.counts();
        let Percentiles { p50, p99 } = self.percentiles;
        let received = |lane: Lane| scene.services[lane.index()].counts().0;
        let (same, different) = scene.ledger.compared();
        let [delivered, broken, skipped] = totals(&scene.mirror);
        format!(
            "{:6.1} s {:>8} {:>6} {:>8} {:>8} {:>8} {:>8} {:>9} {:>6} {:>7} {:>7} {:>8} {:>6}\n",
            self.begun.elapsed().as_secs_f64(),
            answered,
            failed,
            short(p50),
            short(p99),
            received(Lane::Primary),
            received(Lane::Mirror),
            delivered,
            broken,
            skipped,
            scene.mirror.in_flight.load(Ordering::Relaxed),
            same,
            different,
        )
    }
}

const HEADER: &str = concat!(
    "         ----------- clients ------------ --- received --- ------------ copies ------------ -- compared --\n",
    "    time answered failed      p50      p99  primary   mirror delivered failed skipped  flying     same differ\n",
);

/// Everything at the end, for people.
pub(super) fn summary(scene: &Scene) -> String {
    let (answered, failed) = scene.seen.counts();
    let (same, different) = scene.ledger.compared();
    let told = scene.told.lock();
    let mut text = format!("\n  clients   {} requests answered, {failed} failed\n", grouped(answered));
    for (when, latency) in [("well", &scene.seen.calm), ("slow, dying, dead or gone", &scene.seen.troubled)] {
        if let Some(Percentiles { p50, p99 }) = latency.read() {
            let _ = writeln!(
                text,
                "            p50 {:>8}, p99 {:>8} while the mirror was {when}",
                short(p50),
                short(p99)
            );
        }
    }
    for lane in Lane::ALL {
        let (received, bytes, broken_off) = scene.services[lane.index()].counts();
        let published = &told.published[lane.index()];
        let _ = writeln!(
            text,
            "  {:<9} {} requests received whole, {} broken off, {} MB of bodies\n            \
             {} changes of endpoints, each in use within {}; requests to removed endpoints: {}",
            lane.as_str(),
            grouped(received),
            grouped(broken_off),
            bytes / 1_000_000,
            published.count,
            short(published.worst),
            scene.backends[lane.index()].metrics().sent_to_removed_total(lane),
        );
    }
    let _ = writeln!(text, "  copies    {}", outcomes(&scene.mirror));
    let _ = writeln!(
        text,
        "            {} compared with their request byte for byte, {different} differ",
        grouped(same + different)
    );
    text
}

/// Writes `text` at once.
pub(super) fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn freshness(backend: &BackendRef, last: Duration) -> String {
    let set = backend.endpoints();
    let age = backend.freshness().confirmed.map_or(Duration::ZERO, |confirmed| confirmed.elapsed());
    let mut text = format!("{} endpoints, generation {}", set.len(), set.generation());
    if !last.is_zero() {
        let _ = write!(text, " in use after {}", short(last));
    }
    let _ = write!(text, ", confirmed {} ago", short(age));
    text
}

/// Every outcome that occurred, a few on a line, and whether they add up to the requests.
fn outcomes(mirror: &Arc<MirrorMetrics>) -> String {
    let counts = Outcome::ALL.iter().map(|outcome| (outcome.as_str(), mirror.outcome_total(*outcome)));
    let flying = ("in flight", mirror.in_flight.load(Ordering::Relaxed) as u64);
    let occurred = counts.chain([flying]).filter(|(_, count)| *count > 0);
    let parts: Vec<_> = occurred.map(|(name, count)| format!("{name} {}", grouped(count))).collect();
    let lines: Vec<String> = parts.chunks(OUTCOMES_ON_A_LINE).map(|parts| parts.join(", ")).collect();
    let total = match mirror.accounting_error() {
        0 => format!("= {} requests", grouped(mirror.offered_total())),
        error => format!("which is {error:+} against {} requests", grouped(mirror.offered_total())),
    };
    format!("{} {total}", lines.join(",\n            "))
}

const OUTCOMES_ON_A_LINE: usize = 4;

/// Delivered, failed or cut, skipped.
fn totals(mirror: &Arc<MirrorMetrics>) -> [u64; 3] {
    let mut totals = [0; 3];
    for outcome in Outcome::ALL {
        let class = match outcome.as_str() {
            "delivered" => 0,
            skipped if skipped.starts_with("skipped") => 2,
            _ => 1,
        };
        totals[class] += mirror.outcome_total(*outcome);
    }
    totals
}

/// A duration in three digits or so.
pub(super) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        ..0.01 => format!("{:.2} ms", seconds * 1e3),
        ..1.0 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{seconds:.1} s"),
    }
}

/// A number with a comma at every third digit.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (nanoseconds, text) in
            [(0, "0.00 ms"), (412_000, "0.41 ms"), (12_600_000, "13 ms"), (1_250_000_000, "1.2 s")]
        {
            assert_eq!(short(Duration::from_nanos(nanoseconds)), text);
        }
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
