//! What publishing and picking cost, among few and among many.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use mirrorgate::discovery::resolver::ResolverPolicy;
use mirrorgate::discovery::source::{EndpointSpec, SourceSpec};
use mirrorgate::discovery::{Discovery, DnsSettings, Settings};
use mirrorgate::plan::{BackendPolicy, BackendSpec, BalancePlan, HashKey, Protocol};
use mirrorgate::shard::{Lane, WorkerId};
use mirrorgate::telemetry::metrics::Metrics;
use mirrorgate::upstream::lease;
use mirrorgate::upstream::registry::{BackendRef, Registry};
use mirrorgate::worker::Worker;

use crate::by_file::{rename, stage};
use crate::figures::{micros, quantiles};
use crate::{Outcome, published};

/// Backends beside the one that changes.
const BACKENDS: [usize; 2] = [10, 5000];
/// Endpoints of the one that is picked from.
const ENDPOINTS: [u32; 2] = [10, 10_000];

/// A backend that nobody talks to.
pub(crate) fn backend(
    registry: &Registry,
    name: &str,
    source: SourceSpec,
    balance: BalancePlan,
) -> BackendRef {
    registry.reference(&BackendSpec {
        name: name.into(),
        source,
        protocol: Protocol::Http1,
        host: None,
        transport: Default::default(),
        policy: BackendPolicy { balance, ..BackendPolicy::default() },
    })
}

/// So many endpoints, from a number on.
pub(crate) fn endpoints(from: u32, count: u32) -> Vec<EndpointSpec> {
    let address = |index| SocketAddr::from((Ipv4Addr::from(0x0A00_0000 + index), 80));
    (from..from + count).map(|index| EndpointSpec::new(address(index))).collect()
}

/// From the rename of one endpoint file to its set in use, among few and among many such files.
pub(crate) async fn publish_by_files() -> Outcome<()> {
    println!("\n### Cost\n");
    println!("| one of so many backends changes | ten of | five thousand of |\n|---|---|---|");
    let mut columns = Vec::new();
    for count in BACKENDS {
        columns.push(files(count, 200).await?);
    }
    println!("| file renamed to set in use, ms (median / p99 / most of 200) | {} |", columns.join(" | "));
    Ok(())
}

async fn files(count: usize, swaps: usize) -> Outcome<String> {
    let folder = tempfile::tempdir()?;
    let registry = Arc::new(Registry::new(2, Arc::new(Metrics::new(2))));
    let sets = [7001, 7002].map(|port| [SocketAddr::from(([127, 0, 0, 1], port))]);
    let name = |index: usize| format!("app-{index}");
    let mut live = Vec::new();
    for index in 0..count {
        stage(folder.path(), &name(index), &sets[0])?;
        rename(folder.path(), &name(index))?;
        let file = SourceSpec::File(folder.path().join(format!("{}.yaml", name(index))));
        live.push(backend(&registry, &name(index), file, BalancePlan::LeastLoad));
    }
    let policy = ResolverPolicy::default();
    let settings = Settings { parse, dns: DnsSettings::default(), slices: Arc::default(), policy };
    let running = tokio::spawn(Discovery::new(settings).run(registry));
    for backend in &live {
        published(backend, &sets[0]).await?;
    }
    let mut times = Vec::new();
    for swap in 1..=swaps {
        let index = (swap * 37) % count;
        let next = if published_is(&live[index], &sets[0]) { &sets[1] } else { &sets[0] };
        stage(folder.path(), &name(index), next)?;
        let begun = Instant::now();
        rename(folder.path(), &name(index))?;
        times.push(published(&live[index], next).await?.saturating_duration_since(begun));
    }
    running.abort();
    Ok(quantiles(&times))
}

fn published_is(backend: &BackendRef, addresses: &[SocketAddr]) -> bool {
    let set = backend.endpoints();
    set.entries().iter().all(|entry| entry.endpoint.address().to_string() == addresses[0].to_string())
}

fn parse(text: &str) -> Result<Vec<EndpointSpec>, String> {
    let lines = text.lines().skip(1).map(|line| line.trim_matches(|other: char| " -\"".contains(other)));
    lines.map(|line| line.parse().map(EndpointSpec::new).map_err(|_| line.to_owned())).collect()
}

/// Publishing itself, among few and among many.
pub(crate) fn publish() {
    let columns = BACKENDS.map(|count| {
        let registry = Registry::new(2, Arc::new(Metrics::new(2)));
        let none = SourceSpec::Static(Vec::new());
        let live: Vec<_> = (0..count)
            .map(|index| backend(&registry, &format!("app-{index}"), none.clone(), BalancePlan::LeastLoad))
            .collect();
        let sets = [endpoints(0, 10), endpoints(1, 10)];
        live.iter().for_each(|backend| _ = backend.publish(&sets[0], Instant::now()));
        let times: Vec<_> = (1..=5000)
            .map(|turn| {
                let begun = Instant::now();
                live[count / 2].publish(&sets[turn % 2], begun);
                begun.elapsed()
            })
            .collect();
        micros(&times)
    });
    println!("| publishing ten endpoints, µs (median / p99 / most of 5,000) | {} |", columns.join(" | "));
}

/// A pick, with the count of the exchange, among few and among many endpoints.
pub(crate) fn pick(picks: u32) {
    println!("\n| a pick, ns (best of five runs) | among 10 | among 10,000 | more |\n|---|---|---|---|");
    for (name, balance) in [
        ("`least_load`", BalancePlan::LeastLoad),
        ("`round_robin`", BalancePlan::RoundRobin),
        ("`random`", BalancePlan::Random),
        ("`consistent`, no key", BalancePlan::Consistent(HashKey::Path)),
    ] {
        let [few, many] = ENDPOINTS.map(|count| {
            let registry = Registry::new(1, Arc::new(Metrics::new(1)));
            let backend = backend(&registry, "app", SourceSpec::Static(Vec::new()), balance.clone());
            backend.publish(&endpoints(0, count), Instant::now());
            let worker = Worker::new(WorkerId(0), 1);
            (0..5).map(|_| each(picks, &worker, &backend)).fold(f64::INFINITY, f64::min)
        });
        println!("| {name} | {few:.0} | {many:.0} | {:.0} |", many - few);
    }
}

fn each(picks: u32, worker: &Arc<Worker>, backend: &BackendRef) -> f64 {
    let begun = Instant::now();
    for _ in 0..picks {
        drop(std::hint::black_box(lease(worker, backend, Lane::Primary)));
    }
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(picks.max(1))
}
