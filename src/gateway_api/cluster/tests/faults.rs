//! What goes wrong between the API server and this process, one thing after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{GATEWAY_API, error, eventually, hosts, slice, start, world};

const SLICES: &str = "endpointslices";

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_from_where_it_was() {
    let server = world().await;
    let gateway = start(&server).await;
    eventually("the first list", || hosts(&gateway, "one/app:80") == ["10.0.0.1:80"]).await;
    // Statuses that are written make new versions, too.
    eventually("nothing more to say", || server.quiet_for(Duration::from_millis(600))).await;
    let lists = server.lists(SLICES);

    // A connection that breaks in the middle of an event; what happens meanwhile is told after it.
    server.cut(SLICES);
    server.put(SLICES, slice("app", &[2]));
    eventually("what was missed", || hosts(&gateway, "one/app:80") == ["10.0.0.2:80"]).await;
    assert_eq!(server.lists(SLICES), lists, "nothing is listed for it");
    assert_eq!(error(&gateway, "one/app:80"), None);

    let elsewhere =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "namespace": "one", "name": "x" } });
    // What the API server forgets is behind the bookmark.
    server.put("configmaps", elsewhere.clone());
    server.bookmark(SLICES);
    server.put(SLICES, slice("next", &[2]));
    eventually("an event behind the bookmark", || hosts(&gateway, "one/next:80") == ["10.0.0.2:80"]).await;
    server.forget_history();
    server.cut(SLICES);
    server.put(SLICES, slice("app", &[3]));
    eventually("the event", || hosts(&gateway, "one/app:80") == ["10.0.0.3:80"]).await;
    assert_eq!(server.lists(SLICES), lists);

    // What it forgets is what was missed: 410, and a list.
    server.put("configmaps", elsewhere);
    server.forget_history();
    server.cut(SLICES);
    eventually("a list", || server.lists(SLICES) > lists).await;
    server.put(SLICES, slice("app", &[4]));
    eventually("the event", || hosts(&gateway, "one/app:80") == ["10.0.0.4:80"]).await;
    assert_eq!(error(&gateway, "one/app:80"), None, "nothing was wrong with the endpoints");
    gateway.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_list_changes_nothing() {
    let server = world().await;
    let gateway = start(&server).await;
    eventually("the first list", || hosts(&gateway, "one/next:80") == ["10.0.0.1:80"]).await;
    server.set_down(true);
    server.put(SLICES, slice("app", &[2]));
    server.put(SLICES, slice("next", &[2]));
    server.forget_history();
    server.break_list(SLICES);
    let lists = server.lists(SLICES);
    // A set that appears for a moment is seen by who is told of each.
    let live = gateway.registry().live();
    let next = live.iter().find(|one| &**one.name() == "one/next:80").unwrap();
    let generation = next.endpoints().generation();
    server.set_down(false);
    eventually("the list that breaks, and the next", || server.lists(SLICES) >= lists + 2).await;
    for backend in ["one/app:80", "one/next:80"] {
        eventually("the whole list", || hosts(&gateway, backend) == ["10.0.0.2:80"]).await;
    }
    assert_eq!(next.endpoints().generation(), generation + 1, "from the last good set to the whole new one");
    gateway.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_allow_what_is_asked_for_and_nothing_else() {
    let server = world().await;
    let own = |kind: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": GATEWAY_API, "kind": kind,
            "metadata": { "namespace": "one", "name": name, "generation": 1 }, "spec": spec,
        })
    };
    let parents = json!([{ "name": "g" }]);
    server.put("grpcroutes", own("GRPCRoute", "grpc", json!({ "parentRefs": parents })));
    let tls = json!({ "parentRefs": parents, "hostnames": ["a.example"], "rules": [{ "backendRefs": [{ "name": "app", "port": 80 }] }] });
    server.put("tlsroutes", own("TLSRoute", "tls", tls));
    let set = json!({ "parentRef": { "name": "g" }, "listeners": [{ "name": "x", "port": 81, "protocol": "HTTP" }] });
    server.put("listenersets", own("ListenerSet", "set", set));
    let policy = json!({
        "targetRefs": [{ "group": "", "kind": "Service", "name": "app" }],
        "validation": { "hostname": "a.example", "wellKnownCACertificates": "System" },
    });
    server.put("backendtlspolicies", own("BackendTLSPolicy", "policy", policy));
    let gateway = start(&server).await;

    let mut allowed = BTreeSet::new();
    for (_, document) in crate::config::documents(include_str!("../../../../deploy/base/rbac.yaml")) {
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
        };
        for rule in document.unwrap()["rules"].as_array().into_iter().flatten() {
            for resource in texts(&rule["resources"]) {
                allowed
                    .extend(texts(&rule["verbs"]).iter().map(|verb| (verb.to_uppercase(), resource.clone())));
            }
        }
    }
    let requests = || server.requests().into_iter().collect::<BTreeSet<_>>();
    eventually("all that is allowed is made use of", || requests().is_superset(&allowed)).await;
    assert_eq!(requests(), allowed);
    gateway.stop(Duration::ZERO).await;
}
