//! Whether the mirror got what the primary got: one digest of each request from each of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use http::request;

use crate::limits;
use crate::mirror::loop_guard::COPY_TOKEN;
use crate::proxy::sanitize::COPY_MARKER;
use crate::shard::Lane;

/// FNV-1a in 64 bits: enough to see a byte that differs, small enough to read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest(u64);

/// The last requests by number, each with what the two sides saw of it.
pub(super) struct Ledger {
    slots: Box<[Mutex<Slot>]>,
    same: AtomicU64,
    different: AtomicU64,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    number: u64,
    seen: [Option<Digest>; 2],
}

impl Digest {
    /// Of nothing.
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// With `bytes` after what is in it.
    pub(super) fn add(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self
    }

    /// Of a request: method, target, all fields but the one that marks a copy, and the body.
    pub(super) fn of(head: &request::Parts, body: Self) -> Self {
        let line = Self::new().add(head.method.as_str().as_bytes()).add(head.uri.to_string().as_bytes());
        let fields = head.headers.iter().filter(|(name, _)| **name != COPY_MARKER && **name != COPY_TOKEN);
        // A sum, since the order of different fields means nothing.
        let fields = fields.fold(0u64, |sum, (name, value)| {
            sum.wrapping_add(Self::new().add(name.as_ref()).add(b":").add(value.as_bytes()).0)
        });
        line.add(&fields.to_be_bytes()).add(&body.0.to_be_bytes())
    }

    /// As text.
    pub(super) fn hex(self) -> String {
        format!("{:016x}", self.0)
    }
}

impl Ledger {
    /// Nothing seen yet.
    pub(super) fn new() -> Self {
        Self {
            slots: (0..limits::DEMO_LEDGER).map(|_| Mutex::default()).collect(),
            same: AtomicU64::new(0),
            different: AtomicU64::new(0),
        }
    }

    /// The side of `lane` got request `number` whole.
    pub(super) fn saw(&self, lane: Lane, number: u64, digest: Digest) {
        let Some(slot) = self.slots.get(number as usize % limits::DEMO_LEDGER) else { return };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.number != number {
            *slot = Slot { number, ..Slot::default() };
        }
        slot.seen[lane.index()] = Some(digest);
        if let [Some(primary), Some(copy)] = slot.seen {
            let count = if primary == copy { &self.same } else { &self.different };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Copies that were the same as their request, and copies that were not.
    pub(super) fn compared(&self) -> (u64, u64) {
        (self.same.load(Ordering::Relaxed), self.different.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn digest(fields: &[(&str, &str)], body: &[u8]) -> Digest {
        let mut request = http::Request::post("/items/7?page=2");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        Digest::of(&request.body(()).unwrap().into_parts().0, Digest::new().add(body))
    }

    #[test]
    fn only_the_marker_may_differ() {
        let primary = digest(&[("host", "shop"), ("x-user", "1")], b"body");
        let copy = digest(&[("x-user", "1"), (COPY_MARKER.as_str(), "1"), ("host", "shop")], b"body");
        assert!(primary == copy);
        assert!(primary != digest(&[("host", "shop"), ("x-user", "2")], b"body"));
        assert!(primary != digest(&[("host", "shop"), ("x-user", "1")], b"bodY"));
    }

    #[test]
    fn a_pair_is_compared_once_and_the_unpaired_are_not() {
        let ledger = Ledger::new();
        let (one, other) = (digest(&[], b"1"), digest(&[], b"2"));
        ledger.saw(Lane::Mirror, 1, one);
        ledger.saw(Lane::Primary, 1, one);
        ledger.saw(Lane::Primary, 2, one);
        ledger.saw(Lane::Primary, 3, one);
        ledger.saw(Lane::Mirror, 3, other);
        // Another request in the slot of the second.
        ledger.saw(Lane::Mirror, 2 + limits::DEMO_LEDGER as u64, one);
        assert_eq!(ledger.compared(), (1, 1));
    }
}
