//! HTTP/2 with prior knowledge, on listeners and to backends.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::harness::{H2Client, H2Upstream, Upstream, chunked, gateway, mirroring, noise};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http2_reaches_backends_of_http1() {
    let primary = Upstream::answering(|_| {
        "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n".into()
    })
    .await;
    let mirror = Upstream::saying("m").await;
    let gateway = mirroring(primary.address, mirror.address, "").await;
    let mut client = H2Client::connect(gateway.address).await;
    let get = client.ask(Request::get("http://shop.test/a?b"), Vec::new(), &[]).await.unwrap();
    assert_eq!((get.parts.status.as_u16(), get.body.as_slice()), (200, &b"hi"[..]));
    assert_eq!(get.trailers.unwrap()["x-sum"], "7");
    let body = noise(1, 300_000);
    let request = Request::post("http://shop.test/").header("te", "trailers").header("trailer", "x-check");
    client.ask(request, vec![body.clone()], &[("x-check", "ok")]).await.unwrap();
    for side in [&primary, &mirror] {
        let got = side.received(2).await;
        assert_eq!((got[0].line.as_str(), got[0].field("host")), ("GET /a?b HTTP/1.1", Some("shop.test")));
        assert_eq!(got[0].field("transfer-encoding"), None);
        assert!(got[1].body == body);
        assert_eq!(got[1].trailers, [("x-check".to_string(), "ok".to_string())]);
    }
    gateway.outcome("delivered", 2).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http1_reaches_backends_of_http2() {
    let (primary, mirror) =
        (H2Upstream::saying("p", &[("x-sum", "7")]).await, H2Upstream::saying("m", &[]).await);
    let gateway = gateway(&format!(
        "routes: [{{ backend: 'h2c://{}', mirrors: ['h2c://{}'] }}]",
        primary.address, mirror.address
    ))
    .await;
    let body = noise(2, 200_000);
    let mut request = b"POST /x?y HTTP/1.1\r\nhost: shop.test\r\ncookie: a=1\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    request.extend(chunked(&body, 5000, "x-check: ok\r\n"));
    let response = gateway.ask(request).await;
    assert_eq!((response.status(), response.text().as_str()), (200, "p"));
    for side in [&primary, &mirror] {
        let got = side.received(1).await.remove(0);
        assert_eq!(got.parts.uri.to_string(), format!("http://shop.test/x?y"));
        assert_eq!(got.parts.headers["cookie"], "a=1");
        assert!(got.complete && got.body == body);
        assert_eq!(got.trailers.as_ref().unwrap()["x-check"], "ok");
    }
    gateway.outcome("delivered", 1).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_lanes_of_one_http2_backend_have_connections_of_their_own() {
    let upstream = H2Upstream::saying("ok", &[("x-sum", "7")]).await;
    let gateway =
        gateway(&format!("routes: [{{ backend: 'h2c://{0}', mirrors: ['h2c://{0}'] }}]", upstream.address))
            .await;
    let mut client = H2Client::connect(gateway.address).await;
    for _ in 0..20 {
        let answer = client.ask(Request::get("http://a.test/"), Vec::new(), &[]).await.unwrap();
        assert_eq!(answer.body, b"ok");
        assert_eq!(answer.trailers.unwrap()["x-sum"], "7");
    }
    gateway.outcome("delivered", 20).await;
    gateway.settled().await;
    assert_eq!(upstream.connections(), 2);
    assert_eq!(upstream.received(40).await.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_at_once_are_all_answered() {
    let (primary, mirror) = (H2Upstream::saying("p", &[]).await, Upstream::saying("m").await);
    let gateway = gateway(&format!(
        "routes: [{{ backend: 'h2c://{}', mirrors: ['http://{}'] }}]",
        primary.address, mirror.address
    ))
    .await;
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..4_u64 {
        let mut client = H2Client::connect(gateway.address).await;
        tasks.spawn(async move {
            for number in 0..50 {
                let body = noise(connection * 50 + number, (number * 997) as usize);
                let answer = client.ask(Request::post("http://a.test/"), vec![body], &[]).await.unwrap();
                assert_eq!(answer.body, b"p");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    gateway.outcome("delivered", 200).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_backend_that_is_not_there_is_502() {
    let nobody = Upstream::nobody().await;
    let not_h2 = Upstream::script(|mut served| async move {
        served.wire.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    for address in [nobody, not_h2.address] {
        let gateway = gateway(&format!("routes: [{{ backend: 'h2c://{address}' }}]")).await;
        assert_eq!(gateway.get("/").await.status(), 502);
    }
}

/// A server that echoes, and says goodbye after each few streams, in two ways.
async fn leaving(per_connection: usize, refuse: bool) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut served = 0;
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    served += 1;
                    if served > per_connection && refuse {
                        // RFC 9113, 8.7: it was not looked at.
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                        continue;
                    }
                    tokio::spawn(async move {
                        let (mut body, mut text) = (request.into_body(), b"ok".to_vec());
                        while let Some(Ok(piece)) = body.data().await {
                            text.extend_from_slice(&piece);
                        }
                        let mut answer = respond.send_response(Response::new(()), false).unwrap();
                        answer.send_data(text.into(), true).unwrap();
                    });
                    if served == per_connection {
                        connection.graceful_shutdown();
                    }
                }
            });
        }
    });
    (address, connections)
}

/// RFC 9113, 6.8: what a GOAWAY leaves out goes elsewhere, and no client notices.
#[tokio::test(flavor = "multi_thread")]
async fn backends_that_leave_cost_no_request() {
    for refuse in [false, true] {
        let (address, connections) = leaving(7, refuse).await;
        let gateway =
            gateway(&format!("routes: [{{ backend: 'h2c://{address}', mirrors: ['h2c://{address}'] }}]"))
                .await;
        let clients = (0..8).map(|_| async {
            let mut client = gateway.connect().await;
            for turn in 0..50 {
                // What of a body was sent is sent again.
                let (head, body) = match turn % 3 {
                    0 => ("GET / HTTP/1.1".to_owned(), String::new()),
                    1 => ("POST / HTTP/1.1\r\ncontent-length: 0".to_owned(), String::new()),
                    _ => ("POST / HTTP/1.1\r\ncontent-length: 3".to_owned(), format!("{turn:03}")),
                };
                client.send(format!("{head}\r\nhost: a\r\n\r\n{body}")).await;
                let response = client.response().await;
                assert_eq!((response.status(), response.text()), (200, format!("ok{body}")));
            }
        });
        futures_util::future::join_all(clients).await;
        assert!(connections.load(Ordering::SeqCst) >= 400 / 7);
        gateway.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_options_pass_through_http2() {
    let upstream = H2Upstream::saying("", &[]).await;
    let gateway = gateway(&format!("routes: [{{ backend: 'h2c://{}' }}]", upstream.address)).await;
    let mut client = gateway.connect().await;
    client.send("HEAD /x HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    assert_eq!(client.response_to("HEAD").await.unwrap().status(), 200);
    client.send("OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 200);
    let seen = upstream.received(2).await;
    assert_eq!((seen[0].parts.method.as_str(), seen[0].parts.uri.path()), ("HEAD", "/x"));
    assert_eq!((seen[1].parts.method.as_str(), seen[1].parts.uri.path()), ("OPTIONS", "*"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resets_its_stream_cuts_the_copy() {
    let heads = Arc::<AtomicUsize>::default();
    let seen = heads.clone();
    let script = move |mut served: crate::harness::Served| {
        let seen = seen.clone();
        async move {
            let Some(head) = served.wire.head().await else { return };
            seen.fetch_add(1, Ordering::SeqCst);
            let cut = served.wire.body_of(head, false).await;
            served.remember(&cut);
        }
    };
    let (primary, mirror) = (Upstream::script(script.clone()).await, Upstream::script(script).await);
    let gateway = mirroring(primary.address, mirror.address, "").await;
    let mut client = H2Client::connect(gateway.address).await;
    let begun = || heads.load(Ordering::SeqCst) == 2;
    client.begin_and_reset(Request::post("http://a.test/"), begun).await;
    for side in [&primary, &mirror] {
        assert_eq!(side.received(1).await[0].end, crate::harness::End::Cut);
    }
    gateway.outcome("cut_client_gone", 1).await;
    gateway.settled().await;
}

/// Bodies of any size come whole through each combination, whatever pieces they are handed over in.
#[tokio::test(flavor = "multi_thread")]
async fn large_answers_are_whole_over_http2() {
    let sent = noise(3, 3_000_000);
    let answer = sent.clone();
    let upstream = Upstream::script(move |mut served| {
        let answer = answer.clone();
        async move {
            while let Some(request) = served.request().await {
                let length: usize = request.line.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
                served.wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")).await;
                served.wire.send(&answer[..length]).await;
            }
        }
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let mut client = H2Client::connect(gateway.address).await;
    for length in [0, 1, 16_383, 16_384, 16_385, 65_536, 200_000, 3_000_000] {
        let request = Request::get(format!("http://a.test/{length}"));
        let answer = client.ask(request, Vec::new(), &[]).await.unwrap();
        assert!(answer.complete && answer.body == sent[..length], "{length}: {}", answer.body.len());
    }
}

/// A connection that stays open and silent is given up for another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_answers_nothing_any_more_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut hangs = true;
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |_: Request<Incoming>| async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            });
            hangs = false;
            tokio::spawn(async move {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ended = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    let gateway =
        gateway(&format!("routes: [{{ backend: 'h2c://{address}', timeouts: {{ backend: 200ms }} }}]")).await;
    // One client, so that all of it goes through one worker.
    let mut client = gateway.connect().await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        statuses.push(client.response().await.status());
    }
    assert_eq!(statuses, [504, 504, 504, 200, 200, 200]);
}
