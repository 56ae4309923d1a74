//! `/backends`: what each backend uses now and how fresh that is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::AdminState;
use super::reply::{Body, Reply, json};
use crate::discovery::source::SourceSpec;
use crate::limits;
use crate::shard::Lane;
use crate::telemetry::exposition::BackendNow;
use crate::upstream::condition::State;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::registry::{BackendRef, Registry, WeakBackendRef};

/// All backends, ordered by name.
pub(super) fn list(state: &AdminState) -> Reply {
    let (backends, lanes) = (state.registry.live(), (state.lanes)());
    let of = |backend: &BackendRef| lanes.get(backend.name()).map(Vec::as_slice).unwrap_or_default();
    let views = backends.iter().map(|backend| view(backend, of(backend)));
    json(StatusCode::OK, &Value::Array(views.collect()))
}

/// All backends, as metrics show them.
pub(super) fn now(registry: &Registry) -> Vec<BackendNow> {
    let now = |backend: &BackendRef| BackendNow {
        name: backend.name().clone(),
        age: age(backend),
        left_out: Lane::ALL.map(|lane| backend.endpoints().left_out(lane)),
    };
    registry.live().iter().map(now).collect()
}

/// One line of JSON for each backend, and then one whenever a backend changes, comes, or goes
/// (`gone: true`). Counts of requests and connections are no change.
pub(super) fn watch(state: Arc<AdminState>) -> Body {
    let mut news = state.registry.news();
    news.mark_changed();
    let watcher = Watcher { state, seen: BTreeMap::new(), news, looks_again: Instant::now() };
    let lines = stream::unfold(watcher, |watcher| async move {
        let (lines, watcher) = watcher.next().await?;
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
                "state": state(endpoint),
                "ejected": ejected(endpoint),
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

fn state(endpoint: &Endpoint) -> &'static str {
    match endpoint.condition().state() {
        // Between the loading of the set and now.
        _ if endpoint.retired().is_some() => "retired",
        State::Healthy => "healthy",
        State::Unhealthy => "unhealthy",
        State::Ejected(_) => "ejected",
    }
}

/// The lanes that it is left out in.
fn ejected(endpoint: &Endpoint) -> Vec<&'static str> {
    match endpoint.condition().state() {
        State::Ejected(None) => Lane::ALL.iter().map(|lane| lane.as_str()).collect(),
        State::Ejected(Some(lane)) => vec![lane.as_str()],
        State::Healthy | State::Unhealthy => Vec::new(),
    }
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

/// One client's view of the backends. Woken by any change, it looks for those it has not told; off the
/// control runtime, where endpoint updates must not wait for it.
struct Watcher {
    state: Arc<AdminState>,
    seen: BTreeMap<Arc<str>, Seen>,
    news: watch::Receiver<u64>,
    /// Not before: whoever looks on has a bounded share of the processor, however many backends there
    /// are and however often they change.
    looks_again: Instant,
}

/// What was last told of a backend. Held weakly: watching must not keep it subscribed.
struct Seen {
    backend: WeakBackendRef,
    revision: u64,
    source: &'static str,
    lanes: Vec<Lane>,
}

impl Watcher {
    /// The next lines, never none; or the end, when the process ends.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            // Which lanes refer to a backend changes without a word.
            let told = tokio::time::timeout(limits::ADMIN_WATCH_RESYNC, self.news.changed()).await;
            if !matches!(told, Err(_) | Ok(Ok(()))) {
                tokio::time::sleep(limits::ADMIN_WATCH_RESYNC).await;
            }
            tokio::time::sleep_until(self.looks_again.into()).await;
            let looked = tokio::task::spawn_blocking(move || {
                let begun = Instant::now();
                let lines = self.changes();
                let pause = (begun.elapsed() * limits::ADMIN_WATCH_PAUSE).min(limits::ADMIN_WATCH_RESYNC);
                self.looks_again = Instant::now() + pause;
                (lines, self)
            });
            let lines;
            (lines, self) = looked.await.ok()?;
            if !lines.is_empty() {
                return Some((Bytes::from(lines), self));
            }
        }
    }

    fn changes(&mut self) -> String {
        let mut lines = String::new();
        let (live, in_use) = (self.state.registry.live(), (self.state.lanes)());
        self.seen.retain(|name, _| {
            let lives = live.binary_search_by(|backend| backend.name().cmp(name)).is_ok();
            if !lives {
                line(&mut lines, &json!({ "name": &**name, "gone": true }));
            }
            lives
        });
        for backend in live {
            let lanes = in_use.get(backend.name()).cloned().unwrap_or_default();
            if self.seen.get(backend.name()).is_some_and(|seen| seen.still_holds(&backend, &lanes)) {
                continue;
            }
            // Before the view: a change in between is told again, never missed.
            let revision = *backend.revision().borrow();
            line(&mut lines, &view(&backend, &lanes));
            let source = backend.source().kind();
            let seen = Seen { backend: backend.downgrade(), revision, source, lanes };
            self.seen.insert(backend.name().clone(), seen);
        }
        lines
    }
}

impl Seen {
    fn still_holds(&self, backend: &BackendRef, lanes: &[Lane]) -> bool {
        self.backend.upgrade().is_some_and(|told| told.same(backend))
            && self.revision == *backend.revision().borrow()
            && self.source == backend.source().kind()
            && self.lanes == lanes
    }
}

fn line(lines: &mut String, value: &Value) {
    // Writing to a string cannot fail.
    let _ = writeln!(lines, "{value}");
}
