//! Who writes about which Gateway.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::server::Server;
use super::{GATEWAY_API, Options, eventually, gateway, hosts, route, start, start_with, world};
use crate::app::Handle;
use crate::gateway_api::CONTROLLER;
use crate::gateway_api::resources::Key;
use crate::gateway_api::translate::Settings;

/// Holders of the Leases of `one/g` and `two/h`.
fn holders(server: &Server) -> [String; 2] {
    [("one", "mirrorgate-g"), ("two", "mirrorgate-h")].map(|(namespace, name)| {
        let lease = server.get("leases", namespace, name).unwrap_or_default();
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    })
}

/// Two Gateways, `one/g` and `two/h`, and a route on both.
fn two_gateways(server: &Server) {
    server.put("gateways", gateway("two", "h", "127.0.0.2"));
    say(server, 3);
}

/// The route on both Gateways, at `generation`; with the status that it has.
fn say(server: &Server, generation: u64) {
    let mut both = route("r", "next");
    both["metadata"]["generation"] = json!(generation);
    both["spec"]["parentRefs"] = json!([{ "name": "g" }, { "namespace": "two", "name": "h" }]);
    both["spec"]["hostnames"] = json!([format!("v{generation}.example")]);
    both["status"] = server.get("httproutes", "one", "r").unwrap()["status"].clone();
    server.put("httproutes", both);
}

/// Generations that the entries of the route are about, by the Gateway's name.
fn told(server: &Server) -> Vec<(String, i64)> {
    let route = server.get("httproutes", "one", "r").unwrap();
    let entries = route["status"]["parents"].as_array().cloned().unwrap_or_default();
    let name = |entry: &Value| entry["parentRef"]["name"].as_str().unwrap().to_owned();
    let about = |entry: &Value| entry["conditions"][0]["observedGeneration"].as_i64().unwrap();
    let mut told: Vec<_> = entries.iter().map(|entry| (name(entry), about(entry))).collect();
    told.sort();
    told
}

fn is_told(server: &Server, g: i64, h: i64) -> bool {
    told(server) == [("g".to_owned(), g), ("h".to_owned(), h)]
}

fn is_programmed(server: &Server, namespace: &str, name: &str) -> bool {
    let gateway = server.get("gateways", namespace, name).unwrap();
    gateway["status"]["conditions"][1]["reason"] == "Programmed"
}

/// That nobody writes over what another one wrote.
async fn all_is_said(server: &Server) {
    eventually("nothing more to say", || server.quiet_for(Duration::from_millis(600))).await;
}

fn lease(namespace: &str, gateway: &str, holder: &str, age: SignedDuration) -> Value {
    let renewed = Timestamp::now() - age;
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": format!("mirrorgate-{gateway}"), "namespace": namespace },
        "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 600,
            "renewTime": renewed.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        },
    })
}

/// Requests for Leases up to now.
fn asked(server: &Server) -> usize {
    server.requests().iter().filter(|(verb, what)| verb == "GET" && what == "leases").count()
}

/// Two processes that serve both Gateways, the first of which leads `one/g`, the other `two/h`.
async fn one_each(server: &Server) -> (Handle, Handle) {
    server.one_lease_each(true);
    let first = start(server).await;
    eventually("the first one leads", || !holders(server)[0].is_empty()).await;
    two_gateways(server);
    let second = start(server).await;
    eventually("the second one leads", || !holders(server)[1].is_empty()).await;
    assert_ne!(holders(server)[0], holders(server)[1]);
    (first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_lead_a_gateway_each() {
    let server = world().await;
    let (first, second) = one_each(&server).await;
    eventually("both speak about the route", || is_told(&server, 3, 3)).await;
    for (namespace, name) in [("one", "g"), ("two", "h")] {
        eventually("the Gateway is programmed", || is_programmed(&server, namespace, name)).await;
    }
    all_is_said(&server).await;
    say(&server, 4);
    eventually("both see the change", || is_told(&server, 4, 4)).await;
    all_is_said(&server).await;

    // Who is left speaks about its own alone, until it has the other one's Lease.
    let [of_first, _] = holders(&server);
    second.stop(Duration::ZERO).await;
    assert_eq!(holders(&server), [of_first.clone(), String::new()]);
    say(&server, 5);
    eventually("the one that leads speaks", || is_told(&server, 5, 4)).await;
    all_is_said(&server).await;
    assert!(is_told(&server, 5, 4));
    server.one_lease_each(false);
    eventually("it takes the other", || holders(&server) == [of_first.clone(), of_first.clone()]).await;
    eventually("and speaks about it", || is_told(&server, 5, 5)).await;
    first.stop(Duration::ZERO).await;
    assert_eq!(holders(&server), ["", ""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_lost_while_the_other_is_kept() {
    let server = world().await;
    two_gateways(&server);
    let process = start(&server).await;
    eventually("both are spoken about", || is_told(&server, 3, 3)).await;
    all_is_said(&server).await;
    let [own, _] = holders(&server);
    server.put("leases", lease("two", "h", "another", SignedDuration::ZERO));
    let before = asked(&server);
    // Two turns: one that began before may have seen the old one.
    eventually("the Leases are looked at", || asked(&server) >= before + 4).await;
    say(&server, 4);
    eventually("what is led is spoken about", || is_told(&server, 4, 3)).await;
    all_is_said(&server).await;
    assert!(is_told(&server, 4, 3));
    assert_eq!(holders(&server), [own.clone(), "another".to_owned()]);
    server.put("leases", lease("two", "h", "another", SignedDuration::from_secs(601)));
    eventually("it is taken back", || holders(&server) == [own.clone(), own.clone()]).await;
    eventually("and spoken about", || is_told(&server, 4, 4)).await;
    process.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_goes_leaves_its_lease_and_nothing_that_was_said() {
    let server = world().await;
    two_gateways(&server);
    let process = start(&server).await;
    eventually("both are spoken about", || is_told(&server, 3, 3)).await;
    let [own, of_h] = holders(&server);
    assert_eq!(own, of_h);
    server.delete("gateways", "two", "h");
    eventually("nothing is said about it", || told(&server) == [("g".to_owned(), 3)]).await;
    eventually("its Lease is given up", || holders(&server) == [own.clone(), String::new()]).await;
    // Another one's from now on: what was said about it is taken back while it may be.
    two_gateways(&server);
    eventually("it is back", || is_told(&server, 3, 3)).await;
    let mut others = gateway("two", "h", "127.0.0.2");
    others["metadata"]["generation"] = json!(2);
    others["spec"]["gatewayClassName"] = json!("another");
    server.put("gateways", others);
    eventually("nothing is said about it", || told(&server) == [("g".to_owned(), 3)]).await;
    eventually("its Lease is given up", || holders(&server) == [own.clone(), String::new()]).await;
    process.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_serves_all_and_one_that_serves_one_do_not_fight() {
    let server = world().await;
    server.one_lease_each(true);
    two_gateways(&server);
    let only = Key::new("two", "h");
    let options = Options { gateway: Some(only.clone()), ..Options::default() };
    let settings = Settings { gateway: Some(only), ..Settings::default() };
    let one = start_with(&server, options, settings).await;
    eventually("its own is led", || !holders(&server)[1].is_empty()).await;
    eventually("and is the only one it speaks about", || told(&server) == [("h".to_owned(), 3)]).await;
    all_is_said(&server).await;
    assert_eq!(holders(&server)[0], "");
    let all = start(&server).await;
    eventually("the other one is spoken about", || is_told(&server, 3, 3)).await;
    all_is_said(&server).await;
    one.stop(Duration::ZERO).await;
    server.one_lease_each(false);
    eventually("both are led by one", || holders(&server)[0] == holders(&server)[1]).await;
    say(&server, 4);
    eventually("both are spoken about", || is_told(&server, 4, 4)).await;
    all.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_serve_is_left_alone_and_what_is_gone_is_taken_back() {
    let server = world().await;
    // Served by another process of the same controller: where it may not read classes, whatever its class.
    let mut theirs = gateway("two", "theirs", "127.0.0.3");
    theirs["spec"]["gatewayClassName"] = json!("unknown");
    server.put("gateways", theirs);
    let entry = |kind: &str, name: &str| {
        json!({
            "controllerName": CONTROLLER, "parentRef": { "kind": kind, "namespace": "two", "name": name },
            "conditions": [{
                "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                "observedGeneration": 1, "lastTransitionTime": "2020-01-01T00:00:00Z",
            }],
        })
    };
    // Another controller's now, with what was said about it in our name before.
    let mut lost = gateway("two", "lost", "127.0.0.4");
    lost["spec"]["gatewayClassName"] = json!("other");
    server.put("gateways", lost);
    server.put(
        "gatewayclasses",
        json!({
            "apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": { "name": "other" },
            "spec": { "controllerName": "someone.else/x" },
        }),
    );
    let set = json!({ "parentRef": { "name": "lost" }, "listeners": [{ "name": "x", "port": 81, "protocol": "HTTP" }] });
    server.put(
        "listenersets",
        json!({
            "apiVersion": GATEWAY_API, "kind": "ListenerSet",
            "metadata": { "namespace": "two", "name": "lost", "generation": 1 }, "spec": set,
        }),
    );
    let mut with = route("r", "next");
    let kept = entry("Gateway", "theirs");
    with["status"] = json!({ "parents": [
        entry("ListenerSet", "gone"), entry("ListenerSet", "lost"), kept, entry("Gateway", "gone"), entry("Gateway", "lost"),
    ] });
    server.put("httproutes", with);
    let process = start(&server).await;
    let parents = || server.get("httproutes", "one", "r").unwrap()["status"]["parents"].clone();
    let names = || {
        let parents = parents();
        let names = parents.as_array().unwrap().iter().map(|one| one["parentRef"]["name"].clone());
        Value::Array(names.collect())
    };
    eventually("what is gone or lost is taken back, and ours is there", || names() == json!(["theirs", "g"]))
        .await;
    assert_eq!(parents()[0], kept);
    all_is_said(&server).await;
    assert_eq!(server.get("leases", "two", "mirrorgate-theirs"), None);
    process.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_holder_of_the_lease_writes() {
    let server = world().await;
    server.put("leases", lease("one", "g", "another", SignedDuration::ZERO));
    let process = start(&server).await;
    eventually("the lease is looked at", || asked(&server) > 0).await;
    eventually("the first list", || hosts(&process, "one/app:80") == ["10.0.0.1:80"]).await;
    // A class is accepted by whoever finds that it is not.
    let class = || server.get("gatewayclasses", "", "c").unwrap()["status"]["conditions"][0].clone();
    eventually("the class is accepted", || class()["status"] == "True").await;
    all_is_said(&server).await;
    assert_eq!(server.writes(), 1);
    // The other one is gone without a word.
    server.put("leases", lease("one", "g", "another", SignedDuration::from_secs(601)));
    let accepted = || {
        let route = server.get("httproutes", "one", "r").unwrap();
        route["status"]["parents"][0]["conditions"][0]["status"] == "True"
    };
    eventually("it is taken over, and statuses are written", accepted).await;
    // Another one took it: nothing is written any more, whatever there is to say.
    all_is_said(&server).await;
    server.put("leases", lease("one", "g", "another", SignedDuration::ZERO));
    let before = asked(&server);
    eventually("the lease is looked at", || asked(&server) >= before + 2).await;
    let written = server.writes();
    let mut changed = route("r", "missing");
    changed["metadata"]["generation"] = json!(4);
    server.put("httproutes", changed);
    let mirrors =
        || process.gateway().table().routes().iter().map(|route| route.mirrors.len()).sum::<usize>();
    eventually("the route is served", || mirrors() == 0).await;
    let before = asked(&server);
    eventually("another turn", || asked(&server) >= before + 2).await;
    assert_eq!(server.writes(), written);
    assert_eq!(holders(&server)[0], "another");
    process.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_nobody_may_take_is_told() {
    let server = world().await;
    server.forbid("leases");
    let process = start(&server).await;
    // In words, not as the struct that the API server's answer became.
    let words = "the Lease of Gateway one/g cannot be taken, its status is not written: 403 no";
    let told = |process: &Handle| process.warnings().iter().any(|line| line == words);
    eventually("it is told", || told(&process)).await;
    assert_eq!(process.gateway().table().routes().len(), 1, "the rest runs");
    server.allow("leases");
    eventually("it is taken", || !told(&process)).await;
    eventually("the Gateway is programmed", || is_programmed(&server, "one", "g")).await;
    // With the Gateway, the cluster deletes the Lease. It blocks nothing, which would take a permission.
    let owner = json!([{ "apiVersion": GATEWAY_API, "kind": "Gateway", "name": "g", "uid": "uid of g" }]);
    assert_eq!(server.get("leases", "one", "mirrorgate-g").unwrap()["metadata"]["ownerReferences"], owner);
    process.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_do_not_go_on_telling_their_features() {
    let server = world().await;
    let process = start(&server).await;
    let class = || server.get("gatewayclasses", "", "c").unwrap();
    let features = || class()["status"]["supportedFeatures"].as_array().map_or(0, Vec::len);
    eventually("the class is accepted", || features() > 1).await;
    eventually("the Gateway is programmed", || is_programmed(&server, "one", "g")).await;
    all_is_said(&server).await;
    // Another version has it otherwise.
    let mut other = class();
    other["status"]["supportedFeatures"] = json!([{ "name": "Gateway" }]);
    server.put("gatewayclasses", other.clone());
    say(&server, 4);
    eventually("something is written", || told(&server).contains(&("g".to_owned(), 4))).await;
    assert_eq!(features(), 1);
    other["status"]["conditions"][0]["status"] = json!("Unknown");
    server.put("gatewayclasses", other);
    eventually("it is accepted again", || class()["status"]["conditions"][0]["status"] == "True").await;
    process.stop(Duration::ZERO).await;
    // Who comes next says what it can do.
    let mut other = class();
    other["status"]["supportedFeatures"] = json!([{ "name": "Gateway" }]);
    server.put("gatewayclasses", other);
    let next = start(&server).await;
    eventually("the next one tells its own", || features() > 1).await;
    next.stop(Duration::ZERO).await;
}
