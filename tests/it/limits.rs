//! What is taken of clients, and what they are told when it is too much.

use http::Request;

use crate::harness::{End, H2Client, H2Upstream, Upstream, chunked, eventually, gateway};

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large_are_413() {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let gateway = gateway(&format!(
        "limits: {{ body: 1KiB }}\n\
         routes: [{{ backend: 'http://{0}', mirrors: ['http://{1}'] }}, \
         {{ matches: [{{ path: {{ prefix: /large }} }}], backend: 'http://{0}', limits: {{ body: 1MiB }} }}]",
        primary.address, mirror.address
    ))
    .await;
    let post = |path: &str, length: usize| {
        let body = "x".repeat(length);
        format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    assert_eq!(gateway.ask(post("/", 1024)).await.status(), 200);
    assert_eq!(gateway.ask(post("/", 1025)).await.status(), 413);
    assert_eq!(gateway.ask(post("/large", 1025)).await.status(), 200);
    assert_eq!(gateway.ask(post("/large", 1024 * 1024 + 1)).await.status(), 413);
    // Nobody says how long it is: it is broken off, visibly, for primary and mirror alike.
    let mut request = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    request.extend(chunked(&[b'x'; 5000], 500, ""));
    assert_eq!(gateway.ask(request).await.status(), 413);
    gateway.settled().await;
    for upstream in [&primary, &mirror] {
        let whole = upstream.requests().into_iter().filter(|request| request.end == End::Complete);
        assert!(whole.into_iter().all(|request| request.body.len() <= 1025));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_for_backends_of_http2_that_break_off_are_the_clients_fault() {
    let (primary, mirror) = (H2Upstream::saying("p", &[]).await, H2Upstream::saying("m", &[]).await);
    let gateway = gateway(&format!(
        "limits: {{ body: 1KiB }}\n\
         routes: [{{ backend: backend, retries: {{ on: [reset] }}, mirrors: ['h2c://{1}'] }}]\n\
         backends: {{ backend: {{ endpoints: ['{0}'], protocol: h2c }} }}",
        primary.address, mirror.address
    ))
    .await;
    let large = chunked(&[b'x'; 5000], 500, "");
    for (number, (rest, status)) in [(&large[..], 413), (b"no number\r\n", 400)].into_iter().enumerate() {
        let mut client = gateway.connect().await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").await;
        eventually("both began", || primary.begun() > number && mirror.begun() > number).await;
        client.send(rest).await;
        assert_eq!(client.response().await.status(), status);
    }
    gateway.counts("mirrorgate_refused_total", &["reason=\"body_too_large\""], 1.0).await;
    gateway.outcome("cut_client_gone", 2).await;
    gateway.settled().await;
    for upstream in [&primary, &mirror] {
        for broken in upstream.received(2).await {
            assert_eq!((broken.complete, broken.reset), (false, Some(h2::Reason::CANCEL)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_of_too_many_fields_are_431_in_both_versions() {
    let upstream = Upstream::saying("p").await;
    let gateway =
        gateway(&format!("limits: {{ fields: 5 }}\nroutes: [{{ backend: 'http://{}' }}]", upstream.address))
            .await;
    let mut client = H2Client::connect(gateway.address).await;
    for (count, status) in [(4, 200), (6, 431)] {
        let fields = "x: y\r\n".repeat(count);
        assert_eq!(gateway.ask(format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).await.status(), status);
        let request = (0..count).fold(Request::get("http://a/"), |request, _| request.header("x", "y"));
        assert_eq!(client.ask(request, Vec::new(), &[]).await.unwrap().parts.status.as_u16(), status);
    }
    gateway.counts("mirrorgate_refused_total", &["reason=\"head_too_large\""], 2.0).await;
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_a_route_takes_are_429() {
    let upstream = Upstream::saying("p").await;
    let gateway = gateway(&format!(
        "routes: [{{ backend: 'http://{}', limits: {{ rate: {{ requests: 2, per: 1h, key: {{ header: x-user }} }} }} }}]",
        upstream.address
    ))
    .await;
    for user in ["a", "b"] {
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx-user: {user}\r\n\r\n");
        assert_eq!(gateway.ask(&request).await.status(), 200);
        assert_eq!(gateway.ask(&request).await.status(), 200);
        let refused = gateway.ask(&request).await;
        assert_eq!(refused.status(), 429);
        let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
        assert!((1700..=1800).contains(&wait), "{wait}");
    }
    assert_eq!(upstream.count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_is_shed_copies_first() {
    let primary = Upstream::script(|served| served.hang()).await;
    let mirror = Upstream::saying("m").await;
    let gateway = gateway(&format!(
        "limits: {{ in_flight: 5 }}\nroutes: [{{ backend: 'http://{}', mirrors: ['http://{}'] }}]",
        primary.address, mirror.address
    ))
    .await;
    let mut waiting = Vec::new();
    for count in 1..=5 {
        let mut client = gateway.connect().await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        waiting.push(client);
        eventually("the request in flight", || primary.connections() == count).await;
    }
    gateway.outcome("delivered", 4).await;
    gateway.outcome("skipped_overload", 1).await;
    let refused = gateway.get("/").await;
    assert_eq!((refused.status(), refused.text().as_str()), (503, "overloaded"));
    // Once they are gone there is room again.
    drop(waiting);
    gateway.counts("mirrorgate_client_connections", &[], 0.0).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    eventually("another request in flight", || primary.connections() == 6).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_connections() {
    let upstream = Upstream::saying("p").await;
    let gateway = gateway(&format!(
        "limits: {{ connections_per_address: 2 }}\nroutes: [{{ backend: 'http://{}' }}]",
        upstream.address
    ))
    .await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = gateway.connect().await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "p");
        held.push(client);
    }
    assert_eq!(gateway.connect().await.closed().await, b"");
    gateway.counts("mirrorgate_client_connections", &[], 2.0).await;
    drop(held.pop());
    gateway.counts("mirrorgate_client_connections", &[], 1.0).await;
    assert_eq!(gateway.get("/").await.text(), "p");
}

/// What the gateway itself has to say to a gRPC client, it says as gRPC.
#[tokio::test(flavor = "multi_thread")]
async fn failures_are_statuses_of_grpc_to_its_clients() {
    let nobody = Upstream::nobody().await;
    let hanging = Upstream::script(|served| served.hang()).await;
    let gateway = gateway(&format!(
        "routes:\n\
         - {{ matches: [{{ grpc: {{ service: shop.Gone }} }}], backend: 'http://{nobody}' }}\n\
         - {{ matches: [{{ grpc: {{ service: shop.Slow, method: Wait }} }}], backend: 'http://{0}' }}\n\
         - {{ matches: [{{ grpc: {{ service: shop.Full }} }}], backend: 'http://{0}', limits: {{ body: 1B }} }}",
        hanging.address
    ))
    .await;
    let mut client = H2Client::connect(gateway.address).await;
    for (path, timeout, status) in [
        ("/shop.Gone/Get", None, "14"),
        ("/shop.Slow/Wait", Some("100m"), "4"),
        ("/shop.Slow/Other", None, "12"),
        ("/shop.Full/Put", None, "8"),
    ] {
        let mut request =
            Request::post(format!("http://a.test{path}")).header("content-type", "application/grpc");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let answer = client.ask(request, vec![b"\0\0\0\0\0".to_vec()], &[]).await.unwrap();
        assert_eq!(answer.parts.status.as_u16(), 200, "{path}");
        assert_eq!(answer.parts.headers["grpc-status"], status, "{path}");
        assert!(answer.body.is_empty() && answer.parts.headers["content-type"] == "application/grpc");
    }
    gateway.counts("mirrorgate_grpc_responses_total", &["grpc_status=\"4\""], 1.0).await;
    gateway.counts("mirrorgate_grpc_responses_total", &["grpc_status=\"14\""], 1.0).await;
}
