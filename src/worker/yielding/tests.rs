#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use super::*;

/// Reads, then writes in its turn, as a request does.
async fn request(name: u8, log: Arc<Mutex<Vec<String>>>) {
    let mut yields = Yield::default();
    for round in 0..2 {
        log.lock().unwrap().push(format!("{name} reads {round}"));
        yields.due();
        poll_fn(|context| yields.poll(context)).await;
        log.lock().unwrap().push(format!("{name} writes {round}"));
        // Once only: what else it has to write follows at once.
        poll_fn(|context| yields.poll(context)).await;
    }
}

/// As many have written as need not wait.
fn many() {
    for _ in 0..limits::WRITES_AT_ONCE {
        let mut yields = Yield::Due;
        let _written = yields.poll(&Context::from_waker(std::task::Waker::noop()));
    }
}

#[test]
fn those_that_are_ready_read_before_one_of_them_writes() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    many();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..3).map(|name| tokio::spawn(request(name, log.clone()))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let log = log.lock().unwrap();
    let first: Vec<_> = log.iter().take(3).map(String::as_str).collect();
    assert_eq!(first, ["0 reads 0", "1 reads 0", "2 reads 0"]);
    // Each goes on by itself from its write to the next read.
    let then: Vec<_> = log.iter().skip(3).take(6).map(String::as_str).collect();
    let wanted = ["0 writes 0", "0 reads 1", "1 writes 0", "1 reads 1", "2 writes 0", "2 reads 1"];
    assert_eq!(then, wanted);
    assert_eq!(log.len(), 12);
}

#[test]
fn the_first_few_of_a_turn_do_not_wait() {
    let context = Context::from_waker(std::task::Waker::noop());
    for _turn in 0..2 {
        nothing_is_ready();
        for number in 0..2 * limits::WRITES_AT_ONCE {
            let mut yields = Yield::Due;
            assert_eq!(yields.poll(&context).is_pending(), number >= limits::WRITES_AT_ONCE, "{number}");
        }
    }
}

#[test]
fn who_has_nothing_to_wait_for_does_not_wait() {
    let context = Context::from_waker(std::task::Waker::noop());
    let mut yields = Yield::default();
    assert_eq!(yields.poll(&context), Poll::Ready(()));
    many();
    yields.due();
    assert!(!yields.is_waiting());
    assert_eq!(yields.poll(&context), Poll::Pending);
    assert!(yields.is_waiting());
    assert_eq!(yields.poll(&context), Poll::Ready(()));
    assert!(!yields.is_waiting());
}
