//! Endpoints that come, go, fail and are tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mirrorgate::shard::Lane;

use crate::harness::{GET, Gateway, Load, Message, POST, Upstream, eventually, gateway, replace_file};

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_endpoint_is_passed_over_for_any_request() {
    let upstream = Upstream::saying("ok").await;
    let nobody = Upstream::nobody().await;
    let gateway = gateway(&format!(
        "routes: [{{ backend: app }}]\nbackends: {{ app: {{ endpoints: ['{nobody}', '{}'] }} }}",
        upstream.address
    ))
    .await;
    for _ in 0..30 {
        assert_eq!(gateway.get("/").await.text(), "ok");
        let posted = gateway.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody").await;
        assert_eq!(posted.text(), "ok");
    }
    let bodies: Vec<_> =
        upstream.requests().into_iter().filter(|request| request.line.starts_with("POST")).collect();
    assert!(bodies.len() == 30 && bodies.iter().all(|request| request.text() == "body"));
    assert!(gateway.sum("mirrorgate_upstream_retries_total", &["lane=\"primary\""]) > 0.0);
}

/// Answers the first request of each connection and closes when it gets the second.
async fn closing_after_one() -> (Upstream, Arc<AtomicUsize>) {
    let seconds = Arc::new(AtomicUsize::new(0));
    let count = seconds.clone();
    let upstream = Upstream::script(move |mut served| {
        let count = count.clone();
        async move {
            served.request().await;
            served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            if served.request().await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    (upstream, seconds)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_request_on_a_connection_that_closes_is_repeated_once() {
    let (upstream, seconds) = closing_after_one().await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let mut client = gateway.connect().await;
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.response().await.status(), 200);
    }
    assert!(seconds.load(Ordering::SeqCst) > 0, "no connection was used twice");
    gateway.counts("mirrorgate_upstream_retries_total", &[], seconds.load(Ordering::SeqCst) as f64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_on_a_connection_that_closes_is_not_repeated() {
    let (upstream, _) = closing_after_one().await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 200);
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await;
    assert_eq!(client.response().await.status(), 502);
    let posts = upstream.requests().iter().filter(|request| request.line.starts_with("POST")).count();
    assert_eq!(posts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_a_route_may_repeat_goes_to_somebody_else_or_nowhere() {
    let (upstream, _) = closing_after_one().await;
    let app = |endpoints: &str| {
        format!(
            "routes: [{{ backend: app, retries: {{ attempts: 3, on: [reset] }} }}]\n\
             backends: {{ app: {{ ejection: off, endpoints: [{endpoints}] }} }}"
        )
    };
    let alone = gateway(&app(&format!("'{}'", upstream.address))).await;
    let mut client = alone.connect().await;
    client.send(GET).await;
    assert_eq!(client.response().await.status(), 200);
    client.send(POST).await;
    assert_eq!(client.response().await.status(), 502);
    let posts = |upstream: &Upstream| -> Vec<Message> {
        upstream.requests().into_iter().filter(|request| request.line.starts_with("POST")).collect()
    };
    assert_eq!(posts(&upstream).len(), 1, "never to an endpoint that it was sent to");

    let other = Upstream::saying("other").await;
    let two = gateway(&app(&format!("'{}', '{}'", upstream.address, other.address))).await;
    let mut client = two.connect().await;
    let mut sent = 1;
    while posts(&upstream).len() + posts(&other).len() == sent {
        for request in [GET, POST] {
            client.send(request).await;
            assert_eq!(client.response().await.status(), 200);
        }
        sent += 1;
    }
    assert!(posts(&other).iter().all(|request| request.text() == "abc"), "sent again as a whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_got_a_byte_of_an_answer_is_not_repeated() {
    let upstream = Upstream::script(|mut served| async move {
        served.request().await;
        served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        served.request().await;
        served.wire.send("HTTP/1").await;
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let mut client = gateway.connect().await;
    for status in [200, 502] {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.response().await.status(), status);
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_upstream_closed_while_idle_is_not_used() {
    let upstream = Upstream::script(|mut served| async move {
        served.request().await;
        served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let mut client = gateway.connect().await;
    for count in 1..=20 {
        // The response may be here before the close is seen: a POST on such a connection could fail.
        client.send("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "ok");
        assert_eq!(upstream.connections(), count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_of_backends_and_endpoints_are_honoured() {
    let (one, two, three) =
        (Upstream::saying("1").await, Upstream::saying("2").await, Upstream::saying("3").await);
    let gateway = gateway(&format!(
        "routes: [{{ backends: [{{ backend: app, weight: 3 }}, {{ backend: 'http://{}', weight: 1 }}] }}]
         backends: {{ app: {{ endpoints: [{{ address: '{}', weight: 3 }}, {{ address: '{}', weight: 0 }}] }} }}",
        two.address, one.address, three.address
    ))
    .await;
    let mut client = gateway.connect().await;
    for _ in 0..400 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        client.response().await;
    }
    // Six standard deviations around 300.
    assert!((248..=352).contains(&one.count()), "{}", one.count());
    assert_eq!((one.count() + two.count(), three.count()), (400, 0));
}

fn endpoint_file(path: &std::path::Path, upstreams: &[&Upstream]) {
    let list: Vec<_> = upstreams.iter().map(|upstream| format!("'{}'", upstream.address)).collect();
    replace_file(path, &format!("endpoints: [{}]\n", list.join(", ")));
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_replaced_under_load_without_a_failed_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.yaml");
    let upstreams = [
        Upstream::saying("0").await,
        Upstream::saying("1").await,
        Upstream::saying("2").await,
        Upstream::saying("3").await,
    ];
    let mirror = Upstream::saying("m").await;
    endpoint_file(&file, &[&upstreams[0], &upstreams[1]]);
    let text = format!(
        "listeners: [127.0.0.1:0]\nadmin: off\nworkers: 2\n\
         routes: [{{ backend: app, mirrors: [app, 'http://{}'] }}]\nbackends: {{ app: {{ file: app.yaml }} }}\n",
        mirror.address
    );
    let gateway = Gateway::start(&text, folder.path(), None).await;
    let mut load = Load::start(&gateway, [GET, POST].into_iter().cycle().take(12)).await;
    for swap in 1..=20 {
        let generation = gateway.sum("mirrorgate_backend_generation", &["backend=\"app\""]);
        endpoint_file(&file, &[&upstreams[swap % 4], &upstreams[(swap + 1) % 4]]);
        gateway.counts("mirrorgate_backend_generation", &["backend=\"app\""], generation + 1.0).await;
        load.goes_on(25).await;
    }
    assert!(load.stop().await >= 500);
    gateway.settled().await;
    // What was removed keeps no connection; idle ones of what stays are still there.
    let removed = [&upstreams[2], &upstreams[3]];
    eventually("no connection to removed endpoints", || removed.iter().all(|upstream| upstream.open() == 0))
        .await;
    assert!(upstreams[0].open() > 0 && upstreams[1].open() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_endpoint_keeps_its_connection_and_a_removed_one_loses_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.yaml");
    let (stays, goes) = (Upstream::saying("stays").await, Upstream::saying("goes").await);
    endpoint_file(&file, &[&stays, &goes]);
    let text = "listeners: [127.0.0.1:0]\nadmin: off\nworkers: 1\nroutes: [{ backend: app }]\nbackends: { app: { file: app.yaml } }\n";
    let gateway = Gateway::start(text, folder.path(), None).await;
    while stays.connections() == 0 || goes.connections() == 0 {
        gateway.get("/").await;
    }
    let before = stays.connections();
    endpoint_file(&file, &[&stays]);
    eventually("the removed one's connections closed", || goes.open() == 0).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.text(), "stays");
    }
    assert_eq!(stays.connections(), before);
    let backends = gateway.running().registry().live();
    let set = backends[0].endpoints();
    assert_eq!(set.entries()[0].endpoint.load(Lane::Primary), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_endpoint_file_keeps_the_last_good_set() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.yaml");
    let upstream = Upstream::saying("ok").await;
    endpoint_file(&file, &[&upstream]);
    let text = "listeners: [127.0.0.1:0]\nadmin: off\nroutes: [{ backend: app }]\nbackends: { app: { file: app.yaml } }\n";
    let gateway = Gateway::start(text, folder.path(), None).await;
    assert_eq!(gateway.get("/").await.text(), "ok");
    std::fs::write(&file, "endpoints: [127.0.0.1:1, nonsense").unwrap();
    let backend = gateway.running().registry().live().remove(0);
    eventually("the error shown", || backend.freshness().last_error.is_some()).await;
    assert_eq!(gateway.sum("mirrorgate_backend_source_failing", &["backend=\"app\""]), 1.0);
    assert!(gateway.sum("mirrorgate_backend_source_failures_total", &["backend=\"app\""]) >= 1.0);
    assert_eq!(gateway.get("/").await.text(), "ok");
    endpoint_file(&file, &[]);
    eventually("an empty set obeyed", || backend.endpoints().is_empty()).await;
    gateway.counts("mirrorgate_backend_source_failing", &["backend=\"app\""], 0.0).await;
    assert_eq!(gateway.get("/").await.status(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_endpoint_finishes_what_is_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.yaml");
    let go = Arc::new(tokio::sync::Notify::new());
    let wait = go.clone();
    let slow = Upstream::script(move |mut served| {
        let wait = wait.clone();
        async move {
            served.request().await;
            served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").await;
            wait.notified().await;
            served.wire.send("lf").await;
            assert_eq!(served.wire.closed().await, b"");
        }
    })
    .await;
    let next = Upstream::saying("next").await;
    endpoint_file(&file, &[&slow]);
    let text = "listeners: [127.0.0.1:0]\nadmin: off\nroutes: [{ backend: app }]\nbackends: { app: { file: app.yaml } }\n";
    let gateway = Gateway::start(text, folder.path(), None).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    slow.received(1).await;
    endpoint_file(&file, &[&next]);
    gateway.counts("mirrorgate_backend_generation", &[], 2.0).await;
    assert_eq!(gateway.get("/").await.text(), "next");
    go.notify_one();
    let response: Message = client.response().await;
    assert_eq!(response.text(), "half");
    eventually("its connection closed", || slow.open() == 0).await;
}
