//! What telling costs a request: metrics of one forwarded and mirrored request, and its access record.
#![allow(clippy::expect_used)]

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use mirrorgate::discovery::source::EndpointAddress;
use mirrorgate::mirror::outcome::Outcome;
use mirrorgate::plan::AccessLogPlan;
use mirrorgate::shard::{Lane, WorkerId};
use mirrorgate::telemetry::access_log::{
    AccessLog, AccessRecord, ConnectionFacts, RequestFacts, RequestRecord, ResponseFlag,
};
use mirrorgate::telemetry::metrics::Metrics;

const WORKER: WorkerId = WorkerId(0);

fn metrics(criterion: &mut Criterion) {
    let metrics = Metrics::new(2);
    let route = metrics.route(&Arc::from("api"));
    let (app, next) = (metrics.backend(&Arc::from("app")), metrics.backend(&Arc::from("next")));
    let mirror = metrics.mirror(&Arc::from("api"), &Arc::from("next"));
    criterion.bench_function("metrics of a mirrored request", |bencher| {
        bencher.iter(|| {
            route.forwarded(WORKER);
            mirror.offered(WORKER);
            app.answered(WORKER, Lane::Primary, Some(black_box(StatusCode::OK)));
            next.answered(WORKER, Lane::Mirror, Some(black_box(StatusCode::OK)));
            mirror.ended(WORKER, black_box(Outcome::Delivered));
            route.responded(WORKER, black_box(StatusCode::OK), black_box(Duration::from_micros(700)));
        });
    });
}

fn access_log(criterion: &mut Criterion) {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "shop.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("x-request-id", "0198c2f4-3a51-7c1e-9d0b-5e2f6a7b8c9d"),
        ("x-forwarded-for", "192.0.2.7"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let target = PathAndQuery::from_static("/api/v1/items/4711?fields=name,price&page=2");
    let connection = ConnectionFacts::of(
        "10.0.0.1:8080".parse().expect("valid"),
        "192.0.2.7:54321".parse().expect("valid"),
    );
    let facts = || {
        let now = SystemTime::now();
        let mut facts = RequestFacts::begin(now, &Method::GET, Some(&target), Version::HTTP_11);
        facts.fields(&headers);
        facts
    };
    let endpoint = EndpointAddress::Tcp("10.0.3.7:9001".parse().expect("valid"));
    let log = |log: &AccessLog| {
        if !log.enabled() {
            return;
        }
        let record = AccessRecord::Request(RequestRecord {
            facts: &facts(),
            connection: &connection,
            status: Some(StatusCode::OK),
            flag: ResponseFlag::None,
            details: "via_upstream",
            bytes_received: 0,
            bytes_sent: 1234,
            grpc_status: None,
            duration: Duration::from_micros(700),
            upstream_host: Some(&endpoint),
            upstream_cluster: Some("app"),
            route: Some("api"),
        });
        log.log(WORKER, &record);
    };
    let off = AccessLog::off();
    criterion.bench_function("access record, off", |bencher| bencher.iter(|| log(black_box(&off))));
    let plan = AccessLogPlan::File(PathBuf::from("/dev/null"));
    let on = AccessLog::start(&plan, 1, Arc::new(Metrics::new(1))).expect("/dev/null opens");
    criterion.bench_function("access record, written", |bencher| bencher.iter(|| log(black_box(&on))));
}

criterion_group!(benches, metrics, access_log);
criterion_main!(benches);
