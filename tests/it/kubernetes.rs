//! Kubernetes resources from files, over real sockets.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mirrorgate::app::{Origin, ResourceOptions};
use mirrorgate::gateway_api::resources::Key;
use mirrorgate::gateway_api::translate::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::gateway_api::certificates::Certificates;
use crate::gateway_api::client;
use crate::gateway_api::cluster::INFRA;
use crate::harness::{Gateway, Upstream, Wire, eventually, within};

/// A Gateway, and a Service for its primaries.
const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: g }
spec:
  gatewayClassName: mirrorgate
  addresses: [{ value: 127.0.0.1 }]
  listeners: [{ name: http, port: 0, protocol: HTTP }]
---
apiVersion: v1
kind: Service
metadata: { name: app }
spec: { ports: [{ port: 80 }] }
---
";

const MIRRORED: &str = "
apiVersion: v1
kind: Service
metadata: { name: next }
spec: { ports: [{ port: 80 }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: r }
spec:
  parentRefs: [{ name: g }]
  rules:
  - matches: [{ path: { type: PathPrefix, value: /broken } }]
    backendRefs: [{ name: missing, port: 80 }]
  - backendRefs: [{ name: app, port: 80 }]
    filters:
    - { type: RequestMirror, requestMirror: { backendRef: { name: next, port: 80 } } }
    - { type: RequestMirror, requestMirror: { backendRef: { name: missing, port: 80 } } }
";

fn write_resources(folder: &Path, gateway: &str, routes: &str) {
    std::fs::write(folder.join("resources.yaml"), format!("{gateway}{routes}")).unwrap();
}

/// Writes the EndpointSlices of `service`, one for each of `upstreams` with its readiness.
fn write_slices(folder: &Path, service: &str, upstreams: &[(&Upstream, bool)]) {
    let slices: Vec<_> = upstreams
        .iter()
        .map(|(upstream, ready)| {
            let port = upstream.address.port();
            format!(
                "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: {service}-{port}, labels: {{ kubernetes.io/service-name: {service} }} }}
addressType: IPv4
ports: [{{ port: {port} }}]
endpoints: [{{ addresses: [127.0.0.1], conditions: {{ ready: {ready}, serving: {ready} }} }}]
"
            )
        })
        .collect();
    let new = folder.join(format!(".{service}"));
    std::fs::write(&new, slices.join("---\n")).unwrap();
    std::fs::rename(new, folder.join(format!("{service}-slices.yaml"))).unwrap();
}

async fn gateway(folder: &Path) -> Gateway {
    gateway_beside(folder, None).await
}

async fn gateway_beside(folder: &Path, config: Option<PathBuf>) -> Gateway {
    Gateway::of(Origin::Manifests {
        path: folder.to_owned(),
        resources: ResourceOptions {
            config,
            admin: Some("off".to_owned()),
            settings: Settings { any_class: true, ..Settings::default() },
            ..ResourceOptions::default()
        },
    })
    .await
}

fn endpoints(gateway: &Gateway, backend: &str) -> Vec<String> {
    let live = gateway.running().registry().live();
    let backend = live.iter().find(|one| &**one.name() == backend).unwrap();
    let mut addresses: Vec<_> =
        backend.endpoints().entries().iter().map(|entry| entry.endpoint.address().to_string()).collect();
    addresses.sort();
    addresses
}

/// envoyproxy/gateway#5495: pods of the mirrored Service are replaced one after the other, and copies
/// must follow, although no route changes.
#[tokio::test(flavor = "multi_thread")]
async fn copies_follow_a_rolling_update_of_the_mirrored_service() {
    let folder = tempfile::tempdir().unwrap();
    let app = Upstream::saying("app").await;
    let (old_1, old_2) = (Upstream::saying("old").await, Upstream::saying("old").await);
    let (new_1, new_2) = (Upstream::saying("new").await, Upstream::saying("new").await);
    write_resources(folder.path(), GATEWAY, MIRRORED);
    write_slices(folder.path(), "app", &[(&app, true)]);
    write_slices(folder.path(), "next", &[(&old_1, true), (&old_2, true)]);
    let gateway = gateway(folder.path()).await;
    let table = gateway.running().gateway().table().clone();

    let mut sent = 0;
    let steps: [&[(&Upstream, bool)]; 4] = [
        &[(&old_1, true), (&old_2, true)],
        &[(&old_1, false), (&old_2, true), (&new_1, true)],
        &[(&old_2, false), (&new_1, true), (&new_2, false)],
        &[(&new_1, true), (&new_2, true)],
    ];
    for step in steps {
        write_slices(folder.path(), "next", step);
        let mut wanted: Vec<_> = step
            .iter()
            .filter(|(_, ready)| *ready)
            .map(|(upstream, _)| upstream.address.to_string())
            .collect();
        wanted.sort();
        eventually("the set of the mirror is published", || endpoints(&gateway, "default/next:80") == wanted)
            .await;
        let counts = || {
            [&old_1, &old_2, &new_1, &new_2].map(|upstream| (upstream.address.to_string(), upstream.count()))
        };
        let before = counts();
        for _ in 0..20 {
            assert_eq!(gateway.get("/").await.text(), "app");
        }
        sent += 20;
        gateway.outcome("delivered", sent).await;
        for ((address, before), (_, after)) in before.into_iter().zip(counts()) {
            let takes = wanted.contains(&address);
            assert!(takes || before == after, "{address} is gone and got {} copies", after - before);
        }
    }
    assert_eq!(app.count(), 80);
    assert_eq!(gateway.sum("mirrorgate_requests_to_removed_endpoints_total", &[]), 0.0);
    assert!(Arc::ptr_eq(&table, &gateway.running().gateway().table()), "endpoints compile no routes");
    assert_eq!(gateway.get("/broken").await.status(), 500, "a backend that is not there");
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_reloaded_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let (app, next) = (Upstream::saying("app").await, Upstream::saying("next").await);
    write_resources(folder.path(), GATEWAY, MIRRORED);
    write_slices(folder.path(), "app", &[(&app, true)]);
    let gateway = gateway(folder.path()).await;
    assert_eq!(gateway.get("/").await.text(), "app");
    gateway.outcome("skipped_no_endpoints", 1).await;

    // Slices of a Service that had none, in a file of their own.
    write_slices(folder.path(), "next", &[(&next, true)]);
    eventually("the mirror has an endpoint", || endpoints(&gateway, "default/next:80").len() == 1).await;
    gateway.get("/").await;
    gateway.outcome("delivered", 1).await;

    // Another route, in a folder of its own, and a document that cannot be read beside it.
    let below = folder.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let route = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: other }
spec:
  parentRefs: [{ name: g }]
  rules: [{ matches: [{ path: { value: /next } }], backendRefs: [{ name: next, port: 80 }] }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: malformed }
spec: { rules: 7 }
";
    std::fs::write(below.join("route.yaml"), route).unwrap();
    let routed = || {
        gateway
            .running()
            .gateway()
            .table()
            .routes()
            .iter()
            .any(|route| &*route.name == "default/other/rule-1")
    };
    eventually("the route is there", routed).await;
    assert_eq!(gateway.get("/next").await.text(), "next");
    assert_eq!(gateway.get("/").await.text(), "app");
}

/// Everything but routes comes from a file, which is read again when it changes; while it is broken, what
/// was good of it and the resources are served.
#[tokio::test(flavor = "multi_thread")]
async fn the_file_beside_resources_is_reloaded_when_it_changes() {
    let (folder, beside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = beside.path().join("gateway.yaml");
    // Whole or not at all, as ConfigMaps change: half of a file may be a good one that says less.
    let limit = |text: &str| {
        let next = beside.path().join("next.yaml");
        std::fs::write(&next, format!("admin: off\nlimits: {{ {text} }}\n")).unwrap();
        std::fs::rename(next, &config).unwrap();
    };
    let app = Upstream::saying("app").await;
    write_resources(folder.path(), GATEWAY, MIRRORED);
    write_slices(folder.path(), "app", &[(&app, true)]);
    limit("body: 10B");
    let gateway = gateway_beside(folder.path(), Some(config.clone())).await;
    let post = || gateway.ask("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 11\r\n\r\n01234567890");
    let bound = |bytes| {
        let gateway = &gateway;
        move || gateway.running().gateway().table().limits().body == Some(bytes)
    };
    assert_eq!(post().await.status(), 413);

    limit("body: 11B");
    eventually("the file is read again", bound(11)).await;
    assert_eq!(post().await.text(), "app");

    // A change of the resources is used, whatever became of the file.
    limit("bodies: 10B");
    write_resources(folder.path(), GATEWAY, &MIRRORED.replace("/broken", "/elsewhere"));
    let mut broken = 500;
    while broken == 500 {
        broken = gateway.get("/broken").await.status();
    }
    assert_eq!(broken, 200);
    assert!(bound(11)());
    gateway.counts("mirrorgate_config_reloads_total", &["result=\"failure\""], 1.0).await;

    limit("body: 10B");
    eventually("the mended file is read", bound(10)).await;
    assert_eq!(post().await.status(), 413);
}

const RETRIES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: r }
spec:
  parentRefs: [{ name: g }]
  rules:
  - matches: [{ path: { value: /again } }]
    retry: { attempts: 2, backoff: 10ms }
    timeouts: { backendRequest: 300ms }
    backendRefs: [{ name: app, port: 80 }]
  - backendRefs: [{ name: app, port: 80 }]
";

/// The features HTTPRouteRetryConnectionError and HTTPRouteRetryBackendTimeout, for which the suite has
/// no manifests: a rule with a retry and without codes tries again where there was no answer, also at
/// the only endpoint there is.
#[tokio::test(flavor = "multi_thread")]
async fn requests_without_an_answer_are_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    // Of each three connections the first is reset, and the second never answers.
    let app = Upstream::script(|mut served| async move {
        let Some(_) = served.request().await else { return };
        match served.number % 3 {
            0 => served.reset(),
            1 => served.hang().await,
            _ => {
                served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
            }
        }
    })
    .await;
    write_resources(folder.path(), GATEWAY, RETRIES);
    write_slices(folder.path(), "app", &[(&app, true)]);
    let gateway = gateway(folder.path()).await;
    assert_eq!(gateway.get("/again").await.text(), "ok");
    assert_eq!(app.count(), 3);
    assert_eq!(gateway.get("/").await.status(), 502, "without a retry");
    assert_eq!(app.count(), 4);
}

/// One request on a connection that stays open, and all of the answer, which says "app".
async fn ask_again(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: abc.example.com\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"app") {
        assert!(within("an answer", stream.read_buf(&mut read)).await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_rotated_drops_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let app = Upstream::saying("app").await;
    let certificates = Certificates::new();
    let put = |of: &str| {
        let secret = certificates.secret(&Key::new("default", "shop"), &Key::new(INFRA, of));
        std::fs::write(folder.path().join(".secret"), secret).unwrap();
        std::fs::rename(folder.path().join(".secret"), folder.path().join("secret.yaml")).unwrap();
    };
    put("tls-checks-certificate");
    let https = GATEWAY.replace(
        "{ name: http, port: 0, protocol: HTTP }",
        "{ name: https, port: 0, protocol: HTTPS, tls: { certificateRefs: [{ name: shop }] } }",
    );
    write_resources(folder.path(), &https, RETRIES);
    write_slices(folder.path(), "app", &[(&app, true)]);
    let gateway = gateway(folder.path()).await;
    let config = certificates.client(None);
    let mut old = client::tls(gateway.address, "abc.example.com", config.clone()).await.unwrap();
    ask_again(&mut old).await;

    put("tls-terminate-checks-certificate");
    let rotated = async {
        while client::tls(gateway.address, "tls.example.com", config.clone()).await.is_err() {
            ask_again(&mut old).await;
        }
    };
    within("a handshake with the new certificate", rotated).await;
    client::tls(gateway.address, "abc.example.com", config.clone()).await.unwrap_err();
    ask_again(&mut old).await;
}

/// What is written to a folder in place is used once it is written; what cannot be read costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_manifest_and_a_broken_one_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (app, next) = (Upstream::saying("app").await, Upstream::saying("next").await);
    let other = Upstream::saying("other").await;
    write_resources(folder.path(), GATEWAY, MIRRORED);
    write_slices(folder.path(), "app", &[(&app, true)]);
    write_slices(folder.path(), "next", &[(&next, true)]);
    let gateway = gateway(folder.path()).await;
    let of = |upstreams: &[&Upstream]| {
        let mut addresses: Vec<_> = upstreams.iter().map(|one| one.address.to_string()).collect();
        addresses.sort();
        addresses
    };
    let live = gateway.running().registry().live();
    let backend = live.iter().find(|one| &**one.name() == "default/app:80").unwrap();
    let generation = backend.endpoints().generation();
    let routes = || gateway.running().gateway().table().routes().len();
    let before = routes();

    // A writer that takes its time, while another file is replaced, which cannot be used before.
    let path = folder.path().join("app-slices.yaml");
    write_slices(folder.path(), "app", &[(&app, true), (&other, true)]);
    eventually("both are used", || endpoints(&gateway, "default/app:80") == of(&[&app, &other])).await;
    let whole = std::fs::read_to_string(&path).unwrap();
    let mut file = std::fs::File::create(&path).unwrap();
    let half = whole.find("---").unwrap();
    std::io::Write::write_all(&mut file, whole.get(..half).unwrap().as_bytes()).unwrap();
    write_slices(folder.path(), "next", &[(&other, true)]);
    // Whoever read it on account of that would have done so by then.
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::io::Write::write_all(&mut file, whole.get(half..).unwrap().as_bytes()).unwrap();
    drop(file);
    eventually("what was replaced", || endpoints(&gateway, "default/next:80") == of(&[&other])).await;
    assert_eq!(endpoints(&gateway, "default/app:80"), of(&[&app, &other]));
    assert_eq!(backend.endpoints().generation(), generation + 1, "no half of it was ever used");

    // Broken, and away: what was good stays, told, and the rest is followed.
    let told = || gateway.running().warnings().len();
    std::fs::write(folder.path().join("resources.yaml"), "kind: [").unwrap();
    eventually("the broken one is told", || told() == 1).await;
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    write_slices(folder.path(), "next", &[(&next, true)]);
    eventually("the rest is followed", || endpoints(&gateway, "default/next:80") == of(&[&next])).await;
    eventually("the missing one is told", || told() == 2).await;
    assert_eq!(endpoints(&gateway, "default/app:80"), of(&[&app, &other]));
    assert_eq!(routes(), before);
    // What is not known to be so any more shows it, and one can see why.
    eventually("the doubt is told", || {
        backend.freshness().last_error.is_some_and(|error| error.contains("app-slices.yaml"))
    })
    .await;
    write_slices(folder.path(), "app", &[(&other, true)]);
    eventually("it is used again", || endpoints(&gateway, "default/app:80") == of(&[&other])).await;
    eventually("no doubt any more", || backend.freshness().last_error.is_none()).await;
}

/// A port that somebody else has costs the listener that wants it, which is told as long as it is so; to
/// try again is no reload.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_cannot_be_bound_is_told_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let app = Upstream::saying("app").await;
    let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = other.local_addr().unwrap().port();
    let listener = format!("listeners: [{{ name: more, port: {port}, protocol: HTTP }}, ");
    write_resources(folder.path(), &GATEWAY.replace("listeners: [", &listener), MIRRORED);
    write_slices(folder.path(), "app", &[(&app, true)]);
    let gateway = gateway(folder.path()).await;
    assert_eq!(gateway.get("/").await.body, b"app");
    let told = || gateway.running().warnings().join("\n");
    eventually("it is told", || told().contains("cannot listen on")).await;
    let reloads = || gateway.sum("mirrorgate_config_reloads_total", &[r#"result="success""#]);
    let before = reloads();

    // Whoever tells of a broken file has looked at everything, and so tried again.
    std::fs::write(folder.path().join("broken.yaml"), "kind: [").unwrap();
    eventually("it was tried again", || told().contains("broken.yaml")).await;
    std::fs::remove_file(folder.path().join("broken.yaml")).unwrap();
    eventually("and again", || !told().contains("broken.yaml")).await;
    assert!(told().contains("cannot listen on"), "{}", told());
    assert_eq!(reloads(), before, "nothing new was put into use");

    drop(other);
    eventually("it is told no more", || told().is_empty()).await;
    gateway.counts("mirrorgate_config_reloads_total", &[r#"result="success""#], before + 1.0).await;
    assert_eq!(gateway.running().listeners().len(), 2);
}

/// With none of its listeners bound a process serves nobody, and must not be sent anybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_listens_nowhere_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = other.local_addr().unwrap().port();
    write_resources(folder.path(), &GATEWAY.replace("port: 0", &format!("port: {port}")), MIRRORED);
    let running = mirrorgate::app::start(Origin::Manifests {
        path: folder.path().to_owned(),
        resources: ResourceOptions {
            admin: Some("127.0.0.1:0".to_owned()),
            settings: Settings { any_class: true, ..Settings::default() },
            ..ResourceOptions::default()
        },
    });
    let running = running.await.unwrap();
    let admin = running.admin().unwrap();
    // Status, and what is pending.
    let ready = async || {
        let mut wire = Wire::connect(admin).await;
        wire.send(format!("GET /ready HTTP/1.1\r\nhost: {admin}\r\n\r\n")).await;
        let response = wire.response().await;
        let body: serde_json::Value = serde_json::from_str(&response.text()).unwrap();
        (response.status(), body["pending"].to_string())
    };
    within("it is told", async { while !ready().await.1.contains("cannot listen on") {} }).await;
    let (status, pending) = ready().await;
    assert_eq!(status, 503, "{pending}");
    assert!(pending.contains("another process listens there"), "{pending}");
    drop(other);
    within("ready", async { while ready().await.0 != 200 {} }).await;
    assert_eq!(running.listeners().len(), 1);
}
