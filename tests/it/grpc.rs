//! gRPC by tonic on both sides: every kind of call goes through and is mirrored, message for message,
//! with its deadline and its status. Messages are bytes; there is nothing to generate.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt, stream};
use http::uri::PathAndQuery;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Response, Status, Streaming};
use tower_service::Service;

use crate::harness::{Gateway, Upstream, eventually, gateway, within};

/// Messages as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(input.copy_to_bytes(input.remaining())))
    }
}

/// Calls as a server has received them: the method, each message, and whether they ended in order.
type Calls = Arc<Mutex<Vec<(String, Vec<Bytes>, bool)>>>;

struct Server {
    address: SocketAddr,
    calls: Calls,
}

/// A method of the service.
#[derive(Clone)]
struct Method {
    path: String,
    calls: Calls,
}

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
type Answer = Pin<Box<dyn Future<Output = Result<Response<Messages>, Status>> + Send>>;

impl Service<Request<Streaming<Bytes>>> for Method {
    type Response = Response<Messages>;
    type Error = Status;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Answer {
        let Self { path, calls } = self.clone();
        let answered = request.metadata().get("x-asked").cloned();
        let mut asked = request.into_inner();
        Box::pin(async move {
            let number = {
                let mut calls = calls.lock().unwrap();
                calls.push((path.clone(), Vec::new(), false));
                calls.len() - 1
            };
            let heard = calls.clone();
            let hear = move |message: &Bytes| heard.lock().unwrap()[number].1.push(message.clone());
            let over = move || calls.lock().unwrap()[number].2 = true;
            let messages: Messages = match path.rsplit('/').next().unwrap() {
                // Answers each message as it comes.
                "Talk" => Box::pin(stream::unfold(asked, move |mut asked| {
                    let (hear, over) = (hear.clone(), over.clone());
                    async move {
                        match asked.message().await {
                            Ok(Some(message)) => {
                                hear(&message);
                                Some((Ok([&b"re: "[..], &message].concat().into()), asked))
                            }
                            Ok(None) => {
                                over();
                                None
                            }
                            Err(status) => Some((Err(status), asked)),
                        }
                    }
                })),
                // Answers at length, whatever comes, and ends with what it is asked.
                "Shout" => {
                    let asking = tokio::spawn(async move {
                        while let Ok(Some(message)) = asked.message().await {
                            hear(&message);
                        }
                        over();
                    });
                    let much = stream::iter((0..100).map(|_| Ok(Bytes::from_static(&[b'!'; 10_000]))));
                    Box::pin(
                        much.chain(
                            stream::once(async { asking.await.map(|()| Bytes::new()) })
                                .map(|last| last.map_err(|error| Status::internal(error.to_string()))),
                        ),
                    )
                }
                "Hang" => std::future::pending().await,
                name => {
                    let mut all = Vec::new();
                    while let Some(message) = asked.message().await? {
                        hear(&message);
                        all.push(message);
                    }
                    over();
                    match name {
                        "Refuse" => return Err(Status::failed_precondition("not today: 100 % né")),
                        "Break" => {
                            Box::pin(stream::iter([Ok(all.concat().into()), Err(Status::data_loss("gone"))]))
                        }
                        // As many as the first message is long.
                        "Count" => {
                            Box::pin(stream::iter((0..all[0].len()).map(|at| Ok(at.to_string().into()))))
                        }
                        _ => Box::pin(stream::iter([Ok(all.concat().into())])),
                    }
                }
            };
            let mut response = Response::new(messages);
            if let Some(value) = answered {
                response.metadata_mut().insert("x-answered", value);
            }
            Ok(response)
        })
    }
}

impl Server {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Calls::default();
        let shared = calls.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let calls = shared.clone();
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let method = Method { path: request.uri().path().to_owned(), calls: calls.clone() };
                    async move {
                        Ok::<_, Infallible>(tonic::server::Grpc::new(Raw).streaming(method, request).await)
                    }
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(async move { server.serve_connection(TokioIo::new(stream), service).await });
            }
        });
        Self { address, calls }
    }

    /// Waits until all of `count` calls have ended.
    async fn ended(&self, count: usize) -> Vec<(String, Vec<Bytes>, bool)> {
        eventually("the calls ended", || {
            let calls = self.calls.lock().unwrap();
            calls.len() == count && calls.iter().all(|(_, _, over)| *over)
        })
        .await;
        self.calls.lock().unwrap().clone()
    }
}

/// A connection to the gateway.
#[derive(Clone)]
struct Connection(SendRequest<Body>);

impl Service<http::Request<Body>> for Connection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let target = format!("http://shop.test{}", request.uri().path());
        *request.uri_mut() = target.parse().unwrap();
        Box::pin(self.0.send_request(request))
    }
}

type Client = tonic::client::Grpc<Connection>;

async fn client(gateway: &Gateway) -> Client {
    let stream = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = Client::new(Connection(sender));
    client.ready().await.unwrap();
    client
}

fn path(method: &str) -> PathAndQuery {
    format!("/shop.v1.Cart/{method}").parse().unwrap()
}

fn messages(count: usize) -> Vec<Bytes> {
    (0..count).map(|at| crate::harness::noise(at as u64, at * 7001 % 50_000).into()).collect()
}

async fn scene() -> (Server, Server, Gateway) {
    let (primary, mirror) = (Server::new().await, Server::new().await);
    let gateway = gateway(&format!(
        "routes: [{{ name: cart, backend: 'h2c://{}', mirrors: [{{ backend: 'h2c://{}', budget: {{ lag: 16MiB }} }}] }}]",
        primary.address, mirror.address
    ))
    .await;
    (primary, mirror, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_call_goes_through_and_is_mirrored_message_for_message() {
    let (primary, mirror, gateway) = scene().await;
    let mut client = client(&gateway).await;

    let mut request = Request::new(Bytes::from_static(b"one"));
    request.metadata_mut().insert("x-asked", "yes".parse().unwrap());
    let response = within("unary", client.unary(request, path("Join"), Raw)).await.unwrap();
    assert_eq!(response.metadata().get("x-answered").unwrap(), "yes");
    assert_eq!(response.into_inner(), "one");

    let request = Request::new(Bytes::from(vec![b'x'; 1000]));
    let response = within("a stream", client.server_streaming(request, path("Count"), Raw)).await.unwrap();
    let counted: Vec<_> = response.into_inner().map(|message| message.unwrap()).collect().await;
    assert_eq!(counted, (0..1000).map(|at| Bytes::from(at.to_string())).collect::<Vec<_>>());

    let request = Request::new(stream::iter(messages(40)));
    let response = within("an upload", client.client_streaming(request, path("Join"), Raw)).await.unwrap();
    assert_eq!(response.into_inner(), messages(40).concat());

    // Each message is sent only once the one before it was answered.
    let (say, said) = tokio::sync::mpsc::channel(1);
    let said = stream::unfold(said, |mut said| async { said.recv().await.map(|message| (message, said)) });
    say.send(Bytes::from_static(b"hello")).await.unwrap();
    let response = within("a talk", client.streaming(Request::new(said), path("Talk"), Raw)).await.unwrap();
    let mut answers = response.into_inner();
    for message in messages(20) {
        assert!(within("an answer", answers.message()).await.unwrap().unwrap().starts_with(b"re: "));
        say.send(message).await.unwrap();
    }
    drop(say);
    assert_eq!(answers.message().await.unwrap().unwrap(), [&b"re: "[..], &messages(20)[19]].concat());
    assert_eq!(answers.message().await.unwrap(), None);

    gateway.outcome("delivered", 4).await;
    let got = primary.ended(4).await;
    assert_eq!(got.iter().map(|(_, messages, _)| messages.len()).collect::<Vec<_>>(), [1, 1, 40, 21]);
    assert_eq!(got, mirror.ended(4).await, "message for message");
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_come_from_the_backend_or_say_what_the_gateway_says() {
    let (_primary, _mirror, gateway) = scene().await;
    let mut client = client(&gateway).await;
    let ask = || Request::new(Bytes::from_static(b"x"));

    let refused = client.unary(ask(), path("Refuse"), Raw).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, "not today: 100 % né"));

    let mut broken = client.server_streaming(ask(), path("Break"), Raw).await.unwrap().into_inner();
    assert_eq!(broken.message().await.unwrap().unwrap(), "x");
    let broken = broken.message().await.unwrap_err();
    assert_eq!((broken.code(), broken.message()), (Code::DataLoss, "gone"));

    let mut request = ask();
    request.set_timeout(Duration::from_millis(200));
    let late = within("a deadline", client.unary(request, path("Hang"), Raw)).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");

    let nobody = Upstream::nobody().await;
    let empty = crate::harness::gateway(&format!("routes: [{{ backend: 'h2c://{nobody}' }}]")).await;
    let gone = self::client(&empty).await.unary(ask(), path("Join"), Raw).await.unwrap_err();
    assert_eq!(gone.code(), Code::Unavailable, "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_answers_at_length_gets_every_message() {
    let (primary, mirror, gateway) = scene().await;
    let mut client = client(&gateway).await;

    // An echo that is behind when the last message was written.
    let asked = || messages(300);
    let response = client.streaming(Request::new(stream::iter(asked())), path("Talk"), Raw).await.unwrap();
    assert_eq!(response.into_inner().count().await, 300);
    assert!(mirror.ended(1).await == primary.ended(1).await);

    // A megabyte that nobody has asked for, ahead of the messages.
    let (say, said) = tokio::sync::mpsc::channel(1);
    let said = stream::unfold(said, |mut said| async { said.recv().await.map(|message| (message, said)) });
    let response = client.streaming(Request::new(said), path("Shout"), Raw).await.unwrap();
    let mut answers = response.into_inner();
    for _ in 0..100 {
        answers.message().await.unwrap();
    }
    for _ in 0..20 {
        say.send(Bytes::from_static(&[b'?'; 300_000])).await.unwrap();
    }
    drop(say);
    assert_eq!(answers.count().await, 1);
    assert!(mirror.ended(2).await == primary.ended(2).await);
    gateway.outcome("delivered", 2).await;
    gateway.counts("mirrorgate_mirror_unread_answers_total", &[], 1.0).await;
}
