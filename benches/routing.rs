//! What it costs to find a route among few and among many.
//!
//! `cargo bench --bench routing` (`--profile fast` builds sooner).

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mirrorgate::routing::index::{RequestView, RouteIndex, Rule};
use mirrorgate::routing::matches::{HostPattern, PathMatch, RouteMatch, ValueMatch};

const PREFIXES_PER_HOST: usize = 10;

fn find(criterion: &mut Criterion) {
    let headers = headers();
    let slashes = "/".repeat(8000);

    let mut group = criterion.benchmark_group("find");
    let only = RouteIndex::build(&[Rule { listeners: None, hosts: &[], matches: &[] }]);
    group.bench_function("the only route", |bench| {
        bench.iter(|| only.find(black_box(&view(&headers, "shop.example.com", "/api/v1/users/17"))));
    });
    for count in [10, 1_000, 10_000] {
        let index = hosts_and_prefixes(count);
        let host = format!("host-{}.example.com", count / PREFIXES_PER_HOST / 2);
        let requests = [
            ("hit", host.as_str(), "/service-5/v1/users/17"),
            ("hit by wildcard", "x.wild.example.com", "/service-5/v1/users/17"),
            ("miss of path", host.as_str(), "/else/v1/users/17"),
            ("miss of host", "a.b.c.other.example.org", "/service-5/v1/users/17"),
            ("miss of slashes", host.as_str(), slashes.as_str()),
        ];
        for (name, host, path) in requests {
            let expected = name.starts_with("hit");
            assert_eq!(index.find(&view(&headers, host, path)).is_some(), expected, "{name} among {count}");
            group.bench_with_input(
                BenchmarkId::new(name, count),
                &view(&headers, host, path),
                |bench, request| {
                    bench.iter(|| index.find(black_box(request)));
                },
            );
        }
    }
    group.finish();
}

fn conditions(criterion: &mut Criterion) {
    let headers = headers();
    let conditions = RouteMatch {
        path: Some(PathMatch::Prefix("/api".to_owned())),
        method: Some(Method::GET),
        headers: vec![(HeaderName::from_static("x-env"), ValueMatch::Exact("test".to_owned()))],
        query: vec![("v".to_owned(), ValueMatch::Exact("2".to_owned()))],
    };
    let index = RouteIndex::build(&[Rule { listeners: None, hosts: &[], matches: &[conditions] }]);
    let request = view(&headers, "shop.example.com", "/api/v1");
    assert!(index.find(&request).is_some());
    criterion.bench_function("conditions on method, header and query", |bench| {
        bench.iter(|| index.find(black_box(&request)));
    });
}

fn build(criterion: &mut Criterion) {
    criterion.bench_function("build/10000", |bench| bench.iter(|| hosts_and_prefixes(10_000)));
}

/// `count` routes: hosts with ten prefixes each, and as many wildcards with one.
fn hosts_and_prefixes(count: usize) -> RouteIndex {
    let owned: Vec<_> = (0..count)
        .map(|number| {
            let host = number / PREFIXES_PER_HOST;
            let prefix = format!("/service-{}/v1", number % PREFIXES_PER_HOST);
            let wildcard =
                if host == 0 { ".wild.example.com".to_owned() } else { format!(".wild-{host}.test") };
            let hosts =
                [HostPattern::Exact(format!("host-{host}.example.com")), HostPattern::Suffix(wildcard)];
            (hosts, [RouteMatch { path: Some(PathMatch::Prefix(prefix)), ..RouteMatch::default() }])
        })
        .collect();
    let rules: Vec<_> =
        owned.iter().map(|(hosts, matches)| Rule { listeners: None, hosts, matches }).collect();
    RouteIndex::build(&rules)
}

fn headers() -> HeaderMap {
    HeaderMap::from_iter([
        (HeaderName::from_static("user-agent"), HeaderValue::from_static("bench")),
        (HeaderName::from_static("accept"), HeaderValue::from_static("*/*")),
        (HeaderName::from_static("x-env"), HeaderValue::from_static("test")),
    ])
}

fn view<'a>(headers: &'a HeaderMap, host: &'a str, path: &'a str) -> RequestView<'a> {
    RequestView { listener: 0, host, path, query: Some("page=17&v=2"), method: &Method::GET, headers }
}

criterion_group!(benches, find, conditions, build);
criterion_main!(benches);
