//! A request that is dropped at any of its awaits: every copy has its outcome, nothing is held.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use mirrorgate::shard::Lane;
use tower_service::Service;

use crate::harness::{Gateway, Upstream, eventually, gateway};

/// Polls `future` until it ends or was polled `times`, and drops it; whether it ended.
async fn poll_at_most(future: impl Future<Output = ()>, times: usize) -> bool {
    let (mut future, mut polls) = (pin!(future), 0);
    poll_fn(|context| {
        if polls == times {
            return Poll::Ready(false);
        }
        polls += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if polls == times => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Eight pieces, each after others had a turn.
fn pieces() -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Unpin {
    Box::pin(futures_util::stream::unfold(0_u8, async |piece| {
        tokio::task::yield_now().await;
        (piece < 8).then(|| (Ok(Frame::data(Bytes::from(vec![piece; 4096]))), piece + 1))
    }))
}

async fn nothing_is_held(gateway: &Gateway) {
    gateway.settled().await;
    for backend in gateway.running().registry().live() {
        for lane in Lane::ALL {
            let idle = || {
                let endpoints = backend.endpoints();
                endpoints.entries().iter().all(|entry| entry.endpoint.load(lane).0 == 0)
            };
            eventually("nothing in flight at any endpoint", idle).await;
        }
    }
}

#[tokio::test]
async fn a_request_dropped_at_any_await_is_accounted_for() {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let gateway = gateway(&format!(
        "routes: [{{ backend: 'http://{}', mirrors: ['http://{}', 'http://{}'] }}]",
        primary.address,
        mirror.address,
        Upstream::nobody().await
    ))
    .await;
    let service = gateway.running().service("10.0.0.1:1".parse().unwrap()).unwrap();
    for with_body in [false, true] {
        let (mut polls, mut ended) = (0, false);
        while !ended {
            let mut service = service.clone();
            let transaction = async {
                let request = Request::post("/").header("host", "a");
                let answer = match with_body {
                    true => service.call(request.body(StreamBody::new(pieces())).unwrap()).await,
                    false => service.call(request.body(http_body_util::Empty::new()).unwrap()).await,
                };
                let body = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
                assert_eq!(&body[..], b"p");
            };
            ended = poll_at_most(transaction, polls).await;
            nothing_is_held(&gateway).await;
            polls += 1;
            assert!(polls < 1000, "it never ends");
        }
        assert!(polls > 3, "it was dropped {polls} times: hardly anywhere");
    }
}
