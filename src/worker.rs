//! A data-plane thread's own: its number, its random numbers, its memory, its tasks, its sense of time.
//!
//! Shares nothing with other workers but immutable tables. Everything that the data plane spawns goes
//! through [`Worker::spawn`], and what is a worker's own is atomic or locked all the same, so that a
//! work-stealing runtime below a single worker is one constructor away (it was tried: it costs a quarter
//! more CPU a request, docs/performance.md).

pub mod alarms;
mod memory;
pub mod places;
pub mod yielding;

use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::alarms::{Alarm, Alarms};
use crate::limits;
use crate::memory::Account;
use crate::proxy::deadlines::{DeadlineSettings, Deadlines, tick};
use crate::shard::WorkerId;

/// A data-plane thread's own.
pub struct Worker {
    id: WorkerId,
    random: AtomicU64,
    tasks: Arc<AtomicUsize>,
    copies: Arc<Account>,
    copies_in_flight: Arc<AtomicUsize>,
    copies_most: AtomicUsize,
    interim: AtomicU64,
    deadlines: Arc<Deadlines>,
    alarms: Arc<Alarms>,
    room: Mutex<BytesMut>,
}

impl Worker {
    /// Worker `id`, whose random numbers follow from `seed`.
    pub fn new(id: WorkerId, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            id,
            random: AtomicU64::new(seed),
            tasks: Arc::default(),
            copies: Account::new(limits::MIRROR_BYTES_PER_WORKER),
            copies_in_flight: Arc::default(),
            copies_most: AtomicUsize::new(usize::MAX),
            interim: AtomicU64::new(0),
            deadlines: Deadlines::new(DeadlineSettings::default()),
            alarms: Alarms::new(),
            room: Mutex::default(),
        })
    }

    /// Its number.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// 64 uniform bits (splitmix64: one atomic step, so no lock and no thread-local look-up).
    pub fn random(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut mixed = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// What all copies of this worker may pin together.
    pub fn copies(&self) -> &Arc<Account> {
        &self.copies
    }

    /// Where its exchanges read responses, one after the other: what was read is split off, so that none
    /// holds room while it waits for an endpoint, and one buffer does for many (a buffer for each costs
    /// 450 instructions of 28,000). Locked for one read, never across an await.
    pub fn room(&self) -> &Mutex<BytesMut> {
        &self.room
    }

    /// Runs `task` on this worker. Called on the worker's own thread only.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_counted(&self.tasks, task);
    }

    /// Boxed before tokio moves it: a spawn moves a future five times, which for a copy's costs 2,800
    /// instructions of 44,000.
    fn spawn_counted(&self, count: &Arc<AtomicUsize>, task: impl Future<Output = ()> + Send + 'static) {
        let (task, running) = (Box::pin(task), Running::new(count.clone()));
        tokio::spawn(async move {
            let _running = running;
            task.await;
        });
    }

    /// Delivers a copy on this worker; counted, so that a drain can wait for it.
    pub fn spawn_copy(&self, copy: impl Future<Output = ()> + Send + 'static) {
        self.spawn_counted(&self.copies_in_flight, copy);
    }

    /// Copies that are being delivered.
    pub fn copies_in_flight(&self) -> usize {
        self.copies_in_flight.load(Ordering::Relaxed)
    }

    /// Whether as many are being delivered as may be: each can take a file descriptor, which clients
    /// and primaries need too.
    pub fn is_full_of_copies(&self) -> bool {
        self.copies_in_flight() >= self.copies_most.load(Ordering::Relaxed)
    }

    /// Bounds the copies that are delivered at once.
    pub fn copies_within(&self, most: usize) {
        self.copies_most.store(most, Ordering::Relaxed);
    }

    /// An interim response came that no client can be sent.
    pub fn dropped_interim(&self) {
        self.interim.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn interim_dropped(&self) -> u64 {
        self.interim.load(Ordering::Relaxed)
    }

    /// The deadlines of its client connections.
    pub fn deadlines(&self) -> &Arc<Deadlines> {
        &self.deadlines
    }

    /// Rings when `patience` is over, from now on.
    pub fn alarm(&self, patience: Duration) -> Alarm {
        self.alarms.after(patience)
    }

    /// Looks at all that waits on this worker each [`limits::DEADLINE_TICK`], for ever. One of its tasks.
    pub async fn keep_time(self: Arc<Self>) {
        let start = Instant::now();
        let mut turns = interval(limits::DEADLINE_TICK);
        turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let now = turns.tick().await;
            in_slices(|from| self.deadlines.sweep(tick(now.duration_since(start)), from)).await;
            in_slices(|from| self.alarms.sweep(now, from)).await;
        }
    }

    /// Gives back each [`limits::GIVE_BACK`] what a burst left in the thread's heap, for ever. One of
    /// its tasks.
    pub async fn give_back_memory(self: Arc<Self>) {
        let mut turns = interval(limits::GIVE_BACK);
        turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            turns.tick().await;
            memory::give_back().await;
        }
    }

    /// Tasks that run now.
    pub fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Relaxed)
    }
}

/// Sweeps slice by slice, each of which says where the next begins, and lets others run between them.
async fn in_slices(sweep: impl Fn(usize) -> Option<usize>) {
    let mut from = Some(0);
    while let Some(place) = from {
        from = sweep(place);
        if from.is_some() {
            tokio::task::yield_now().await;
        }
    }
}

struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(tasks: Arc<AtomicUsize>) -> Self {
        tasks.fetch_add(1, Ordering::Relaxed);
        Self(tasks)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
