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

/// One exchange with the endpoint at the other end of `connection`.
async fn asked(connection: &http2::Connection, lease: Lease) {
    let mut request = http::Request::new(http2::body::OutgoingBody::new(None));
    *request.uri_mut() = "http://a.test/".parse().unwrap();
    let answered = connection.clone().exchange(lease, request).await;
    assert!(answered.is_ok_and(|(response, _)| response.status() == 200));
}

#[tokio::test]
async fn a_shared_connection_that_nobody_uses_is_closed() {
    let (near, far) = UnixStream::pair().unwrap();
    let served = tokio::spawn(async move {
        let mut connection = h2::server::handshake(far).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_response(http::Response::new(()), true).unwrap();
        }
    });
    let worker = Worker::new(crate::shard::WorkerId(0), 1);
    let address = crate::discovery::source::EndpointAddress::Tcp("127.0.0.1:1".parse().unwrap());
    let endpoint = Arc::new(Endpoint::new(address, 1, Instant::now()));
    let lease = || Lease::new(worker.clone(), endpoint.clone(), Lane::Primary);
    let connection = http2::Connection::open(Stream::Unix(near), &lease()).await.unwrap();
    lease().share(connection.clone());
    let pool = endpoint.pool(worker.id(), Lane::Primary);
    let (now, age) = (Instant::now(), limits::IDLE_AGE + Duration::from_secs(1));
    asked(&connection, lease()).await;
    pool.reap(now + age);
    assert_eq!(pool.connections(), 1, "it was used since it was last looked at");
    drop(connection);
    pool.reap(now + age + limits::IDLE_AGE);
    assert_eq!(pool.connections(), 1);
    pool.reap(now + 2 * age);
    assert_eq!(pool.connections(), 0);
    // Its other end is told.
    served.await.unwrap();
}

#[test]
fn no_burst_leaves_more_than_its_bound() {
    let (most, moment) = limits::IDLE_BURST;
    assert!(!is_surplus(most, moment));
    assert!(is_surplus(most + 1, Duration::ZERO));
    assert!(!is_surplus(limits::IDLE_PER_ENDPOINT, limits::IDLE_AGE));
}
