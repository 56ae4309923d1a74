//! What it costs to take an idle connection out of a pool and to give it back, with few and with many
//! beside it.
//!
//! `cargo bench --bench pool` (`--profile fast` builds sooner).
#![allow(clippy::expect_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mirrorgate::discovery::source::{EndpointSpec, SourceSpec};
use mirrorgate::plan::{BackendPolicy, BackendSpec, Protocol};
use mirrorgate::shard::{Lane, WorkerId};
use mirrorgate::telemetry::metrics::Metrics;
use mirrorgate::upstream::lease;
use mirrorgate::upstream::registry::{BackendRef, Registry};
use mirrorgate::upstream::stream::Stream;
use mirrorgate::worker::Worker;
use tokio::net::UnixStream;
use tokio::runtime::Builder;

fn backend(registry: &Registry) -> BackendRef {
    let backend = registry.reference(&BackendSpec {
        name: "app".into(),
        source: SourceSpec::Static(Vec::new()),
        protocol: Protocol::Http1,
        host: None,
        transport: Default::default(),
        policy: BackendPolicy::default(),
    });
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    backend.publish(&[EndpointSpec::new(address)], Instant::now());
    backend
}

fn take_and_give_back(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let mut group = criterion.benchmark_group("take and give back beside");
    for idle in [0, 63, 400] {
        let registry = Registry::new(1, Arc::new(Metrics::new(1)));
        let (backend, worker) = (backend(&registry), Worker::new(WorkerId(0), 1));
        let lease = || lease(&worker, &backend, Lane::Primary).expect("an endpoint");
        let mut others = Vec::new();
        for _ in 0..=idle {
            let (ours, theirs) = UnixStream::pair().expect("two sockets");
            let mut lease = lease();
            lease.connected();
            lease.give_back(Stream::Unix(ours));
            others.push(theirs);
        }
        group.bench_function(BenchmarkId::from_parameter(idle), |bench| {
            bench.iter(|| {
                let mut lease = lease();
                let stream = lease.take_idle().expect("an idle connection");
                lease.give_back(stream);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, take_and_give_back);
criterion_main!(benches);
