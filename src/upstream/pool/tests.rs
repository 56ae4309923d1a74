#![allow(clippy::unwrap_used)]
use tokio::net::UnixStream;

use super::*;

/// A pool with `count` idle connections since `now`, and their other ends.
fn idle(count: usize, now: Instant) -> (Pool, Vec<UnixStream>) {
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..count).map(|_| UnixStream::pair().unwrap()).unzip();
    let pool = Pool::default();
    pool.open.store(count, Ordering::Relaxed);
    pool.kept().idle = ours.into_iter().map(|stream| (Stream::Unix(stream), now, None)).collect();
    (pool, theirs)
}

#[tokio::test]
async fn a_burst_leaves_its_connections_for_a_moment() {
    let now = Instant::now();
    let (pool, _others) = idle(limits::IDLE_PER_ENDPOINT + 40, now);
    pool.reap(now + limits::IDLE_BURST.1);
    assert_eq!(pool.connections(), limits::IDLE_PER_ENDPOINT + 40);
    pool.reap(now + limits::IDLE_BURST.1 + Duration::from_millis(1));
    assert_eq!(pool.connections(), limits::IDLE_PER_ENDPOINT);
    pool.reap(now + limits::IDLE_AGE + Duration::from_millis(1));
    assert_eq!((pool.connections(), pool.kept().idle.len()), (0, 0));
}

#[tokio::test]
async fn what_the_endpoint_closed_is_not_kept() {
    let now = Instant::now();
    let (pool, mut others) = idle(3, now);
    others.pop();
    // The kernel tells of it through the runtime's driver.
    while pool.connections() == 3 {
        tokio::task::yield_now().await;
        pool.reap(now);
    }
    assert_eq!(pool.connections(), 2);
}

#[test]
fn no_burst_leaves_more_than_its_bound() {
    let (most, moment) = limits::IDLE_BURST;
    assert!(!is_surplus(most, moment));
    assert!(is_surplus(most + 1, Duration::ZERO));
    assert!(!is_surplus(limits::IDLE_PER_ENDPOINT, limits::IDLE_AGE));
}
