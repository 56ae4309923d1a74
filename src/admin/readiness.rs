//! Whether the process should be sent traffic: listeners bound, configuration compiled, every primary
//! backend answered by its source once or waited for long enough. A mirror never holds it back,
//! since nobody registers one.
//!
//! Once ready it stays so until it drains: a backend that a reload adds must not take a working
//! gateway out of its load balancer. One that accepts nothing is no working gateway.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::limits;

/// What start-up still waits for. Clones share it. Register everything before the admin API is
/// served: what waits for nothing is ready.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    steps: Vec<(u64, String)>,
    backends: Vec<WaitingBackend>,
    was_ready: bool,
    /// Why none of the listeners could be bound, if it is all of them.
    unbound: Vec<String>,
    draining: bool,
}

struct WaitingBackend {
    name: Arc<str>,
    answered: watch::Receiver<bool>,
    since: Instant,
}

/// A step of start-up; dropping it says that it is done. One that cannot be done must be kept.
#[must_use = "dropping it says that the step is done"]
pub struct Pending {
    readiness: Readiness,
    id: u64,
}

/// Whether to send traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Ready,
    /// Not yet, because of these.
    Pending(Vec<String>),
    /// No more.
    Draining,
}

impl Readiness {
    /// Waits for nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for a step, such as `listener 0.0.0.0:8080` or `configuration`, until the guard is
    /// dropped.
    pub fn wait_for(&self, step: impl Into<String>) -> Pending {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        self.state().steps.push((id, step.into()));
        Pending { readiness: self.clone(), id }
    }

    /// Waits for the first answer of a primary backend's source ([`Backend::answered`]), for
    /// [`limits::READY_PATIENCE`] at most, or until the backend is gone.
    ///
    /// [`Backend::answered`]: crate::upstream::backend::Backend::answered
    pub fn wait_for_backend(&self, name: &Arc<str>, answered: watch::Receiver<bool>) {
        let waiting = WaitingBackend { name: name.clone(), answered, since: Instant::now() };
        let mut state = self.state();
        // Nobody asks any more once it was ready: reloads must not make this grow.
        if !state.was_ready {
            state.backends.push(waiting);
        }
    }

    /// None of the listeners could be bound, for these reasons; with none, that is so no more.
    pub fn nothing_is_bound(&self, reasons: Vec<String>) {
        self.state().unbound = reasons;
    }

    /// Not ready from now on, for good.
    pub fn drain(&self) {
        self.state().draining = true;
    }

    /// The state of things.
    pub fn verdict(&self) -> Verdict {
        let mut state = self.state();
        if state.draining {
            return Verdict::Draining;
        }
        if !state.unbound.is_empty() {
            return Verdict::Pending(state.unbound.clone());
        }
        if state.was_ready {
            return Verdict::Ready;
        }
        state.backends.retain(WaitingBackend::is_pending);
        let steps = state.steps.iter().map(|(_, step)| step.clone());
        let backends = state.backends.iter().map(|backend| format!("backend {}", backend.name));
        let pending: Vec<_> = steps.chain(backends).collect();
        if pending.is_empty() {
            state.was_ready = true;
            return Verdict::Ready;
        }
        Verdict::Pending(pending)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WaitingBackend {
    fn is_pending(&self) -> bool {
        let gone = self.answered.has_changed().is_err();
        !gone && !*self.answered.borrow() && self.since.elapsed() < limits::READY_PATIENCE
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.readiness.state().steps.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn pending(names: &[&str]) -> Verdict {
        Verdict::Pending(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn names_what_is_pending_and_stays_ready() {
        let readiness = Readiness::new();
        let configuration = readiness.wait_for("configuration");
        let listener = readiness.wait_for("listener a");
        assert_eq!(readiness.verdict(), pending(&["configuration", "listener a"]));
        drop(configuration);
        assert_eq!(readiness.verdict(), pending(&["listener a"]));
        drop(listener);
        assert_eq!(readiness.verdict(), Verdict::Ready);
        let (_sender, answered) = watch::channel(false);
        readiness.wait_for_backend(&Arc::from("late"), answered);
        assert_eq!(readiness.verdict(), Verdict::Ready);
        readiness.nothing_is_bound(vec!["listener a".to_owned()]);
        assert_eq!(readiness.verdict(), pending(&["listener a"]), "nobody could be served any more");
        readiness.nothing_is_bound(Vec::new());
        assert_eq!(readiness.verdict(), Verdict::Ready);
        readiness.drain();
        assert_eq!(readiness.verdict(), Verdict::Draining);
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_holds_back_until_it_answers_goes_or_took_too_long() {
        let readiness = Readiness::new();
        let channels: Vec<_> = ["answers", "goes", "silent"]
            .map(|name| {
                let (sender, receiver) = watch::channel(false);
                readiness.wait_for_backend(&Arc::from(name), receiver);
                sender
            })
            .into();
        assert_eq!(readiness.verdict(), pending(&["backend answers", "backend goes", "backend silent"]));
        let mut channels = channels.into_iter();
        channels.next().unwrap().send_replace(true);
        assert_eq!(readiness.verdict(), pending(&["backend goes", "backend silent"]));
        drop(channels.next());
        assert_eq!(readiness.verdict(), pending(&["backend silent"]));
        tokio::time::advance(limits::READY_PATIENCE - std::time::Duration::from_millis(1)).await;
        assert_eq!(readiness.verdict(), pending(&["backend silent"]));
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
        assert_eq!(readiness.verdict(), Verdict::Ready);
    }
}
