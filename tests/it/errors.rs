//! What a client is told when something is wrong, and what is counted of it.

use std::time::Duration;

use crate::harness::{Upstream, gateway, mirroring, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_502_and_counted() {
    let nobody = Upstream::nobody().await;
    let gateway = gateway(&format!("routes: [{{ name: r, backend: 'http://{nobody}' }}]")).await;
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!(
            (response.status(), response.field("content-type")),
            (502, Some("text/plain; charset=utf-8"))
        );
        assert!(!response.body.is_empty());
    }
    gateway.counts("mirrorgate_requests_total", &["route=\"r\"", "code=\"502\""], 2.0).await;
    gateway
        .counts("mirrorgate_upstream_connects_total", &["lane=\"primary\"", "result=\"failed\""], 2.0)
        .await;
    gateway.counts("mirrorgate_upstream_requests_total", &["code=\"none\""], 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_to_a_refused_connection_is_read_away_and_the_connection_goes_on() {
    let nobody = Upstream::nobody().await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{nobody}' }}]")).await;
    let mut client = gateway.connect().await;
    let mut request =
        format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", 500_000).into_bytes();
    request.resize(request.len() + 500_000, b'x');
    client.send(request).await;
    assert_eq!(client.response().await.status(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_without_endpoints_is_503_and_not_mirrored() {
    let mirror = Upstream::saying("m").await;
    let gateway = gateway(&format!(
        "routes: [{{ backend: empty, mirrors: ['http://{}'] }}]\nbackends: {{ empty: {{ endpoints: [] }} }}",
        mirror.address
    ))
    .await;
    assert_eq!(gateway.get("/").await.status(), 503);
    gateway.counts("mirrorgate_refused_total", &["reason=\"no_endpoints\""], 1.0).await;
    gateway.settled().await;
    assert_eq!(mirror.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_is_404() {
    let upstream = Upstream::saying("x").await;
    let gateway =
        gateway(&format!("routes: [{{ hosts: [a.test], backend: 'http://{0}' }}]", upstream.address)).await;
    assert_eq!(gateway.ask("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await.status(), 200);
    assert_eq!(gateway.ask("GET / HTTP/1.1\r\nhost: c.test\r\n\r\n").await.status(), 404);
    gateway.counts("mirrorgate_refused_total", &["reason=\"no_route\""], 1.0).await;
    gateway.counts("mirrorgate_requests_total", &["route=\"none\"", "code=\"404\""], 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_does_not_answer_is_504() {
    for (timeouts, route) in [("backend: 100ms", "b"), ("request: 100ms", "r")] {
        let upstream = Upstream::script(|mut served| async move {
            served.request().await;
            served.wire.closed().await;
        })
        .await;
        let gateway = gateway(&format!(
            "routes: [{{ name: {route}, backend: 'http://{}', timeouts: {{ {timeouts} }} }}]",
            upstream.address
        ))
        .await;
        assert_eq!(gateway.get("/").await.status(), 504, "{timeouts}");
        gateway.counts("mirrorgate_requests_total", &["code=\"504\""], 1.0).await;
        // The connection is not used again: its answer might still come.
        crate::harness::eventually("closed", || upstream.open() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_takes_longer_than_the_whole_may_is_broken_off() {
    let upstream = Upstream::script(|mut served| async move {
        served.request().await;
        served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        served.wire.closed().await;
    })
    .await;
    let gateway = gateway(&format!(
        "routes: [{{ backend: 'http://{}', timeouts: {{ request: 300ms }} }}]",
        upstream.address
    ))
    .await;
    let response = gateway.get("/").await;
    assert_eq!((response.status(), response.text().as_str()), (200, "half"));
    assert_eq!(response.end, crate::harness::End::Cut);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upload_is_not_a_slow_primary() {
    let upstream = Upstream::saying("ok").await;
    let gateway = gateway(&format!(
        "routes: [{{ backend: 'http://{}', timeouts: {{ backend: 200ms }} }}]",
        upstream.address
    ))
    .await;
    let mut client = gateway.connect().await;
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 8\r\n\r\n").await;
    for _ in 0..8 {
        // Longer in all than the primary may take, which has had no chance to answer yet.
        tokio::time::sleep(Duration::from_millis(80)).await;
        client.send("x").await;
    }
    assert_eq!(client.response().await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_is_502() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "HTTP/1.1 2000 Too Much\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n..",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    ] {
        let upstream = Upstream::script(move |mut served| async move {
            served.request().await;
            served.wire.send(garbage).await;
        })
        .await;
        let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
        let response = gateway.get("/").await;
        assert_eq!(response.status(), 502, "{garbage:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_400_and_close() {
    let upstream = Upstream::saying("x").await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let requests = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\nhost: a\n\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ];
    for request in requests {
        let mut client = gateway.connect().await;
        client.send(request).await;
        let response = client.response().await;
        assert_eq!((response.status(), response.field("connection")), (400, Some("close")), "{request:?}");
        within("the close", client.closed()).await;
    }
    assert_eq!(upstream.connections(), 0);
    let refused = gateway.sum("mirrorgate_refused_total", &[]);
    assert_eq!(refused, requests.len() as f64, "each is counted once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_chunk_is_400_and_reaches_nobody_as_complete() {
    let script = |mut served: crate::harness::Served| async move {
        served.request().await;
    };
    let (primary, mirror) = (Upstream::script(script).await, Upstream::script(script).await);
    let gateway = mirroring(primary.address, mirror.address, "").await;
    let mut client = gateway.connect().await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    crate::harness::eventually("both", || primary.connections() == 1 && mirror.connections() == 1).await;
    client.send("zz\r\n").await;
    let response = client.response().await;
    assert_eq!((response.status(), response.field("connection")), (400, Some("close")));
    within("the close", client.closed()).await;
    for side in [&primary, &mirror] {
        assert_eq!(side.received(1).await[0].end, crate::harness::End::Cut);
    }
    gateway.counts("mirrorgate_refused_total", &["reason=\"framing\""], 1.0).await;
    gateway.outcome("cut_client_gone", 1).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_beyond_the_limits_are_refused() {
    let upstream = Upstream::saying("x").await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let long = "x".repeat(66 * 1024);
    let response = gateway.ask(format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n")).await;
    assert_eq!(response.status(), 431);
    let many: String = (0..101).map(|number| format!("x-{number}: 1\r\n")).collect();
    let response = gateway.ask(format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")).await;
    assert!(matches!(response.status(), 400 | 431), "{}", response.line);
    let path = "x".repeat(17 * 1024);
    let response = gateway.ask(format!("GET /{path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    assert_eq!(response.status(), 414);
    let fits = "x".repeat(60 * 1024);
    let response = gateway.ask(format!("GET / HTTP/1.1\r\nhost: a\r\nx: {fits}\r\n\r\n")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(upstream.connections(), 1);
    let short = format!("limits: {{ target: 8B }}\nroutes: [{{ backend: 'http://{}' }}]", upstream.address);
    let short = crate::harness::gateway(&short).await;
    assert_eq!((short.get("/1234567").await.status(), short.get("/12345678").await.status()), (200, 414));
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_is_405() {
    let upstream = Upstream::saying("x").await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let mut client = gateway.connect().await;
    // What follows was meant for whoever is behind a tunnel.
    let inner = "GET /inner HTTP/1.1\r\nhost: inner.test\r\n\r\n";
    client.send(format!("CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n{inner}")).await;
    assert_eq!(client.response().await.status(), 405);
    within("the end of the connection", client.closed()).await;
    assert_eq!(upstream.connections(), 0);
    gateway.counts("mirrorgate_refused_total", &["reason=\"method\""], 1.0).await;
}
