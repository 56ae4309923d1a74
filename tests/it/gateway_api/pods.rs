//! The pods of the suite: echo servers of HTTP, gRPC and TCP, in plain text and under TLS. Each has an
//! address of its own on loopback, with the ports that its containers have.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// What a pod's containers do.
#[derive(Clone)]
pub enum Kind {
    /// HTTP/1.1 on 3000, HTTP/2 on 3001, HTTP/1.1 under TLS on 8443.
    Http(Option<Arc<rustls::ServerConfig>>),
    /// gRPC on 3000.
    Grpc,
    /// Lines on 3000, and under TLS on 8443.
    Lines(Arc<rustls::ServerConfig>),
}

/// One pod. Ends when dropped.
pub struct Pod {
    pub address: Ipv4Addr,
    /// What it was asked, as it answered.
    pub log: Arc<Mutex<Vec<Value>>>,
    _serving: JoinSet<()>,
}

#[derive(Clone)]
struct Container {
    namespace: String,
    pod: String,
    log: Arc<Mutex<Vec<Value>>>,
    /// How often each retried request was seen.
    tries: Arc<Mutex<HashMap<String, u32>>>,
}

/// What a connection's TLS says, null without it.
type Facts = Arc<Value>;
type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

impl Pod {
    pub async fn start(namespace: &str, app: &str, address: Ipv4Addr, kind: Kind) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let container = Container {
            namespace: namespace.to_owned(),
            pod: format!("{app}-{}", address.octets()[3]),
            log: log.clone(),
            tries: Arc::default(),
        };
        let mut serving = JoinSet::new();
        match kind {
            Kind::Http(tls) => {
                serve(&mut serving, address, 3000, None, container.clone(), http1).await;
                serve(&mut serving, address, 3001, None, container.clone(), http2).await;
                if tls.is_some() {
                    serve(&mut serving, address, 8443, tls, container, http1).await;
                }
            }
            Kind::Grpc => serve(&mut serving, address, 3000, None, container, http2).await,
            Kind::Lines(tls) => {
                serve(&mut serving, address, 3000, None, container.clone(), lines).await;
                serve(&mut serving, address, 8443, Some(tls), container, lines).await;
            }
        }
        Self { address, log, _serving: serving }
    }
}

/// A byte stream, whatever lies under it.
trait Bytestream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytestream for T {}
type Stream = Box<dyn Bytestream>;

async fn serve<F>(
    serving: &mut JoinSet<()>,
    address: Ipv4Addr,
    port: u16,
    tls: Option<Arc<rustls::ServerConfig>>,
    container: Container,
    speak: impl Fn(Container, Stream, Facts) -> F + Copy + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(SocketAddr::from((address, port))).await.unwrap();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (container, tls) = (container.clone(), tls.clone());
            connections.spawn(async move {
                match tls {
                    None => speak(container, Box::new(stream), Arc::new(Value::Null)).await,
                    Some(tls) => {
                        let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                        let session = stream.get_ref().1;
                        let client = session.peer_certificates().map(|chain| chain[0].to_vec());
                        let facts = json!({ "serverName": session.server_name(), "client": client });
                        speak(container, Box::new(stream), Arc::new(facts)).await;
                    }
                }
            });
        }
    });
}

async fn http1(container: Container, stream: Stream, tls: Facts) {
    let service = service_fn(move |request| answer(container.clone(), request, tls.clone()));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ended = connection.with_upgrades().await;
}

async fn http2(container: Container, stream: Stream, tls: Facts) {
    let service = service_fn(move |request| answer(container.clone(), request, tls.clone()));
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ended = server.serve_connection(TokioIo::new(stream), service).await;
}

/// Says who it is before anybody asks, and answers each line with who got it.
async fn lines(container: Container, stream: Stream, tls: Facts) {
    let mut stream = BufReader::new(stream);
    let mut said =
        json!({ "pod": container.pod, "namespace": container.namespace, "tls": *tls, "line": null });
    let mut line = String::new();
    while stream.write_all(format!("{said}\n").as_bytes()).await.is_ok()
        && stream.read_line(&mut line).await.is_ok_and(|length| length > 0)
    {
        said["line"] = line.trim().into();
        line.clear();
    }
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    BodyExt::boxed(http_body_util::Full::new(bytes.into()))
}

async fn answer(
    container: Container,
    mut request: Request<Incoming>,
    tls: Facts,
) -> Result<Response<Body>, std::convert::Infallible> {
    let query: HashMap<String, String> = (request.uri().query().unwrap_or_default().split('&'))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let said = described(&container, &request, &tls);
    container.log.lock().unwrap().push(said.clone());
    if request.headers().contains_key("upgrade") {
        return Ok(upgraded(&mut request));
    }
    if let Some(delay) = query.get("delay") {
        tokio::time::sleep(mirrorgate::config::duration(delay).unwrap_or(Duration::ZERO)).await;
    }
    if request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc") {
        return Ok(grpc(&said));
    }
    let mut response = Response::new(whole(said.to_string()));
    if let (Some(code), Some(after), Some(id)) =
        (query.get("responseCode"), query.get("succeedAfter"), query.get("uuid"))
    {
        let mut tries = container.tries.lock().unwrap();
        let tries = tries.entry(id.clone()).or_default();
        if *tries < after.parse().unwrap() {
            *response.status_mut() = StatusCode::from_bytes(code.as_bytes()).unwrap();
        }
        *tries += 1;
    }
    let wanted = request.headers().get_all("x-echo-set-header");
    for pair in wanted.iter().flat_map(|value| value.to_str().unwrap().split(',')) {
        let (name, value) = pair.split_once(':').unwrap();
        let name = HeaderName::try_from(name.trim()).unwrap();
        response.headers_mut().append(name, HeaderValue::try_from(value.trim()).unwrap());
    }
    Ok(response)
}

/// The request as it came, and who got it.
fn described(container: &Container, request: &Request<Incoming>, tls: &Value) -> Value {
    let mut headers = serde_json::Map::new();
    for name in request.headers().keys() {
        let values: Vec<_> =
            request.headers().get_all(name).iter().filter_map(|one| one.to_str().ok()).collect();
        headers.insert(name.as_str().to_owned(), values.join(",").into());
    }
    let host = request.headers().get("host").and_then(|host| host.to_str().ok());
    json!({
        "path": request.uri().path_and_query().map(|path| path.as_str()),
        "host": request.uri().authority().map(|host| host.as_str()).or(host),
        "method": request.method().as_str(),
        "proto": format!("{:?}", request.version()),
        "headers": headers,
        "namespace": container.namespace,
        "pod": container.pod,
        "tls": tls,
    })
}

/// A length, the message, and the trailer that says that all is well.
fn grpc(said: &Value) -> Response<Body> {
    let text = said.to_string();
    let mut message = vec![0];
    message.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    message.extend(text.as_bytes());
    let trailers =
        HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let frames = [Frame::data(Bytes::from(message)), Frame::trailers(trailers)];
    let stream = futures_util::stream::iter(frames.map(Ok::<_, std::convert::Infallible>));
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(stream)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// A WebSocket on which every message is sent back.
fn upgraded(request: &mut Request<Incoming>) -> Response<Body> {
    let accept = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(whole(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert("connection", HeaderValue::from_static("upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-accept", HeaderValue::try_from(accept).unwrap());
    response
}
