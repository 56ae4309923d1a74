//! Where two come with one number each, at whatever times: the second learns what the first said.
//!
//! A pure core. Called by [`super::pair`].

use crate::sync::atomic::{AtomicU64, Ordering};

/// Nobody waits and nothing is locked: each side says its number once, with one atomic step.
#[derive(Debug, Default)]
pub(super) struct Meeting(AtomicU64);

impl Meeting {
    /// Says `number`, which is not 0. What the other side said, for the second of the two alone.
    pub(super) fn say(&self, number: u64) -> Option<u64> {
        self.0.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed).err()
    }
}
