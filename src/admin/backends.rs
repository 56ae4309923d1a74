//! `/backends`: what each backend uses now and how fresh that is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::AdminState;
use super::reply::{Body, Reply, json};
use crate::discovery::source::SourceSpec;
use crate::limits;
use crate::shard::Lane;
use crate::telemetry::exposition::BackendAge;
use crate::upstream::registry::{BackendRef, Registry, WeakBackendRef};

/// All backends, ordered by name.
pub(super) fn list(state: &AdminState) -> Reply {
    let backends = state.registry.live();
    let views = backends.iter().map(|backend| view(backend, &(state.lanes)(backend.name())));
    json(StatusCode::OK, &Value::Array(views.collect()))
}

/// How long ago each backend's source last said that the set in use is right.
pub(super) fn ages(registry: &Registry) -> Vec<BackendAge> {
    registry.live().iter().map(|backend| (backend.name().clone(), age(backend))).collect()
}

/// One line of JSON for each backend, and then one whenever a backend changes, comes, or goes
/// (`gone: true`). Counts of requests and connections are no change.
pub(super) fn watch(state: Arc<AdminState>) -> Body {
    let mut ticks = interval(limits::ADMIN_WATCH_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watcher = Watcher { state, seen: BTreeMap::new(), ticks };
    let lines = stream::unfold(watcher, |mut watcher| async move {
        let lines = watcher.next().await;
        Some((Ok(Frame::data(lines)), watcher))
    });
    StreamBody::new(lines).boxed_unsync()
}

fn view(backend: &BackendRef, lanes: &[Lane]) -> Value {
    let freshness = backend.freshness();
    let set = backend.endpoints();
    let endpoints: Vec<Value> = set
        .entries()
        .iter()
        .map(|entry| {
            let endpoint = &entry.endpoint;
            let loads = Lane::ALL.map(|lane| endpoint.load(lane));
            json!({
                "address": endpoint.address().to_string(),
                // Retired between the loading of the set and now.
                "state": if endpoint.retired().is_some() { "retired" } else { "active" },
                "in_flight": loads.iter().map(|(flying, _)| flying).sum::<usize>(),
                "connections": loads.iter().map(|(_, open)| open).sum::<usize>(),
            })
        })
        .collect();
    json!({
        "name": &**backend.name(),
        "source": backend.source().kind(),
        "generation": set.generation(),
        "age_seconds": age(backend).map(|age| age.as_secs_f64()),
        "lanes": lanes.iter().map(|lane| lane.as_str()).collect::<Vec<_>>(),
        "last_error": freshness.last_error,
        "endpoints": endpoints,
    })
}

fn age(backend: &BackendRef) -> Option<Duration> {
    let confirmed = backend.freshness().confirmed?;
    match backend.source() {
        // Nobody will ever say anything else.
        SourceSpec::Static(_) => Some(Duration::ZERO),
        SourceSpec::File(_) | SourceSpec::Dns { .. } | SourceSpec::Srv(_) | SourceSpec::Kubernetes { .. } => {
            Some(confirmed.elapsed())
        }
    }
}

/// One client's view of the backends. Compares, since the data plane tells nobody about changes.
struct Watcher {
    state: Arc<AdminState>,
    seen: BTreeMap<Arc<str>, Seen>,
    ticks: Interval,
}

/// What was last told of a backend. Held weakly: watching must not keep it subscribed.
struct Seen {
    backend: WeakBackendRef,
    generation: u64,
    last_error: Option<String>,
    source: &'static str,
    lanes: Vec<Lane>,
}

impl Watcher {
    /// The next lines; never none.
    async fn next(&mut self) -> Bytes {
        loop {
            self.ticks.tick().await;
            let lines = self.changes();
            if !lines.is_empty() {
                return Bytes::from(lines);
            }
        }
    }

    fn changes(&mut self) -> String {
        let mut lines = String::new();
        let live = self.state.registry.live();
        self.seen.retain(|name, _| {
            let lives = live.binary_search_by(|backend| backend.name().cmp(name)).is_ok();
            if !lives {
                line(&mut lines, &json!({ "name": &**name, "gone": true }));
            }
            lives
        });
        for backend in live {
            let lanes = (self.state.lanes)(backend.name());
            if self.seen.get(backend.name()).is_some_and(|seen| seen.still_holds(&backend, &lanes)) {
                continue;
            }
            // Before the view: a change in between is told again, never missed.
            let generation = backend.endpoints().generation();
            let last_error = backend.freshness().last_error;
            line(&mut lines, &view(&backend, &lanes));
            let source = backend.source().kind();
            let seen = Seen { backend: backend.downgrade(), generation, last_error, source, lanes };
            self.seen.insert(backend.name().clone(), seen);
        }
        lines
    }
}

impl Seen {
    fn still_holds(&self, backend: &BackendRef, lanes: &[Lane]) -> bool {
        self.backend.upgrade().is_some_and(|told| told.same(backend))
            && self.generation == backend.endpoints().generation()
            && self.last_error == backend.freshness().last_error
            && self.source == backend.source().kind()
            && self.lanes == lanes
    }
}

fn line(lines: &mut String, value: &Value) {
    // Writing to a string cannot fail.
    let _ = writeln!(lines, "{value}");
}
