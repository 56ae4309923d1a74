//! Reloading and draining.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::harness::{Gateway, Upstream, Wire, eventually, gateway, mirroring, replace_file, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_swaps_routes_under_load_and_keeps_connections() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gate.yaml");
    let (stays, other, mirror) =
        (Upstream::saying("stays").await, Upstream::saying("other").await, Upstream::saying("m").await);
    let base = "listeners: [127.0.0.1:0]\nadmin: off\nworkers: 2\n";
    replace_file(&file, &format!("{base}routes: [{{ backend: 'http://{}' }}]\n", stays.address));
    let gateway = Gateway::of_file(&file).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (mut wire, stop) = (gateway.connect().await, stop.clone());
        tasks.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
                assert_eq!(wire.response().await.text(), "stays");
            }
        });
    }
    eventually("requests", || stays.count() > 20).await;
    let connections = stays.connections();
    replace_file(
        &file,
        &format!(
            "{base}routes:\n  - {{ matches: [{{ path: {{ prefix: /x }} }}], backend: 'http://{}' }}\n  - {{ backend: 'http://{}', mirrors: ['http://{}'] }}\n",
            other.address, stays.address, mirror.address
        ),
    );
    mirror.received(20).await;
    assert_eq!(gateway.get("/x/y").await.text(), "other");

    replace_file(&file, "listeners: [127.0.0.1:0]\nroutes: [{ backnd: x }]\n");
    gateway.counts("mirrorgate_config_reloads_total", &["result=\"failure\""], 1.0).await;
    let copies = mirror.count();
    mirror.received(copies + 20).await;
    assert_eq!(gateway.get("/x/y").await.text(), "other");

    stop.store(true, Ordering::SeqCst);
    while let Some(done) = within("the clients", tasks.join_next()).await {
        done.unwrap();
    }
    assert_eq!(stays.connections(), connections, "an unchanged backend kept its connections");
    eventually("no copy in flight", || gateway.sum("mirrorgate_mirror_in_flight", &[]) == 0.0).await;
    assert_eq!(gateway.sum("mirrorgate_mirror_accounting_error", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_adds_and_removes_listeners() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gate.yaml");
    let upstream = Upstream::saying("ok").await;
    let text = |listeners: &str| {
        format!(
            "listeners: [{listeners}]\nadmin: off\nworkers: 2\nroutes: [{{ backend: 'http://{}' }}]\n",
            upstream.address
        )
    };
    replace_file(&file, &text("127.0.0.1:0"));
    let gateway = Gateway::of_file(&file).await;
    assert_eq!(gateway.get("/").await.text(), "ok");
    replace_file(&file, &text("127.0.0.1:0, '127.0.0.2:0'"));
    eventually("a second listener", || gateway.running().listeners().len() == 2).await;
    let second = gateway
        .running()
        .listeners()
        .into_iter()
        .map(|(_, address)| address)
        .find(|address| *address != gateway.address)
        .unwrap();
    let mut wire = Wire::connect(second).await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(wire.response().await.text(), "ok");
    replace_file(&file, &text("127.0.0.1:0"));
    eventually("the second one closed", || gateway.running().listeners().len() == 1).await;
    // Its connections go on.
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(wire.response().await.text(), "ok");
    assert_eq!(gateway.get("/").await.text(), "ok");
    within("a refusal", async {
        while tokio::net::TcpStream::connect(second).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A connection that is accepted by one worker while another is told to end is not left between them.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_not_held_up_by_who_came_at_its_last_moment() {
    let primary = Upstream::saying("ok").await;
    for _ in 0..20 {
        let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", primary.address)).await;
        let address = gateway.address;
        let knock = || async move { while tokio::net::TcpStream::connect(address).await.is_ok() {} };
        let knocking: Vec<_> = (0..8).map(|_| tokio::spawn(knock())).collect();
        gateway.get("/").await;
        assert!(within("the end of the drain", gateway.drain(Duration::ZERO)).await);
        for one in knocking {
            within("nobody is let in any more", one).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_is_in_flight_and_closes_what_is_idle() {
    let go = Arc::new(Notify::new());
    let wait = go.clone();
    let primary = Upstream::script(move |mut served| {
        let wait = wait.clone();
        async move {
            while let Some(request) = served.request().await {
                if request.line.starts_with("GET /slow") {
                    wait.notified().await;
                }
                served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let mirror = Upstream::saying("m").await;
    let gateway = mirroring(primary.address, mirror.address, "").await;
    let address = gateway.address;
    let mut idle = gateway.connect().await;
    idle.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    idle.response().await;
    let mut busy = gateway.connect().await;
    busy.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    primary.received(2).await;
    mirror.received(2).await;
    let drained = tokio::spawn(gateway.drain(Duration::ZERO));
    assert_eq!(idle.closed().await, b"");
    within("no new connection", async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(!drained.is_finished());
    go.notify_one();
    let response = busy.response().await;
    assert_eq!((response.text().as_str(), response.field("connection")), ("ok", Some("close")));
    assert!(within("the drain", drained).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_copies_too() {
    let go = Arc::new(Notify::new());
    let wait = go.clone();
    let primary = Upstream::saying("p").await;
    let mirror = Upstream::script(move |mut served| {
        let wait = wait.clone();
        async move {
            served.request().await;
            wait.notified().await;
            served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            served.wire.closed().await;
        }
    })
    .await;
    let gateway = mirroring(primary.address, mirror.address, "").await;
    let metrics = gateway.running().gateway().metrics().clone();
    assert_eq!(gateway.get("/").await.text(), "p");
    mirror.received(1).await;
    let held = metrics.mirrors();
    let drained = tokio::spawn(gateway.drain(Duration::ZERO));
    go.notify_one();
    assert!(within("the drain", drained).await.unwrap());
    let delivered = mirrorgate::mirror::outcome::Outcome::Delivered;
    assert_eq!(held[0].1.outcome_total(delivered), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_during_a_drain_is_not_copied() {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let gateway = mirroring(primary.address, mirror.address, "").await;
    let mut wire = gateway.connect().await;
    // A head that has begun before the drain is a request in flight.
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n").await;
    eventually("the connection", || gateway.running().gateway().connections() == 1).await;
    let held = gateway.running().gateway().metrics().mirrors();
    let data_plane = gateway.running().gateway().clone();
    data_plane.drain();
    wire.send("\r\n").await;
    assert_eq!(wire.response().await.text(), "p");
    assert_eq!(held[0].1.outcome_total(mirrorgate::mirror::outcome::Outcome::SkippedDraining), 1);
    assert_eq!(mirror.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_outlive_the_drain_are_cut() {
    let primary = Upstream::saying("p").await;
    let mirror = Upstream::silent().await;
    let gateway = mirroring(primary.address, mirror.address, "").await;
    assert_eq!(gateway.get("/").await.text(), "p");
    mirror.received(1).await;
    let data_plane = gateway.running().gateway().clone();
    data_plane.drain();
    data_plane.stop(Duration::from_secs(5), Duration::ZERO);
    gateway.outcome("cut_draining", 1).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_has_a_record_of_each_request_and_of_each_copy() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let (primary, mirror, nobody) =
        (Upstream::saying("p").await, Upstream::saying("m").await, Upstream::nobody().await);
    let (silent, bodiless) = (Upstream::silent().await, Upstream::saying("").await);
    let gateway = gateway(&format!(
        "access_log: {{ file: {} }}
         routes:
           - {{ name: fine, matches: [{{ path: {{ exact: /fine }} }}], backend: 'http://{}', mirrors: ['http://{}'] }}
           - {{ name: bodiless, matches: [{{ path: {{ exact: /head }} }}, {{ path: {{ exact: /nothing }} }}], backend: 'http://{}' }}
           - {{ name: refused, matches: [{{ path: {{ exact: /refused }} }}], backend: 'http://{nobody}' }}
           - {{ name: empty, matches: [{{ path: {{ exact: /empty }} }}], backend: none }}
           - {{ name: slow, matches: [{{ path: {{ exact: /slow }} }}], backend: 'http://{}', timeouts: {{ backend: 50ms }} }}
         backends: {{ none: {{ endpoints: [] }} }}",
        log.display(), primary.address, mirror.address, bodiless.address, silent.address
    ))
    .await;
    for path in ["/fine", "/refused", "/empty", "/slow", "/nowhere"] {
        gateway.get(path).await;
    }
    let mut head = gateway.connect().await;
    head.send("HEAD /head HTTP/1.1\r\nhost: test\r\n\r\n").await;
    head.response_to("HEAD").await.unwrap();
    gateway.get("/nothing").await;
    gateway.outcome("delivered", 1).await;
    let records = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    eventually("eight records", || records().len() == 8).await;
    let records = records();
    let of = |path: &str| {
        records.iter().filter(|record| record["x-envoy-origin-path"] == path).collect::<Vec<_>>()
    };
    for (path, code, flag) in
        [("/refused", 502, "UF"), ("/empty", 503, "UH"), ("/slow", 504, "UT"), ("/nowhere", 404, "NR")]
    {
        let found = of(path);
        assert_eq!(found.len(), 1, "{path}: {records:#?}");
        assert_eq!(
            (&found[0]["response_code"], &found[0]["response_flags"]),
            (&code.into(), &flag.into()),
            "{path}"
        );
    }
    for bodiless in [&of("/nothing")[0], &of("/head")[0]] {
        let said = (&bodiless["response_flags"], &bodiless["response_code_details"]);
        assert_eq!(said, (&"-".into(), &"via_upstream".into()), "{bodiless}");
    }
    let fine = of("/fine");
    assert_eq!(fine.len(), 2);
    assert!(fine[0]["x-request-id"].is_string() && fine[0]["x-request-id"] == fine[1]["x-request-id"]);
    assert!(fine.iter().any(|record| record["outcome"] == "delivered"), "{fine:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_tells_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gate.yaml");
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let good = format!(
        "listeners: [127.0.0.1:0]\nadmin: 127.0.0.1:0\nroutes: [{{ name: r, backend: app, mirrors: ['http://{}'] }}]\nbackends: {{ app: {{ endpoints: ['{}'] }} }}\n",
        mirror.address, primary.address
    );
    replace_file(&file, &good);
    let gateway = Gateway::of_file(&file).await;
    let admin = gateway.running().admin().unwrap();
    let ask = async |path: &str| {
        let mut wire = Wire::connect(admin).await;
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\n\r\n")).await;
        let response = wire.response().await;
        (response.status(), response.text())
    };
    assert_eq!(ask("/live").await.0, 200);
    // The file is looked at once more before it is: no change between reading and watching is lost.
    within("ready", async {
        while ask("/ready").await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    gateway.get("/").await;
    gateway.outcome("delivered", 1).await;
    let (_, metrics) = ask("/metrics").await;
    assert!(metrics.contains("mirrorgate_requests_total{route=\"r\",code=\"200\"} 1"), "{metrics}");
    let backends: serde_json::Value = serde_json::from_str(&ask("/backends").await.1).unwrap();
    let app = backends.as_array().unwrap().iter().find(|backend| backend["name"] == "app").unwrap();
    assert_eq!(app["endpoints"][0]["address"], primary.address.to_string());
    assert_eq!(app["lanes"], serde_json::json!(["primary"]));
    replace_file(&file, "listeners: []\nroute: x\n");
    gateway.counts("mirrorgate_config_reloads_total", &["result=\"failure\""], 1.0).await;
    let shown: serde_json::Value = serde_json::from_str(&ask("/config").await.1).unwrap();
    assert!(shown["last_reload_error"].as_str().unwrap().contains("route"), "{shown}");
    assert_eq!(gateway.get("/").await.text(), "p");
    replace_file(&file, &good);
    within("the error gone", async {
        loop {
            let shown: serde_json::Value = serde_json::from_str(&ask("/config").await.1).unwrap();
            if shown["last_reload_error"].is_null() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
