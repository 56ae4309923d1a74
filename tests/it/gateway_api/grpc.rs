//! GRPCRoute: calls, and who answered them.

use std::net::SocketAddr;

use http::Request;
use serde_json::{Value, json};

use super::app;
use super::cluster::{Cluster, INFRA, manifests};
use crate::harness::H2Client;

/// The suite's service, and its first method.
pub const ECHO: &str = "/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/Echo";

const UNIMPLEMENTED: &str = "12";

/// A client of gRPC.
pub struct Client(H2Client);

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self(H2Client::connect(address).await)
    }

    /// Calls `method`; what the pod says of it, or the status.
    pub async fn call(
        &mut self,
        authority: &str,
        method: &str,
        metadata: &[(&str, &str)],
    ) -> Result<Value, String> {
        let request = Request::post(format!("http://{authority}{method}"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let request = metadata.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let seen = self.0.ask(request, vec![vec![0; 5]], &[]).await.unwrap();
        let in_head = seen.parts.headers.get("grpc-status").cloned();
        let status = seen.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status").cloned());
        match status.or(in_head).unwrap().to_str().unwrap() {
            "0" => Ok(serde_json::from_slice(&seen.body[5..]).unwrap()),
            status => Err(status.to_owned()),
        }
    }
}

/// What is expected: an app, or a status.
type Expected = Result<&'static str, &'static str>;

async fn check(
    client: &mut Client,
    authority: &str,
    method: &str,
    metadata: &[(&str, &str)],
    wanted: Expected,
) {
    let said = client.call(authority, method, metadata).await;
    if let Ok(said) = &said {
        assert_eq!((&said["path"], &said["namespace"]), (&json!(method), &json!(INFRA)));
    }
    let found = said.as_ref().map(app).map_err(String::as_str);
    assert_eq!(found.as_deref(), wanted.as_ref().map(|app| *app), "{authority}{method} {metadata:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_methods() {
    let Some(suite) = manifests() else { return };
    for file in ["grpcroute-exact-method-matching.yaml", "grpcroute-named-rule.yaml"] {
        let cluster = Cluster::start(&suite, &[file]).await;
        let mut client = Client::connect(cluster.address("same-namespace", 80)).await;
        check(&mut client, "test", ECHO, &[], Ok("grpc-infra-backend-v1")).await;
        check(&mut client, "test", &format!("{ECHO}Two"), &[], Ok("grpc-infra-backend-v2")).await;
        check(&mut client, "test", &format!("{ECHO}Three"), &[], Err(UNIMPLEMENTED)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_headers() {
    let Some(suite) = manifests() else { return };
    let cluster = Cluster::start(&suite, &["grpcroute-header-matching.yaml"]).await;
    let mut client = Client::connect(cluster.address("same-namespace", 80)).await;
    let (one, two) = (Ok("grpc-infra-backend-v1"), Ok("grpc-infra-backend-v2"));
    let cases: [(&[(&str, &str)], Expected); 11] = [
        (&[("version", "one")], one),
        (&[("version", "two")], two),
        (&[("version", "two"), ("color", "orange")], one),
        (&[("version", "two"), ("color", "blue")], two),
        (&[("color", "orange")], Err(UNIMPLEMENTED)),
        (&[("some-other-header", "one")], Err(UNIMPLEMENTED)),
        (&[("color", "blue")], one),
        (&[("color", "green")], one),
        (&[("color", "red")], two),
        (&[("color", "yellow")], two),
        (&[("color", "purple")], Err(UNIMPLEMENTED)),
    ];
    for (metadata, wanted) in cases {
        check(&mut client, "test", ECHO, metadata, wanted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_hosts_of_listeners() {
    let Some(suite) = manifests() else { return };
    let cluster = Cluster::start(&suite, &["grpcroute-listener-hostname-matching.yaml"]).await;
    let mut client = Client::connect(cluster.address("grpcroute-listener-hostname-matching", 80)).await;
    for (host, wanted) in [
        ("bar.com", Ok("grpc-infra-backend-v1")),
        ("foo.bar.com", Ok("grpc-infra-backend-v2")),
        ("baz.bar.com", Ok("grpc-infra-backend-v3")),
        ("boo.bar.com", Ok("grpc-infra-backend-v3")),
        ("multiple.prefixes.bar.com", Ok("grpc-infra-backend-v3")),
        ("multiple.prefixes.foo.com", Ok("grpc-infra-backend-v3")),
        ("foo.com", Err(UNIMPLEMENTED)),
        ("no.matching.host", Err(UNIMPLEMENTED)),
    ] {
        check(&mut client, host, ECHO, &[], wanted).await;
    }
}
