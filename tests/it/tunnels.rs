//! WebSocket and whatever else is carried by an upgrade or by extended CONNECT (RFC 8441), in every
//! combination of HTTP/1 and HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::frames::{DATA, END_HEADERS, Fate, Frames, HEADERS, block, get};
use crate::harness::{Gateway, Upstream, eventually, gateway, mirroring, within};

/// The key and the proof of RFC 6455.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

type Tunnel = TokioIo<hyper::upgrade::Upgraded>;

/// An endpoint of HTTP/1 that switches, proves it as `prove` says, and says everything again.
async fn echo_http1(prove: fn(&str) -> String) -> Upstream {
    Upstream::script(move |mut served| async move {
        let Some(request) = served.wire.head().await else { return };
        served.remember(&request);
        let accept = prove(request.field("sec-websocket-key").unwrap_or_default());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\nsec-websocket-protocol: chat\r\n\r\n"
        );
        served.wire.send(head).await;
        while served.wire.more().await {
            let all = served.wire.take(served.wire.unread().len());
            served.wire.send(all).await;
        }
    })
    .await
}

fn proof(key: &str) -> String {
    let key = http::HeaderValue::from_str(key).unwrap();
    mirrorgate::proxy::tunnel::websocket::accept(&key).unwrap().to_str().unwrap().to_owned()
}

/// An endpoint of HTTP/2 that takes extended CONNECT, if `takes`, and says everything again. It refuses
/// `/forbidden`, and checks what it must not be told.
async fn echo_http2(takes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|mut request: Request<Incoming>| async move {
                let mut response = Response::new(Empty::<Bytes>::new());
                let websocket =
                    request.extensions().get::<Protocol>().is_some_and(|one| one.as_str() == "websocket");
                let keyless = !request.headers().contains_key("sec-websocket-key");
                if request.method() != Method::CONNECT
                    || !websocket
                    || !keyless
                    || request.uri().path() == "/forbidden"
                {
                    *response.status_mut() = StatusCode::FORBIDDEN;
                    return Ok::<_, Infallible>(response);
                }
                response.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
                let upgraded = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
                    let _ended = tokio::io::copy(&mut read, &mut write).await;
                    let _closed = write.shutdown().await;
                });
                Ok(response)
            });
            tokio::spawn(async move {
                let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                if takes {
                    server.enable_connect_protocol();
                }
                let _ended = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// Opens a WebSocket over HTTP/2.
async fn connect(gateway: &Gateway, path: &str) -> Result<(Tunnel, Response<()>), StatusCode> {
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, mut connection) = handshake.await.unwrap();
    // It may be asked for once the gateway's settings have come.
    within(
        "extended CONNECT",
        std::future::poll_fn(|context| {
            let _ended = std::pin::Pin::new(&mut connection).poll(context);
            context.waker().wake_by_ref();
            match connection.is_extended_connect_protocol_enabled() {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        }),
    )
    .await;
    tokio::spawn(connection);
    let request = Request::connect(format!("http://a.test{path}"))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let mut response = within("an answer", sender.send_request(request)).await.unwrap();
    if response.status() != StatusCode::OK {
        return Err(response.status());
    }
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    Ok((TokioIo::new(upgraded), response.map(|_| ())))
}

/// Says much more than any buffer holds, in both directions at once, and hears all of it again.
async fn echoes(tunnel: Tunnel) {
    let said = crate::harness::noise(7, 3 * 1024 * 1024);
    let (mut read, mut write) = tokio::io::split(tunnel);
    let expected = said.clone();
    let saying = async move {
        write.write_all(&said).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let hearing = read.read_to_end(&mut heard);
    let (_, heard_all) = within("the echo", async { tokio::join!(saying, hearing) }).await;
    heard_all.unwrap();
    assert!(heard == expected, "{} of {} bytes", heard.len(), expected.len());
}

fn websocket(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_of_http2_reaches_endpoints_of_http1() {
    let upstream = echo_http1(proof).await;
    let mirror = Upstream::saying("m").await;
    let gateway = mirroring(upstream.address, mirror.address, "").await;
    let (tunnel, response) = connect(&gateway, "/chat?a=b").await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    echoes(tunnel).await;
    let request = upstream.received(1).await.remove(0);
    assert_eq!(request.line, "GET /chat?a=b HTTP/1.1");
    let field = |name| request.field(name);
    assert_eq!((field("connection"), field("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!((field("host"), field("sec-websocket-version")), (Some("a.test"), Some("13")));
    gateway.outcome("skipped_upgrade", 1).await;
    gateway.settled().await;
    assert_eq!(mirror.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_of_http2_reaches_endpoints_of_http2() {
    let upstream = echo_http2(true).await;
    let gateway = gateway(&format!("routes: [{{ backend: 'h2c://{upstream}' }}]")).await;
    let (tunnel, response) = connect(&gateway, "/chat").await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    echoes(tunnel).await;
    assert_eq!(connect(&gateway, "/forbidden").await.unwrap_err(), StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_of_http1_reaches_endpoints_of_http2() {
    let upstream = echo_http2(true).await;
    let gateway = gateway(&format!("routes: [{{ backend: 'h2c://{upstream}' }}]")).await;
    let mut client = gateway.connect().await;
    client.send(websocket("/chat")).await;
    let response = client.response_to("GET").await.unwrap();
    assert_eq!((response.status(), response.field("upgrade")), (101, Some("websocket")));
    assert_eq!(response.field("sec-websocket-accept"), Some(ACCEPT));
    client.send("one two").await;
    while client.unread() != b"one two" {
        assert!(client.more().await);
    }
    client.finish().await;
    client.closed().await;
    let mut refused = gateway.connect().await;
    refused.send(websocket("/forbidden")).await;
    assert_eq!(refused.response_to("GET").await.unwrap().status(), 403);
}

/// Neither an endpoint that did not read the key nor one that just answers may be taken for a WebSocket.
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_do_not_switch_are_502_to_http2() {
    let unproven = echo_http1(|_| "bm8=".to_owned()).await;
    let plain = Upstream::saying("no").await;
    let unwilling = echo_http2(false).await;
    let gateway = gateway(&format!(
        "routes:
           - {{ matches: [{{ path: {{ prefix: /unproven }} }}], backend: 'http://{}' }}
           - {{ matches: [{{ path: {{ prefix: /plain }} }}], backend: 'http://{}' }}
           - {{ matches: [{{ path: {{ prefix: /unwilling }} }}], backend: 'h2c://{unwilling}' }}",
        unproven.address, plain.address
    ))
    .await;
    for path in ["/unproven", "/plain", "/unwilling"] {
        assert_eq!(connect(&gateway, path).await.unwrap_err(), StatusCode::BAD_GATEWAY, "{path}");
    }
    let mut client = gateway.connect().await;
    client.send(websocket("/unwilling")).await;
    assert_eq!(client.response_to("GET").await.unwrap().status(), 502);
}

/// What offers HTTP/2 by upgrade is served in HTTP/1.1: behind such an upgrade no route would look.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_upgraded_to_http2() {
    let upstream = Upstream::saying("ok").await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let response = gateway
        .ask("GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n")
        .await;
    assert_eq!(response.status(), 200);
    let request = upstream.received(1).await.remove(0);
    assert_eq!((request.field("upgrade"), request.field("http2-settings")), (None, None));
}

/// Neither idle time nor a drain cuts a stream that lives; its connection goes when it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_carries_a_tunnel_keeps_its_connection() {
    let upstream = echo_http1(proof).await;
    let gateway =
        gateway(&format!("limits: {{ idle: 1s }}\nroutes: [{{ backend: 'http://{}' }}]", upstream.address))
            .await;
    let (mut tunnel, _) = connect(&gateway, "/").await.unwrap();
    // Longer than the time that an idle connection has, and nothing is said.
    let silent = tokio::time::timeout(Duration::from_millis(2500), tunnel.read_u8()).await;
    assert!(silent.is_err(), "the tunnel was cut: {silent:?}");
    let address = gateway.address;
    let drained = tokio::spawn(gateway.drain(Duration::ZERO));
    let closed = || std::net::TcpStream::connect(address).is_err();
    eventually("nobody is let in any more", closed).await;
    tunnel.write_all(b"still here").await.unwrap();
    let mut heard = [0; 10];
    within("the echo", tunnel.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"still here");
    assert!(!drained.is_finished());
    drop(tunnel);
    assert!(within("the end of the drain", drained).await.unwrap());
}

/// A client that opens no window holds back the endpoint, and after `write_stall` loses its tunnel.
#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_is_not_read_holds_the_endpoint_back_and_ends() {
    let (told, mut pushed) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::script(move |mut served| {
        let told = told.clone();
        async move {
            let Some(request) = served.wire.head().await else { return };
            let accept = proof(request.field("sec-websocket-key").unwrap());
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: {accept}\r\n\r\n"
            );
            served.wire.send(head).await;
            let much = vec![b'x'; 64 * 1024 * 1024];
            let quiet = Duration::from_secs(10);
            told.send(served.wire.send_until_blocked_or_closed(&much, quiet).await).unwrap();
        }
    })
    .await;
    let gateway = gateway(&format!(
        "limits: {{ write_stall: 1s }}\nroutes: [{{ backend: 'http://{}' }}]",
        upstream.address
    ))
    .await;
    let mut client = Frames::with_settings(gateway.address, &[0, 4, 0, 0, 0, 0]).await;
    let head = get(&[(":method", Some("CONNECT")), (":protocol", Some("websocket"))]);
    client.send(HEADERS, END_HEADERS, 1, &block(&head)).await;
    let pushed = within("the endpoint's connection being closed", pushed.recv()).await.unwrap();
    assert!(pushed < 32 * 1024 * 1024, "{pushed} bytes were taken for a client that takes none");
    // The connection goes on.
    let plain = Upstream::saying("x").await;
    drop(plain);
    client.send(DATA, 0, 1, b"x").await;
    assert!(!matches!(client.ask(3, &get(&[])).await, Fate::Ended(_)));
}
