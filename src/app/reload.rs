//! Another configuration while the process runs: compiled completely, then swapped; an invalid one
//! keeps what runs and says why.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::listeners::Listeners;
use super::{Unusable, first_answers};
use crate::config::{self, Configuration};
use crate::file_watch::FileWatch;
use crate::limits;
use crate::proxy::Gateway;
use crate::routing::table::Builder;
use crate::shard::Lane;
use crate::telemetry::gateway::Reload;

/// Watches the configuration file and puts what it says into use.
pub(super) struct Reloader {
    file: Option<PathBuf>,
    builder: Arc<Builder>,
    listeners: Arc<Listeners>,
    gateway: Arc<Gateway>,
    state: Mutex<State>,
}

struct State {
    current: Configuration,
    last_error: Option<String>,
}

impl Reloader {
    pub(super) fn new(
        current: Configuration,
        file: Option<PathBuf>,
        builder: Arc<Builder>,
        listeners: Arc<Listeners>,
        gateway: Arc<Gateway>,
    ) -> Self {
        let state = Mutex::new(State { current, last_error: None });
        Self { file, builder, listeners, gateway, state }
    }

    /// Reloads when the file changes and on SIGHUP; never ends.
    pub(super) async fn run(self: Arc<Self>) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            return tracing::error!("cannot listen for SIGHUP: no reload");
        };
        let Some(file) = self.file.clone() else {
            while hangup.recv().await.is_some() {
                self.gateway.access_log().reopen();
            }
            return;
        };
        let watched = FileWatch::default().file(file.clone());
        loop {
            if let Err(error) = watched.refresh() {
                tracing::warn!("{} is not watched, only looked at now and then: {error}", file.display());
            }
            tokio::select! {
                _ = watched.changed() => {}
                _ = tokio::time::sleep(limits::FILE_RESYNC) => {}
                _ = hangup.recv() => self.gateway.access_log().reopen(),
            }
            watched.take();
            self.reload(&file).await;
        }
    }

    /// The configuration as loaded, and why the last reload failed, if it did.
    pub(super) fn shown(&self) -> (Value, Option<String>) {
        let state = self.state();
        (state.current.document.clone(), state.last_error.clone())
    }

    async fn reload(&self, file: &std::path::Path) {
        let result = match config::load(file) {
            Ok(next) if next == self.state().current => Ok(None),
            Ok(next) => self.apply(next).await.map(Some),
            Err(errors) => Err(Unusable(errors.to_string())),
        };
        let metrics = &self.gateway.metrics().gateway;
        match result {
            Ok(None) => self.state().last_error = None,
            Ok(Some(next)) => {
                tracing::info!("configuration reloaded: {}", super::summary(&next.plan));
                metrics.reloaded(Reload::Succeeded, SystemTime::now());
                *self.state() = State { current: next, last_error: None };
            }
            Err(error) => {
                let error = error.to_string();
                // The same broken file is looked at again and again; it is told once.
                if self.state().last_error.as_ref() != Some(&error) {
                    tracing::error!("the configuration is unusable, what runs stays:\n{error}");
                    metrics.reloaded(Reload::Failed, SystemTime::now());
                    self.state().last_error = Some(error);
                }
            }
        }
    }

    /// Everything that can fail comes before anything changes.
    async fn apply(&self, next: Configuration) -> Result<Configuration, Unusable> {
        let bound = self.listeners.bind(&next.plan.listeners)?;
        let table = self.builder.build(&next.plan);
        let mut answered = Vec::new();
        table.for_each_backend(|backend, lane| {
            if lane == Lane::Primary {
                answered.push(backend.answered());
            }
        });
        first_answers(answered).await;
        self.gateway.swap(table);
        self.listeners.open(&self.gateway, bound, &next.plan.listeners);
        let current = &self.state().current.plan;
        let fixed = [
            ("admin", current.admin != next.plan.admin),
            ("access_log", current.access_log != next.plan.access_log),
            ("workers", current.workers != next.plan.workers),
        ];
        for (key, _) in fixed.into_iter().filter(|(_, changed)| *changed) {
            tracing::warn!("`{key}` changed: it takes effect when the process starts again");
        }
        Ok(next)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
