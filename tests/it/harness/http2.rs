//! HTTP/2 with prior knowledge, both ends. Frames are hyper's business; what a test sees are heads,
//! bodies, trailers and how a stream ended.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{eventually, within};

type Sent = BoxBody<Bytes, Infallible>;

/// A client's connection.
pub struct H2Client {
    sender: SendRequest<Sent>,
    connection: JoinHandle<()>,
}

/// A message as it came: head, body, trailers.
#[derive(Debug)]
pub struct H2Seen<P> {
    pub parts: P,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    /// False when the stream was reset.
    pub complete: bool,
    /// By this code.
    pub reset: Option<h2::Reason>,
}

/// A server that answers all requests alike.
pub struct H2Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Arc<H2Seen<http::request::Parts>>>>>,
    connections: Arc<std::sync::atomic::AtomicUsize>,
    begun: Arc<std::sync::atomic::AtomicUsize>,
    accepting: JoinHandle<()>,
}

/// A body of `pieces`, and trailers where there are any.
fn body(pieces: Vec<Vec<u8>>, trailers: &[(&'static str, &'static str)]) -> Sent {
    if pieces.is_empty() && trailers.is_empty() {
        return BodyExt::boxed(http_body_util::Empty::new());
    }
    let mut frames: Vec<Result<Frame<Bytes>, Infallible>> =
        pieces.into_iter().map(|piece| Ok(Frame::data(piece.into()))).collect();
    if !trailers.is_empty() {
        frames.push(Ok(Frame::trailers(map(trailers))));
    }
    BodyExt::boxed(StreamBody::new(stream::iter(frames)))
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    fields.iter().map(field).collect()
}

async fn seen<P>(parts: P, mut incoming: Incoming) -> H2Seen<P> {
    let mut seen = H2Seen { parts, body: Vec::new(), trailers: None, complete: true, reset: None };
    while let Some(frame) = incoming.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => seen.body.extend_from_slice(&data),
            Ok(Err(frame)) => seen.trailers = frame.into_trailers().ok(),
            Err(error) => {
                seen.complete = false;
                let source = std::error::Error::source(&error);
                let source = source.and_then(|error| error.downcast_ref::<h2::Error>());
                seen.reset = source.and_then(h2::Error::reason);
                break;
            }
        }
    }
    seen
}

impl H2Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = within("an HTTP/2 connection", handshake).await.unwrap();
        let connection = tokio::spawn(async move {
            let _ended = connection.await;
        });
        Self { sender, connection }
    }

    /// Sends a request with the beginning of a body, and resets its stream once `begun`.
    pub async fn begin_and_reset(&mut self, request: http::request::Builder, begun: impl FnMut() -> bool) {
        let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"begin")))]);
        let body = StreamBody::new(futures_util::StreamExt::chain(first, stream::pending()));
        let response = self.sender.send_request(request.body(BodyExt::boxed(body)).unwrap());
        // A response that nobody waits for any more resets its stream.
        tokio::select! {
            _ = response => panic!("an answer to half a request"),
            () = eventually("the request begun", begun) => {}
        }
    }

    /// Sends a request; the whole response, or the error of the stream.
    pub async fn ask(
        &mut self,
        request: http::request::Builder,
        pieces: Vec<Vec<u8>>,
        trailers: &[(&'static str, &'static str)],
    ) -> Result<H2Seen<http::response::Parts>, hyper::Error> {
        let request = request.body(body(pieces, trailers)).unwrap();
        let response = within("a response", self.sender.send_request(request)).await?;
        let (parts, incoming) = response.into_parts();
        Ok(within("a response's end", seen(parts, incoming)).await)
    }
}

impl Drop for H2Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl H2Upstream {
    /// Answers with 200, `text` and `trailers`.
    pub async fn saying(text: &'static str, trailers: &'static [(&'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let all = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let begun = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (log, count, heads) = (all.clone(), connections.clone(), begun.clone());
        let accepting = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let (log, heads) = (log.clone(), heads.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    heads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let log = log.clone();
                    async move {
                        let (parts, incoming) = request.into_parts();
                        let request = Arc::new(seen(parts, incoming).await);
                        log.lock().unwrap().push(request);
                        Ok::<_, Infallible>(Response::new(body(vec![text.into()], trailers)))
                    }
                });
                tasks.spawn(async move {
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ended = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, seen: all, connections, begun, accepting }
    }

    /// Waits for `count` requests.
    pub async fn received(&self, count: usize) -> Vec<Arc<H2Seen<http::request::Parts>>> {
        eventually("requests received", || self.seen.lock().unwrap().len() >= count).await;
        self.seen.lock().unwrap().clone()
    }

    /// Heads of requests received so far, whatever became of their bodies.
    pub fn begun(&self) -> usize {
        self.begun.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl Drop for H2Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
