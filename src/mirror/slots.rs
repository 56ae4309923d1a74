//! Places for copies in flight, of all workers together.
//!
//! A pure core around a count that the metrics show. Called by [`super::budget`].

use crate::sync::atomic::{AtomicUsize, Ordering};

/// Takes one of `most` places. For a moment the count is one more than there are, by each that is
/// refused: who asks at that moment may be refused a place that becomes free.
pub(super) fn take(taken: &AtomicUsize, most: usize) -> bool {
    let free = taken.fetch_add(1, Ordering::Relaxed) < most;
    if !free {
        give_back(taken);
    }
    free
}

/// Gives a place back.
pub(super) fn give_back(taken: &AtomicUsize) {
    taken.fetch_sub(1, Ordering::Relaxed);
}
