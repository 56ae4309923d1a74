//! Coarse deadlines of client connections, without a timer per request.
//!
//! Each connection keeps what it waits for and since which tick in a few atomics, which its IO wrapper
//! and its requests store into. Its worker looks at all of them each [`limits::DEADLINE_TICK`]
//! ([`crate::worker::Worker::keep_time`]) and expires those whose time is up: their next read or write fails with
//! `TimedOut`, and they are woken for it. A connection with a request in flight never expires for
//! being quiet: only a write without progress ends it. The sweeper also says which connections have
//! been idle for so long that they should keep no buffers ([`ConnectionState::rests`]).
//!
//! Called by [`super::framing::Framed`] (reads, writes), the request handler (requests in flight) and
//! the worker (registration, sweeper). It never closes anything itself.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use crate::limits;
use crate::streams::Watch;
use crate::worker::places::Places;

/// The deadlines of one worker's connections.
#[derive(Debug)]
pub struct Deadlines {
    limits: [AtomicU32; Expiry::ALL.len()],
    /// The current tick. Starts at 1, since 0 stands for "no write is pending".
    now: AtomicU32,
    expired: [AtomicU64; Expiry::ALL.len()],
    states: Mutex<Places<Arc<ConnectionState>>>,
}

/// How long a client may take for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlineSettings {
    /// From accepting to the first byte.
    pub first_byte: Duration,
    /// From a head's first byte to its last.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// A write without progress, of a connection or of one HTTP/2 stream.
    pub write_stall: Duration,
    /// Throwing away what a client goes on sending after the connection was shut down.
    pub drain: Duration,
}

impl Default for DeadlineSettings {
    fn default() -> Self {
        Self {
            first_byte: limits::FIRST_BYTE,
            head: limits::HEAD_TIME,
            idle: limits::CLIENT_IDLE,
            write_stall: limits::WRITE_STALL,
            drain: limits::DRAIN_REQUEST_TIME,
        }
    }
}

impl DeadlineSettings {
    fn ticks(self) -> [u32; Expiry::ALL.len()] {
        // Nobody waits for the last.
        [self.first_byte, self.head, self.idle, self.write_stall, self.drain, Duration::MAX].map(ticks)
    }
}

/// Which deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// No byte came.
    FirstByte,
    /// A head was begun and not completed.
    Head,
    /// No request came.
    Idle,
    /// A write made no progress.
    WriteStall,
    /// A client went on sending after the connection was shut down.
    Drain,
    /// A client gave up far more requests than it let be answered: no time, but an end all the same.
    Abandoned,
}

impl Expiry {
    /// All of them, in index order.
    pub const ALL: [Self; 6] =
        [Self::FirstByte, Self::Head, Self::Idle, Self::WriteStall, Self::Drain, Self::Abandoned];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstByte => "first_byte",
            Self::Head => "head",
            Self::Idle => "idle",
            Self::WriteStall => "write_stall",
            Self::Drain => "drain",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What one connection waits for. Shared by its IO wrapper, its requests and the sweeper.
#[derive(Debug)]
pub struct ConnectionState {
    deadlines: Arc<Deadlines>,
    /// What is waited for while no request is in flight: index of an [`Expiry`].
    waits_for: AtomicU8,
    since: AtomicU32,
    /// Tick of the write that is pending, 0 when none is.
    write_since: AtomicU32,
    requests: AtomicU32,
    /// Requests that the client gave up, less those that were answered since.
    abandoned: AtomicU32,
    pass_through: AtomicBool,
    /// A request was refused on its raw bytes.
    refused: AtomicBool,
    /// Whether what was read ends with a whole request. Never said of bytes that nobody checks.
    between: AtomicBool,
    /// Set by the sweeper: see [`Self::rests`].
    tired: AtomicBool,
    /// Whether its client is told before it is closed for being idle: see [`Self::leaves`].
    telling: AtomicBool,
    /// Set by the sweeper: see [`Self::leaves`].
    told: AtomicBool,
    /// Index of the [`Expiry`], plus one; 0 while none has passed.
    expired: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// A connection's place among those that are swept; gives it back when dropped.
#[derive(Debug)]
pub struct Registration {
    state: Arc<ConnectionState>,
    place: usize,
}

/// One request in flight, from its head to the last byte of its response.
#[derive(Debug)]
pub struct RequestInFlight(Arc<ConnectionState>);

impl Deadlines {
    /// For one worker. Nothing is swept until [`Self::sweep`] is called.
    pub fn new(settings: DeadlineSettings) -> Arc<Self> {
        Arc::new(Self {
            limits: settings.ticks().map(AtomicU32::new),
            now: AtomicU32::new(1),
            expired: Default::default(),
            states: Mutex::new(Places::new(limits::CLIENT_CONNECTIONS)),
        })
    }

    /// Holds for all connections from the next sweep on.
    pub fn set(&self, settings: DeadlineSettings) {
        for (limit, ticks) in self.limits.iter().zip(settings.ticks()) {
            limit.store(ticks, Ordering::Relaxed);
        }
    }

    /// Takes a connection in; it waits for its first byte from now on. `None` when
    /// [`limits::CLIENT_CONNECTIONS`] are open already.
    pub fn register(self: &Arc<Self>) -> Option<Registration> {
        let state = Arc::new(ConnectionState {
            deadlines: Arc::clone(self),
            waits_for: AtomicU8::new(Expiry::FirstByte as u8),
            since: AtomicU32::new(self.now()),
            write_since: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            abandoned: AtomicU32::new(0),
            pass_through: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            between: AtomicBool::new(false),
            tired: AtomicBool::new(false),
            telling: AtomicBool::new(false),
            told: AtomicBool::new(false),
            expired: AtomicU8::new(0),
            waker: Mutex::default(),
        });
        let place = self.states().insert(Arc::clone(&state))?;
        Some(Registration { state, place })
    }

    /// Connections that are registered.
    pub fn connections(&self) -> usize {
        self.states().count()
    }

    /// Connections that this deadline has ended.
    pub fn expired(&self, expiry: Expiry) -> u64 {
        self.expired.get(expiry as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Makes `tick` the current one and expires what is due in the places from `from` on. Says where to
    /// go on.
    pub fn sweep(&self, tick: u32, from: usize) -> Option<usize> {
        self.now.store(tick, Ordering::Relaxed);
        let mut tired = 0;
        self.states().slice(from, |state| {
            if let Some(expiry) = state.due(tick, &self.limits) {
                if state.tells(expiry, tick) || state.expire(expiry) {
                    self.count(expiry);
                }
            } else if tired < limits::RESTS_AT_ONCE && state.tires(tick) {
                tired += 1;
            }
        })
    }

    fn count(&self, expiry: Expiry) {
        if let Some(count) = self.expired.get(expiry as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    fn states(&self) -> MutexGuard<'_, Places<Arc<ConnectionState>>> {
        // Nothing panics under the lock; if it did, the list is still whole.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// What the connection waits for.
    pub fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let removed = self.state.deadlines.states().remove(self.place);
        // Dropped after the lock: it may be the last, and frees a waker.
        drop(removed);
    }
}

impl ConnectionState {
    /// A request has begun. Keep what is returned until the last byte of its response is handed over:
    /// as long as one is kept, the connection is not idle.
    pub fn request(self: &Arc<Self>) -> RequestInFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        RequestInFlight(Arc::clone(self))
    }

    /// A request was answered, or given up by the client right after it was sent. Rapid resets
    /// (CVE-2023-44487) that are taken in one by one cost a backend's work each: once
    /// [`limits::HTTP2_ABANDONED`] more were given up than answered, the connection ends.
    pub fn settled(&self, abandoned: bool) {
        let count = self.abandoned.load(Ordering::Relaxed);
        match abandoned {
            true if count >= limits::HTTP2_ABANDONED => {
                if self.expire(Expiry::Abandoned) {
                    self.deadlines.count(Expiry::Abandoned);
                }
            }
            true => self.abandoned.store(count + 1, Ordering::Relaxed),
            false if count > 0 => self.abandoned.store(count - 1, Ordering::Relaxed),
            false => {}
        }
    }

    /// Requests in flight.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The connection is not HTTP any more: an upgrade or CONNECT was accepted. To be called before
    /// the response that says so is handed over. From now on bytes pass unchecked, and only a stalled
    /// write ends the connection.
    pub fn pass_through(&self) {
        self.pass_through.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::pass_through`] was called.
    pub fn is_pass_through(&self) -> bool {
        self.pass_through.load(Ordering::Relaxed)
    }

    /// A request was refused, and counted, on its raw bytes.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Whether the connection ends for a request that was refused on its raw bytes.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Which deadline has passed, if any.
    pub fn expired(&self) -> Option<Expiry> {
        let index = self.expired.load(Ordering::Acquire).checked_sub(1)?;
        Expiry::ALL.get(usize::from(index)).copied()
    }

    /// What the deadline of reading is for; `None` while a request is in flight or a tunnel is open.
    pub fn waiting_for(&self) -> Option<Expiry> {
        let expiry = *Expiry::ALL.get(usize::from(self.waits_for.load(Ordering::Relaxed)))?;
        // Once a connection is shut down, nothing that is still in flight matters to it.
        let busy = self.requests() > 0 || self.is_pass_through();
        (!busy || expiry == Expiry::Drain).then_some(expiry)
    }

    /// Whether a write to the client is pending.
    pub fn is_write_pending(&self) -> bool {
        self.write_since.load(Ordering::Relaxed) != 0
    }

    /// Whether it has been idle for [`limits::REST_AFTER`] and whoever serves it holds nothing of any
    /// message: then it may drop all that it has but the stream. Its task is woken when that begins.
    pub fn rests(&self) -> bool {
        self.tired.load(Ordering::Relaxed) && self.is_idle()
    }

    /// Its client can be told that it is closed for being idle, so that a request which is on its way just
    /// then is not lost (RFC 9113, 6.8).
    pub fn is_told_first(&self) {
        self.telling.store(true, Ordering::Relaxed);
    }

    /// Whether it has been idle for too long and its client is to be told. Its task is woken when that
    /// begins; a client that does not go then has the time of [`Expiry::Drain`].
    pub fn leaves(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// Somebody serves it again.
    pub(super) fn wakes_up(&self) {
        self.tired.store(false, Ordering::Relaxed);
    }

    fn is_idle(&self) -> bool {
        self.between.load(Ordering::Relaxed)
            && self.waiting_for() == Some(Expiry::Idle)
            && !self.is_write_pending()
    }

    /// Whether what was read so far ends with a whole request.
    pub(super) fn between(&self, between: bool) {
        self.between.store(between, Ordering::Relaxed);
    }

    /// What is waited for from now on, while no request is in flight.
    pub(super) fn waits_for(&self, expiry: Expiry) {
        self.since.store(self.deadlines.now(), Ordering::Relaxed);
        self.waits_for.store(expiry as u8, Ordering::Relaxed);
    }

    /// A write is pending: from its first such answer on the client is being waited for.
    pub(super) fn write_pending(&self) {
        if self.write_since.load(Ordering::Relaxed) == 0 {
            self.write_since.store(self.deadlines.now(), Ordering::Relaxed);
        }
    }

    /// A write got on.
    pub(super) fn write_progressed(&self) {
        self.write_since.store(0, Ordering::Relaxed);
    }

    /// Remembers whom to wake when a deadline passes. `parked` is the caller's copy of who was
    /// remembered last: a connection's task stays the same, so the lock is hardly ever taken.
    pub(super) fn park(&self, parked: &mut Option<Waker>, context: &Context<'_>) {
        if parked.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            return;
        }
        *parked = Some(context.waker().clone());
        *self.waker() = parked.clone();
        if self.expired().is_some() {
            // The sweeper may have come between the caller's look and the lock.
            context.waker().wake_by_ref();
        }
    }

    fn due(&self, now: u32, limits: &[AtomicU32; Expiry::ALL.len()]) -> Option<Expiry> {
        let passed = |expiry: Expiry, since: u32| {
            let limit = limits.get(expiry as usize).map_or(u32::MAX, |limit| limit.load(Ordering::Relaxed));
            (now.wrapping_sub(since) > limit && now >= since).then_some(expiry)
        };
        let write_since = self.write_since.load(Ordering::Relaxed);
        if write_since != 0
            && let Some(expiry) = passed(Expiry::WriteStall, write_since)
        {
            return Some(expiry);
        }
        let expiry = match self.waiting_for()? {
            Expiry::Idle if self.leaves() => Expiry::Drain,
            expiry => expiry,
        };
        passed(expiry, self.since.load(Ordering::Relaxed))
    }

    /// True when it becomes idle for long enough to rest.
    fn tires(&self, now: u32) -> bool {
        let idle = now.saturating_sub(self.since.load(Ordering::Relaxed));
        let tires = idle > ticks(limits::REST_AFTER) && self.is_idle();
        if !tires || self.tired.swap(true, Ordering::Relaxed) {
            return false;
        }
        self.waker().iter().for_each(Waker::wake_by_ref);
        true
    }

    /// True when its client is to be told of `expiry`, instead of an end.
    fn tells(&self, expiry: Expiry, now: u32) -> bool {
        let tells = expiry == Expiry::Idle && self.telling.load(Ordering::Relaxed);
        if !tells || self.told.swap(true, Ordering::Relaxed) {
            return false;
        }
        self.since.store(now, Ordering::Relaxed);
        self.waker().iter().for_each(Waker::wake_by_ref);
        true
    }

    /// False when it had expired before.
    fn expire(&self, expiry: Expiry) -> bool {
        let first =
            self.expired.compare_exchange(0, expiry as u8 + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if first && let Some(waker) = self.waker().take() {
            waker.wake();
        }
        first
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for ConnectionState {
    fn is_blocked(&self) -> bool {
        self.is_write_pending()
    }

    fn stalled(&self) {
        self.deadlines.count(Expiry::WriteStall);
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        // First, so that the sweeper never sees an idle connection with the time of its last head.
        self.0.since.store(self.0.deadlines.now(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Release);
    }
}

/// The tick that is current when a worker has swept for this long. The first is 1.
pub fn tick(swept: Duration) -> u32 {
    ticks(swept).saturating_add(1)
}

fn ticks(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis() / limits::DEADLINE_TICK.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
