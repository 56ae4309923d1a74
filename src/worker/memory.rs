//! Gives back the memory that a burst took.
//!
//! An allocator does that in passing, while a thread allocates: mimalloc looks for pages to return after
//! every ten thousand blocks over a KiB. A worker that falls idle after its burst would keep them for
//! as long as it is idle (50 MiB after 9,000 connections, with TLS 117), so it asks for such blocks
//! itself now and then. With another allocator it costs the same and does nothing.

use std::hint::black_box;

use crate::limits;

/// Lets the allocator of this thread look for pages to give back, and others run between.
pub(super) async fn give_back() {
    for _ in 0..limits::GIVE_BACK_BLOCKS / SLICE {
        for _ in 0..SLICE {
            drop(black_box(Vec::<u8>::with_capacity(BLOCK)));
        }
        tokio::task::yield_now().await;
    }
}

/// Bytes; smaller ones come from a list that is not looked at.
const BLOCK: usize = 2048;
const SLICE: usize = 1000;
