//! How long a worker stands still while a set of 10,000 endpoints is published.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mirrorgate::discovery::source::{EndpointSpec, SourceSpec};
use mirrorgate::plan::{BackendPolicy, BackendSpec, Protocol};
use mirrorgate::shard::{Lane, WorkerId};
use mirrorgate::telemetry::metrics::Metrics;
use mirrorgate::upstream::lease;
use mirrorgate::upstream::registry::Registry;
use mirrorgate::worker::Worker;

const ENDPOINTS: u32 = 10_000;
const ROUNDS: u32 = 50;

/// Picks without a pause on one thread and publishes on another; then the same without publishing,
/// to know what the machine itself does.
pub(crate) fn run() {
    let registry = Registry::new(1, Arc::new(Metrics::new(1)));
    let backend = registry.reference(&BackendSpec {
        name: "app".into(),
        source: SourceSpec::Static(Vec::new()),
        protocol: Protocol::Http1,
        host: None,
        transport: Default::default(),
        policy: BackendPolicy::default(),
    });
    let set = |from: u32| -> Vec<EndpointSpec> {
        let address = |index| SocketAddr::from((Ipv4Addr::from(0x0A00_0000 + index), 80));
        (from..from + ENDPOINTS).map(|index| EndpointSpec::new(address(index))).collect()
    };
    // Half of them stay, half of them go.
    let sets = [set(0), set(ENDPOINTS / 2)];
    backend.publish(&sets[0], Instant::now());
    let mut publishing = Vec::new();
    let mut longest = |publishes: bool| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let picking = scope.spawn(|| {
                let worker = Worker::new(WorkerId(0), 1);
                let (mut longest, mut picks) = (Duration::ZERO, 0_u64);
                let mut last = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    drop(lease(&worker, &backend, Lane::Primary));
                    let now = Instant::now();
                    longest = longest.max(now - last);
                    (last, picks) = (now, picks + 1);
                }
                (longest, picks)
            });
            for round in 0..ROUNDS {
                let begun = Instant::now();
                if publishes {
                    backend.publish(&sets[(round as usize + 1) % 2], begun);
                    publishing.push(begun.elapsed());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            stop.store(true, Ordering::Relaxed);
            picking.join().unwrap_or_default()
        })
    };
    let (with, picks) = longest(true);
    let (without, _) = longest(false);
    println!("\na set of {ENDPOINTS} endpoints, published {ROUNDS} times while a worker made {picks} picks");
    println!("  publishing takes (median/p99/most, ms)   {}", crate::figures::quantiles(&publishing));
    println!("  longest time between two picks           {with:?}");
    println!("  the same while nothing is published      {without:?}");
}
