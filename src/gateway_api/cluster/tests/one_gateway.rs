//! A process that serves one Gateway, behind a Service, with the rights of a namespace alone.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::Server;
use super::{GATEWAY_API, Options, eventually, start_with, world};
use crate::app::Handle;
use crate::gateway_api::reachable::Reachable;
use crate::gateway_api::resources::Key;
use crate::gateway_api::translate::Settings;

/// Serves the Gateway `one/g` alone, which is reached where the Service `one/front` is.
async fn start_one(server: &Server) -> Handle {
    let only = Key::new("one", "g");
    let cluster =
        Options { namespaces: vec!["one".to_owned()], gateway: Some(only.clone()), ..Options::default() };
    let settings = Settings {
        gateway: Some(only),
        reachable: Reachable::Behind(Key::new("one", "front")),
        ..Settings::default()
    };
    start_with(server, cluster, settings).await
}

/// The Gateway, at all addresses of the machine.
fn anywhere(server: &Server) {
    server.put(
        "gateways",
        json!({
            "apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": { "namespace": "one", "name": "g" },
            "spec": {
                "gatewayClassName": "c",
                "listeners": [{ "name": "http", "port": 0, "protocol": "HTTP" }],
            },
        }),
    );
}

fn front(server: &Server, status: Value) {
    server.put(
        "services",
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "one", "name": "front" },
            "spec": { "clusterIP": "10.96.0.9", "ports": [{ "port": 80 }] }, "status": status,
        }),
    );
}

fn programmed(server: &Server) -> String {
    let gateway = server.get("gateways", "one", "g").unwrap();
    let conditions = gateway["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|one| one["type"] == "Programmed");
    found.map_or_else(String::new, |one| one["reason"].as_str().unwrap().to_owned())
}

fn addresses(server: &Server) -> Value {
    server.get("gateways", "one", "g").unwrap()["status"]["addresses"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_is_where_its_service_is() {
    let server = world().await;
    anywhere(&server);
    let gateway = start_one(&server).await;
    eventually("no Service, no address", || programmed(&server) == "AddressNotAssigned").await;
    assert!(gateway.address().is_some(), "it serves all the same");
    front(&server, json!({}));
    eventually("the cluster IP", || {
        addresses(&server) == json!([{ "type": "IPAddress", "value": "10.96.0.9" }])
    })
    .await;
    assert_eq!(programmed(&server), "Programmed");
    let ingress = json!([{ "hostname": "lb.example" }, { "ip": "192.0.2.1" }]);
    front(&server, json!({ "loadBalancer": { "ingress": ingress } }));
    let told =
        json!([{ "type": "Hostname", "value": "lb.example" }, { "type": "IPAddress", "value": "192.0.2.1" }]);
    eventually("the load balancer's", || addresses(&server) == told).await;
    gateway.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_a_namespace_are_enough() {
    let server = world().await;
    anywhere(&server);
    front(&server, json!({}));
    for kind in ["gatewayclasses", "namespaces"] {
        server.forbid(kind);
    }
    let gateway = start_one(&server).await;
    let routes = || gateway.gateway().table().routes().len();
    eventually("its routes are served", || routes() == 1).await;
    eventually("its status is written", || programmed(&server) == "Programmed").await;
    let warnings = gateway.warnings();
    for kind in ["GatewayClasses", "Namespaces"] {
        assert!(warnings.iter().any(|line| line.starts_with(&format!("{kind} cannot be watched: 403"))));
    }
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    gateway.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_classes_nobody_knows_whose_the_other_gateways_are() {
    let server = world().await;
    server.forbid("gatewayclasses");
    let gateway = start_with(&server, Options::default(), Settings::default()).await;
    assert_eq!(gateway.gateway().table().routes().len(), 0);
    let warnings = gateway.warnings();
    assert!(warnings.iter().any(|line| line.starts_with("no Gateway is served")), "{warnings:?}");
    server.allow("gatewayclasses");
    eventually("they are read", || gateway.gateway().table().routes().len() == 1).await;
    assert_eq!(gateway.warnings(), Vec::<String>::new());
    gateway.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_leaves_the_lease_to_the_next() {
    let server = world().await;
    anywhere(&server);
    front(&server, json!({}));
    let holder = || {
        let lease = server.get("leases", "one", "mirrorgate-g")?;
        Some(lease["spec"]["holderIdentity"].as_str()?.to_owned())
    };
    let first = start_one(&server).await;
    eventually("the lease is taken", || holder().is_some_and(|holder| !holder.is_empty())).await;
    let before = holder();
    // Held by a process that goes on: it is not given up, and not to be had.
    let second = start_one(&server).await;
    eventually("it is asked for", || {
        server.requests().iter().filter(|(verb, what)| verb == "GET" && what == "leases").count() >= 2
    })
    .await;
    assert_eq!(holder(), before);
    // Who does not hold it gives nothing up.
    second.stop(Duration::ZERO).await;
    assert_eq!(holder(), before);
    first.stop(Duration::ZERO).await;
    assert_eq!(holder().as_deref(), Some(""));
    let third = start_one(&server).await;
    eventually("the next one has it", || holder().is_some_and(|holder| !holder.is_empty())).await;
    assert_ne!(holder(), before);
    third.stop(Duration::ZERO).await;
}
