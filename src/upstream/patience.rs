//! How long an endpoint may take. Its time runs while it is its turn: not while the client is still
//! sending, however slowly, and from the start again with each piece that is sent on.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::Instant;

use crate::worker::Worker;

/// How far a request's body has come, told by whoever sends it.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    /// Milliseconds from `start` to the last piece of the body that was taken.
    last: AtomicU64,
    /// Whether the next piece has to come from the client.
    waits: AtomicBool,
}

impl Progress {
    /// Nothing was sent yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), last: AtomicU64::new(0), waits: AtomicBool::new(false) })
    }

    /// The body was asked for its next piece, which `came` or has yet to come.
    pub fn step(&self, came: bool) {
        self.waits.store(!came, Ordering::Relaxed);
        if came {
            self.last.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// When the endpoint's turn began; `None` while it is the client's.
    fn turn(&self) -> Option<Instant> {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        (!self.waits.load(Ordering::Relaxed)).then(|| self.start + last)
    }
}

/// Runs `attempt`, but no longer than `patience` of the endpoint's turn; `None` when it was longer.
pub async fn patiently<T>(
    worker: &Worker,
    attempt: impl Future<Output = T>,
    patience: Duration,
    progress: Option<&Progress>,
) -> Option<T> {
    let mut attempt = pin!(attempt);
    let mut left = patience;
    loop {
        match select(attempt, worker.alarm(left)).await {
            Either::Left((ended, _)) => return Some(ended),
            Either::Right(((), unfinished)) => attempt = unfinished,
        }
        let turn = progress?.turn();
        left = patience.saturating_sub(turn.map_or(Duration::ZERO, |turn| turn.elapsed()));
        if left.is_zero() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Nobody keeps its time, so its alarms are exact.
    fn worker() -> Arc<Worker> {
        Worker::new(crate::shard::WorkerId(0), 1)
    }

    async fn ended_after(progress: Option<&Progress>, script: impl Future<Output = ()>) -> Duration {
        let start = Instant::now();
        let never = async {
            script.await;
            std::future::pending::<()>().await;
        };
        assert!(patiently(&worker(), never, PATIENCE, progress).await.is_none());
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_body_the_time_runs_from_the_start() {
        assert_eq!(ended_after(None, async {}).await.as_secs(), 5);
        assert_eq!(patiently(&worker(), async { 7 }, PATIENCE, None).await, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn the_clients_time_does_not_count() {
        let progress = Progress::new();
        let script = async {
            for _ in 0..10 {
                progress.step(false);
                tokio::time::sleep(Duration::from_secs(7)).await;
                progress.step(true);
            }
        };
        assert_eq!(ended_after(Some(&progress), script).await.as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_stops_reading_has_its_time_from_the_last_piece() {
        let progress = Progress::new();
        let script = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(3)).await;
                progress.step(true);
            }
        };
        assert_eq!(ended_after(Some(&progress), script).await.as_secs(), 14);
    }
}
