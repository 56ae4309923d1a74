#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use super::*;

fn slice(name: &str, service: &str, endpoints: &[(&str, serde_json::Value)]) -> EndpointSlice {
    let family =
        if endpoints.first().is_some_and(|(address, _)| address.contains(':')) { "IPv6" } else { "IPv4" };
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(address, conditions)| json!({ "addresses": [address], "conditions": conditions, "zone": "z" }))
        .collect();
    serde_json::from_value(json!({
        "metadata": { "namespace": "a", "name": name, "labels": { SERVICE: service } },
        "addressType": family,
        "ports": [{ "name": "http", "port": 80 }, { "name": "admin", "port": 81 }, { "name": "quic", "port": 82, "protocol": "UDP" }],
        "endpoints": endpoints,
    }))
    .unwrap()
}

fn addresses(slices: &[EndpointSlice], port: &str) -> Vec<String> {
    endpoints(slices.iter(), port).iter().map(|endpoint| endpoint.address.to_string()).collect()
}

#[test]
fn ready_or_else_serving_and_terminating() {
    let ready = json!({ "ready": true });
    let terminating = json!({ "ready": false, "serving": true, "terminating": true });
    let starting = json!({ "ready": false, "serving": false });
    let silent = json!({});
    let one =
        [("10.0.0.2", ready.clone()), ("10.0.0.3", terminating.clone()), ("10.0.0.4", starting.clone())];
    let slices = [
        slice("s1", "s", &one),
        slice("s2", "s", &[("10.0.0.1", silent)]),
        slice("s3", "s", &[("fd00::1", ready)]),
    ];
    assert_eq!(addresses(&slices, "http"), ["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"]);
    assert_eq!(addresses(&slices, "admin"), ["10.0.0.1:81", "10.0.0.2:81", "[fd00::1]:81"]);
    assert!(addresses(&slices, "quic").is_empty(), "UDP");
    assert!(addresses(&slices, "").is_empty(), "no port of that name");
    assert!(addresses(&[], "http").is_empty());
    let slices = [slice("s1", "s", &[("10.0.0.3", terminating), ("10.0.0.4", starting)])];
    assert_eq!(addresses(&slices, "http"), ["10.0.0.3:80"]);
}

#[test]
fn zones_are_hints_and_count_when_all_endpoints_have_one() {
    let zones = |hints: &[Option<&str>]| {
        let mut slice = slice("s1", "s", &vec![("10.0.0.1", json!({})); hints.len()]);
        for (number, (endpoint, hint)) in slice.endpoints.iter_mut().zip(hints).enumerate() {
            endpoint.addresses = vec![format!("10.0.0.{number}")];
            let hints = hint.map(|zone| json!({ "forZones": [{ "name": zone }] }));
            endpoint.hints = hints.map(|hints| serde_json::from_value(hints).unwrap());
        }
        let found = endpoints(std::iter::once(&slice), "http");
        found.into_iter().map(|endpoint| endpoint.zone.map(|zone| zone.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(zones(&[Some("a"), Some("b")]), [Some("a".to_owned()), Some("b".to_owned())]);
    assert_eq!(zones(&[Some("a"), None]), [None, None]);
}

#[test]
fn an_endpoint_in_two_slices_is_one() {
    let both = [("10.0.0.2", json!({}))];
    assert_eq!(addresses(&[slice("s1", "s", &both), slice("s2", "s", &both)], "http"), ["10.0.0.2:80"]);
}

async fn set(source: &mut SliceSource) -> Vec<String> {
    match source.ask().await.update {
        Update::Full(endpoints) => endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_change_wakes_its_service_alone() {
    let store = Arc::new(SliceStore::default());
    let mut one = store.source("a", "one", "http".into());
    let mut two = store.source("a", "two", "http".into());
    assert!(
        futures_util::FutureExt::now_or_never(one.ask()).is_none(),
        "nothing is said before a complete list"
    );
    store.replace([slice("s1", "one", &[("10.0.0.1", json!({}))])], Instant::now());
    assert_eq!(set(&mut one).await, ["10.0.0.1:80"]);
    assert!(set(&mut two).await.is_empty());

    let event = Instant::now();
    store.apply(slice("s2", "two", &[("10.0.0.2", json!({}))]), event);
    assert_eq!(two.changed().await, event);
    assert_eq!(set(&mut two).await, ["10.0.0.2:80"]);
    assert!(futures_util::FutureExt::now_or_never(one.changed()).is_none());

    // The same again is no change; moving to another Service is one for both.
    store.apply(slice("s2", "two", &[("10.0.0.2", json!({}))]), event);
    assert!(futures_util::FutureExt::now_or_never(two.changed()).is_none());
    store.apply(slice("s2", "one", &[("10.0.0.2", json!({}))]), event);
    two.changed().await;
    assert!(set(&mut two).await.is_empty());
    assert_eq!(set(&mut one).await, ["10.0.0.1:80", "10.0.0.2:80"]);

    // What a complete list does not name is gone.
    store.replace([slice("s2", "one", &[("10.0.0.2", json!({}))])], Instant::now());
    assert_eq!(set(&mut one).await, ["10.0.0.2:80"]);
    store.delete("a", "s2", Instant::now());
    assert!(set(&mut one).await.is_empty());
    assert!(store.is_empty());
}

#[tokio::test]
async fn a_stale_store_keeps_the_last_set_and_says_why() {
    let store = Arc::new(SliceStore::default());
    let mut source = store.source("a", "one", "http".into());
    store.replace([slice("s1", "one", &[("10.0.0.1", json!({}))])], Instant::now());
    assert_eq!(set(&mut source).await.len(), 1);
    store.stale("the API server is away".to_owned());
    source.changed().await;
    let error = SourceError("the API server is away".to_owned());
    assert_eq!(source.ask().await.update, Update::Failed(error));
    store.live();
    source.changed().await;
    assert_eq!(set(&mut source).await.len(), 1);
}

#[tokio::test]
async fn what_is_kept_is_no_younger_than_it_was() {
    let store = Arc::new(SliceStore::default());
    let mut one = store.source("a", "one", "http".into());
    let mut two = store.source("a", "two", "http".into());
    let slices =
        [slice("s1", "one", &[("10.0.0.1", json!({}))]), slice("s2", "two", &[("10.0.0.2", json!({}))])];
    store.replace_in(None, slices, Instant::now());
    let since = Instant::now();
    let kept = HashMap::from([(("a".into(), "one".into()), since)]);
    store.live_but(Some(Doubt { why: "broken".to_owned(), kept }));
    let answer = one.ask().await;
    let Update::Kept { endpoints, since: told, why } = answer.update else { panic!("{answer:?}") };
    assert_eq!((endpoints.len(), told, &*why, answer.warning), (1, since, "broken", None));
    let answer = two.ask().await;
    assert!(matches!(&answer.update, Update::Full(endpoints) if endpoints.len() == 1), "{answer:?}");
    assert_eq!(answer.warning.as_deref(), Some("broken"));
    store.live();
    assert!(matches!(one.ask().await.update, Update::Full(_)));
}
