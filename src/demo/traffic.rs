//! The clients: a steady stream of requests of several kinds, each with its answer checked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::latency::Latency;
use super::ledger::Digest;
use crate::limits;

/// The number of a request, by which primary and copy are found to belong together.
pub(super) const NUMBER: HeaderName = HeaderName::from_static("x-demo-number");
/// The digest of the body that a service got, which the client compares with what it sent.
pub(super) const BODY_DIGEST: HeaderName = HeaderName::from_static("x-demo-body-digest");

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What the clients saw.
pub(super) struct Seen {
    next: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<String>>,
    /// Whether the mirror is in trouble, so that the primary's latency can be told apart by it.
    pub(super) trouble: AtomicBool,
    /// Since the last look.
    pub(super) recent: Latency,
    /// While the mirror was well.
    pub(super) calm: Latency,
    /// While it was slow, dead or gone.
    pub(super) troubled: Latency,
}

impl Seen {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            next: AtomicU64::new(1),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            first_failure: Mutex::default(),
            trouble: AtomicBool::new(false),
            recent: Latency::new(),
            calm: Latency::new(),
            troubled: Latency::new(),
        })
    }

    /// Requests that were answered as they should be, and those that were not.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.answered.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// What the first failure was.
    pub(super) fn first_failure(&self) -> Option<String> {
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ended(&self, began: Instant, trouble: bool, result: Result<(), String>) {
        let took = began.elapsed();
        self.recent.observe(took);
        if trouble { &self.troubled } else { &self.calm }.observe(took);
        match result {
            Ok(()) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let mut first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(error);
            }
        }
    }
}

/// Sends requests to `gateway` until `stop`; ends when the last is answered.
pub(super) async fn run(gateway: SocketAddr, seen: Arc<Seen>, stop: watch::Receiver<bool>) {
    let mut clients = JoinSet::new();
    for _ in 0..limits::DEMO_CLIENTS {
        clients.spawn(client(gateway, seen.clone(), stop.clone()));
    }
    while clients.join_next().await.is_some() {}
}

async fn client(gateway: SocketAddr, seen: Arc<Seen>, mut stop: watch::Receiver<bool>) {
    let period = Duration::from_secs(limits::DEMO_CLIENTS) / limits::DEMO_REQUESTS_PER_SECOND;
    let mut turns = interval(period);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    loop {
        tokio::select! {
            _ = turns.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let number = seen.next.fetch_add(1, Ordering::Relaxed);
        let trouble = seen.trouble.load(Ordering::Relaxed);
        let (request, digest) = request(gateway, number);
        let began = Instant::now();
        let result = ask(gateway, &mut connection, request, digest).await;
        if result.is_err() {
            connection = None;
        }
        seen.ended(began, trouble, result);
    }
}

/// Sends a request and checks the answer; the error is for people.
async fn ask(
    gateway: SocketAddr,
    connection: &mut Option<SendRequest<Body>>,
    request: Request<Body>,
    digest: Digest,
) -> Result<(), String> {
    let line = format!("{} {}", request.method(), request.uri());
    let failed = |what: &dyn std::fmt::Display| format!("{line}: {what}");
    let sender = match connection {
        Some(sender) if !sender.is_closed() => sender,
        _ => connection.insert(connect(gateway).await.map_err(|error| failed(&error))?),
    };
    sender.ready().await.map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
    if head.status != StatusCode::OK {
        return Err(failed(&format!("{}: {}", head.status, String::from_utf8_lossy(&body))));
    }
    let received = head.headers.get(&BODY_DIGEST).map(http::HeaderValue::as_bytes);
    if received != Some(digest.hex().as_bytes()) {
        return Err(failed(&"the service got another body"));
    }
    Ok(())
}

async fn connect(gateway: SocketAddr) -> Result<SendRequest<Body>, String> {
    let stream = TcpStream::connect(gateway).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends with its sender, of which each client has one.
    tokio::spawn(connection);
    Ok(sender)
}

/// Request `number`: of ten, six without a body, three with a small one whose length is known, and
/// one with a large one sent in chunks.
fn request(gateway: SocketAddr, number: u64) -> (Request<Body>, Digest) {
    let (method, bytes) = match number % 10 {
        0 => (Method::PUT, 64 * 1024 + number as usize % 65_536),
        1..4 => (Method::POST, 20 + number as usize % 2_000),
        _ => (Method::GET, 0),
    };
    let bytes = Bytes::from(noise(number, bytes));
    let digest = Digest::new().add(&bytes);
    let body = match bytes.len() {
        0 => Empty::new().boxed_unsync(),
        small if small < 4096 => Full::new(bytes).boxed_unsync(),
        _ => {
            let pieces: Vec<_> = (0..bytes.len())
                .step_by(PIECE)
                .map(|start| Ok(Frame::data(bytes.slice(start..bytes.len().min(start + PIECE)))))
                .collect();
            StreamBody::new(stream::iter(pieces)).boxed_unsync()
        }
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    if let Ok(target) = format!("/items/{number}?page={}", number % 7).parse() {
        *request.uri_mut() = target;
    }
    for (name, value) in [(http::header::HOST, gateway.to_string()), (NUMBER, number.to_string())] {
        if let Ok(value) = value.parse() {
            request.headers_mut().insert(name, value);
        }
    }
    (request, digest)
}

/// Bytes of one chunk of a large body.
const PIECE: usize = 16 * 1024;

/// Bytes that differ from request to request.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}
