//! The tasks of HTTP/2 streams, and an end for those whose peer does not open its window.
//!
//! hyper asks a body for its next piece only once there was room for the one before, so a peer that
//! never makes room would hold a body, with all that it pins, for as long as it keeps its connection.
//! hyper runs each stream as a task of its own on the executor that it is given: [`StreamTasks`], which
//! drops the task when its piece has waited for too long. The stream is reset by that, and no other.
//!
//! Used by [`crate::proxy::connection`] towards clients and by [`crate::upstream::http2`] towards
//! endpoints. It knows nothing of what a body is; a body tells its [`Piece`], also why it broke off,
//! which h2 tells nobody.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep};

use crate::upstream::body::BodyError;
use crate::worker::Worker;

/// The piece of one body that hyper holds until there is room for it.
#[derive(Debug)]
pub struct Piece {
    /// Changes each time that a piece is taken or asked for: odd while one is held.
    turn: AtomicU32,
    /// Milliseconds that one may be held; [`u64::MAX`] for no bound.
    patience: AtomicU64,
    task: AtomicWaker,
    /// Why its body broke off.
    broken: OnceLock<BodyError>,
}

/// Where hyper runs the streams of one connection.
#[derive(Clone)]
pub struct StreamTasks {
    worker: Arc<Worker>,
    /// Of the stream whose task comes next: hyper takes a request and spawns its task in one go.
    next: Arc<Mutex<Option<Arc<Piece>>>>,
    watch: Arc<dyn Watch>,
}

/// What a connection knows of its streams' pieces.
pub trait Watch: Send + Sync {
    /// Whether it is the connection that makes no room: then no stream is to blame.
    fn is_blocked(&self) -> bool;
    /// A stream was reset since its piece was held for too long.
    fn stalled(&self);
}

/// The task of a stream.
struct StreamTask<F> {
    stream: Pin<Box<F>>,
    piece: Option<Arc<Piece>>,
    watch: Arc<dyn Watch>,
    /// The turn that is timed, and until when.
    timed: Option<(u32, Pin<Box<Sleep>>)>,
}

impl Piece {
    /// Of a body of which nothing was taken yet; a piece may be held for `patience`.
    pub fn new(patience: Option<Duration>) -> Arc<Self> {
        let millis = patience.map_or(u64::MAX, |patience| patience.as_millis() as u64);
        Arc::new(Self {
            turn: AtomicU32::new(0),
            patience: AtomicU64::new(millis),
            task: AtomicWaker::new(),
            broken: OnceLock::new(),
        })
    }

    /// A piece was handed over.
    pub fn taken(&self) {
        self.turn.fetch_or(1, Ordering::Relaxed);
    }

    /// There was room for it: the next is asked for, or nothing more comes.
    pub fn passed(&self) {
        let turn = self.turn.load(Ordering::Relaxed);
        if turn & 1 == 1 {
            self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Its body broke off.
    pub fn broke(&self, why: BodyError) {
        let _first = self.broken.set(why);
    }

    /// Why its body broke off, if it did.
    pub fn broken(&self) -> Option<BodyError> {
        self.broken.get().copied()
    }

    /// From now on a piece may be held for `patience`.
    pub fn hurry(&self, patience: Duration) {
        self.patience.store(patience.as_millis() as u64, Ordering::Relaxed);
        self.task.wake();
    }

    fn held(&self) -> Option<u32> {
        let turn = self.turn.load(Ordering::Relaxed);
        (turn & 1 == 1).then_some(turn)
    }

    fn patience(&self) -> Option<Duration> {
        let millis = self.patience.load(Ordering::Relaxed);
        (millis != u64::MAX).then(|| Duration::from_millis(millis))
    }
}

impl StreamTasks {
    /// For one connection, which lives on `worker`.
    pub fn new(worker: Arc<Worker>, watch: Arc<dyn Watch>) -> Self {
        Self { worker, next: Arc::default(), watch }
    }

    /// The task that is spawned next sends the body of `piece`.
    pub fn next(&self, piece: Arc<Piece>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(piece);
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for StreamTasks {
    fn execute(&self, stream: F) {
        let piece = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let watch = self.watch.clone();
        self.worker.spawn(StreamTask { stream: Box::pin(stream), piece, watch, timed: None });
    }
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        match self.poll_stalled(context) {
            Poll::Ready(()) => {
                self.watch.stalled();
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<F> StreamTask<F> {
    /// Ready when the stream's piece has been held for too long. Costs a timer only where one is held.
    fn poll_stalled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(piece) = &self.piece else { return Poll::Pending };
        piece.task.register(context.waker());
        let (Some(turn), Some(patience)) = (piece.held(), piece.patience()) else { return Poll::Pending };
        let (timed, timer) = self.timed.get_or_insert_with(|| (turn, Box::pin(sleep(patience))));
        if *timed != turn {
            *timed = turn;
            timer.as_mut().reset(Instant::now() + patience);
        }
        while timer.as_mut().poll(context).is_ready() {
            if !self.watch.is_blocked() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + patience);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[derive(Default)]
    struct Seen {
        blocked: AtomicBool,
        stalled: AtomicUsize,
    }

    impl Watch for Seen {
        fn is_blocked(&self) -> bool {
            self.blocked.load(Ordering::Relaxed)
        }

        fn stalled(&self) {
            self.stalled.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How long the task of a stream lives that does `script` with its piece and then nothing.
    async fn lives(
        patience: Option<Duration>,
        seen: &Arc<Seen>,
        script: impl AsyncFnOnce(&Piece),
    ) -> Option<u64> {
        let piece = Piece::new(patience);
        let start = Instant::now();
        let stream = Box::pin(std::future::pending::<()>());
        let task = StreamTask { stream, piece: Some(piece.clone()), watch: seen.clone(), timed: None };
        let script = async {
            script(&piece).await;
            // As hyper's task is woken by what it waits for.
            piece.task.wake();
            sleep(Duration::from_secs(3600)).await;
        };
        tokio::select! {
            () = task => Some(start.elapsed().as_secs()),
            () = script => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_is_held_ends_its_stream_and_no_other_does() {
        let seen = Arc::new(Seen::default());
        let held = lives(Some(PATIENCE), &seen, async |piece| piece.taken()).await;
        assert_eq!(held, Some(30));
        let waits_for_more = lives(Some(PATIENCE), &seen, async |piece| {
            piece.taken();
            piece.passed();
        });
        assert_eq!(waits_for_more.await, None);
        let unbounded = lives(None, &seen, async |piece| piece.taken()).await;
        assert_eq!(unbounded, None);
        assert_eq!(seen.stalled.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn each_piece_has_its_own_time() {
        let seen = Arc::new(Seen::default());
        let slow = lives(Some(PATIENCE), &seen, async |piece| {
            for _ in 0..5 {
                piece.taken();
                piece.task.wake();
                sleep(Duration::from_secs(20)).await;
                piece.passed();
            }
            piece.taken();
        });
        assert_eq!(slow.await, Some(130));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_makes_no_room_is_not_its_streams_fault() {
        let seen = Arc::new(Seen::default());
        seen.blocked.store(true, Ordering::Relaxed);
        let blocked = lives(Some(PATIENCE), &seen, async |piece| {
            piece.taken();
            piece.task.wake();
            sleep(Duration::from_secs(100)).await;
            seen.blocked.store(false, Ordering::Relaxed);
        });
        assert_eq!(blocked.await, Some(120));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_nobody_wants_any_more_is_hurried() {
        let seen = Arc::new(Seen::default());
        let hurried = lives(None, &seen, async |piece| {
            piece.taken();
            sleep(Duration::from_secs(100)).await;
            piece.hurry(Duration::from_secs(2));
        });
        assert_eq!(hurried.await, Some(102));
    }
}
