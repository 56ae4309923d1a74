//! How long a worker stands still while a set of 10,000 endpoints is published.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mirrorgate::discovery::source::SourceSpec;
use mirrorgate::plan::BalancePlan;
use mirrorgate::shard::{Lane, WorkerId};
use mirrorgate::telemetry::metrics::Metrics;
use mirrorgate::upstream::lease;
use mirrorgate::upstream::registry::Registry;
use mirrorgate::worker::Worker;

use crate::cost::{backend, endpoints};
use crate::figures::quantiles;

const ENDPOINTS: u32 = 10_000;
const ROUNDS: u32 = 50;

/// Picks without a pause on one thread and publishes on another; then the same without publishing,
/// to know what the machine itself does.
pub(crate) fn run() {
    let registry = Registry::new(1, Arc::new(Metrics::new(1)));
    let backend = backend(&registry, "app", SourceSpec::Static(Vec::new()), BalancePlan::LeastLoad);
    // Half of them stay, half of them go.
    let sets = [endpoints(0, ENDPOINTS), endpoints(ENDPOINTS / 2, ENDPOINTS)];
    backend.publish(&sets[0], Instant::now());
    let mut publishing = Vec::new();
    let mut longest = |publishes: bool| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let picking = scope.spawn(|| {
                let worker = Worker::new(WorkerId(0), 1);
                let mut pauses: Vec<Duration> = Vec::new();
                let mut last = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    drop(lease(&worker, &backend, Lane::Primary));
                    let now = Instant::now();
                    // What is shorter is no pause; as many as these can be kept.
                    if now - last > Duration::from_micros(20) {
                        pauses.push(now - last);
                    }
                    last = now;
                }
                pauses
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
    let (with, without) = (longest(true), longest(false));
    println!(
        "\nA set of 10,000 endpoints, half of them new, published {ROUNDS} times while a worker picks without a pause:"
    );
    println!("publishing takes {} ms (median / p99 / most).\n", quantiles(&publishing));
    println!(
        "| pauses of the worker longer than 20 µs | how many | ms (median / p99 / most) |\n|---|---|---|"
    );
    println!("| while sets are published | {} | {} |", with.len(), quantiles(&with));
    println!("| while none is | {} | {} |", without.len(), quantiles(&without));
}
