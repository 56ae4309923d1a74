//! Client connections: reuse, pipelining, half-closed and aborted ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mirrorgate::limits;

use crate::harness::{End, Upstream, eventually, gateway, mirroring, within};

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_many_requests_over_one_upstream_connection() {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let gateway = mirroring(primary.address, mirror.address, "").await;
    let mut client = gateway.connect().await;
    for count in 1..=50 {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "p");
        // One after the other, so that the mirror's connection is free again, too.
        gateway.outcome("delivered", count).await;
    }
    assert_eq!((primary.connections(), mirror.connections()), (1, 1));
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let primary = Upstream::answering(|request| {
        let path = request.line.split(' ').nth(1).unwrap();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}{}",
            path.len() + request.body.len(),
            request.text()
        )
    })
    .await;
    let mirror = Upstream::saying("m").await;
    let gateway = mirroring(primary.address, mirror.address, "").await;
    let mut pipeline = Vec::new();
    for number in 0..40 {
        pipeline.extend(match number % 3 {
            0 => format!("GET /{number} HTTP/1.1\r\nhost: test\r\n\r\n"),
            1 => format!("POST /{number} HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\n!!"),
            _ => format!("POST /{number} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n2\r\n??\r\n0\r\n\r\n"),
        }.into_bytes());
    }
    let mut client = gateway.connect().await;
    client.send(&pipeline).await;
    for number in 0..40 {
        let body = ["", "!!", "??"][number % 3];
        assert_eq!(client.response().await.text(), format!("/{number}{body}"));
    }
    gateway.outcome("delivered", 40).await;
    gateway.settled().await;
}

/// It gives its buffers back when it was idle for a while, which only time can bring about.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_rested_serves_on() {
    let upstream = Upstream::saying("hello").await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let mut client = gateway.connect().await;
    let request = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";
    let rest = limits::REST_AFTER + 3 * limits::DEADLINE_TICK;
    // Empty lines between requests are skipped (RFC 9112, 2.2), wherever the rest falls.
    for (first, second) in [(request, ""), (&request[..20], &request[20..]), (request, "\r\n")] {
        client.send(first).await;
        client.send(second).await;
        assert_eq!(client.response().await.text(), "hello");
        tokio::time::sleep(rest).await;
    }
    client.send(request.repeat(2)).await;
    assert_eq!(client.response().await.text(), "hello");
    assert_eq!(client.response().await.text(), "hello");
    tokio::time::sleep(rest).await;
    client.send("GET / HTTP/1.1\nhost: test\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 400, "what comes after a rest is checked, too");
    assert_eq!(client.closed().await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_to_close_is_closed() {
    let upstream = Upstream::saying("hello").await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
        client.response().await;
    }
    client.send("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!((response.text().as_str(), response.field("connection")), ("hello", Some("close")));
    assert_eq!(client.closed().await, b"");
    // What a client wants of its connection is not the upstream's business.
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_half_closes_is_taken_to_have_gone_and_its_copy_goes_on() {
    let primary = Upstream::script(|mut served| async move {
        served.request().await;
        assert_eq!(served.wire.closed().await, b"");
    })
    .await;
    let mirror = Upstream::saying("m").await;
    let gateway = mirroring(primary.address, mirror.address, "").await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    primary.received(1).await;
    client.finish().await;
    assert_eq!(client.closed().await, b"");
    eventually("the upstream connection closed", || primary.open() == 0).await;
    gateway.outcome("delivered", 1).await;
    gateway.counts("mirrorgate_requests_total", &["code=\"499\""], 1.0).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_close_keeps_the_request_when_configured() {
    let (asked, go) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (seen, wait) = (asked.clone(), go.clone());
    let primary = Upstream::script(move |mut served| {
        let (seen, wait) = (seen.clone(), wait.clone());
        async move {
            served.request().await;
            seen.notify_one();
            wait.notified().await;
            served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let text = format!(
        "listeners: [{{ address: '127.0.0.1:0', half_close: true }}]\nadmin: off\nroutes: [{{ backend: 'http://{}' }}]\n",
        primary.address
    );
    let gateway = crate::harness::Gateway::start(&text, std::path::Path::new(""), None).await;
    let mut client = gateway.connect().await;
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\nhi").await;
    client.finish().await;
    within("the request", asked.notified()).await;
    go.notify_one();
    assert_eq!(client.response().await.text(), "ok");
    assert_eq!(client.closed().await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gone_in_its_body_cuts_the_primary_and_the_copy_visibly() {
    for framing in ["content-length: 1000", "transfer-encoding: chunked"] {
        let begun = Arc::new(AtomicUsize::new(0));
        let counts = begun.clone();
        let script = move |mut served: crate::harness::Served| {
            let begun = counts.clone();
            async move {
                served.wire.more().await;
                begun.fetch_add(1, Ordering::SeqCst);
                served.request().await;
            }
        };
        let (primary, mirror) = (Upstream::script(script.clone()).await, Upstream::script(script).await);
        let gateway = mirroring(primary.address, mirror.address, "").await;
        let mut client = gateway.connect().await;
        client.send(format!("POST / HTTP/1.1\r\nhost: test\r\n{framing}\r\n\r\na\r\n0123456789\r\n")).await;
        eventually("both began", || begun.load(Ordering::SeqCst) == 2).await;
        client.reset();
        for side in [&primary, &mirror] {
            let got = side.received(1).await.remove(0);
            assert_eq!(got.end, End::Cut, "{framing}");
        }
        gateway.outcome("cut_client_gone", 1).await;
        gateway.settled().await;
        eventually("no connection left", || primary.open() == 0 && mirror.open() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gone_while_it_reads_resets_the_upstream() {
    let upstream = Upstream::script(|mut served| async move {
        served.request().await;
        let chunk = vec![b'x'; 64 * 1024];
        served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n").await;
        while served.wire.push(&chunk).await {}
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    while client.unread().len() < 100_000 {
        assert!(client.more().await);
    }
    client.reset();
    eventually("the upstream connection closed", || upstream.connections() == 1 && upstream.open() == 0)
        .await;
}
