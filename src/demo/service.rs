//! The two services behind the gateway, each with several endpoints that come and go.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::ledger::{Digest, Ledger};
use super::traffic::{BODY_DIGEST, NUMBER};
use crate::limits;
use crate::shard::Lane;
use crate::upstream::registry::BackendRef;

/// What all endpoints of one service share.
pub(super) struct Service {
    lane: Lane,
    ledger: Arc<Ledger>,
    received: AtomicU64,
    bytes: AtomicU64,
    broken_off: AtomicU64,
    /// Milliseconds that it takes to answer.
    delay: AtomicU64,
}

/// The endpoints of one service and the file that names them.
pub(super) struct Fleet {
    service: Arc<Service>,
    file: PathBuf,
    endpoints: Vec<Endpoint>,
}

/// One address of a service. Dropped, it leaves: it finishes what it has and takes no more.
struct Endpoint {
    address: SocketAddr,
    leave: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// A set of endpoints that came into use.
pub(super) struct Published {
    /// From the moment before the file was replaced to the moment the gateway used what it says.
    pub(super) after: Duration,
    /// Its number.
    pub(super) generation: u64,
}

/// How long an endpoint goes on after it was taken out of the file.
const GRACE: Duration = Duration::from_millis(500);

impl Service {
    pub(super) fn new(lane: Lane, ledger: Arc<Ledger>) -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        let (received, bytes, broken_off, delay) = (zero(), zero(), zero(), zero());
        Arc::new(Self { lane, ledger, received, bytes, broken_off, delay })
    }

    /// Requests that came whole, bytes of their bodies, and requests that broke off.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.received), read(&self.bytes), read(&self.broken_off))
    }

    /// Makes every answer take `delay` from now on.
    pub(super) fn answer_after(&self, delay: Duration) {
        self.delay.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    async fn answer(
        self: Arc<Self>,
        endpoint: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, mut body) = request.into_parts();
        let (mut digest, mut length) = (Digest::new(), 0);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                self.broken_off.fetch_add(1, Ordering::Relaxed);
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::BAD_REQUEST;
                return Ok(response);
            };
            if let Some(data) = frame.data_ref() {
                digest = digest.add(data);
                length += data.len() as u64;
            }
        }
        self.received.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(length, Ordering::Relaxed);
        let number = head.headers.get(&NUMBER).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(number) = number {
            self.ledger.saw(self.lane, number, Digest::of(&head, digest));
        }
        let delay = Duration::from_millis(self.delay.load(Ordering::Relaxed));
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let text = format!(
            "{{\"answered_by\":\"{}\",\"endpoint\":\"{endpoint}\",\"body_bytes\":{length}}}\n",
            self.lane.as_str()
        );
        let mut response = Response::new(Full::new(Bytes::from(text)));
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
        if let Ok(digest) = digest.hex().parse() {
            response.headers_mut().insert(BODY_DIGEST, digest);
        }
        Ok(response)
    }
}

impl Fleet {
    /// `count` endpoints of `service`, named in `file`.
    pub(super) async fn start(service: Arc<Service>, file: PathBuf, count: usize) -> io::Result<Self> {
        let mut fleet = Self { service, file, endpoints: Vec::new() };
        fleet.open(count).await?;
        write(&fleet.file, &fleet.addresses())?;
        Ok(fleet)
    }

    /// Where its endpoints listen.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().map(|endpoint| endpoint.address).collect()
    }

    /// The service that it serves.
    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    /// Moves the first `count` endpoints to other ports, as a deployment does it: the new ones run,
    /// the file is replaced, the old ones finish what is on its way to them and go.
    pub(super) async fn replace(&mut self, count: usize, backend: &BackendRef) -> io::Result<Published> {
        let stay = self.endpoints.split_off(count.min(self.endpoints.len()));
        let old = std::mem::replace(&mut self.endpoints, stay);
        self.open(count).await?;
        let published = self.publish(backend).await?;
        // No service can tell a connection that is idle from one that a request is about to arrive on.
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            drop(old);
        });
        Ok(published)
    }

    /// Kills the first `count` endpoints without a word to anybody: their connections break, the
    /// file goes on naming them.
    pub(super) fn kill(&mut self, count: usize) {
        for endpoint in self.endpoints.drain(..count.min(self.endpoints.len())) {
            endpoint.task.abort();
        }
    }

    /// Runs `count` more endpoints, and names all that live in the file.
    pub(super) async fn grow(&mut self, count: usize, backend: &BackendRef) -> io::Result<Published> {
        self.open(count).await?;
        self.publish(backend).await
    }

    /// Names all that live in the file, and waits until the gateway uses it.
    pub(super) async fn publish(&self, backend: &BackendRef) -> io::Result<Published> {
        let before = backend.endpoints().generation();
        let mut revision = backend.revision();
        let begun = Instant::now();
        write(&self.file, &self.addresses())?;
        let used = async {
            while backend.endpoints().generation() == before {
                // An error would mean that the backend is gone, and we hold it.
                let _changed = revision.changed().await;
            }
        };
        match tokio::time::timeout(limits::READY_PATIENCE, used).await {
            Ok(()) => Ok(Published { after: begun.elapsed(), generation: backend.endpoints().generation() }),
            Err(_) => Err(io::Error::other("the gateway does not use the new endpoints")),
        }
    }

    async fn open(&mut self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            let leave = watch::Sender::new(false);
            let task = tokio::spawn(serve(listener, address, self.service.clone(), leave.subscribe()));
            self.endpoints.push(Endpoint { address, leave, task });
        }
        Ok(())
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.leave.send_replace(true);
    }
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    service: Arc<Service>,
    mut leave: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < limits::DEMO_CONNECTIONS => {
                let Ok((stream, _)) = accepted else { break };
                connections.spawn(connection(stream, address, service.clone(), leave.clone()));
            }
            Some(_) = connections.join_next() => {}
            () = told(&mut leave) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    service: Arc<Service>,
    mut leave: watch::Receiver<bool>,
) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let answers = service_fn(move |request| service.clone().answer(address, request));
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), answers));
    // Whoever closed it knows why.
    let _ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut leave) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}

async fn told(leave: &mut watch::Receiver<bool>) {
    // An error means that the endpoint was dropped, which is the same.
    drop(leave.wait_for(|leave| *leave).await);
}

/// Replaces the endpoint file at once: whoever reads it finds the old list or the new one.
fn write(file: &Path, addresses: &[SocketAddr]) -> io::Result<()> {
    let list: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    let next = file.with_extension("next");
    std::fs::write(&next, format!("endpoints: [{}]\n", list.join(", ")))?;
    std::fs::rename(next, file)
}
