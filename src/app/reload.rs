//! Another configuration while the process runs: compiled completely, then swapped; an invalid one
//! keeps what runs and says why.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures_util::FutureExt;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::feed::{Changes, Feed};
use super::listeners::{Bound, Listeners};
use super::{Unusable, sources};
use crate::admin::readiness::{Pending, Readiness};
use crate::config::{self, Configuration};
use crate::limits;
use crate::proxy::Gateway;
use crate::routing::table::Builder;
use crate::telemetry::gateway::Reload;

/// Watches where the configuration comes from and puts what it says into use.
pub(super) struct Reloader {
    feed: Feed,
    builder: Arc<Builder>,
    listeners: Arc<Listeners>,
    gateway: Arc<Gateway>,
    readiness: Readiness,
    state: Mutex<State>,
}

struct State {
    current: Configuration,
    last_error: Option<String>,
    /// The text of the configuration file of which nothing is left to do: it is in use, or it is broken
    /// and that was told.
    settled: Option<String>,
}

impl Reloader {
    pub(super) fn new(
        current: Configuration,
        feed: Feed,
        builder: Arc<Builder>,
        listeners: Arc<Listeners>,
        gateway: Arc<Gateway>,
        readiness: Readiness,
    ) -> Self {
        let state = Mutex::new(State { current, last_error: None, settled: None });
        Self { feed, builder, listeners, gateway, readiness, state }
    }

    /// Reloads when the feed says so and on SIGHUP; never ends. `complete` is done when all that the
    /// feed has to say at the start is in use.
    pub(super) async fn run(self: Arc<Self>, complete: Pending) {
        let mut complete = Some(complete);
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            return tracing::error!("cannot listen for SIGHUP: no reload");
        };
        let changes = match &self.feed {
            Feed::Fixed => {
                drop(complete);
                while hangup.recv().await.is_some() {
                    self.gateway.access_log().reopen();
                }
                return;
            }
            Feed::File(file) => Changes::file(file),
            Feed::Resources(feed) => feed.watch(),
        };
        loop {
            // Watched before it is read, so that no change falls in between.
            changes.refresh();
            let all = complete.is_some() && self.feed.complete().now_or_never().is_some();
            self.reload().await;
            if all {
                drop(complete.take());
            }
            // One future until it resolves, since it may have heard of a change already.
            let next = changes.next();
            tokio::pin!(next);
            loop {
                tokio::select! {
                    () = &mut next => break,
                    () = self.feed.complete(), if complete.is_some() => break,
                    () = tokio::time::sleep(limits::FILE_RESYNC) => {
                        let settled = changes.tell_all() && self.is_complete(&self.state().current);
                        if !settled && !changes.are_being_written() {
                            break;
                        }
                    }
                    _ = hangup.recv() => {
                        self.gateway.access_log().reopen();
                        // Half a file may look like all of it, whoever says that it is to be read.
                        if !changes.suspect() {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Leaves to others what only one process does: this one ends.
    pub(super) async fn resign(&self) {
        self.feed.resign().await;
    }

    /// The configuration as loaded, and why the last reload failed, if it did.
    pub(super) fn shown(&self) -> (Value, Option<String>) {
        let state = self.state();
        (state.current.document.clone(), state.last_error.clone())
    }

    /// What cannot be read or listened on at present, a line each.
    pub(super) fn problems(&self) -> Vec<String> {
        match &self.feed {
            Feed::Resources(feed) => feed.problems(),
            Feed::Fixed | Feed::File(_) => self.shown().1.into_iter().collect(),
        }
    }

    async fn reload(&self) {
        let (loaded, text) = match &self.feed {
            Feed::Fixed => return,
            Feed::File(file) => match config::text_of(file) {
                // It is looked at every few seconds; what says the same as before is not compiled again.
                Ok(text) if self.state().settled.as_ref() == Some(&text) => return,
                Ok(text) => (config::load_text(&text, file).map_err(super::unusable), Some(text)),
                Err(errors) => (Err(super::unusable(errors)), None),
            },
            Feed::Resources(feed) => {
                let feed = feed.clone();
                (tokio::task::spawn_blocking(move || feed.load()).await.map_err(super::unusable), None)
            }
        };
        let is_broken = loaded.is_err();
        let result = match loaded {
            Ok(next) if next == self.state().current && self.is_complete(&next) => {
                if let Feed::Resources(feed) = &self.feed {
                    feed.report(&[]);
                }
                Ok(None)
            }
            Ok(next) => self.apply(next).await,
            Err(error) => Err(error),
        };
        self.readiness.nothing_is_bound(self.why_nothing_is_bound());
        // What could not be put into use is tried again.
        self.state().settled = text.filter(|_| is_broken || result.is_ok());
        let metrics = &self.gateway.metrics().gateway;
        match result {
            Ok(None) => self.tell_problem_beside(),
            Ok(Some(next)) => {
                tracing::info!("configuration reloaded: {}", super::summary(&next.plan));
                self.state().current = next;
                self.tell_problem_beside();
                // Counted once it can be seen: whoever waits for the count asks for it next.
                metrics.reloaded(Reload::Succeeded, SystemTime::now());
            }
            Err(error) => {
                let error = error.to_string();
                // The same broken file is looked at again and again; it is told once.
                if self.state().last_error.as_ref() != Some(&error) {
                    tracing::error!("the configuration is unusable, what runs stays:\n{error}");
                    self.state().last_error = Some(error);
                    metrics.reloaded(Reload::Failed, SystemTime::now());
                }
            }
        }
    }

    /// What was loaded is in use; a broken file beside resources is a failed reload all the same. The
    /// feed has logged it.
    fn tell_problem_beside(&self) {
        let problem = match &self.feed {
            Feed::Resources(feed) => feed.base_problem(),
            Feed::Fixed | Feed::File(_) => None,
        };
        let mut state = self.state();
        if problem.is_some() && state.last_error != problem {
            self.gateway.metrics().gateway.reloaded(Reload::Failed, SystemTime::now());
        }
        state.last_error = problem;
    }

    /// Everything that can fail comes before anything changes. `None` when nothing does: what could not
    /// be bound was tried again, and it still cannot.
    async fn apply(&self, next: Configuration) -> Result<Option<Configuration>, Unusable> {
        let bound = self.bind(&next)?;
        if bound.is_empty() && next == self.state().current {
            return Ok(None);
        }
        let table = self.builder.build(&next.plan);
        sources::first_answers(&table).await;
        self.gateway.swap(table);
        self.listeners.open(&self.gateway, bound, &next.plan.listeners);
        let current = &self.state().current.plan;
        let fixed = [
            ("admin", current.admin != next.plan.admin),
            ("access_log", current.access_log != next.plan.access_log),
            ("traces", current.traces != next.plan.traces),
            ("workers", current.workers != next.plan.workers),
        ];
        for (key, _) in fixed.into_iter().filter(|(_, changed)| *changed) {
            tracing::warn!("`{key}` changed: it takes effect when the process starts again");
        }
        Ok(Some(next))
    }

    /// A listener from Kubernetes that cannot be bound costs nothing but itself, and is tried again.
    fn bind(&self, next: &Configuration) -> Result<Vec<Bound>, Unusable> {
        match &self.feed {
            Feed::Resources(feed) => {
                let (bound, failed) = self.listeners.bind_possible(&next.plan.listeners);
                feed.report(&failed);
                Ok(bound)
            }
            Feed::Fixed | Feed::File(_) => self.listeners.bind(&next.plan.listeners),
        }
    }

    /// One listener of several that cannot be bound is a warning; when nobody can be served it is more.
    fn why_nothing_is_bound(&self) -> Vec<String> {
        match &self.feed {
            Feed::Resources(feed) if !self.listeners.is_any_open() => feed.unbound(),
            Feed::Resources(_) | Feed::Fixed | Feed::File(_) => Vec::new(),
        }
    }

    /// Whether all that is wanted is open.
    fn is_complete(&self, next: &Configuration) -> bool {
        !matches!(self.feed, Feed::Resources(_)) || self.listeners.are_open(&next.plan.listeners)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
