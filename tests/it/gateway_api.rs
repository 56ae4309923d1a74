//! The requests of the official conformance suite (Gateway API v1.6.1), to a gateway with the suite's
//! own manifests. The manifests are not part of this repository: where they are not, that is said and
//! nothing is tested.

pub mod certificates;
pub mod client;
pub mod cluster;
mod grpc;
mod objects;
mod pods;
mod statuses;
mod streams;
mod table;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use http_body_util::Empty;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use self::cluster::Cluster;
use crate::harness::{eventually, within};

macro_rules! tables {
    ($($name:ident: $file:literal,)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let Some(suite) = cluster::manifests() else { return };
            table::run(&suite, include_str!(concat!("gateway_api/", $file))).await;
        }
    )*};
}

tables! {
    http_core: "http.txt",
    http_mirrors: "mirrors.txt",
    http_extended: "extended.txt",
    http_cors: "cors.txt",
    tls_of_backends_and_clients: "tls.txt",
    listener_sets: "listener_sets.txt",
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).header("host", "test").body(Empty::new()).unwrap()
}

/// The name of the pod's app.
fn app(said: &Value) -> String {
    said["pod"].as_str().and_then(|pod| pod.rsplit_once('-')).map(|(app, _)| app.to_owned()).unwrap()
}

/// HTTPRouteRequestPercentageMirror: of 500 requests as many copies as asked for, within three standard
/// deviations. Five tries, as the suite has, make a good share fail once in ten thousand million runs.
#[tokio::test(flavor = "multi_thread")]
async fn http_mirrors_by_percent() {
    let Some(suite) = cluster::manifests() else { return };
    let cluster = Cluster::start(&suite, &["httproute-request-percentage-mirror.yaml"]).await;
    let address = cluster.address("same-namespace", 80);
    let mut wanted = 0;
    for (path, percent) in [
        ("/percent-mirror", 20),
        ("/percent-mirror-fraction", 50),
        ("/percent-mirror-and-modify-headers", 35),
    ] {
        let share = f64::from(percent) / 100.0;
        let (mean, deviation) = (500.0 * share, (500.0 * share * (1.0 - share)).sqrt());
        let mut tries = Vec::new();
        for number in 0..5 {
            let target = format!("{path}?try={number}");
            for _ in 0..500 {
                let reply = client::ask(address, None, get(&target)).await.unwrap();
                assert_eq!(app(&reply.said), "infra-backend-v1");
            }
            wanted += 500;
            let outcomes = ["delivered", "skipped_sampled_out"];
            let sum = || {
                outcomes
                    .map(|outcome| {
                        cluster
                            .gateway
                            .sum("mirrorgate_mirror_requests_total", &[&format!("outcome=\"{outcome}\"")])
                    })
                    .iter()
                    .sum::<f64>()
            };
            eventually("every request has its outcome", || sum() == f64::from(wanted)).await;
            let copies = cluster.asked("infra-backend-v2", &target) as f64;
            tries.push(copies);
            if (copies - mean).abs() <= 3.0 * deviation {
                break;
            }
        }
        let last = *tries.last().unwrap();
        assert!((last - mean).abs() <= 3.0 * deviation, "{path}: {tries:?} copies of 500, not about {mean}");
    }
}

/// HTTPRouteWeight and GRPCRouteWeight: 70, 30 and 0 of a hundred, to within 5 of them in 500.
#[tokio::test(flavor = "multi_thread")]
async fn weights() {
    let Some(suite) = cluster::manifests() else { return };
    for (file, apps) in [
        ("httproute-weight.yaml", ["infra-backend-v1", "infra-backend-v2", "infra-backend-v3"]),
        (
            "grpcroute-weight.yaml",
            ["grpc-infra-backend-v1", "grpc-infra-backend-v2", "grpc-infra-backend-v3"],
        ),
    ] {
        let cluster = Cluster::start(&suite, &[file]).await;
        let address = cluster.address("same-namespace", 80);
        let mut counts = [0; 3];
        let mut grpc = grpc::Client::connect(address).await;
        for _ in 0..2000 {
            let said = match file.starts_with("grpc") {
                true => grpc.call("test", grpc::ECHO, &[]).await.unwrap(),
                false => client::ask(address, None, get("/")).await.unwrap().said,
            };
            counts[apps.iter().position(|one| *one == app(&said)).unwrap()] += 1;
        }
        let near = |count: i32, percent: i32| (count - percent * 20).abs() <= 100;
        assert!(near(counts[0], 70) && near(counts[1], 30) && counts[2] == 0, "{file}: {counts:?}");
    }
}

/// HTTPRouteRequestHeaderModifierBackendWeights: a backend's own edits go where its requests go.
#[tokio::test(flavor = "multi_thread")]
async fn edits_go_with_the_backend() {
    let Some(suite) = cluster::manifests() else { return };
    let file = "httproute-request-header-modifier-backend-weights.yaml";
    let cluster = Cluster::start(&suite, &[file]).await;
    let address = cluster.address("same-namespace", 80);
    let mut apps = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let said = client::ask(address, None, get("/")).await.unwrap().said;
        let app = app(&said);
        assert_eq!(said["headers"]["backend"], app);
        apps.insert(app);
    }
    assert!(apps.len() > 1, "{apps:?}");
}

/// HTTPRouteReferenceGrant: what a grant allowed ends with the grant.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_goes() {
    let Some(suite) = cluster::manifests() else { return };
    let file = "httproute-reference-grant.yaml";
    let cluster = Cluster::start(&suite, &[file]).await;
    let address = cluster.address("same-namespace", 80);
    assert_eq!(app(&client::ask(address, None, get("/")).await.unwrap().said), "web-backend");
    let (metric, labels) = ("mirrorgate_config_reloads_total", [r#"result="success""#]);
    let before = cluster.gateway.sum(metric, &labels);
    cluster.rewrite(file, |text| {
        let documents = text.split("\n---\n").filter(|document| !document.contains("kind: ReferenceGrant"));
        documents.collect::<Vec<_>>().join("\n---\n")
    });
    cluster.gateway.counts(metric, &labels, before + 1.0).await;
    assert_eq!(client::ask(address, None, get("/")).await.unwrap().status, 500);
}

/// HTTPRouteBackendProtocolWebSocket: an upgrade goes through, and messages of both kinds both ways.
#[tokio::test(flavor = "multi_thread")]
async fn web_sockets() {
    let Some(suite) = cluster::manifests() else { return };
    let cluster = Cluster::start(&suite, &["httproute-backend-protocol-websocket.yaml"]).await;
    let stream = TcpStream::connect(cluster.address("same-namespace", 80)).await.unwrap();
    let (mut socket, response) = client_async("ws://test/ws", stream).await.unwrap();
    assert_eq!(response.status(), 101);
    for message in [Message::text("as it is"), Message::binary(vec![1, 2, 3, 4, 5, 6, 7])] {
        within("a message sent", socket.send(message.clone())).await.unwrap();
        assert_eq!(within("a message back", socket.next()).await.unwrap().unwrap(), message);
    }
}
