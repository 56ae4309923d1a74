//! Spans at a collector: a request's, and its copies' as its children.
#![cfg(feature = "otlp")]

use serde_json::Value;

use crate::harness::{Upstream, eventually, gateway};

/// All spans that `collector` was sent, by name.
fn spans(collector: &Upstream) -> Vec<Value> {
    let mut spans: Vec<Value> = Vec::new();
    for request in collector.requests() {
        assert_eq!(request.line, "POST /v1/traces HTTP/1.1");
        assert_eq!(request.field("content-type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let resource = &body["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "mirrorgate");
        spans.extend(resource["scopeSpans"][0]["spans"].as_array().unwrap().iter().cloned());
    }
    spans.sort_by_key(|span| span["name"].as_str().unwrap().to_owned());
    spans
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let found = span["attributes"].as_array().unwrap().iter().find(|attribute| attribute["key"] == key);
    &found.unwrap_or_else(|| panic!("no {key} in {span}"))["value"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_a_child_of_its_request() {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let collector = Upstream::saying("{}").await;
    let gateway = gateway(&format!(
        "traces: {{ collector: 'http://{}', percent: 0 }}\n\
         routes: [{{ name: all, backend: 'http://{}', mirrors: ['http://{}'] }}]",
        collector.address, primary.address, mirror.address
    ))
    .await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    gateway
        .ask(format!("GET /a HTTP/1.1\r\nhost: a\r\ntraceparent: 00-{trace}-b7ad6b7169203331-01\r\n\r\n"))
        .await;
    // Neither sampled by its caller nor drawn.
    gateway.get("/b").await;
    gateway.outcome("delivered", 2).await;
    gateway.counts("mirrorgate_spans_exported_total", &[], 2.0).await;

    let all = spans(&collector);
    let [request, copy] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((&request["name"], &copy["name"]), (&"GET all".into(), &"mirror all".into()));
    assert_eq!((&request["traceId"], &copy["traceId"]), (&trace.into(), &trace.into()));
    assert_eq!(request["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(copy["parentSpanId"], request["spanId"]);
    assert_eq!((&request["kind"], &copy["kind"]), (&2.into(), &3.into()));
    assert_eq!(attribute(copy, "mirrorgate.copy")["boolValue"], true);
    assert_eq!(attribute(copy, "mirrorgate.outcome")["stringValue"], "delivered");
    assert_eq!(attribute(request, "http.response.status_code")["intValue"], "200");

    // What primary and mirror see fits what the collector was told.
    let parent = |upstream: &Upstream| upstream.requests()[0].field("traceparent").unwrap().to_owned();
    let id = |span: &Value| span["spanId"].as_str().unwrap().to_owned();
    assert_eq!(parent(&primary), format!("00-{trace}-{}-01", id(request)));
    assert_eq!(parent(&mirror), format!("00-{trace}-{}-01", id(copy)));
    let state = mirror.requests()[0].field("tracestate").unwrap().to_owned();
    assert_eq!(state, format!("mirrorgate=copy-of:{}", id(request)));
    assert_eq!(primary.requests()[1].field("traceparent"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_costs_nothing_but_spans() {
    let primary = Upstream::saying("p").await;
    let nobody = Upstream::nobody().await;
    let gateway =
        gateway(&format!("traces: 'http://{nobody}'\nroutes: [{{ backend: 'http://{}' }}]", primary.address))
            .await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.text(), "p");
    }
    gateway.counts("mirrorgate_spans_dropped_total", &[], 10.0).await;
    assert_eq!(gateway.sum("mirrorgate_spans_exported_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_is_sent_before_the_end() {
    let (primary, collector) = (Upstream::saying("p").await, Upstream::saying("{}").await);
    let gateway = gateway(&format!(
        "traces: 'http://{}'\nroutes: [{{ backend: 'http://{}' }}]",
        collector.address, primary.address
    ))
    .await;
    for _ in 0..5 {
        gateway.get("/").await;
    }
    assert!(gateway.drain(std::time::Duration::ZERO).await);
    eventually("five spans", || spans(&collector).len() == 5).await;
}
