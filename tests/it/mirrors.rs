//! Mirrors as a person meets them: chosen, edited, dialled, stopped, and never copied in a circle.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Instant;

use mirrorgate::mirror::Mirror;
use mirrorgate::mirror::dial::{DialState, Order};
use mirrorgate::plan::Fraction;

use crate::harness::{Gateway, Upstream, eventually, gateway, mirroring, replace_file, within};

fn mirrors_of(gateway: &Gateway) -> Vec<Arc<Mirror>> {
    gateway.running().gateway().table().routes().iter().flat_map(|route| route.mirrors.clone()).collect()
}

/// A free port below those that the system gives to whoever asks for any: nobody takes it meanwhile.
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 22_000 + (std::process::id() % 400) as u16 * 20;
    let ports = std::iter::from_fn(|| Some(first + NEXT.fetch_add(1, Ordering::Relaxed)));
    ports.take(1000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_the_gateway_itself_ends_at_once() {
    let primary = Upstream::saying("p").await;
    let port = port();
    let text = format!(
        "listeners: ['127.0.0.1:{port}']\nadmin: off\n\
         routes: [{{ backend: 'http://{}', mirrors: ['http://127.0.0.1:{port}'] }}]",
        primary.address
    );
    let gateway = Gateway::start(&text, std::path::Path::new(""), None).await;
    for _ in 0..5 {
        assert_eq!(
            gateway.ask("GET / HTTP/1.1\r\nhost: a\r\nx-mirrorgate-copy: 1\r\n\r\n").await.text(),
            "p"
        );
    }
    gateway.outcome("delivered", 5).await;
    gateway.outcome("skipped_loop", 5).await;
    gateway.settled().await;
    assert_eq!(primary.count(), 10, "each request and its one copy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_through_another_gateway_ends_where_it_began() {
    let primary = Upstream::saying("p").await;
    let ports = [port(), port()];
    let start = async |own: u16, other: u16| {
        let text = format!(
            "listeners: ['127.0.0.1:{own}']\nadmin: off\n\
             routes: [{{ backend: 'http://{}', mirrors: ['http://127.0.0.1:{other}'] }}]",
            primary.address
        );
        Gateway::start(&text, std::path::Path::new(""), None).await
    };
    let (one, other) = (start(ports[0], ports[1]).await, start(ports[1], ports[0]).await);
    assert_eq!(one.get("/").await.text(), "p");
    one.outcome("delivered", 1).await;
    other.outcome("delivered", 1).await;
    one.outcome("skipped_loop", 1).await;
    assert_eq!(primary.count(), 3, "the request, its copy, and the copy of that, which came back");
    one.settled().await;
    other.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mirror_has_its_own_conditions_and_edits() {
    let (primary, one, two) =
        (Upstream::saying("p").await, Upstream::saying("1").await, Upstream::saying("2").await);
    let gateway = gateway(&format!(
        "routes: [{{ backend: 'http://{}', matches: [{{ path: {{ prefix: /api }} }}], filters: {{ path: {{ prefix: /v2 }} }}, mirrors: [\
         {{ backend: 'http://{}', matches: [{{ headers: {{ x-env: test }} }}], path: {{ prefix: /shadow }}, strip: credentials }},\
         {{ backend: 'http://{}', methods: [GET], host: other.test }}] }}]",
        primary.address, one.address, two.address
    ))
    .await;
    let head = "host: a\r\nx-env: test\r\nauthorization: secret\r\ncontent-length: 0\r\n\r\n";
    gateway.ask(format!("POST /api/x?q HTTP/1.1\r\n{head}")).await;
    gateway.ask("GET /api/y HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let copy = one.received(1).await.swap_remove(0);
    assert_eq!((copy.line.as_str(), copy.field("authorization")), ("POST /shadow/x?q HTTP/1.1", None));
    let copy = two.received(1).await.swap_remove(0);
    assert_eq!((copy.line.as_str(), copy.field("host")), ("GET /v2/y HTTP/1.1", Some("other.test")));
    let original = primary.received(2).await.swap_remove(0);
    assert_eq!(
        (original.line.as_str(), original.field("authorization")),
        ("POST /v2/x?q HTTP/1.1", Some("secret"))
    );
    gateway.outcome("delivered", 2).await;
    gateway.outcome("skipped_condition", 1).await;
    gateway.outcome("skipped_method", 1).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dialled_survives_a_reload_until_the_file_says_otherwise() {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.yaml");
    let write = |percent: u32, more: &str| {
        let text = format!(
            "listeners: ['127.0.0.1:0']\nadmin: off\nroutes:\n- name: api\n  backend: 'http://{}'\n  mirrors:\n  - {{ backend: 'http://{}', percent: {percent} }}\n{more}",
            primary.address, mirror.address
        );
        replace_file(&path, &text);
    };
    write(100, "");
    let gateway = Gateway::of_file(&path).await;
    // Nothing waits for a mirror's endpoints, which come from a task of their own.
    eventually("the mirror's endpoints", || !mirrors_of(&gateway)[0].backend.endpoints().is_empty()).await;
    gateway.get("/").await;
    gateway.outcome("delivered", 1).await;
    let before = mirrors_of(&gateway);
    before[0].budget.dial().turn(Order::Pause, Instant::now());
    gateway.get("/").await;
    gateway.outcome("skipped_paused", 1).await;

    let other_route =
        format!("- {{ name: other, hosts: [o.test], backend: 'http://{}' }}\n", primary.address);
    write(100, &other_route);
    eventually("the new table", || gateway.running().gateway().table().routes().len() == 2).await;
    gateway.get("/").await;
    gateway.outcome("skipped_paused", 2).await;

    before[0].budget.dial().turn(Order::Share(Fraction { numerator: 0, denominator: 100 }), Instant::now());
    before[0].budget.dial().turn(Order::Resume, Instant::now());
    gateway.get("/").await;
    gateway.outcome("skipped_sampled_out", 1).await;
    write(99, &other_route);
    eventually("the file's own share", || {
        let view = mirrors_of(&gateway)[0].budget.dial().view(Instant::now());
        !view.set_by_hand && view.fraction == Fraction { numerator: 99, denominator: 100 }
    })
    .await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_fails_is_stopped_and_its_primary_never_knows() {
    let primary = Upstream::saying("p").await;
    let mirror = Upstream::answering(|_| "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".into()).await;
    let gateway =
        mirroring(primary.address, mirror.address, "stop: { error_rate: 0.5, minimum: 10, window: 1h }")
            .await;
    let dialled = mirrors_of(&gateway);
    let mut client = gateway.connect().await;
    let stopped = || matches!(dialled[0].budget.dial().view(Instant::now()).state, DialState::Stopped(_));
    while !stopped() {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "p");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let skipped = gateway.sum("mirrorgate_mirror_requests_total", &["outcome=\"skipped_stopped\""]);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "p");
    gateway.counts("mirrorgate_mirror_requests_total", &["outcome=\"skipped_stopped\""], skipped + 1.0).await;
    gateway.counts("mirrorgate_mirror_stops_total", &[], 1.0).await;
    gateway.counts("mirrorgate_mirror_state", &["state=\"stopped\""], 1.0).await;
    assert!(gateway.sum("mirrorgate_mirror_agreement_total", &["agreement=\"mirror_failed\""]) >= 10.0);
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ramp_goes_up_while_its_mirror_does_well_and_stops_when_it_does_not() {
    let primary = Upstream::saying("p").await;
    let fails = Arc::new(AtomicBool::new(false));
    let failing = fails.clone();
    let mirror = Upstream::answering(move |_| {
        let status = if failing.load(Ordering::SeqCst) { "500 No" } else { "200 OK" };
        format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")
    })
    .await;
    let gateway = gateway(&format!(
        "routes: [{{ backend: 'http://{}', mirrors: [{{ backend: 'http://{}', \
         ramp: {{ steps: [10, 25, 100], every: 10ms }}, stop: {{ error_rate: 0.5, minimum: 10, window: 1h }} }}] }}]",
        primary.address, mirror.address
    ))
    .await;
    let dialled = mirrors_of(&gateway);
    let view = || dialled[0].budget.dial().view(Instant::now());
    assert_eq!((view().fraction.percent(), view().step), (10.0, Some((1, 3))));
    let mut client = gateway.connect().await;
    let mut steps = Vec::new();
    let ramped = async {
        while view().step != Some((3, 3)) {
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert_eq!(client.response().await.text(), "p");
            steps.extend(view().step.filter(|step| steps.last() != Some(step)));
        }
    };
    within("the last step", ramped).await;
    assert_eq!(steps, [(1, 3), (2, 3), (3, 3)], "one after the other");
    gateway.settled().await;
    let copied = mirror.count();
    let skipped = gateway.sum("mirrorgate_mirror_requests_total", &["outcome=\"skipped_sampled_out\""]);
    assert!(copied > 0 && skipped > copied as f64, "{copied} copied, {skipped} not");
    for _ in 0..20 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "p");
    }
    gateway.outcome("delivered", copied as u64 + 20).await;
    gateway.outcome("skipped_sampled_out", skipped as u64).await;

    fails.store(true, Ordering::SeqCst);
    let stopped = async {
        while !matches!(view().state, DialState::Stopped(_)) {
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert_eq!(client.response().await.text(), "p");
        }
    };
    within("the stop", stopped).await;
    gateway.settled().await;
}
