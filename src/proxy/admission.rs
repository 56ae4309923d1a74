//! What the process takes on at all: connections of one client, requests in flight, memory.
//!
//! Under pressure copies go first ([`Pressure::Copies`]), then requests are refused
//! ([`Pressure::Requests`]). Without a configured bound nothing here is touched by a request but one
//! load of an atomic. Called by [`super::accept`], [`super::connection`] and [`super::request`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits;

/// What the process has taken on.
#[derive(Default)]
pub struct Admission {
    requests: Arc<AtomicUsize>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    /// Index of a [`Pressure`], by memory.
    memory: AtomicU8,
}

/// How far load has come towards its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Well below.
    None,
    /// Copies are skipped.
    Copies,
    /// Requests are refused.
    Requests,
}

/// A request that was taken on; it counts until it is dropped.
#[derive(Debug)]
pub struct Admitted(Arc<AtomicUsize>);

/// A connection in the count of its client's address.
#[derive(Debug)]
pub struct AddressSlot {
    address: IpAddr,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Pressure {
    /// Of `used`, where `limit` is all there is.
    fn of(used: usize, limit: usize) -> Self {
        let copies = limit / limits::SHED_COPIES.1 * limits::SHED_COPIES.0;
        match used {
            used if used >= limit => Self::Requests,
            used if used >= copies.max(1) => Self::Copies,
            _ => Self::None,
        }
    }
}

impl Admission {
    /// Takes a request on; whether its copies are to be skipped. `None` refuses it.
    pub fn request(&self, limit: Option<usize>) -> Option<(Option<Admitted>, bool)> {
        let memory = self.memory();
        if memory == Pressure::Requests {
            return None;
        }
        let Some(limit) = limit else { return Some((None, memory == Pressure::Copies)) };
        let admitted = Admitted(self.requests.clone());
        match Pressure::of(admitted.0.fetch_add(1, Ordering::Relaxed), limit).max(memory) {
            Pressure::Requests => None,
            pressure => Some((Some(admitted), pressure == Pressure::Copies)),
        }
    }

    /// Takes a connection of `address` on, of which there may be `limit`. `None` refuses it.
    pub fn connection(&self, address: IpAddr, limit: usize) -> Option<AddressSlot> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        // As many entries at most as there are connections, which are bounded.
        let count = addresses.entry(address).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(AddressSlot { address, addresses: self.addresses.clone() })
    }

    /// The process takes `used` bytes of `limit`.
    pub fn memory_is(&self, used: usize, limit: Option<usize>) {
        let pressure = limit.map_or(Pressure::None, |limit| Pressure::of(used, limit));
        self.memory.store(pressure as u8, Ordering::Relaxed);
    }

    /// What memory allows.
    pub fn memory(&self) -> Pressure {
        match self.memory.load(Ordering::Relaxed) {
            0 => Pressure::None,
            1 => Pressure::Copies,
            _ => Pressure::Requests,
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn copies_go_before_requests() {
        let admission = Admission::default();
        let mut held = Vec::new();
        let mut skips = Vec::new();
        while let Some((admitted, skip)) = admission.request(Some(10)) {
            held.push(admitted);
            skips.push(skip);
        }
        assert_eq!(skips, [false, false, false, false, false, false, false, false, true, true]);
        held.pop();
        assert!(admission.request(Some(10)).is_some(), "a refused one is not counted");
        held.clear();
        assert_eq!(admission.request(Some(10)).map(|(_, skip)| skip), Some(false));
    }

    #[test]
    fn memory_sheds_like_requests_in_flight() {
        let admission = Admission::default();
        for (used, expected) in
            [(79, Some(false)), (80, Some(true)), (99, Some(true)), (100, None), (79, Some(false))]
        {
            admission.memory_is(used, Some(100));
            assert_eq!(admission.request(None).map(|(_, skip)| skip), expected, "{used}");
        }
        admission.memory_is(100, Some(100));
        admission.memory_is(100, None);
        assert_eq!(admission.memory(), Pressure::None);
    }

    #[test]
    fn connections_of_one_address_are_counted_apart() {
        let admission = Admission::default();
        let [one, two] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let first = admission.connection(one, 2).unwrap();
        let _second = admission.connection(one, 2).unwrap();
        assert!(admission.connection(one, 2).is_none());
        let other = admission.connection(two, 2).unwrap();
        drop(first);
        assert!(admission.connection(one, 2).is_some());
        drop(other);
        assert_eq!(admission.addresses.lock().unwrap().len(), 1, "who is gone is forgotten");
    }
}
