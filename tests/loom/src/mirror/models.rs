//! The laws, each for two or three threads.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use loom::thread;

use super::breaker::{Breaker, Pass};
use super::meeting::Meeting;
use super::outcome::Outcome;
use super::rate::Rate;
use super::slots;
use crate::limits;
use crate::memory::Account;

/// Starts the others, does the last itself, and waits for all.
fn together(tasks: Vec<Box<dyn FnOnce() + Send>>) {
    let mut tasks = tasks;
    let own = tasks.pop();
    let threads: Vec<_> = tasks.into_iter().map(thread::spawn).collect();
    own.into_iter().for_each(|task| task());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn failing(breaker: &Breaker, times: u32) {
    (0..times).for_each(|_| breaker.learn(Pass::Closed, Outcome::FailedConnect, || 0));
}

pub(crate) fn opening() {
    let breaker = Arc::new(Breaker::default());
    failing(&breaker, limits::BREAKER_FAILURES - 2);
    let fail = || {
        let breaker = breaker.clone();
        Box::new(move || failing(&breaker, 1)) as Box<dyn FnOnce() + Send>
    };
    let ask = breaker.clone();
    let asking = move || {
        // Closed still, or open and not due: never a probe.
        assert_ne!(ask.admit(|| 1), Some(Pass::Probe));
    };
    together(vec![fail(), fail(), Box::new(asking)]);
    assert!(breaker.is_open());
}

pub(crate) fn one_probe() {
    let breaker = Arc::new(Breaker::default());
    failing(&breaker, limits::BREAKER_FAILURES);
    let probes = Arc::new(AtomicU64::new(0));
    let ask = || {
        let (breaker, probes) = (breaker.clone(), probes.clone());
        Box::new(move || {
            if breaker.admit(|| 5000) == Some(Pass::Probe) {
                probes.fetch_add(1, Ordering::Relaxed);
            }
        }) as Box<dyn FnOnce() + Send>
    };
    let late = breaker.clone();
    together(vec![ask(), ask(), Box::new(move || failing(&late, 1))]);
    assert_eq!(probes.load(Ordering::Relaxed), 1);
}

pub(crate) fn never_stuck() {
    let breaker = Arc::new(Breaker::default());
    failing(&breaker, limits::BREAKER_FAILURES);
    let probe = |outcome| {
        let breaker = breaker.clone();
        Box::new(move || {
            if let Some(pass) = breaker.admit(|| 5000) {
                breaker.learn(pass, outcome, || 5000);
            }
        }) as Box<dyn FnOnce() + Send>
    };
    let late = breaker.clone();
    let late = move || late.learn(Pass::Closed, Outcome::FailedConnect, || 5000);
    together(vec![probe(Outcome::Delivered), probe(Outcome::FailedConnect), Box::new(late)]);
    assert!(breaker.admit(|| 1_000_000).is_some(), "nobody is let through any more");
}

pub(crate) fn rate() {
    let rate = Arc::new(Rate::default());
    // A burst of a tenth of a second: two at ten a second.
    rate.set(Some(10));
    let admitted = Arc::new(AtomicU64::new(0));
    let ask = || {
        let (rate, admitted) = (rate.clone(), admitted.clone());
        Box::new(move || {
            for _ in 0..2 {
                if rate.admit(|| 3_600_000_000_000) {
                    admitted.fetch_add(1, Ordering::Relaxed);
                }
            }
        }) as Box<dyn FnOnce() + Send>
    };
    together(vec![ask(), ask()]);
    assert_eq!(admitted.load(Ordering::Relaxed), 2);
}

pub(crate) fn slots() {
    let (taken, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let take = || {
        let (taken, held) = (taken.clone(), held.clone());
        Box::new(move || {
            if slots::take(&taken, 1) {
                assert_eq!(held.fetch_add(1, Ordering::Relaxed), 0, "two hold one place");
                held.fetch_sub(1, Ordering::Relaxed);
                slots::give_back(&taken);
            }
        }) as Box<dyn FnOnce() + Send>
    };
    together(vec![take(), take(), take()]);
    assert_eq!(taken.load(Ordering::Relaxed), 0);
}

pub(crate) fn meeting() {
    let meeting = Arc::new(Meeting::default());
    let learned = Arc::new(AtomicU64::new(0));
    let say = |own: u64, other: u64| {
        let (meeting, learned) = (meeting.clone(), learned.clone());
        Box::new(move || {
            if let Some(heard) = meeting.say(own) {
                assert_eq!(heard, other);
                learned.fetch_add(1, Ordering::Relaxed);
            }
        }) as Box<dyn FnOnce() + Send>
    };
    together(vec![say(1, 2), say(2, 1)]);
    assert_eq!(learned.load(Ordering::Relaxed), 1);
}

pub(crate) fn accounts() {
    let worker = Account::new(100);
    let charge = |bytes| {
        let (worker, own) = (worker.clone(), Account::within(&worker, 80));
        Box::new(move || {
            let charge = own.charge(bytes);
            // What others try for a moment and do not get counts for that moment too.
            if charge.is_ok() {
                assert!(own.used() >= bytes && worker.used() >= bytes);
            }
            drop(charge);
            assert_eq!(own.used(), 0);
        }) as Box<dyn FnOnce() + Send>
    };
    together(vec![charge(60), charge(60)]);
    assert_eq!(worker.used(), 0);
}

pub(crate) fn given_back() {
    let worker = Account::new(100);
    let own = Account::within(&worker, 100);
    let charge = own.charge(70).unwrap();
    let other = own.clone();
    together(vec![Box::new(move || drop(charge)), Box::new(move || drop(other.charge(50)))]);
    assert_eq!((own.used(), worker.used()), (0, 0));
}
