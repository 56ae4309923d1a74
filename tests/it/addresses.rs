//! Who talks to whom: Unix sockets, and clients that are named by the PROXY protocol.

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};

use crate::harness::{Gateway, Upstream, Wire, eventually, gateway, within};

async fn ask(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut response = String::new();
    within("a response", stream.read_to_string(&mut response)).await.unwrap();
    response
}

/// Answers each connection's first request with `ok`, on a Unix socket.
fn listen(path: &Path) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = Vec::new();
                while !read.ends_with(b"\r\n\r\n") {
                    read.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            });
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn unix_sockets_are_listeners_and_endpoints() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = listen(&folder.path().join("app.sock"));
    let named = Upstream::saying("named").await;
    let text = format!(
        "listeners: ['unix:gateway.sock', 127.0.0.1:0]
admin: off
routes:
  - {{ hosts: [named], backend: 'http://{}' }}
  - {{ backend: app, mirrors: ['http://unix:{}'] }}
backends: {{ app: {{ endpoints: ['unix:app.sock'] }} }}",
        named.address,
        folder.path().join("app.sock").display(),
    );
    let gateway = Gateway::start(&text, folder.path(), None).await;
    let path = folder.path().join("gateway.sock");
    let response = ask(UnixStream::connect(&path).await.unwrap()).await;
    assert!(response.starts_with("HTTP/1.1 200 OK") && response.ends_with("ok"), "{response}");
    gateway.outcome("delivered", 1).await;
    let client = UnixStream::connect(&path).await.unwrap();
    let mut client = tokio::io::BufStream::new(client);
    client.write_all(b"GET / HTTP/1.1\r\nhost: named\r\n\r\n").await.unwrap();
    client.flush().await.unwrap();
    let request = named.received(1).await.remove(0);
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
    drop(client);
    assert!(gateway.drain(std::time::Duration::ZERO).await);
    assert!(!path.exists(), "the socket's file is left behind");
    upstream.abort();
}

/// What an upstream finds in front of a request.
async fn announced(wire: &mut Wire) -> Option<String> {
    loop {
        let end = wire.unread().windows(2).position(|two| two == b"\r\n");
        if let Some(end) = end {
            return Some(String::from_utf8(wire.take(end + 2)).unwrap());
        }
        if !wire.more().await {
            return None;
        }
    }
}

/// Begins each connection by reading who the client is, and tells it.
async fn naming() -> Upstream {
    Upstream::script(|mut served| async move {
        let Some(line) = announced(&mut served.wire).await else { return };
        while let Some(_request) = served.request().await {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len());
            if !served.wire.send(answer).await {
                return;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_told_who_the_client_is_and_connections_are_not_mixed() {
    let (primary, mirror) = (naming().await, naming().await);
    let gateway = gateway(&format!(
        "routes: [{{ backend: primary, mirrors: [mirror] }}]
         backends:
           primary: {{ endpoints: ['{}'], proxy_protocol: v1 }}
           mirror: {{ endpoints: ['{}'], proxy_protocol: v1 }}",
        primary.address, mirror.address
    ))
    .await;
    let line = |client: SocketAddr, gateway: SocketAddr| {
        format!("PROXY TCP4 {} {} {} {}\r\n", client.ip(), gateway.ip(), client.port(), gateway.port())
    };
    let mut clients = Vec::new();
    for _ in 0..3 {
        let stream = TcpStream::connect(gateway.address).await.unwrap();
        let expected = line(stream.local_addr().unwrap(), gateway.address);
        clients.push((Wire::new(stream), expected));
    }
    for round in 1..=3 {
        for (client, expected) in &mut clients {
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert_eq!(&client.response().await.text(), expected);
        }
        gateway.outcome("delivered", 3 * round).await;
    }
    assert_eq!((primary.connections(), mirror.connections()), (3, 3), "one for each client");
    assert_eq!(primary.count(), 9);
    gateway.settled().await;
}

/// From one gateway to the next, both versions, with and without TLS between: the client stays known.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_says_the_next_understands() {
    for version in ["v1", "v2"] {
        let upstream = Upstream::saying("ok").await;
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:0, proxy_protocol: true }}]
admin: off
routes: [{{ backend: 'http://{}' }}]",
            upstream.address
        );
        let near = Gateway::start(&text, Path::new(""), None).await;
        let far = gateway(&format!(
            "routes: [{{ backend: near }}]
             backends: {{ near: {{ endpoints: ['{}'], proxy_protocol: {version}, health: {{ http: /, interval: 50ms }} }} }}",
            near.address
        ))
        .await;
        // Probes name nobody, and are understood.
        eventually("a probe", || upstream.count() > 0).await;
        assert_eq!(upstream.requests()[0].field("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(far.get("/asked").await.text(), "ok");
        assert_eq!(near.sum("mirrorgate_refused_total", &["reason=\"proxy_protocol\""]), 0.0);
    }
}
