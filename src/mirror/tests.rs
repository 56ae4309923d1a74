//! The laws of mirroring, against real sockets: one outcome for each request, nothing kept, whatever
//! happens to a copy and whenever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod delivery;
mod reasons;
mod simulation;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::tee::Tee;
use super::*;
use crate::discovery::source::{EndpointSpec, SourceSpec};
use crate::plan::{
    AccessLogPlan, BackendSpec, MirrorPlan, Plan, Protocol, RouteAction, RoutePlan, Timeouts, WeightedBackend,
};
use crate::routing::filter::Filters;
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
