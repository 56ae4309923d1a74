//! Who pins how much memory: accounts that a charge is booked on, one within the other.
//!
//! A body chunk carries its charge with it, so the account knows of it until the last byte was
//! written or thrown away, wherever the chunk waits meanwhile.

use std::sync::Arc;

use crate::sync::atomic::{AtomicUsize, Ordering};

/// A bound on bytes, possibly within a larger one.
#[derive(Debug)]
pub struct Account {
    used: AtomicUsize,
    limit: usize,
    parent: Option<Arc<Account>>,
}

/// Bytes booked on an account and on those that it lies within; given back when dropped.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

/// Which bound a charge would have broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// The account's own.
    Own,
    /// That of an account around it.
    Around,
}

impl Account {
    /// A bound of its own.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit, parent: None })
    }

    /// A bound within `parent`: its charges count there too.
    pub fn within(parent: &Arc<Self>, limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit, parent: Some(parent.clone()) })
    }

    /// Bytes booked now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether `bytes` more would fit, here and around.
    pub fn fits(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.limit
            && self.parent.as_ref().is_none_or(|parent| parent.fits(bytes))
    }

    /// Books `bytes`, or nothing at all.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, Exceeded> {
        self.book(bytes)?;
        Ok(Charge { account: self.clone(), bytes })
    }

    fn book(&self, bytes: usize) -> Result<(), Exceeded> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limit {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Exceeded::Own);
        }
        if let Some(parent) = &self.parent
            && parent.book(bytes).is_err()
        {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Exceeded::Around);
        }
        Ok(())
    }

    fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.release(bytes);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_charge_counts_here_and_around_until_it_is_dropped() {
        let worker = Account::new(100);
        let copy = Account::within(&worker, 60);
        let charge = copy.charge(50).unwrap();
        assert_eq!((copy.used(), worker.used()), (50, 50));
        drop(charge);
        assert_eq!((copy.used(), worker.used()), (0, 0));
    }

    #[test]
    fn a_refused_charge_books_nothing_and_names_the_bound() {
        let worker = Account::new(100);
        let (one, other) = (Account::within(&worker, 60), Account::within(&worker, 90));
        assert_eq!(one.charge(61).unwrap_err(), Exceeded::Own);
        let _held = one.charge(60).unwrap();
        assert_eq!(other.charge(41).unwrap_err(), Exceeded::Around);
        assert_eq!((one.used(), other.used(), worker.used()), (60, 0, 60));
        assert!(other.fits(40) && !other.fits(41));
    }
}
