//! The end of a worker's patience with an exchange, without a timer for each.
//!
//! An [`Alarm`] of [`limits::ALARM_COARSE`] or longer has a place in a list that the worker looks
//! through each [`limits::DEADLINE_TICK`]. It never rings early, and late by no more than a tick: a
//! sixteenth of its time at the worst. A shorter one is a timer of the runtime's, exact to a
//! millisecond, and so is every one where nobody sweeps or all places are taken.
//!
//! Called by whoever waits for an endpoint: attempts, copies, requests. Swept by [`super::Worker`].

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::places::Places;
use crate::limits;

/// The alarms of one worker.
#[derive(Debug)]
pub struct Alarms {
    start: Instant,
    /// Milliseconds from `start` to the last sweep; 0 while there was none.
    swept: AtomicU64,
    waiting: Mutex<Places<Waiting>>,
}

/// Ready when a time is over.
#[derive(Debug)]
pub struct Alarm(Kind);

#[derive(Debug)]
enum Kind {
    Coarse {
        alarms: Arc<Alarms>,
        /// Milliseconds from the alarms' start.
        due: u64,
        /// Its place in the list, once somebody waits for it.
        place: Option<usize>,
    },
    Exact(Pin<Box<Sleep>>),
}

#[derive(Debug)]
struct Waiting {
    due: u64,
    waker: Waker,
}

impl Alarms {
    /// For one worker. Exact until [`Self::sweep`] is called for the first time.
    pub fn new() -> Arc<Self> {
        let waiting = Mutex::new(Places::new(limits::ALARMS));
        Arc::new(Self { start: Instant::now(), swept: AtomicU64::new(0), waiting })
    }

    /// One that rings when `patience` is over, from now on.
    pub fn after(self: &Arc<Self>, patience: Duration) -> Alarm {
        if patience < limits::ALARM_COARSE || self.swept() == 0 {
            return Alarm(Kind::Exact(Box::pin(sleep(patience))));
        }
        let due = millis(self.start.elapsed().saturating_add(patience)).saturating_add(1);
        Alarm(Kind::Coarse { alarms: self.clone(), due, place: None })
    }

    /// Rings those in the places from `from` on that are due at `now`; says where to go on.
    pub fn sweep(&self, now: Instant, from: usize) -> Option<usize> {
        let now = millis(now.duration_since(self.start)).max(1);
        self.swept.store(now, Ordering::Relaxed);
        self.waiting().slice(from, |waiting| {
            if waiting.due <= now {
                // Once: it is not dropped before whoever is woken has had a turn.
                waiting.due = u64::MAX;
                waiting.waker.wake_by_ref();
            }
        })
    }

    fn swept(&self) -> u64 {
        self.swept.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, Places<Waiting>> {
        // Nothing panics under the lock; if it did, the list is still whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (alarms, due, place) = match &mut self.0 {
            Kind::Exact(timer) => return timer.as_mut().poll(context),
            Kind::Coarse { alarms, due, place } => (alarms, *due, place),
        };
        let swept = alarms.swept();
        if swept >= due {
            return Poll::Ready(());
        }
        let mut waiting = alarms.waiting();
        if let Some(waiting) = place.and_then(|place| waiting.get_mut(place)) {
            waiting.waker.clone_from(context.waker());
            return Poll::Pending;
        }
        *place = waiting.insert(Waiting { due, waker: context.waker().clone() });
        drop(waiting);
        if place.is_some() {
            return Poll::Pending;
        }
        let mut timer = Box::pin(sleep(Duration::from_millis(due - swept)));
        let polled = timer.as_mut().poll(context);
        self.0 = Kind::Exact(timer);
        polled
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Kind::Coarse { alarms, place: Some(place), .. } = &self.0 {
            let removed = alarms.waiting().remove(*place);
            // Dropped after the lock: it may be the last waker of a task.
            drop(removed);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
