//! Watches against an API server that is a function, so that time is nobody's but the test's.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use tokio::sync::watch as channel;
use tower_service::Service;

use super::*;

/// What becomes of requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Answers,
    Refuses,
    /// To all but those for Services, which are refused.
    IsSilent,
}

/// Lists nothing, and watches for as long as the server answers.
struct Api(channel::Receiver<Server>);

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

impl Service<Request<Body>> for Api {
    type Response = Answer;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut server = self.0.clone();
        Box::pin(async move {
            let now = *server.borrow_and_update();
            if now == Server::IsSilent && !request.uri().path().ends_with("/services") {
                return std::future::pending().await;
            }
            if now != Server::Answers {
                return Err(std::io::Error::other("refused"));
            }
            let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let body = match watches {
                true => {
                    let end = stream::once(async move {
                        let _ended = server.changed().await;
                        Ok(Frame::data(Bytes::new()))
                    });
                    StreamBody::new(end).boxed_unsync()
                }
                false => {
                    let list =
                        r#"{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;
                    Full::new(Bytes::from_static(list.as_bytes())).boxed_unsync()
                }
            };
            Ok(Response::new(body))
        })
    }
}

/// How long each of the watches took to be up to date again after the server had been `away` in these ways, for
/// some minutes each, from when the first of them was.
async fn recovery(away: &[Server]) -> HashMap<String, Duration> {
    let server = channel::Sender::new(Server::Answers);
    let client = Client::new(Api(server.subscribe()), "default");
    let shared = Arc::new(Shared::new(Arc::default()));
    let mut tasks = JoinSet::new();
    start(&client, &[], &shared, &mut tasks);
    let wrong = || {
        let problems = shared.health.problems();
        problems.iter().map(|line| line.split([' ', ':']).next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let turn = || tokio::time::sleep(Duration::from_millis(10));
    let minutes = || tokio::time::sleep(Duration::from_secs(600));
    let all = wrong();
    while !wrong().is_empty() {
        turn().await;
    }
    minutes().await;
    for way in away {
        server.send_replace(*way);
        minutes().await;
        assert_eq!(wrong(), all);
    }
    server.send_replace(Server::Answers);
    let mut first = None;
    let mut took = HashMap::new();
    while took.len() < all.len() {
        turn().await;
        let wrong = wrong();
        for name in all.iter().filter(|name| !wrong.contains(name)) {
            let first: Instant = *first.get_or_insert_with(Instant::now);
            took.entry(name.clone()).or_insert_with(|| first.elapsed());
        }
    }
    took
}

#[tokio::test(start_paused = true)]
async fn all_are_up_to_date_soon_after_the_first_that_gets_through() {
    let soon = limits::RECOVERY_SPREAD + Duration::from_millis(100);
    for away in [&[Server::Refuses][..], &[Server::Refuses, Server::IsSilent]] {
        let took = recovery(away).await;
        assert_eq!(took.len(), 14);
        assert!(took.values().all(|took| *took <= soon), "{took:?}");
    }
}
