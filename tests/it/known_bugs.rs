//! What other gateways got wrong with mirrors, as cases. Each names the report that it is made from.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::harness::{End, Upstream, eventually, gateway, mirroring, noise, within};

/// A body that is sent again to another endpoint was corrupted by the copy's reading of it
/// (traefik/traefik#12988); and what is sent twice is no second request for the mirror.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_again_is_exact_and_copied_once() {
    let failing = Upstream::answering(|_| "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".into()).await;
    let resetting = Upstream::resetting().await;
    for bad in [failing, resetting] {
        let (good, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
        let gateway = gateway(&format!(
            "routes: [{{ backend: app, retries: {{ attempts: 3, on: [connect, reset, 502-504] }}, mirrors: ['http://{}'] }}]\n\
             backends: {{ app: {{ ejection: off, endpoints: ['{}', '{}'] }} }}",
            mirror.address, bad.address, good.address
        ))
        .await;
        let mut client = gateway.connect().await;
        let mut bodies = Vec::new();
        while bad.count() < 5 {
            let size = [3, 4_000, 30_000][bodies.len() % 3];
            let body = noise(bodies.len() as u64, size);
            let head =
                format!("POST /{} HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n", bodies.len());
            client.send([head.as_bytes(), &body].concat()).await;
            assert_eq!(client.response().await.text(), "p");
            bodies.push(body);
        }
        gateway.outcome("delivered", bodies.len() as u64).await;
        gateway.settled().await;
        for side in [&good, &mirror] {
            let got = side.requests();
            assert_eq!(got.len(), bodies.len(), "each request once");
            for request in got {
                let number: usize = request.line[6..].split(' ').next().unwrap().parse().unwrap();
                assert!(request.body == bodies[number] && request.end == End::Complete, "request {number}");
            }
        }
    }
}

/// A body over a limit was mirrored as nothing, and nobody was told (istio/istio#58870).
#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_any_size_is_copied() {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    // With room for all of it nothing depends on how fast either side reads.
    let gateway = mirroring(primary.address, mirror.address, "timeout: 1m, budget: { lag: 60MiB }").await;
    let mut client = gateway.connect().await;
    for (number, mebibytes) in [1, 2, 9, 33].into_iter().enumerate() {
        let body = noise(number as u64, mebibytes << 20);
        client.send(format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len())).await;
        assert!(within("the upload", client.push(&body)).await);
        assert_eq!(client.response().await.text(), "p");
        for side in [&primary, &mirror] {
            let got = side.received(number + 1).await.swap_remove(number);
            assert!(got.body == body && got.end == End::Complete, "{mebibytes} MiB");
        }
    }
    gateway.outcome("delivered", 4).await;
    gateway.settled().await;
}

/// A client's connection waited for the mirror of its last request (nginx, apache/apisix#6536), and
/// after some hundred of them nobody was served.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_does_not_wait_for_the_mirror_of_its_last_request() {
    let primary = Upstream::saying("p").await;
    let mirror = Upstream::silent().await;
    let gateway = mirroring(primary.address, mirror.address, "timeout: 1h, budget: { in_flight: 100 }").await;
    let mut client = gateway.connect().await;
    for _ in 0..300 {
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await;
        assert_eq!(client.response().await.text(), "p");
    }
    gateway.outcome("skipped_in_flight", 200).await;
    assert_eq!(gateway.sum("mirrorgate_mirror_in_flight", &[]), 100.0);
    drop(mirror);
    gateway.outcome("failed_reset", 100).await;
    gateway.settled().await;
}

/// A mirror without pods answered the client 404 (traefik/traefik#10120) or 500
/// (envoyproxy/gateway#8673).
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_not_there_is_not_the_clients_fault() {
    let primary = Upstream::saying("p").await;
    for (backend, outcome) in
        [("{ endpoints: [] }", "skipped_no_endpoints"), ("{ dns: 'nothing-here.invalid:80' }", "failed_dns")]
    {
        let gateway = gateway(&format!(
            "routes: [{{ backend: 'http://{}', mirrors: [gone] }}]\nbackends: {{ gone: {backend} }}",
            primary.address
        ))
        .await;
        if outcome == "failed_dns" {
            let gone = || gateway.running().gateway().table().routes()[0].mirrors[0].backend.is_unresolved();
            eventually("the name looked up", gone).await;
        }
        let mut client = gateway.connect().await;
        for _ in 0..20 {
            client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await;
            let answer = client.response().await;
            assert_eq!((answer.status(), answer.text().as_str()), (200, "p"), "{backend}");
        }
        gateway.outcome(outcome, 20).await;
        gateway.settled().await;
    }
}

/// An answer that never ends is not read for as long as the request lasts.
#[tokio::test(flavor = "multi_thread")]
async fn an_endless_answer_to_a_long_upload_is_not_read_for_ever() {
    let primary = Upstream::saying("p").await;
    let (told, mut taken) = mpsc::unbounded_channel();
    let mirror = Upstream::script(move |mut served| {
        let told = told.clone();
        async move {
            let Some(head) = served.wire.head().await else { return };
            served.wire.send("HTTP/1.1 200 OK\r\n\r\n").await;
            let answer = vec![b'x'; 64 << 20];
            told.send(served.wire.send_until_blocked(&answer, Duration::from_millis(500)).await).unwrap();
            let request = served.wire.body_of(head, false).await;
            served.remember(&request);
            served.hang().await;
        }
    })
    .await;
    let gateway = mirroring(primary.address, mirror.address, "").await;
    let body = noise(8, 500_000);
    let (first, rest) = body.split_at(1_000);
    let mut client = gateway.connect().await;
    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len())).await;
    client.send(first).await;
    let taken = within("the mirror's answer", taken.recv()).await.unwrap();
    assert!(taken < 32 << 20, "{taken} bytes of the answer were taken before the request was complete");
    client.send(rest).await;
    assert_eq!(client.response().await.text(), "p");
    assert!(primary.received(1).await[0].body == body);
    // It was cut off in its answer, and may not have got the last of what was on its way by then.
    assert!(body.starts_with(&mirror.received(1).await[0].body));
    gateway.outcome("delivered", 1).await;
    gateway.counts("mirrorgate_mirror_unread_answers_total", &[], 1.0).await;
    gateway.settled().await;
}
