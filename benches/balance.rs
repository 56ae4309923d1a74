//! What it costs to pick an endpoint among few and among many, and to publish one backend's change
//! beside few and beside many others.
//!
//! `cargo bench --bench balance` (`--profile fast` builds sooner).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mirrorgate::discovery::source::{EndpointSpec, SourceSpec};
use mirrorgate::plan::{BackendPolicy, BackendSpec, BalancePlan, Protocol};
use mirrorgate::shard::{Lane, WorkerId};
use mirrorgate::telemetry::metrics::Metrics;
use mirrorgate::upstream::lease;
use mirrorgate::upstream::registry::{BackendRef, Registry};
use mirrorgate::worker::Worker;

fn backend(registry: &Registry, name: String, balance: BalancePlan) -> BackendRef {
    registry.reference(&BackendSpec {
        name: name.into(),
        source: SourceSpec::Static(Vec::new()),
        protocol: Protocol::Http1,
        host: None,
        transport: Default::default(),
        policy: BackendPolicy { balance, ..BackendPolicy::default() },
    })
}

fn endpoints(count: u32, uneven: bool) -> Vec<EndpointSpec> {
    let address = |index| SocketAddr::from((Ipv4Addr::from(0x0A00_0000 + index), 80));
    let weight = |index| if uneven { 1 + index % 7 } else { 1 };
    (0..count)
        .map(|index| EndpointSpec { weight: weight(index), ..EndpointSpec::new(address(index)) })
        .collect()
}

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    let worker = Worker::new(WorkerId(0), 1);
    for (name, balance, uneven) in [
        ("least_load", BalancePlan::LeastLoad, false),
        ("least_load, weighted", BalancePlan::LeastLoad, true),
        ("round_robin", BalancePlan::RoundRobin, false),
        ("random", BalancePlan::Random, false),
    ] {
        for count in [10, 10_000] {
            let registry = Registry::new(2, Arc::new(Metrics::new(2)));
            let backend = backend(&registry, "app".to_owned(), balance.clone());
            backend.publish(&endpoints(count, uneven), Instant::now());
            group.bench_function(BenchmarkId::new(name, count), |bench| {
                bench.iter(|| lease(&worker, &backend, Lane::Primary).is_ok());
            });
        }
    }
    group.finish();
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish one of");
    for count in [10, 5000] {
        let registry = Registry::new(2, Arc::new(Metrics::new(2)));
        let live: Vec<BackendRef> = (0..count)
            .map(|index| backend(&registry, format!("app-{index}"), BalancePlan::LeastLoad))
            .collect();
        let sets = [endpoints(3, false), endpoints(4, false)];
        live.iter().for_each(|backend| _ = backend.publish(&sets[0], Instant::now()));
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |bench| {
            bench.iter(|| {
                turn += 1;
                live[count / 2].publish(&sets[turn % 2], Instant::now())
            });
        });
    }
    group.finish();
}

/// A set of which one endpoint changed.
fn publish_set(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish a set of");
    for count in [10, 10_000] {
        let registry = Registry::new(2, Arc::new(Metrics::new(2)));
        let backend = backend(&registry, "app".to_owned(), BalancePlan::LeastLoad);
        let sets = [endpoints(count, false), endpoints(count - 1, false)];
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |bench| {
            bench.iter(|| {
                turn += 1;
                backend.publish(&sets[turn % 2], Instant::now())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pick, publish, publish_set);
criterion_main!(benches);
