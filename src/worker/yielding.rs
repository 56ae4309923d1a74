//! Who lets the others go first.
//!
//! When a worker wakes, many of its connections have something to say at once. Each request that is
//! read and sent on by itself wakes its endpoint, which goes back to sleep before the next one comes; of
//! those that are all read first and then all sent, one wakes it and the rest find it awake. The same
//! holds for responses and their clients. That is 9 % of a request's CPU time. Where there are few they
//! write at once: waiting would only cost them time. How much is gathered is bounded by
//! [`limits::EVENTS_AT_ONCE`].

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::limits;

thread_local! {
    /// First writes since the worker, which is a thread, last looked for something to do.
    static WRITES: Cell<usize> = const { Cell::new(0) };
}

/// All that was ready has run. Called by a worker's runtime whenever its queue is empty.
pub fn nothing_is_ready() {
    WRITES.set(0);
}

/// Whether a task that has something to write has let the others of its worker go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Yield {
    /// There is nothing to wait for.
    #[default]
    Done,
    /// The next write waits.
    Due,
    /// It waits until the others have run that were ready when it came.
    Waiting,
}

impl Yield {
    /// The next write lets the others go first, if there are many.
    pub fn due(&mut self) {
        *self = Self::Due;
    }

    /// Whether a write waits now.
    pub fn is_waiting(self) -> bool {
        self == Self::Waiting
    }

    /// Pending once after [`due`](Self::due), with the task woken at once: it goes to the end of the
    /// worker's queue. The first few of a turn do not wait, since there may be no others. It never waits
    /// for anything to happen, so no deadline has to look at it.
    pub fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        if *self == Self::Due && WRITES.replace(WRITES.get().saturating_add(1)) >= limits::WRITES_AT_ONCE {
            *self = Self::Waiting;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        *self = Self::Done;
        Poll::Ready(())
    }
}

/// Lets those go first that are ready now, if they are many.
pub async fn others_first() {
    let mut yields = Yield::Due;
    poll_fn(|context| yields.poll(context)).await;
}

#[cfg(test)]
mod tests;
