#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use super::*;
use crate::shard::WorkerId;
use crate::worker::Worker;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn polled(alarm: &mut Alarm, waker: &Waker) -> bool {
    Pin::new(alarm).poll(&mut Context::from_waker(waker)).is_ready()
}

/// A worker whose time is kept, at a moment between two of its sweeps.
async fn keeping_time() -> Arc<Worker> {
    let worker = Worker::new(WorkerId(0), 1);
    tokio::spawn(worker.clone().keep_time());
    sleep(Duration::from_millis(333)).await;
    worker
}

#[tokio::test(start_paused = true)]
async fn a_long_one_rings_at_the_next_sweep_and_never_early() {
    let worker = keeping_time().await;
    for millis in [4000, 4167, 5000, 60_001] {
        let (patience, start) = (Duration::from_millis(millis), Instant::now());
        let mut alarm = worker.alarm(patience);
        assert!(matches!(alarm.0, Kind::Coarse { .. }));
        (&mut alarm).await;
        let late = start.elapsed().checked_sub(patience).expect("not early");
        assert!(late <= limits::DEADLINE_TICK + Duration::from_millis(2), "{millis} ms: late by {late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_one_is_exact() {
    let worker = keeping_time().await;
    for millis in [0, 1, 50, 3999] {
        let (patience, start) = (Duration::from_millis(millis), Instant::now());
        worker.alarm(patience).await;
        let late = start.elapsed() - patience;
        assert!(late <= Duration::from_millis(1), "{millis} ms: late by {late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_sweeps_all_are_exact() {
    let start = Instant::now();
    Alarms::new().after(Duration::from_millis(4700)).await;
    assert!(start.elapsed() <= Duration::from_millis(4701));
}

#[tokio::test(start_paused = true)]
async fn one_without_a_place_is_exact() {
    let start = Instant::now();
    let alarms = Alarms::new();
    alarms.sweep(start, 0);
    *alarms.waiting() = Places::new(0);
    alarms.after(Duration::from_millis(4700)).await;
    assert!(start.elapsed() <= Duration::from_millis(4702));
}

#[test]
fn whoever_polled_last_is_woken_once() {
    let alarms = Alarms::new();
    let at = |seconds| alarms.start + Duration::from_secs(seconds);
    alarms.sweep(at(0), 0);
    let mut alarm = alarms.after(Duration::from_secs(10));
    let (first, second) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
    assert!(!polled(&mut alarm, &first.clone().into()));
    assert!(!polled(&mut alarm, &second.clone().into()));
    alarms.sweep(at(9), 0);
    assert_eq!(second.times(), 0);
    alarms.sweep(at(12), 0);
    alarms.sweep(at(13), 0);
    assert_eq!((first.times(), second.times()), (0, 1));
    assert!(polled(&mut alarm, &second.into()));
}

#[test]
fn a_dropped_one_gives_its_place_back_and_wakes_nobody() {
    let alarms = Alarms::new();
    alarms.sweep(alarms.start, 0);
    let woken = Arc::new(Woken::default());
    let mut alarm = alarms.after(Duration::from_secs(10));
    assert_eq!(alarms.waiting().count(), 0, "nobody waits yet");
    assert!(!polled(&mut alarm, &woken.clone().into()));
    assert_eq!(alarms.waiting().count(), 1);
    drop(alarm);
    assert_eq!(alarms.waiting().count(), 0);
    alarms.sweep(alarms.start + Duration::from_secs(20), 0);
    assert_eq!((woken.times(), Arc::strong_count(&woken)), (0, 1));
}
