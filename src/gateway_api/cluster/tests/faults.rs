//! What goes wrong between the API server and this process, one thing after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::server::Server;
use super::{GATEWAY_API, error, eventually, hosts, route, slice, start, world};
use crate::app::Handle;

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
async fn what_a_load_balancer_says_of_an_api_server_that_is_away_is_told() {
    let server = world().await;
    let gateway = start(&server).await;
    eventually("the first list", || hosts(&gateway, "one/app:80") == ["10.0.0.1:80"]).await;
    server.go_behind_balancer();
    server.put(SLICES, slice("app", &[2]));
    eventually("the endpoints show it", || {
        error(&gateway, "one/app:80").is_some_and(|error| error.contains("503"))
    })
    .await;
    let told = || gateway.warnings().iter().filter(|line| line.contains("cannot be watched: 503")).count();
    eventually("all kinds are told", || told() == 14).await;
    assert_eq!(hosts(&gateway, "one/app:80"), ["10.0.0.1:80"], "the last good ones");
    let asked = server.come_back();
    assert!(asked < 10 * 14, "it is not asked again and again: {asked}");
    eventually("what was missed", || hosts(&gateway, "one/app:80") == ["10.0.0.2:80"]).await;
    eventually("no warning any more", || gateway.warnings().is_empty()).await;
    assert_eq!(error(&gateway, "one/app:80"), None);
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

/// Takes the permission to read a kind away, so that its watch ends in the middle.
fn revoke(server: &Server, kind: &str) {
    server.forbid(kind);
    server.cut(kind);
}

fn refuses(gateway: &Handle, what: &str) -> bool {
    gateway.warnings().iter().any(|line| line.starts_with(&format!("{what} cannot be watched: 403")))
}

/// It knows neither all kinds nor roles in its first moment. Who started without a kind then would answer 404 for
/// its routes.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_has_just_begun_is_asked_again() {
    for refuse in [Server::forbid, Server::undefine] {
        let server = world().await;
        refuse(&server, "httproutes");
        refuse(&server, SLICES);
        let granted = async {
            eventually("both are refused", || server.lists("httproutes") > 1 && server.lists(SLICES) > 1)
                .await;
            assert_eq!(server.writes(), 0, "nothing is said while not everything is known");
            server.allow("httproutes");
            server.allow(SLICES);
        };
        let (gateway, ()) = tokio::join!(start(&server), granted);
        assert_eq!(gateway.gateway().table().routes().len(), 1);
        assert_eq!(hosts(&gateway, "one/app:80"), ["10.0.0.1:80"]);
        assert_eq!(gateway.warnings(), Vec::<String>::new());
        gateway.stop(Duration::ZERO).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_revoked_ages_the_endpoints_and_empties_nothing() {
    let server = world().await;
    let gateway = start(&server).await;
    eventually("the first list", || hosts(&gateway, "one/next:80") == ["10.0.0.1:80"]).await;
    revoke(&server, SLICES);
    eventually("it is told", || refuses(&gateway, "EndpointSlices")).await;
    assert_eq!(gateway.warnings().len(), 1, "{:?}", gateway.warnings());
    for backend in ["one/app:80", "one/next:80"] {
        eventually("the age shows", || error(&gateway, backend).is_some_and(|error| error.contains("403")))
            .await;
        assert_eq!(hosts(&gateway, backend), ["10.0.0.1:80"]);
    }
    // What cannot be seen, and what can.
    server.put(SLICES, slice("next", &[2]));
    server.put("httproutes", route("more", "next"));
    let routes = || gateway.gateway().table().routes().len();
    eventually("routes are followed", || routes() == 2).await;
    eventually("and spoken about", || is_accepted(&server, "more")).await;
    assert_eq!(hosts(&gateway, "one/next:80"), ["10.0.0.1:80"], "the last good ones");
    server.allow(SLICES);
    eventually("what was missed", || hosts(&gateway, "one/next:80") == ["10.0.0.2:80"]).await;
    eventually("no error any more", || error(&gateway, "one/next:80").is_none()).await;
    eventually("no warning any more", || gateway.warnings().is_empty()).await;
    gateway.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_listed_and_not_watched_is_used_and_told_all_the_time() {
    let server = world().await;
    for kind in [SLICES, "httproutes"] {
        server.forbid_watch(kind);
    }
    let gateway = start(&server).await;
    let told = || refuses(&gateway, "EndpointSlices") && refuses(&gateway, "HTTPRoutes");
    eventually("it is told", told).await;
    assert_eq!(gateway.gateway().table().routes().len(), 1, "the list is used");
    server.put(SLICES, slice("next", &[2]));
    let lists = server.lists("httproutes");
    let mut flickers = 0;
    let all_again = || {
        flickers += usize::from(!told());
        hosts(&gateway, "one/next:80") == ["10.0.0.2:80"] && server.lists("httproutes") >= lists + 2
    };
    eventually("the next lists", all_again).await;
    assert_eq!(flickers, 0);
    for kind in [SLICES, "httproutes"] {
        server.allow(kind);
    }
    eventually("no warning any more", || gateway.warnings().is_empty()).await;
    server.put(SLICES, slice("next", &[3]));
    eventually("endpoints are followed", || hosts(&gateway, "one/next:80") == ["10.0.0.3:80"]).await;
    gateway.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_kind_that_may_not_be_read_any_more_the_last_good_objects_stay() {
    let kinds = [
        ("gatewayclasses", "GatewayClasses"),
        ("gateways", "Gateways"),
        ("services", "Services"),
        ("httproutes", "HTTPRoutes"),
    ];
    let server = world().await;
    let gateway = start(&server).await;
    let routes = || gateway.gateway().table().routes().len();
    eventually("the route is spoken about", || is_accepted(&server, "r")).await;
    for (kind, name) in kinds {
        revoke(&server, kind);
        eventually("it is told", || refuses(&gateway, name)).await;
    }
    assert_eq!(gateway.warnings().len(), kinds.len(), "{:?}", gateway.warnings());
    // Something that can be seen, so that all is translated anew.
    server.put("httproutes", route("more", "next"));
    server.delete("services", "one", "next");
    let rpc = json!({ "parentRefs": [{ "name": "g" }], "rules": [{ "backendRefs": [{ "name": "app", "port": 80 }] }] });
    let rpc = json!({
        "apiVersion": GATEWAY_API, "kind": "GRPCRoute",
        "metadata": { "namespace": "one", "name": "rpc", "generation": 1 }, "spec": rpc,
    });
    server.put("grpcroutes", rpc);
    eventually("it is served beside what was there", || routes() == 2).await;
    server.put(SLICES, slice("next", &[2]));
    eventually("endpoints are followed", || hosts(&gateway, "one/next:80") == ["10.0.0.2:80"]).await;
    assert!(is_accepted(&server, "r"), "nothing is taken back");
    for (kind, _) in kinds {
        server.allow(kind);
    }
    eventually("what was missed", || routes() == 3).await;
    let lost = || {
        let route = server.get("httproutes", "one", "more").unwrap();
        route["status"]["parents"][0]["conditions"][1]["reason"] == "BackendNotFound"
    };
    eventually("the Service that went meanwhile", lost).await;
    eventually("no warning any more", || gateway.warnings().is_empty()).await;
    gateway.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_is_named_for_as_long_as_it_is_so() {
    let broken = |name: &str| {
        let mut route = route(name, "next");
        route["spec"]["rules"] = json!(7);
        route
    };
    let server = world().await;
    server.put("httproutes", broken("listed"));
    let gateway = start(&server).await;
    let told = || -> Vec<String> {
        let ends =
            |line: String| line.split_once(" cannot be read and is left out: ").map(|(at, _)| at.to_owned());
        gateway.warnings().into_iter().map(|line| ends(line.clone()).unwrap_or(line)).collect()
    };
    eventually("it is told", || told() == ["HTTPRoutes: one/listed"]).await;
    server.put("httproutes", broken("r"));
    eventually("so is what was good", || told() == ["HTTPRoutes: one/listed", "HTTPRoutes: one/r"]).await;
    server.delete("httproutes", "one", "listed");
    eventually("one is gone", || told() == ["HTTPRoutes: one/r"]).await;
    // What is repaired while nobody sees it.
    server.set_down(true);
    server.put("httproutes", route("r", "next"));
    server.forget_history();
    server.set_down(false);
    eventually("no warning any more", || gateway.warnings().is_empty()).await;
    gateway.stop(Duration::ZERO).await;
}

fn is_accepted(server: &Server, name: &str) -> bool {
    let route = server.get("httproutes", "one", name).unwrap();
    route["status"]["parents"][0]["conditions"][0]["status"] == "True"
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_that_may_not_be_written_are_told() {
    let server = world().await;
    server.forbid("httproutes/status");
    let gateway = start(&server).await;
    let words = "the status of HTTPRoute one/r cannot be written: 403 no";
    let told = || gateway.warnings().iter().any(|line| line == words);
    eventually("it is told", told).await;
    assert_eq!(gateway.gateway().table().routes().len(), 1, "the rest runs");
    server.allow("httproutes/status");
    // Tried again with whatever is heard next.
    server.put("services", server.get("services", "one", "app").unwrap());
    eventually("it is written", || is_accepted(&server, "r")).await;
    eventually("no warning any more", || gateway.warnings().is_empty()).await;
    gateway.stop(Duration::ZERO).await;
}
