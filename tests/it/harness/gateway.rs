//! A gateway in this process, and what it says of itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use mirrorgate::app::{self, Handle, Origin};
use mirrorgate::config;
use mirrorgate::mirror::outcome::Outcome;
use mirrorgate::telemetry::exposition::{Format, render};

use super::eventually;
use super::wire::{Message, Wire};

/// A running gateway. Stops at once when dropped.
pub struct Gateway {
    running: Option<Handle>,
    pub address: SocketAddr,
}

/// Starts a gateway with one listener, two workers, and `rest` of the configuration.
pub async fn gateway(rest: &str) -> Gateway {
    Gateway::start(
        &format!("listeners: [127.0.0.1:0]\nadmin: off\nworkers: 2\n{}", dedent(rest)),
        Path::new(""),
        None,
    )
    .await
}

/// The same with one route for everything, that has a mirror with `settings`, as in a configuration.
pub async fn mirroring(primary: SocketAddr, mirror: SocketAddr, settings: &str) -> Gateway {
    let comma = if settings.is_empty() { "" } else { ", " };
    gateway(&format!(
        "routes: [{{ backend: 'http://{primary}', mirrors: [{{ backend: 'http://{mirror}'{comma}{settings} }}] }}]"
    ))
    .await
}

impl Gateway {
    /// Starts a gateway of `text`, whose paths are relative to `base`.
    pub async fn start(text: &str, base: &Path, file: Option<PathBuf>) -> Self {
        let origin = match file {
            Some(file) => Origin::File(file),
            None => {
                Origin::Flags(Box::new(config::parse(text, base).unwrap_or_else(|errors| panic!("{errors}"))))
            }
        };
        Self::of(origin).await
    }

    /// Starts a gateway of whatever `origin` says.
    pub async fn of(origin: Origin) -> Self {
        let running = app::start(origin).await.unwrap();
        let address = running.address().unwrap();
        Self { running: Some(running), address }
    }

    /// Starts a gateway of the file at `path`, which it watches.
    pub async fn of_file(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        Self::start(&text, path.parent().unwrap(), Some(path.to_owned())).await
    }

    pub fn running(&self) -> &Handle {
        self.running.as_ref().unwrap()
    }

    /// A new connection to it.
    pub async fn connect(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// Sends `request` on a connection of its own and reads the response.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Message {
        let mut wire = self.connect().await;
        wire.send(request).await;
        wire.response().await
    }

    /// GET of `path`.
    pub async fn get(&self, path: &str) -> Message {
        self.ask(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        render(self.running().gateway().metrics(), Vec::new(), Format::Prometheus).unwrap()
    }

    /// The sum over all series of `name` whose labels contain each of `labels`, as `key="value"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics();
        let series = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Waits until `sum` of `name` and `labels` is `value`.
    pub async fn counts(&self, name: &str, labels: &[&str], value: f64) {
        let mut seen = f64::NAN;
        let waited = async {
            loop {
                seen = self.sum(name, labels);
                if seen == value {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let held = tokio::time::timeout(super::PATIENCE, waited).await.is_ok();
        assert!(held, "{name}{labels:?} is {seen}, not {value}:\n{}", self.mirror_lines());
    }

    /// Waits until `addresses` and no others are in use for `backend`.
    pub async fn uses(&self, backend: &str, addresses: &[SocketAddr]) {
        let mut wanted: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        wanted.sort();
        eventually(&format!("{wanted:?} in use for {backend}"), || {
            let live = self.running().registry().live();
            let found = live.iter().find(|one| &**one.name() == backend);
            found.is_some_and(|found| {
                let set = found.endpoints();
                let entries = set.entries().iter();
                let mut used: Vec<_> = entries.map(|entry| entry.endpoint.address().to_string()).collect();
                used.sort();
                used == wanted
            })
        })
        .await;
    }

    /// Waits for `count` copies to end in `outcome`.
    pub async fn outcome(&self, outcome: &str, count: u64) {
        let label = format!("outcome=\"{outcome}\"");
        self.counts("mirrorgate_mirror_requests_total", &[&label], count as f64).await;
    }

    /// Waits until no copy is in flight, and checks that every request has its outcomes and that no
    /// byte is held for a copy any more.
    pub async fn settled(&self) {
        let metrics = self.running().gateway().metrics().clone();
        for ((route, mirror), figures) in metrics.mirrors() {
            let what = format!("no copy of {route} to {mirror} in flight");
            eventually(&what, || figures.in_flight.load(Ordering::Acquire) == 0).await;
            let ended: u64 = Outcome::ALL.iter().map(|outcome| figures.outcome_total(*outcome)).sum();
            assert_eq!(ended, figures.offered_total(), "{route} to {mirror}:\n{}", self.mirror_lines());
            assert_eq!(figures.accounting_error(), 0);
            let route_metrics = metrics.route(&route);
            assert_eq!(figures.offered_total(), route_metrics.forwarded_total(), "{route}");
            let what = format!("no byte held for copies of {route} to {mirror}");
            eventually(&what, || figures.buffered_bytes() == 0).await;
        }
        assert_eq!(self.sum("mirrorgate_requests_to_removed_endpoints_total", &[]), 0.0);
    }

    fn mirror_lines(&self) -> String {
        let wanted = |line: &&str| line.starts_with("mirrorgate_") && !line.contains("_bucket");
        self.metrics().lines().filter(wanted).collect::<Vec<_>>().join("\n")
    }

    /// Drains it, as SIGTERM does; true when all ended in time.
    pub async fn drain(mut self, delay: Duration) -> bool {
        self.running.take().unwrap().stop(delay).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.gateway().stop(Duration::ZERO, Duration::ZERO);
        }
    }
}

/// Takes the indentation of the first line off all lines.
fn dedent(text: &str) -> String {
    let lines: Vec<_> = text.lines().skip_while(|line| line.trim().is_empty()).collect();
    let indent = |line: &&str| line.len() - line.trim_start().len();
    // A text may begin right behind the quote: then the lines after it tell.
    let least = lines.iter().skip(1).filter(|line| !line.trim().is_empty()).map(indent).min();
    let indent = least.filter(|_| lines.len() > 1).unwrap_or(0);
    lines
        .iter()
        .map(|line| &line[indent.min(line.len() - line.trim_start().len())..])
        .map(|line| format!("{line}\n"))
        .collect()
}
