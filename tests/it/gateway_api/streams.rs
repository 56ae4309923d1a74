//! TLSRoute: TLS that goes through, TLS that ends at the gateway, and both on one port.

use std::io::ErrorKind;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::cluster::{Cluster, INFRA, manifests};
use super::{app, client};
use crate::harness::within;

/// Hears whoever `name` leads to, who speaks first, and says a line; what it says of that.
async fn say(cluster: &Cluster, address: SocketAddr, name: &str) -> std::io::Result<Value> {
    let stream = client::tls(address, name, cluster.certificates.client(None)).await?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    within("a welcome", stream.read_line(&mut line)).await?;
    let welcome: Value = serde_json::from_str(&line)?;
    stream.write_all(b"hello\n").await?;
    line.clear();
    within("an answer", stream.read_line(&mut line)).await?;
    let said: Value = serde_json::from_str(&line)?;
    assert_eq!((&welcome["line"], &said["line"]), (&Value::Null, &json!("hello")));
    assert_eq!((app(&said).as_str(), &said["namespace"]), ("tcp-backend", &json!(INFRA)));
    Ok(said)
}

/// Nobody is there for `name`: the connection ends with its transport, and TLS never comes to speak.
async fn refused(cluster: &Cluster, address: SocketAddr, name: &str) {
    let error = client::tls(address, name, cluster.certificates.client(None)).await.unwrap_err();
    let ends = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
    assert!(ends.contains(&error.kind()), "{name}: {error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_through_by_name() {
    let Some(suite) = manifests() else { return };
    let cluster = Cluster::start(&suite, &["tlsroute-simple-same-namespace.yaml"]).await;
    let address = cluster.address("gateway-tlsroute", 443);
    let said = say(&cluster, address, "abc.example.com").await.unwrap();
    assert_eq!(said["tls"]["serverName"], "abc.example.com", "{said}");
    for stranger in ["other.example.com", "non.matching.com"] {
        refused(&cluster, address, stranger).await;
    }
    assert_eq!(cluster.gateway.sum("mirrorgate_requests_to_removed_endpoints_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_ends_here() {
    let Some(suite) = manifests() else { return };
    let cluster = Cluster::start(&suite, &["tlsroute-terminate-simple-same-namespace.yaml"]).await;
    let address = cluster.address("gateway-tlsroute-terminate", 8443);
    let said = say(&cluster, address, "tls.example.com").await.unwrap();
    assert_eq!(said["tls"], Value::Null, "the pod is spoken to in plain text");
    say(&cluster, address, "abc.example.com").await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_ends_here_or_goes_through_on_one_port() {
    let Some(suite) = manifests() else { return };
    let cluster = Cluster::start(&suite, &["tlsroute-mixed-termination-same-namespace.yaml"]).await;
    let address = cluster.address("gateway-tlsroute-mixed-termination", 8883);
    let said = say(&cluster, address, "tls.example.com").await.unwrap();
    assert_eq!(said["tls"], Value::Null);
    let said = say(&cluster, address, "abc.example.com").await.unwrap();
    assert_eq!(said["tls"]["serverName"], "abc.example.com");
}

/// Which of the names leads where, on each of the four Gateways of TLSRouteHostnameIntersection.
#[tokio::test(flavor = "multi_thread")]
async fn tls_names_meet_those_of_listeners() {
    let Some(suite) = manifests() else { return };
    let cluster = Cluster::start(&suite, &["tlsroute-hostname-intersection.yaml"]).await;
    let both = [("abc.example.com", Some("tls-backend")), ("other.example.com", Some("tls-backend-2"))];
    let stranger = ("non.matching.org", None);
    let cases = [
        ("gw-tlsroute-exact-hostname-x-1", vec![both[0], ("non.matching.com", None)]),
        ("gw-tlsroute-more-specific-wc-hostname-x-2", vec![both[0], both[1], ("non.matching.com", None)]),
        ("gw-tlsroute-less-specific-wc-hostname-x-3", vec![both[0], both[1], ("non.matching.com", None)]),
        ("gw-tlsroute-empty-hostname-x-4", vec![both[0], both[1], stranger]),
    ];
    for (gateway, names) in cases {
        let address = cluster.address(gateway, 443);
        for (name, wanted) in names {
            let Some(wanted) = wanted else {
                refused(&cluster, address, name).await;
                continue;
            };
            let tls = Some((name, cluster.certificates.client(None)));
            let request = http::Request::get("/").header("host", name).body(Default::default()).unwrap();
            let said = client::ask(address, tls, request).await.unwrap().said;
            assert_eq!((app(&said).as_str(), &said["host"]), (wanted, &json!(name)), "{gateway}");
        }
    }
}

/// TLSRouteInvalidBackendRefNonexistent and TLSRouteInvalidBackendRefUnknownKind.
#[tokio::test(flavor = "multi_thread")]
async fn tls_to_nobody_is_refused() {
    let Some(suite) = manifests() else { return };
    for problem in ["nonexistent", "unknown-kind"] {
        let cluster = Cluster::start(&suite, &[&format!("tlsroute-invalid-backendref-{problem}.yaml")]).await;
        let gateway = format!("gateway-tlsroute-invalid-backend-ref-{problem}");
        refused(&cluster, cluster.address(&gateway, 443), "example.com").await;
    }
}
