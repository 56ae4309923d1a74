//! Request bodies on their way: backpressure, early answers, `Expect: 100-continue`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::harness::{End, Served, Upstream, eventually, gateway, mirroring, noise, within};

fn only(upstream: &Upstream) -> String {
    format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_primary_stops_the_client() {
    let go = Arc::new(Notify::new());
    let wait = go.clone();
    let primary = Upstream::script(move |mut served| {
        let wait = wait.clone();
        async move {
            let Some(head) = served.wire.head().await else { return };
            wait.notified().await;
            let request = served.wire.body_of(head, false).await;
            served.remember(&request);
            served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = gateway(&only(&primary)).await;
    let body = noise(1, 64 << 20);
    let mut client = gateway.connect().await;
    client.send(format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len())).await;
    let taken = client.send_until_blocked(&body, Duration::from_millis(300)).await;
    // What the kernel's buffers of two connections hold on loopback, at most, and ours.
    assert!(taken < 24 << 20, "{taken} bytes taken that nobody has read");
    go.notify_one();
    assert!(within("the rest", client.push(&body[taken..])).await);
    assert_eq!(client.response().await.status(), 200);
    assert!(primary.received(1).await[0].body == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_stops_the_primary() {
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = sent.clone();
    let size: usize = 64 << 20;
    let primary = Upstream::script(move |mut served| {
        let count = count.clone();
        async move {
            served.request().await;
            let body = noise(2, size);
            served.wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n")).await;
            for chunk in body.chunks(64 * 1024) {
                if !served.wire.push(chunk).await {
                    return;
                }
                count.fetch_add(chunk.len(), std::sync::atomic::Ordering::SeqCst);
            }
        }
    })
    .await;
    let gateway = gateway(&only(&primary)).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut last = usize::MAX;
    while last != sent.load(std::sync::atomic::Ordering::SeqCst) || last == 0 {
        last = sent.load(std::sync::atomic::Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(last < 24 << 20, "{last} bytes sent that nobody has read");
    let response = client.response().await;
    assert!(response.body == noise(2, size));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_an_early_answer() {
    let (answered, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let script = |early: bool, done: Arc<Notify>| {
        move |mut served: Served| {
            let done = done.clone();
            async move {
                while let Some(head) = served.wire.head().await {
                    if early {
                        served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly").await;
                    }
                    let request = served.wire.body_of(head, false).await;
                    served.remember(&request);
                    if !early {
                        served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                    done.notify_one();
                }
            }
        }
    };
    let primary = Upstream::script(script(true, done.clone())).await;
    let mirror = Upstream::script(script(false, answered.clone())).await;
    let gateway = mirroring(primary.address, mirror.address, "budget: { lag: 16MiB }").await;
    let body = noise(3, 3 << 20);
    let mut client = gateway.connect().await;
    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len())).await;
    client.send(&body[..1000]).await;
    assert_eq!(client.response().await.text(), "early");
    assert!(client.push(&body[1000..]).await);
    within("the primary's end", done.notified()).await;
    assert!(primary.requests()[0].body == body);
    assert!(mirror.received(1).await[0].body == body);
    // The connection serves on.
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await;
    assert_eq!(client.response().await.text(), "early");
    gateway.outcome("delivered", 2).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_refusal_reaches_the_client_although_the_primary_closed() {
    let primary = Upstream::script(|mut served| async move {
        served.wire.head().await;
        served.wire.send("HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig").await;
    })
    .await;
    let mirror = Upstream::saying("m").await;
    let gateway = mirroring(primary.address, mirror.address, "").await;
    for size in [100, 100_000, 900_000] {
        let body = noise(4, size);
        let mut client = gateway.connect().await;
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n")).await;
        client.send(&body[..size / 2]).await;
        let response = client.response().await;
        assert_eq!((response.status(), response.text().as_str()), (413, "big"), "{size}");
        client.send(&body[size / 2..]).await;
    }
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expect_is_answered_when_the_primary_takes_the_body() {
    let go = Arc::new(Notify::new());
    let wait = go.clone();
    let primary = Upstream::script(move |mut served| {
        let wait = wait.clone();
        async move {
            while let Some(head) = served.wire.head().await {
                assert_eq!(head.field("expect"), Some("100-continue"));
                wait.notified().await;
                served.wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
                let request = served.wire.body_of(head, false).await;
                served.remember(&request);
                served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    let mirror = Upstream::saying("m").await;
    let gateway = mirroring(primary.address, mirror.address, "").await;
    let mut client = gateway.connect().await;
    for round in 1..=2 {
        client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").await;
        go.notify_one();
        let response = client.response_to("POST").await.unwrap();
        assert_eq!(response.status(), 100);
        client.send("hi").await;
        assert_eq!(client.response_to("POST").await.unwrap().status(), 200);
        let copy = mirror.received(round).await.remove(round - 1);
        assert_eq!((copy.field("expect"), copy.text().as_str()), (None, "hi"));
    }
    assert_eq!(primary.connections(), 1);
    gateway.outcome("delivered", 2).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_does_not_know_expect_gets_the_body_all_the_same() {
    let primary = Upstream::saying("ok").await;
    let gateway = gateway(&only(&primary)).await;
    let mut client = gateway.connect().await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").await;
    assert_eq!(client.response_to("POST").await.unwrap().status(), 100);
    client.send("hi").await;
    assert_eq!(client.response().await.text(), "ok");
    assert_eq!(primary.requests()[0].text(), "hi");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_expectation_reaches_the_client_and_no_100_does() {
    let primary = Upstream::script(|mut served| async move {
        let Some(head) = served.wire.head().await else { return };
        served.remember(&head);
        served.wire.send("HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig").await;
        // The body was declared and never sent, so nothing else may come on this connection.
        let rest = served.wire.closed().await;
        assert_eq!(rest, b"");
    })
    .await;
    let mirror = Upstream::script(|mut served| async move {
        served.request().await;
    })
    .await;
    let gateway = mirroring(primary.address, mirror.address, "").await;
    let mut client = gateway.connect().await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2000\r\n\r\n").await;
    let response = client.response_to("POST").await.unwrap();
    assert_eq!((response.status(), response.text().as_str()), (413, "big"));
    // A client that now sends another request must not have it taken for the body.
    client.send("GET /next HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.closed().await, b"");
    eventually("the primary's connection closed", || primary.open() == 0).await;
    assert_eq!(primary.count(), 1);
    assert_eq!(mirror.received(1).await[0].end, End::Cut);
    gateway.outcome("cut_client_gone", 1).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_both_ways_at_once() {
    let primary = Upstream::answering(|request| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}",
            2 * request.body.len(),
            "ab".repeat(request.body.len())
        )
    })
    .await;
    let mirror = Upstream::saying("m").await;
    let gateway = mirroring(primary.address, mirror.address, "budget: { lag: 16MiB }").await;
    let body = noise(9, 8 << 20);
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
    let response = gateway.ask([head.as_bytes(), &body].concat()).await;
    assert_eq!((response.body.len(), response.end), (16 << 20, End::Complete));
    assert!(mirror.received(1).await[0].body == body);
    gateway.outcome("delivered", 1).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_closes_in_the_middle_of_an_upload_is_502() {
    for reset in [false, true] {
        let primary = Upstream::script(move |mut served| async move {
            served.wire.head().await;
            served.wire.more().await;
            if reset {
                served.reset();
            }
        })
        .await;
        let gateway = gateway(&only(&primary)).await;
        let mut client = gateway.connect().await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 500000\r\n\r\n").await;
        client.send(noise(1, 400_000)).await;
        assert_eq!(client.response().await.status(), 502, "{reset}");
        client.send(noise(1, 100_000)).await;
    }
}
