#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use super::*;

/// Limits in ticks: 10, 20, 30, 40, 50.
fn deadlines() -> Arc<Deadlines> {
    let of = |ticks: u32| limits::DEADLINE_TICK * ticks;
    Deadlines::new(DeadlineSettings {
        first_byte: of(10),
        head: of(20),
        idle: of(30),
        write_stall: of(40),
        drain: of(50),
    })
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn each_wait_has_its_own_deadline() {
    for (expiry, limit) in Expiry::ALL.into_iter().zip([10, 20, 30, 40, 50]) {
        let deadlines = deadlines();
        let connection = deadlines.register().unwrap();
        deadlines.sweep(5, 0);
        match expiry {
            Expiry::WriteStall => {
                connection.state().waits_for(Expiry::Drain);
                connection.state().write_pending();
            }
            other => connection.state().waits_for(other),
        }
        deadlines.sweep(5 + limit, 0);
        assert_eq!(connection.state().expired(), None, "{expiry:?} is never early");
        deadlines.sweep(6 + limit, 0);
        assert_eq!(connection.state().expired(), Some(expiry));
        deadlines.sweep(7 + limit, 0);
        assert_eq!(deadlines.expired(expiry), 1, "counted once");
    }
}

#[test]
fn a_request_in_flight_is_waited_for() {
    let deadlines = deadlines();
    let connection = deadlines.register().unwrap();
    connection.state().waits_for(Expiry::Idle);
    let first = connection.state().request();
    let second = connection.state().request();
    deadlines.sweep(1000, 0);
    drop(first);
    deadlines.sweep(2000, 0);
    assert_eq!(connection.state().expired(), None);
    drop(second);
    deadlines.sweep(2030, 0);
    assert_eq!(connection.state().expired(), None, "idle since its last request");
    deadlines.sweep(2031, 0);
    assert_eq!(connection.state().expired(), Some(Expiry::Idle));
}

#[test]
fn a_client_that_can_be_told_is_told_before_it_is_left() {
    let deadlines = deadlines();
    let connection = deadlines.register().unwrap();
    let state = connection.state();
    state.waits_for(Expiry::Idle);
    state.is_told_first();
    deadlines.sweep(31, 0);
    assert!(!state.leaves(), "never early");
    deadlines.sweep(32, 0);
    assert_eq!((state.leaves(), state.expired()), (true, None));
    // A request that was on its way is answered, however long that takes.
    let request = state.request();
    deadlines.sweep(1000, 0);
    drop(request);
    deadlines.sweep(1050, 0);
    assert_eq!(state.expired(), None);
    deadlines.sweep(1051, 0);
    assert_eq!(state.expired(), Some(Expiry::Drain), "it does not go by itself");
    assert_eq!(deadlines.expired(Expiry::Idle), 1);
}

#[test]
fn a_write_that_gets_on_is_not_stalled_though_a_request_is_in_flight() {
    let deadlines = deadlines();
    let connection = deadlines.register().unwrap();
    let _request = connection.state().request();
    for tick in (1..1000).step_by(30) {
        deadlines.sweep(tick, 0);
        connection.state().write_progressed();
        connection.state().write_pending();
        connection.state().write_pending();
    }
    assert_eq!(connection.state().expired(), None);
    deadlines.sweep(1100, 0);
    assert_eq!(connection.state().expired(), Some(Expiry::WriteStall));
}

#[test]
fn a_tunnel_is_never_idle() {
    let deadlines = deadlines();
    let connection = deadlines.register().unwrap();
    connection.state().pass_through();
    deadlines.sweep(1_000_000, 0);
    assert_eq!(connection.state().expired(), None);
}

#[test]
fn who_waits_is_woken_once_and_even_when_late() {
    let deadlines = deadlines();
    let connection = deadlines.register().unwrap();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut parked = None;
    connection.state().park(&mut parked, &Context::from_waker(&waker));
    connection.state().park(&mut parked, &Context::from_waker(&waker));
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    deadlines.sweep(100, 0);
    deadlines.sweep(200, 0);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    connection.state().park(&mut None, &Context::from_waker(&waker));
    assert_eq!(woken.0.load(Ordering::Relaxed), 2, "whoever comes after the sweep");
}

#[test]
fn a_place_is_given_back_with_its_registration() {
    let deadlines = deadlines();
    let connection = deadlines.register().unwrap();
    let more: Vec<_> = (0..10).map(|_| deadlines.register().unwrap()).collect();
    assert_eq!(deadlines.connections(), 11);
    drop(more);
    assert_eq!(deadlines.connections(), 1);
    drop(connection);
    assert_eq!(deadlines.connections(), 0);
}

#[test]
fn many_connections_are_swept_in_slices() {
    let deadlines = deadlines();
    let connections: Vec<_> =
        (0..limits::DEADLINE_SLICE + 1).map(|_| deadlines.register().unwrap()).collect();
    let next = deadlines.sweep(100, 0);
    assert_eq!(next, Some(limits::DEADLINE_SLICE));
    let expired = |connections: &[Registration]| {
        connections.iter().filter(|connection| connection.state().expired().is_some()).count()
    };
    assert_eq!(expired(&connections), limits::DEADLINE_SLICE);
    assert_eq!(deadlines.sweep(100, limits::DEADLINE_SLICE), None);
    assert_eq!(expired(&connections), limits::DEADLINE_SLICE + 1);
}

#[tokio::test(start_paused = true)]
async fn its_worker_keeps_time() {
    let worker = crate::worker::Worker::new(crate::shard::WorkerId(0), 1);
    let connection = worker.deadlines().register().unwrap();
    let sweeper = tokio::spawn(worker.keep_time());
    tokio::time::sleep(limits::FIRST_BYTE).await;
    assert_eq!(connection.state().expired(), None);
    tokio::time::sleep(limits::DEADLINE_TICK * 2).await;
    assert_eq!(connection.state().expired(), Some(Expiry::FirstByte));
    sweeper.abort();
}

#[test]
fn a_connection_rests_when_it_has_nothing_to_do() {
    let deadlines = deadlines();
    let connection = deadlines.register().unwrap();
    let state = connection.state();
    let woken = Arc::new(Woken::default());
    let waker = Arc::clone(&woken).into();
    state.park(&mut None, &Context::from_waker(&waker));
    let after = ticks(limits::REST_AFTER) + 1;
    let rests = |tick: u32| {
        deadlines.sweep(tick, 0);
        state.rests()
    };
    state.waits_for(Expiry::Idle);
    assert!(!rests(after), "nobody has said that it is between two requests");
    state.between(true);
    state.write_pending();
    assert!(!rests(after));
    state.write_progressed();
    let request = state.request();
    assert!(!rests(after));
    drop(request);
    assert!(!rests(2 * after - 1), "it was busy until now");
    assert!(rests(2 * after) && rests(2 * after + 1));
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "woken once");
    // A request that comes before its task has had a turn keeps it awake.
    state.between(false);
    assert!(!state.rests());
    state.between(true);
    state.wakes_up();
    assert!(!state.rests());
}

#[test]
fn not_all_are_told_to_rest_at_once() {
    let deadlines = deadlines();
    let connections: Vec<_> = (0..limits::RESTS_AT_ONCE + 1).map(|_| deadlines.register().unwrap()).collect();
    for connection in &connections {
        connection.state().waits_for(Expiry::Idle);
        connection.state().between(true);
    }
    let resting = || connections.iter().filter(|connection| connection.state().rests()).count();
    let after = ticks(limits::REST_AFTER) + 2;
    deadlines.sweep(after, 0);
    assert_eq!(resting(), limits::RESTS_AT_ONCE);
    deadlines.sweep(after, 0);
    assert_eq!(resting(), limits::RESTS_AT_ONCE + 1);
}
