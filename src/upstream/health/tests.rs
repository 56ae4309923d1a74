#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::probe::{Target, probe};
use super::probing::Judgement;
use super::*;
use crate::discovery::source::EndpointAddress;
use crate::plan::{EjectionPlan, HealthCheck, HealthPlan, Protocol, StatusSet};
use crate::shard::WorkerId;
use crate::upstream::condition::State;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint_set::Entry;
use crate::upstream::tests::{Server, Upstream, nobody};
use crate::worker::Worker;

fn entries(count: u16, now: Instant) -> Vec<Entry> {
    let address = |port| EndpointAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
    let entry =
        |port| Entry { endpoint: Arc::new(Endpoint::new(address(port), 1, now)), weight: 1, zone: None };
    (1..=count).map(entry).collect()
}

fn out(entries: &[Entry], lane: Lane) -> usize {
    entries.iter().filter(|entry| entry.endpoint.condition().is_ejected(lane)).count()
}

proptest! {
    #[test]
    fn at_most_the_allowed_part_is_out_and_everybody_comes_back(
        count in 0..20_u16,
        steps in prop::collection::vec((0..20_usize, 0..3_u8, 0..20_u64, 0..20_usize), 0..200),
    ) {
        let plan = EjectionPlan { failures: 3, ..EjectionPlan::default() };
        let mut now = Instant::now();
        let entries = entries(count, now);
        for (index, what, seconds, left) in steps {
            now += Duration::from_secs(seconds);
            if let Some(entry) = entries.get(index) {
                let condition = entry.endpoint.condition();
                match what {
                    0 => condition.succeeded(Lane::Primary),
                    _ => _ = condition.failed(Lane::Primary),
                }
            }
            // Now and then others leave the set for a while.
            let set = &entries[..entries.len().min(left)];
            let review = ejection::review(set, Some(&plan), now, || 0.5);
            prop_assert!(out(set, Lane::Primary) <= set.len() / 2);
            prop_assert_eq!(out(set, Lane::Mirror), 0, "the other lane saw no failure");
            prop_assert_eq!(review.next.is_some(), out(set, Lane::Primary) > 0);
            prop_assert!(review.next.is_none_or(|next| next > now && next <= now + plan.longest));
        }
        for entry in &entries {
            entry.endpoint.condition().succeeded(Lane::Primary);
        }
        ejection::review(&entries, Some(&plan), now + plan.longest, || 0.0);
        prop_assert_eq!(out(&entries, Lane::Primary), 0);
    }
}

#[test]
fn whoever_fails_again_is_out_for_longer_and_whoever_did_well_is_forgiven() {
    let plan = EjectionPlan { failures: 2, ..EjectionPlan::default() };
    let mut now = Instant::now();
    let entries = entries(2, now);
    let condition = entries[0].endpoint.condition();
    let failing = |now: Instant, failures: u32| {
        (0..failures).for_each(|_| _ = condition.failed(Lane::Mirror));
        ejection::review(&entries, Some(&plan), now, || 0.0).next.map(|next| next - now)
    };
    assert_eq!(failing(now, 1), None, "one is not enough");
    assert_eq!(failing(now, 1), Some(plan.time));
    now += plan.time;
    assert_eq!(failing(now, 0), None, "it is back");
    assert_eq!(failing(now, 1), Some(2 * plan.time), "on probation one is enough");
    now += 2 * plan.time;
    assert_eq!(failing(now, 0), None);
    now += 100 * plan.time;
    assert_eq!(failing(now, 2), Some(plan.time), "after doing well it begins anew");
}

#[test]
fn without_a_plan_everybody_is_taken_back() {
    let now = Instant::now();
    let entries = entries(4, now);
    entries[1].endpoint.condition().eject(Lane::Primary, now + Duration::from_secs(100));
    assert!(ejection::review(&entries, None, now, || 0.0).news);
    assert_eq!(out(&entries, Lane::Primary), 0);
}

#[test]
fn the_first_answer_decides_and_then_only_several_in_a_row() {
    let plan = plan(HealthCheck::Tcp);
    let judged = |answers: &[bool]| {
        let judgement =
            answers.iter().fold(Judgement::Unknown, |judgement, answer| judgement.with(*answer, &plan));
        matches!(judgement, Judgement::Known { healthy: true, .. })
    };
    assert!(!judged(&[false]) && judged(&[true]));
    assert!(judged(&[true, false, false]) && !judged(&[true, false, false, false]));
    assert!(judged(&[true, false, false, true, false, false]), "not in a row");
    assert!(!judged(&[false, true]) && judged(&[false, true, true]));
}

fn plan(check: HealthCheck) -> HealthPlan {
    let second = Duration::from_secs(1);
    HealthPlan { check, interval: Duration::from_millis(5), timeout: 5 * second, healthy: 2, unhealthy: 3 }
}

fn http(range: std::ops::RangeInclusive<u16>) -> HealthCheck {
    let expected: StatusSet = [range].into_iter().collect();
    HealthCheck::Http { path: http::uri::PathAndQuery::from_static("/healthz"), expected }
}

async fn answers(address: SocketAddr, protocol: Protocol, check: &HealthCheck) -> bool {
    let target = Target::to(address, protocol);
    probe(&Worker::new(WorkerId(0), 1), &target, check).await
}

#[tokio::test]
async fn probes_take_the_answers_that_they_expect() {
    let (good, bad, dead) = (Server::start(Some(204)).await, Server::start(Some(500)).await, nobody().await);
    for (address, check, expected) in [
        (good.address, http(200..=399), true),
        (good.address, http(200..=200), false),
        (bad.address, http(200..=399), false),
        (bad.address, HealthCheck::Tcp, true),
        (dead, HealthCheck::Tcp, false),
        (dead, http(200..=399), false),
    ] {
        assert_eq!(answers(address, Protocol::Http1, &check).await, expected, "{address} {check:?}");
    }
    assert_eq!(good.connections.load(std::sync::atomic::Ordering::SeqCst), 2, "one connection for each");
}

/// A server of `grpc.health.v1.Health`: statuses by service.
async fn grpc_server(statuses: HashMap<&'static str, u8>) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let statuses = statuses.clone();
            serving.spawn(async move {
                let service = service_fn(move |request| checked(request, statuses.clone()));
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ended = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, tasks)
}

type GrpcBody = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn checked(
    request: Request<Incoming>,
    statuses: HashMap<&'static str, u8>,
) -> Result<Response<GrpcBody>, Infallible> {
    use http_body_util::BodyExt;
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    let message = request.into_body().collect().await.unwrap().to_bytes();
    let service = std::str::from_utf8(message.get(7..).unwrap_or_default()).unwrap().to_owned();
    let mut trailers = HeaderMap::new();
    let mut frames = Vec::new();
    match statuses.get(service.as_str()) {
        Some(status) => {
            trailers.insert("grpc-status", "0".parse().unwrap());
            frames.push(Ok(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, *status]))));
        }
        None => drop(trailers.insert("grpc-status", "5".parse().unwrap())),
    }
    frames.push(Ok(Frame::trailers(trailers)));
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(StreamBody::new(stream::iter(frames))).unwrap())
}

#[tokio::test]
async fn grpc_services_are_asked_for_their_health() {
    let (address, _server) = grpc_server([("", 1), ("a.Up", 1), ("a.Down", 2)].into_iter().collect()).await;
    for (service, expected) in [("", true), ("a.Up", true), ("a.Down", false), ("a.Unknown", false)] {
        let check = HealthCheck::Grpc { service: service.to_owned() };
        assert_eq!(answers(address, Protocol::H2c, &check).await, expected, "{service}");
    }
}

#[tokio::test]
async fn probes_leave_out_whom_they_find_unwell_in_both_lanes_and_all_unwell_are_all_used() {
    let (good, bad) = (Server::start(Some(200)).await, Server::start(Some(500)).await);
    let health = Some(plan(http(200..=399)));
    let upstream = Upstream::new(BackendPolicy { health, ..BackendPolicy::default() });
    upstream.publish(&[bad.address, good.address]);
    let driving = async {
        let mut revision = upstream.backend.revision();
        let states = || -> Vec<State> {
            let set = upstream.backend.endpoints();
            set.entries().iter().map(|entry| entry.endpoint.condition().state()).collect()
        };
        revision.wait_for(|_| states() == [State::Unhealthy, State::Healthy]).await.unwrap();
        for lane in Lane::ALL.iter().cycle().take(40) {
            assert_eq!(upstream.get(*lane).await.unwrap(), 200);
        }
        upstream.publish(&[bad.address]);
        assert_eq!(upstream.get(Lane::Primary).await.unwrap(), 500, "a request that may fail beats none");
        let policy = BackendPolicy::default();
        upstream.backend.set_policy(&policy);
        revision.wait_for(|_| states() == [State::Healthy]).await.unwrap();
    };
    tokio::select! {
        () = keep(upstream.backend.downgrade()) => panic!("the backend is still referred to"),
        () = driving => {}
    }
}

#[tokio::test]
async fn it_ends_with_its_backend() {
    let upstream = Upstream::new(BackendPolicy::default());
    let keeping = keep(upstream.backend.downgrade());
    drop(upstream);
    keeping.await;
}
