#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream::iter;
use http::{Method, Request};
use http_body::{Body, Frame};
use http_body_util::StreamBody;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::body::{BodyError, Chunk, RequestBody};
use super::registry::{BackendRef, Registry};
use super::*;
use crate::discovery::source::{EndpointSpec, SourceSpec};
use crate::plan::{BackendPolicy, BackendSpec, EjectionPlan, FailureSet, Protocol, RetryPlan};
use crate::shard::WorkerId;
use crate::telemetry::metrics::Metrics;

mod reads;
mod stalls;

/// An endpoint that answers every request with the same status, or closes instead.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) connections: Arc<AtomicUsize>,
    /// Bodies that came.
    bodies: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Server {
    pub(super) async fn start(status: Option<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, bodies) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (counted, kept) = (connections.clone(), bodies.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                serving.spawn(serve(stream, status, kept.clone()));
            }
        });
        Self { address, connections, bodies, _task: task }
    }

    fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }
}

async fn serve(mut stream: tokio::net::TcpStream, status: Option<u16>, bodies: Arc<Mutex<Vec<String>>>) {
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let text = String::from_utf8(read[..head].to_vec()).unwrap().to_ascii_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        while read.len() < head + length {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        bodies.lock().unwrap().push(String::from_utf8(read[head..head + length].to_vec()).unwrap());
        read.drain(..head + length);
        let Some(status) = status else { return };
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A body in these pieces.
fn in_pieces(pieces: Vec<&'static str>) -> RequestBody {
    let chunk = |text: &'static str| Chunk::free(Bytes::from_static(text.as_bytes()));
    let frames = pieces.into_iter().map(move |text| Ok::<_, BodyError>(Frame::data(chunk(text))));
    Some(Box::pin(StreamBody::new(iter(frames))))
}

/// A gateway's upstream side with one backend.
pub(super) struct Upstream {
    worker: Arc<Worker>,
    pub(super) backend: BackendRef,
    registry: Registry,
}

impl Upstream {
    pub(super) fn new(policy: BackendPolicy) -> Self {
        Self::speaking(Protocol::Http1, policy)
    }

    fn speaking(protocol: Protocol, policy: BackendPolicy) -> Self {
        let registry = Registry::new(1, Arc::new(Metrics::new(1)));
        let backend = registry.reference(&BackendSpec { protocol, ..spec(policy) });
        Self { worker: Worker::new(WorkerId(0), 7), backend, registry }
    }

    pub(super) fn publish(&self, addresses: &[SocketAddr]) {
        let specs: Vec<_> = addresses.iter().copied().map(EndpointSpec::new).collect();
        self.backend.publish(&specs, Instant::now());
    }

    /// The status of the answer to a request, POST if it has a body.
    async fn send(
        &self,
        lane: Lane,
        body: Option<Vec<&'static str>>,
        retries: Option<&RetryPlan>,
    ) -> Result<u16, ExchangeError> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let length = body.iter().flatten().map(|piece| piece.len()).sum::<usize>();
        let request = Request::builder().method(method).uri("/").header("host", "a");
        let request = match body.is_some() {
            true => request.header("content-length", length),
            false => request,
        };
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let length = if body.is_some() { Length::Exact(length as u64) } else { Length::None };
        let body: RequestBody = body.and_then(in_pieces);
        let (retries, body) = Retries::new(retries, body, self.backend.speech().may_refuse());
        let head = Head::new(&parts, length);
        let message = Message::new(self.backend.speech(), &head, body)?;
        let policy = Policy { lane, ..primary_policy(Some(Duration::from_secs(10))) };
        let mut again = Again { head, retries };
        let exchanged = exchange(&self.worker, &self.backend, message, Some(&mut again), &policy).await?;
        let status = exchanged.response.status().as_u16();
        let mut body = exchanged.response.into_body();
        while let Some(frame) = std::future::poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await {
            frame.unwrap();
        }
        Ok(status)
    }

    pub(super) async fn get(&self, lane: Lane) -> Result<u16, ExchangeError> {
        self.send(lane, None, None).await
    }

    fn removed(&self) -> u64 {
        let metrics = self.backend.metrics();
        Lane::ALL.iter().map(|lane| metrics.sent_to_removed_total(*lane)).sum()
    }
}

fn spec(policy: BackendPolicy) -> BackendSpec {
    let source = SourceSpec::Static(Vec::new());
    BackendSpec {
        name: "app".into(),
        source,
        protocol: Protocol::Http1,
        host: None,
        transport: Default::default(),
        policy,
    }
}

/// An address that nobody listens at.
pub(super) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn plan(on: FailureSet) -> RetryPlan {
    RetryPlan { attempts: 2, on, per_try_timeout: None, max_body: 16, backoff: None, same_endpoint: false }
}

fn on_statuses() -> FailureSet {
    FailureSet { statuses: [502..=504].into_iter().collect(), ..FailureSet::default() }
}

#[tokio::test]
async fn whoever_is_sent_to_a_removed_endpoint_is_counted_where_the_lease_is_taken() {
    let server = Server::start(Some(200)).await;
    let upstream = Upstream::new(BackendPolicy::default());
    upstream.publish(&[server.address]);
    for lane in Lane::ALL {
        upstream.get(lane).await.unwrap();
    }
    assert_eq!(upstream.removed(), 0);
    // A violation, planted: a set in use holds an endpoint that was retired before it came into use.
    let set = upstream.backend.endpoints().clone();
    set.entries()[0].endpoint.retire(set.generation());
    for lane in Lane::ALL {
        // Whether or not it is sent in the end: that it was about to be is the violation.
        let _sent = upstream.get(lane).await;
        assert!(upstream.backend.metrics().sent_to_removed_total(lane) > 0, "{lane:?}");
    }
}

#[tokio::test]
async fn nothing_goes_to_a_removed_endpoint_and_no_request_fails_while_endpoints_come_and_go() {
    let servers = [Server::start(Some(200)).await, Server::start(Some(200)).await];
    let upstream = Upstream::new(BackendPolicy::default());
    upstream.publish(&[servers[0].address]);
    let rounds = 60;
    let sending = async {
        for _ in 0..rounds {
            let requests = Lane::ALL.iter().cycle().take(8).map(|lane| upstream.get(*lane));
            for sent in futures_util::future::join_all(requests).await {
                assert_eq!(sent.unwrap(), 200);
            }
        }
    };
    let churning = async {
        for round in 0..rounds {
            let [stays, goes] = [&servers[round % 2], &servers[(round + 1) % 2]];
            let before = goes.bodies().len();
            upstream.publish(&[stays.address]);
            let removed = upstream.backend.endpoints().generation();
            tokio::task::yield_now().await;
            assert!(removed > 0 && goes.bodies().len() >= before);
        }
    };
    tokio::join!(sending, churning);
    assert_eq!(upstream.removed(), 0);
    // Whatever was in flight has ended: from here on nothing reaches the one that is out.
    let out = &servers[rounds % 2];
    let (connections, requests) = (out.connections.load(Ordering::SeqCst), out.bodies().len());
    for _ in 0..20 {
        upstream.get(Lane::Primary).await.unwrap();
    }
    assert_eq!((out.connections.load(Ordering::SeqCst), out.bodies().len()), (connections, requests));
}

#[tokio::test]
async fn a_status_is_retried_elsewhere_with_the_whole_body() {
    let (bad, good) = (Server::start(Some(503)).await, Server::start(Some(200)).await);
    let upstream = Upstream::new(BackendPolicy::default());
    upstream.publish(&[bad.address, good.address]);
    let plan = plan(on_statuses());
    for _ in 0..10 {
        assert_eq!(upstream.send(Lane::Primary, Some(vec!["one ", "two"]), Some(&plan)).await.unwrap(), 200);
        if !bad.bodies().is_empty() {
            break;
        }
    }
    assert!(!bad.bodies().is_empty(), "ten draws of two avoided it");
    assert!(bad.bodies().iter().chain(&good.bodies()).all(|body| body == "one two"));
    assert_eq!(upstream.backend.metrics().retried_total(Lane::Primary), bad.bodies().len() as u64);
}

#[tokio::test]
async fn without_somebody_else_or_with_too_long_a_body_the_answer_is_passed_on() {
    let bad = Server::start(Some(503)).await;
    let upstream = Upstream::new(BackendPolicy::default());
    upstream.publish(&[bad.address]);
    let plan = plan(on_statuses());
    assert_eq!(upstream.send(Lane::Primary, None, Some(&plan)).await.unwrap(), 503);
    assert_eq!(bad.bodies().len(), 1, "never twice to the same");

    let other = Server::start(Some(502)).await;
    upstream.publish(&[bad.address, other.address]);
    let long = Some(vec!["seventeen", " bytes.."]);
    let status = upstream.send(Lane::Primary, long, Some(&plan)).await.unwrap();
    assert!(status == 503 || status == 502);
    assert_eq!(bad.bodies().len() + other.bodies().len(), 2, "sent once");
    assert_eq!(upstream.send(Lane::Primary, Some(vec!["short"]), None).await.unwrap() / 100, 5);
    assert_eq!(bad.bodies().len() + other.bodies().len(), 3, "no plan, no retry");
}

#[tokio::test]
async fn a_reset_is_retried_only_where_the_route_says_so() {
    let (closing, good) = (Server::start(None).await, Server::start(Some(200)).await);
    let upstream = Upstream::new(BackendPolicy { ejection: None, ..BackendPolicy::default() });
    upstream.publish(&[closing.address, good.address]);
    let plan = plan(FailureSet { reset: true, ..FailureSet::default() });
    for _ in 0..6 {
        assert_eq!(upstream.send(Lane::Primary, Some(vec!["body"]), Some(&plan)).await.unwrap(), 200);
    }
    upstream.publish(&[closing.address]);
    let failed = upstream.send(Lane::Primary, Some(vec!["body"]), None).await;
    assert!(matches!(failed, Err(ExchangeError::Reset)), "{failed:?}");
}

#[tokio::test]
async fn the_budget_ends_retries_before_they_double_the_load() {
    let servers = [Server::start(Some(503)).await, Server::start(Some(503)).await];
    let upstream = Upstream::new(BackendPolicy::default());
    upstream.publish(&[servers[0].address, servers[1].address]);
    let plan = RetryPlan { attempts: 1, ..plan(on_statuses()) };
    let began = Instant::now();
    let requests = 200;
    for _ in 0..requests {
        assert_eq!(upstream.send(Lane::Primary, None, Some(&plan)).await.unwrap(), 503);
    }
    let retried = upstream.backend.metrics().retried_total(Lane::Primary);
    let by_time = (began.elapsed().as_secs() + 2) * u64::from(limits::RETRIES_PER_SECOND);
    let allowed = requests * u64::from(limits::RETRY_PERCENT) / 100 + by_time;
    assert!(retried > 0 && retried <= allowed, "{retried} of {allowed}");
    let denied = upstream.backend.metrics().retry_denied_total(Lane::Primary);
    assert_eq!(retried + denied, requests);
}

#[tokio::test]
async fn the_first_request_by_a_new_set_is_observed_once() {
    let server = Server::start(Some(200)).await;
    let upstream = Upstream::new(BackendPolicy::default());
    upstream.publish(&[server.address]);
    assert!(upstream.backend.endpoints().first_used().is_some());
    assert!(upstream.backend.endpoints().first_used().is_none());
    upstream.backend.rebalance(Instant::now(), false);
    assert!(upstream.backend.endpoints().first_used().is_none(), "the same generation is nothing new");
}

#[tokio::test]
async fn where_traffic_fails_is_left_out_in_its_own_lane_only() {
    let (good, dead) = (Server::start(Some(200)).await, nobody().await);
    let ejection = EjectionPlan { failures: 2, ..EjectionPlan::default() };
    let upstream = Upstream::new(BackendPolicy { ejection: Some(ejection), ..BackendPolicy::default() });
    upstream.publish(&[good.address, dead]);
    let mut revision = upstream.backend.revision();
    let keeping = health::keep(upstream.backend.downgrade());
    let driving = async {
        revision.mark_unchanged();
        while !revision.has_changed().unwrap() {
            assert_eq!(upstream.get(Lane::Mirror).await.unwrap(), 200, "a failed connection goes elsewhere");
        }
        let set = upstream.backend.endpoints().clone();
        let state = set.entries()[1].endpoint.condition().state();
        assert_eq!(state, condition::State::Ejected(Some(Lane::Mirror)));
        let failed = upstream.backend.metrics().answers(Lane::Mirror);
        for _ in 0..20 {
            upstream.get(Lane::Mirror).await.unwrap();
        }
        let none = |answers: &[(String, u64)]| answers.iter().find(|(code, _)| code == "none").cloned();
        assert_eq!(none(&upstream.backend.metrics().answers(Lane::Mirror)), none(&failed), "not asked again");
        let before = upstream.backend.metrics().retried_total(Lane::Primary);
        for _ in 0..20 {
            upstream.get(Lane::Primary).await.unwrap();
        }
        assert!(upstream.backend.metrics().retried_total(Lane::Primary) > before, "primaries still try it");
    };
    tokio::select! {
        () = keeping => panic!("the backend is still referred to"),
        () = driving => {}
    }
}

#[tokio::test]
async fn a_policy_changes_without_a_new_backend() {
    let upstream = Upstream::new(BackendPolicy::default());
    upstream.publish(&[nobody().await]);
    let before = upstream.backend.endpoints().clone();
    let policy = BackendPolicy { ejection: None, ..BackendPolicy::default() };
    let again = upstream.registry.reference(&spec(policy.clone()));
    assert!(again.same(&upstream.backend));
    let after = upstream.backend.endpoints().clone();
    assert_eq!((**after.policy() == policy, after.generation()), (true, before.generation()));
    assert!(Arc::ptr_eq(&before.entries()[0].endpoint, &after.entries()[0].endpoint));
}

#[tokio::test]
async fn what_is_in_flight_with_a_removed_endpoint_has_its_time_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut endpoint = JoinSet::new();
    endpoint.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = [0; 1024];
        let _request = stream.read(&mut read).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
        // Until the other side closes.
        let _end = stream.read(&mut read).await;
    });
    let drain = Some(Duration::from_millis(50));
    let upstream = Upstream::new(BackendPolicy { drain, ..BackendPolicy::default() });
    upstream.publish(&[address]);
    let driving = async {
        let request = Request::builder().uri("/").header("host", "a").body(()).unwrap();
        let (parts, ()) = request.into_parts();
        let head = Head::new(&parts, Length::None);
        let message = Message::new(upstream.backend.speech(), &head, None).unwrap();
        let policy = primary_policy(None);
        let exchanged = exchange(&upstream.worker, &upstream.backend, message, None, &policy).await.unwrap();
        let mut body = exchanged.response.into_body();
        let mut next = async || std::future::poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await;
        assert_eq!(next().await.unwrap().unwrap().into_data().unwrap(), "half");
        upstream.publish(&[]);
        assert!(next().await.unwrap().is_err(), "it would never end by itself");
    };
    tokio::select! {
        () = health::keep(upstream.backend.downgrade()) => panic!("the backend is still referred to"),
        () = driving => {}
    }
    endpoint.join_next().await.unwrap().unwrap();
}
