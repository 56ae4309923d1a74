//! The laws of mirroring, against real sockets: one outcome for each request, nothing kept, whatever
//! happens to a copy and whenever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod reasons;
mod simulation;

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::tee::Tee;
use super::*;
use crate::discovery::source::{EndpointSpec, SourceSpec};
use crate::plan::{
    AccessLogPlan, BackendSpec, Fraction, MirrorPlan, Plan, Protocol, RouteAction, RoutePlan, SharePlan,
    Timeouts, WeightedBackend,
};
use crate::routing::filter::{Filters, PathRewrite};
use crate::routing::matches::ValueMatch;
use crate::routing::table::{Builder, RoutingTable};
use crate::shard::{Lane, WorkerId};
use crate::telemetry::metrics::{Metrics, MirrorMetrics};
use crate::upstream::body::{BodyError, Chunk};
use crate::upstream::registry::Registry;

/// One route to `backend`.
pub(crate) fn plan_of(backend: BackendSpec) -> Plan {
    Plan {
        listeners: Vec::new(),
        sections: Vec::new(),
        streams: Vec::new(),
        admin: None,
        access_log: AccessLogPlan::Off,
        traces: None,
        routes: vec![RoutePlan {
            name: "route".into(),
            listeners: None,
            hosts: Vec::new(),
            matches: Vec::new(),
            action: RouteAction::Forward(vec![WeightedBackend::new(backend.name.clone(), 1)]),
            filters: Filters::default(),
            retries: None,
            timeouts: Timeouts::default(),
            limits: Default::default(),
            mirrors: Vec::new(),
        }],
        backends: vec![backend],
        trusted_hops: 0,
        via: None,
        name_servers: Default::default(),
        zone: None,
        workers: None,
        limits: Default::default(),
    }
}

/// A route with one mirror, and the worker that copies are made on.
struct Setting {
    registry: Arc<Registry>,
    builder: Builder,
    table: RoutingTable,
    plan: Plan,
    worker: Arc<Worker>,
}

fn spec(name: &str, address: SocketAddr) -> BackendSpec {
    let endpoint = EndpointSpec::new(address);
    let source = SourceSpec::Static(vec![endpoint]);
    BackendSpec {
        name: name.into(),
        source,
        protocol: Protocol::Http1,
        host: None,
        policy: Default::default(),
        transport: crate::plan::Transport::default(),
    }
}

impl Setting {
    fn new(address: SocketAddr, change: impl FnOnce(&mut MirrorPlan)) -> Self {
        let metrics = Arc::new(Metrics::new(1));
        let registry = Arc::new(Registry::new(1, metrics.clone()));
        let builder = Builder::new(registry.clone(), metrics);
        let mut plan = plan_of(spec("mirror", address));
        let mut mirror = MirrorPlan::new("mirror".into());
        change(&mut mirror);
        plan.routes[0].mirrors.push(mirror);
        let table = builder.build(&plan);
        table.for_each_backend(|backend, _| {
            if let SourceSpec::Static(endpoints) = backend.source() {
                backend.publish(&endpoints, Instant::now());
            }
        });
        Self { registry, builder, table, plan, worker: Worker::new(WorkerId(0), 7) }
    }

    fn reload(&mut self, change: impl FnOnce(&mut MirrorPlan)) {
        change(&mut self.plan.routes[0].mirrors[0]);
        self.table = self.builder.build(&self.plan);
    }

    fn mirror(&self) -> &Arc<Mirror> {
        &self.table.routes()[0].mirrors[0]
    }

    fn metrics(&self) -> &Arc<MirrorMetrics> {
        self.mirror().budget.metrics()
    }

    /// What becomes of a request: its copy, or the outcome that was counted.
    fn offer(
        &self,
        parts: &request::Parts,
        length: Length,
        change: impl FnOnce(&mut Subject<'_>),
    ) -> Option<Copy> {
        let near = SocketAddr::from(([10, 0, 0, 1], 80));
        let connection = Addresses { source: near, destination: near };
        let mut subject = Subject {
            parts,
            prefix: 0,
            length,
            size: SizeHint::default(),
            client: IpAddr::from([10, 0, 0, 1]),
            connection: &connection,
            draw: self.worker.random(),
            hops: None,
            upgrades: false,
            draining: false,
            overloaded: false,
        };
        change(&mut subject);
        begin(&self.table.routes()[0].mirrors, &subject, &self.worker).pop()
    }

    fn outcomes(&self) -> Vec<(Outcome, u64)> {
        let all = Outcome::ALL.iter().map(|outcome| (*outcome, self.metrics().outcome_total(*outcome)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// Every request has one outcome, and nothing is kept.
    #[track_caller]
    fn assert_settled(&self, requests: u64) {
        assert_eq!(self.metrics().offered_total(), requests);
        let ended: u64 = self.outcomes().iter().map(|(_, count)| count).sum();
        assert_eq!(ended, requests, "{:?}", self.outcomes());
        assert_eq!(self.metrics().in_flight.load(Ordering::Relaxed), 0);
        assert_eq!(self.metrics().accounting_error(), 0);
        assert_eq!((self.metrics().buffered_bytes(), self.worker.copies().used()), (0, 0));
        for backend in self.registry.live() {
            for entry in backend.endpoints().entries() {
                assert_eq!(entry.endpoint.load(Lane::Mirror).0, 0, "in flight at the endpoint");
            }
        }
    }
}

fn head(target: &str, fields: &[(&'static str, &str)]) -> request::Parts {
    let mut request = Request::post(target).header("host", "a").header("x-request-id", "1");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// An endpoint that answers each request whose head is complete, and keeps what it has read.
async fn answering(answer: &'static str) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, read) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer, heads.clone()));
        }
    });
    (address, read)
}

async fn serve(mut stream: TcpStream, answer: &str, heads: tokio::sync::mpsc::UnboundedSender<String>) {
    let mut text = String::new();
    let mut buffer = vec![0; 65536];
    while let Ok(size @ 1..) = stream.read(&mut buffer).await {
        text.push_str(&String::from_utf8_lossy(&buffer[..size]));
        let complete = match text.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains("chunked") => body.ends_with("0\r\n\r\n"),
            Some(_) => true,
            None => false,
        };
        if complete {
            // Whoever does not look any more has seen enough.
            let _ = heads.send(std::mem::take(&mut text));
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Lets `copy` have a body of `chunks`, pulled as a primary would.
fn feed(copy: &Copy, chunks: usize) -> tokio::task::JoinHandle<()> {
    let reader = copy.reader().unwrap().clone();
    let frames =
        (0..chunks).map(|n| Ok::<_, BodyError>(Frame::data(Chunk::free(Bytes::from(vec![n as u8; 4096])))));
    let source = StreamBody::new(futures_util::stream::iter(frames));
    let mut tee = Tee::new(source, vec![reader]);
    tokio::spawn(async move {
        while let Some(Ok(_)) = tee.frame().await {
            tokio::task::yield_now().await;
        }
    })
}

/// Polls `future` at most `times`; whether it came to its end.
async fn poll_at_most<F: Future>(future: F, times: usize) -> bool {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|context| {
        if polls == times {
            return Poll::Ready(false);
        }
        polls += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            // Woken or not, it is dropped after as many polls.
            Poll::Pending => {
                if polls == times {
                    return Poll::Ready(false);
                }
                Poll::Pending
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_copy_dropped_at_any_await_is_accounted_for() {
    let (address, _read) = answering(OK).await;
    for with_body in [false, true] {
        let setting = Setting::new(address, |_| {});
        let mut requests = 0;
        let mut finished = false;
        while !finished {
            let length = if with_body { Length::Chunked } else { Length::None };
            let fields: &[_] = if with_body { &[("transfer-encoding", "chunked")] } else { &[] };
            let copy = setting.offer(&head("/", fields), length, |_| {}).expect("nothing stands in its way");
            let feeding = with_body.then(|| feed(&copy, 8));
            finished = poll_at_most(copy.deliver(&setting.worker), requests).await;
            if let Some(feeding) = feeding {
                feeding.await.unwrap();
            }
            requests += 1;
            assert!(requests < 1000, "it never ends");
            setting.assert_settled(requests as u64);
        }
        let delivered = setting.metrics().outcome_total(Outcome::Delivered);
        assert_eq!(
            (delivered, requests > 3),
            (1, true),
            "dropped {requests} times: {:?}",
            setting.outcomes()
        );
    }
}

#[tokio::test]
async fn every_end_of_a_copy_is_one_outcome() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (good, _read) = answering(OK).await;
    let (garbage, _read) = answering("SMTP ready\r\n\r\n").await;
    let (silent, _read) = answering("").await;
    for (address, expected) in [
        (good, Outcome::Delivered),
        (closed, Outcome::FailedConnect),
        (garbage, Outcome::FailedProtocol),
        (silent, Outcome::FailedTimeout),
    ] {
        let setting = Setting::new(address, |mirror| mirror.timeouts.total = Duration::from_millis(100));
        let copy = setting.offer(&head("/", &[]), Length::None, |_| {}).unwrap();
        assert_eq!(copy.deliver(&setting.worker).await.outcome, expected);
        setting.assert_settled(1);
    }
}

#[tokio::test]
async fn an_answer_that_does_not_begin_in_time_is_given_up() {
    let (silent, _read) = answering("").await;
    let setting = Setting::new(silent, |mirror| {
        mirror.timeouts.first_byte = Some(Duration::from_millis(20));
        mirror.timeouts.total = Duration::from_secs(3600);
    });
    let copy = setting.offer(&head("/", &[]), Length::None, |_| {}).unwrap();
    let delivery = copy.deliver(&setting.worker).await;
    assert_eq!(delivery.outcome, Outcome::FailedTimeout);
    assert_eq!(delivery.error.as_deref(), Some("no response within 20ms"));
}

#[tokio::test]
async fn each_reason_not_to_copy_is_counted_as_itself() {
    let (address, _read) = answering(OK).await;
    type Change = fn(&mut MirrorPlan);
    type Ask = fn(&mut Subject<'_>);
    let same: Ask = |_| {};
    let cases: [(Outcome, Change, Ask); 11] = [
        (Outcome::SkippedDraining, |_| {}, |subject| subject.draining = true),
        (Outcome::SkippedOverload, |_| {}, |subject| subject.overloaded = true),
        (Outcome::SkippedUpgrade, |_| {}, |subject| subject.upgrades = true),
        (Outcome::SkippedLoop, |_| {}, |subject| subject.hops = Some(1)),
        (Outcome::SkippedMethod, |mirror| mirror.methods = Some(vec![Method::GET]), same),
        (
            Outcome::SkippedSampledOut,
            |mirror| mirror.share.fraction = Fraction { numerator: 0, denominator: 1 },
            same,
        ),
        (
            Outcome::SkippedCondition,
            |mirror| {
                mirror.matches = vec![RouteMatch {
                    headers: vec![("x-a".parse().unwrap(), ValueMatch::Present)],
                    ..RouteMatch::default()
                }];
            },
            same,
        ),
        (
            Outcome::SkippedOversize,
            |mirror| (mirror.max_body, mirror.on_oversize) = (Some(9), Oversize::Skip),
            |subject| subject.length = Length::Exact(10),
        ),
        (Outcome::SkippedInFlight, |mirror| mirror.in_flight = 0, same),
        (Outcome::SkippedRate, |mirror| mirror.rate = Some(1), same),
        (Outcome::SkippedPaused, |_| {}, same),
    ];
    for (expected, change, ask) in cases {
        let setting = Setting::new(address, change);
        if expected == Outcome::SkippedPaused {
            setting.mirror().budget.dial().turn(dial::Order::Pause, Instant::now());
        }
        if expected == Outcome::SkippedRate {
            drop(setting.offer(&head("/", &[]), Length::None, same).expect("the first of a second"));
        }
        assert!(setting.offer(&head("/", &[]), Length::None, ask).is_none(), "{expected:?}");
        assert_eq!(setting.metrics().outcome_total(expected), 1, "{:?}", setting.outcomes());
        setting.assert_settled(if expected == Outcome::SkippedRate { 2 } else { 1 });
    }
}

#[tokio::test]
async fn a_full_worker_and_a_mirror_without_endpoints_skip() {
    let (address, _read) = answering(OK).await;
    let setting = Setting::new(address, |_| {});
    let full = setting.worker.copies().charge(crate::limits::MIRROR_BYTES_PER_WORKER).unwrap();
    assert!(setting.offer(&head("/", &[]), Length::Chunked, |_| {}).is_none());
    assert!(setting.offer(&head("/", &[]), Length::None, |_| {}).is_some(), "without a body it pins nothing");
    drop(full);
    setting.mirror().backend.publish(&[], Instant::now());
    assert!(setting.offer(&head("/", &[]), Length::None, |_| {}).is_none());
    assert_eq!(
        setting.outcomes(),
        [(Outcome::CutDraining, 1), (Outcome::SkippedBytes, 1), (Outcome::SkippedNoEndpoints, 1)]
    );
    setting.assert_settled(3);
}

#[tokio::test]
async fn what_cannot_be_reached_is_soon_not_tried() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let setting = Setting::new(closed, |_| {});
    let mut tried = 0;
    for _ in 0..100 {
        if let Some(copy) = setting.offer(&head("/", &[]), Length::None, |_| {}) {
            copy.deliver(&setting.worker).await;
            tried += 1;
        }
    }
    let skipped = setting.metrics().outcome_total(Outcome::SkippedBreaker);
    // A slow machine may see a probe or two become due.
    assert!((5..=10).contains(&tried) && skipped == 100 - tried, "{:?}", setting.outcomes());
    assert!(setting.mirror().budget.is_broken());
    setting.assert_settled(100);
}

#[tokio::test]
async fn a_copy_is_the_request_with_the_mirrors_edits() {
    let (address, mut read) = answering(OK).await;
    let setting = Setting::new(address, |mirror| {
        mirror.edits = CopyEdits {
            host: Some("next.internal".parse().unwrap()),
            path: Some(PathRewrite::Prefix("/next".into())),
            strip_credentials: true,
            ..CopyEdits::default()
        };
        mirror.edits.headers.set.push(("x-env".parse().unwrap(), "shadow".parse().unwrap()));
        mirror.edits.headers.remove.push("x-secret".parse().unwrap());
    });
    let fields = [
        ("authorization", "Bearer a"),
        ("proxy-authorization", "Basic b"),
        ("cookie", "c=d"),
        ("x-secret", "1"),
        ("x-kept", "1"),
        ("expect", "100-continue"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let parts = head("/api/x?q=1", &fields);
    let copy = setting.offer(&parts, Length::None, |subject| subject.prefix = "/api".len()).unwrap();
    assert_eq!(copy.deliver(&setting.worker).await.outcome, Outcome::Delivered);
    let sent = read.recv().await.unwrap();
    assert!(sent.starts_with("POST /next/x?q=1 HTTP/1.1\r\nhost: next.internal\r\n"), "{sent}");
    for part in ["x-kept: 1\r\n", "x-env: shadow\r\n", "x-mirrorgate-copy: 1\r\n", "x-mirrorgate-token: "] {
        assert!(sent.contains(part), "{part} in {sent}");
    }
    assert!(sent.contains("tracestate: mirrorgate=copy-of:b7ad6b7169203331\r\n"), "{sent}");
    for gone in ["authorization", "cookie", "x-secret", "expect", "-b7ad6b7169203331-"] {
        assert!(!sent.contains(gone), "{gone} in {sent}");
    }
    assert_eq!(parts.headers.len(), fields.len() + 2, "the primary's head is its own");
}

#[tokio::test]
async fn a_large_body_can_be_left_out_of_the_copy() {
    let (address, mut read) = answering(OK).await;
    let setting = Setting::new(address, |mirror| {
        (mirror.max_body, mirror.on_oversize) = (Some(1000), Oversize::HeadersOnly);
    });
    let parts = head("/", &[("content-length", "5000")]);
    let copy = setting.offer(&parts, Length::Exact(5000), |_| {}).unwrap();
    assert!(copy.reader().is_none());
    assert_eq!(copy.deliver(&setting.worker).await.outcome, Outcome::Delivered);
    let sent = read.recv().await.unwrap();
    assert!(
        sent.contains("content-length: 0\r\n") && sent.contains("x-mirrorgate-omitted-body: 5000\r\n"),
        "{sent}"
    );
    assert_eq!(setting.metrics().omitted_bodies_total(), 1);
    let small = setting.offer(&head("/", &[]), Length::Exact(1000), |_| {}).unwrap();
    assert!(small.reader().is_some());
}

#[tokio::test]
async fn answers_are_compared_whichever_comes_first() {
    let (address, _read) = answering("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await;
    let setting = Setting::new(address, |_| {});
    for primary_first in [true, false] {
        let copy = setting.offer(&head("/", &[]), Length::None, |_| {}).unwrap();
        let pair = copy.pair().clone();
        let primary = || pair.answered(Lane::Primary, http::StatusCode::OK, WorkerId(0));
        if primary_first {
            primary();
        }
        copy.deliver(&setting.worker).await;
        if !primary_first {
            primary();
        }
    }
    assert_eq!(setting.metrics().worse_total(), 2);
    assert_eq!(setting.mirror().budget.reading().errors, 2);
    for lane in Lane::ALL {
        assert_eq!(setting.metrics().answer_quantiles(lane, [0.5]).unwrap().1, 2);
    }
}

#[tokio::test]
async fn the_same_key_is_always_in_or_always_out() {
    let (address, _read) = answering(OK).await;
    let percent =
        |numerator| SharePlan { fraction: Fraction { numerator, denominator: 100 }, ..SharePlan::default() };
    let setting = |share| {
        Setting::new(address, |mirror| {
            mirror.sample_by = Some(SampleKey::Header("x-user".parse().unwrap()));
            mirror.share = percent(share);
            mirror.in_flight = usize::MAX;
        })
    };
    let (five, ten) = (setting(5), setting(10));
    let mut inside = [0; 2];
    for user in 0..400 {
        let parts = head("/", &[("x-user", &format!("user-{user}"))]);
        let asked = |setting: &Setting| setting.offer(&parts, Length::None, |_| {}).is_some();
        let first = [asked(&five), asked(&ten)];
        assert_eq!(first, [asked(&five), asked(&ten)], "user {user}");
        assert!(!first[0] || first[1], "user {user} is in at 5 % and not at 10 %");
        inside.iter_mut().zip(first).for_each(|(count, is_in)| *count += usize::from(is_in));
    }
    assert!(inside[0] > 5 && inside[0] < inside[1] && inside[1] < 80, "{inside:?}");
}

#[tokio::test]
async fn a_reload_keeps_counts_and_what_was_dialled() {
    let (address, _read) = answering(OK).await;
    let mut setting = Setting::new(address, |_| {});
    drop(setting.offer(&head("/", &[]), Length::None, |_| {}));
    setting.mirror().budget.dial().turn(dial::Order::Pause, Instant::now());
    setting.reload(|mirror| mirror.rate = Some(1000));
    assert!(setting.offer(&head("/", &[]), Length::None, |_| {}).is_none());
    assert_eq!(setting.outcomes(), [(Outcome::CutDraining, 1), (Outcome::SkippedPaused, 1)]);
    setting.reload(|mirror| mirror.share.fraction = Fraction { numerator: 99, denominator: 100 });
    assert_eq!(setting.mirror().budget.dial().view(Instant::now()).state, dial::DialState::Active);
}

#[tokio::test]
async fn a_copy_that_comes_back_is_known_by_its_token() {
    let (address, mut read) = answering(OK).await;
    let setting = Setting::new(address, |_| {});
    setting.offer(&head("/", &[]), Length::None, |_| {}).unwrap().deliver(&setting.worker).await;
    let sent = read.recv().await.unwrap();
    let field = |name: &str| {
        let line = sent.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    };
    let come_back = |fields: &[(&'static str, String)]| {
        let mut headers = HeaderMap::new();
        headers.insert("host", "a".parse().unwrap());
        for (name, value) in fields {
            headers.insert(*name, value.parse().unwrap());
        }
        let mut parts = Request::get("/").body(()).unwrap().into_parts().0;
        parts.headers = headers;
        let client = crate::proxy::sanitize::ClientInfo::new("10.0.0.1:1".parse().unwrap(), false);
        let trust = setting.table.trust();
        let target = crate::proxy::sanitize::inbound(&mut parts, &client, trust, || [1, 2]).unwrap();
        target.copy_hops.is_some() || (target.copy_token && setting.table.guard().knows(&parts.headers))
    };
    let token = ("x-mirrorgate-token", field("x-mirrorgate-token"));
    let marker = ("x-mirrorgate-copy", field("x-mirrorgate-copy"));
    assert!(come_back(&[marker.clone(), token.clone()]));
    assert!(come_back(std::slice::from_ref(&token)), "a gateway between took the marker away");
    assert!(!come_back(&[marker]), "anybody can send a marker");
    assert!(!come_back(&[("x-mirrorgate-token", "0".repeat(32))]));
}

/// A seeded run of requests and endings against the budget: whatever comes, there are never more in
/// flight than allowed, a broken mirror has one probe at a time, and the counts add up.
#[tokio::test]
async fn any_course_of_events_keeps_the_bounds() {
    let (address, _read) = answering(OK).await;
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let limit = random.usize(1..8);
        let setting = Setting::new(address, |mirror| mirror.in_flight = limit);
        let mut flying: Vec<(Permit, bool)> = Vec::new();
        let mut offered = 0;
        for _ in 0..200 {
            if random.bool() {
                offered += 1;
                let budget = &setting.mirror().budget;
                let broken = budget.is_broken();
                budget.metrics().offered(WorkerId(0));
                match budget.admit(WorkerId(0)) {
                    Ok(permit) => flying.push((permit, broken)),
                    Err(outcome) => budget.skipped(WorkerId(0), outcome),
                }
            } else if !flying.is_empty() {
                let (permit, _) = flying.swap_remove(random.usize(..flying.len()));
                match random.u8(..8) {
                    0 => permit.end(Outcome::Delivered),
                    1 => permit.end(Outcome::FailedTimeout),
                    2 => drop(permit),
                    _ => permit.end(Outcome::FailedConnect),
                }
            }
            assert!(flying.len() <= limit, "seed {seed}");
            assert_eq!(setting.metrics().in_flight.load(Ordering::Relaxed), flying.len(), "seed {seed}");
            assert_eq!(setting.metrics().accounting_error(), 0, "seed {seed}");
            let probes = flying.iter().filter(|(_, probe)| *probe).count();
            assert!(!setting.mirror().budget.is_broken() || probes <= 1, "seed {seed}: {probes} probes");
        }
        flying.clear();
        setting.assert_settled(offered);
    }
}
