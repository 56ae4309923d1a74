//! What it costs to pick an endpoint among few and among many.
//!
//! `cargo bench --bench balance` (`--profile fast` builds sooner).
#![allow(clippy::expect_used)]

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mirrorgate::discovery::source::{EndpointSpec, SourceSpec};
use mirrorgate::plan::{BackendSpec, Protocol, Transport};
use mirrorgate::shard::{Lane, WorkerId};
use mirrorgate::telemetry::metrics::Metrics;
use mirrorgate::upstream::balance;
use mirrorgate::upstream::endpoint::Endpoint;
use mirrorgate::upstream::registry::{BackendRef, Registry};

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for count in [1, 10, 10_000] {
        for (name, weights) in [("equal weights", 1), ("different weights", 7)] {
            let backend = backend(count, weights);
            let mut random = fastrand::Rng::with_seed(7);
            let load = |endpoint: &Endpoint| endpoint.pool(WorkerId(0), Lane::Primary).in_flight();
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    let set = backend.endpoints();
                    let draws = [random.u64(..), random.u64(..)];
                    black_box(balance::pick(&set, &[], draws, load).is_some())
                });
            });
        }
    }
    group.finish();
}

/// What it costs, on the control side, to put a set of endpoints into use of which one changed.
fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    for count in [10, 10_000] {
        let backend = backend(count, 1);
        let mut sets = [specs(count, 1), specs(count, 1)];
        if let Some(last) = sets[1].last_mut() {
            *last = EndpointSpec::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        }
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                turn += 1;
                assert!(backend.publish(&sets[turn % 2], Instant::now()));
            });
        });
    }
    group.finish();
}

fn backend(count: u32, weights: u32) -> BackendRef {
    let registry = Registry::new(1, Arc::new(Metrics::new(1)));
    let backend = registry.reference(&BackendSpec {
        name: "app".into(),
        source: SourceSpec::Static(Vec::new()),
        protocol: Protocol::Http1,
        host: None,
        transport: Transport::default(),
    });
    assert!(backend.publish(&specs(count, weights), Instant::now()));
    backend
}

/// `count` endpoints with weights from 1 to `weights`.
fn specs(count: u32, weights: u32) -> Vec<EndpointSpec> {
    (0..count)
        .map(|number| {
            let address = Ipv4Addr::from(0x0a00_0000 + number);
            EndpointSpec { weight: 1 + number % weights, ..EndpointSpec::new((address, 80).into()) }
        })
        .collect()
}

criterion_group!(benches, pick, publish);
criterion_main!(benches);
