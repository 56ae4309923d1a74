//! Endpoints that are killed under load while their file goes on naming them.

use std::time::{Duration, Instant};

use mirrorgate::mirror::outcome::Outcome as Ended;
use mirrorgate::shard::Lane;
use mirrorgate::upstream::condition::State;
use mirrorgate::upstream::registry::BackendRef;

use crate::by_file::{gateway, removed, write};
use crate::endpoints::Endpoint;
use crate::figures::quantiles;
use crate::load::Load;
use crate::{NAMES, Outcome, RATE, published};

const ENDPOINTS: usize = 4;

/// Kills one of four endpoints of primary and of mirror at once, `kills` times.
pub(crate) async fn run(kills: usize) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut sets = [Vec::new(), Vec::new()];
    for (name, set) in NAMES.into_iter().zip(&mut sets) {
        for _ in 0..ENDPOINTS {
            set.push(Endpoint::start().await?);
        }
        write(folder.path(), name, &addresses(set))?;
    }
    let retries = ", retries: { attempts: 2, on: [connect, reset] }";
    let (gateway, backends) = gateway(folder.path(), retries, "").await?;
    let load = Load::start(gateway.address().ok_or("no listener")?);
    let mut out = [Vec::new(), Vec::new()];
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..kills {
        let begun = Instant::now();
        let killed = sets.each_mut().map(|set| set.remove(0).address.to_string());
        for (((times, backend), lane), killed) in out.iter_mut().zip(&backends).zip(Lane::ALL).zip(&killed) {
            let mut revision = backend.revision();
            let left_out = |_: &u64| state(backend, killed) == Some(State::Ejected(Some(lane)));
            tokio::time::timeout(Duration::from_secs(60), revision.wait_for(left_out)).await??;
            times.push(begun.elapsed());
        }
        for ((name, set), backend) in NAMES.into_iter().zip(&mut sets).zip(&backends) {
            set.push(Endpoint::start().await?);
            write(folder.path(), name, &addresses(set))?;
            published(backend, &addresses(set)).await?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (requests, failed) = load.stop().await;
    println!("\n### Endpoints killed before their source knows\n");
    println!(
        "One of {ENDPOINTS} endpoints of primary and mirror, killed {kills} times under {RATE} GETs a second, \
         `retries: {{ on: [connect, reset] }}`.\n"
    );
    println!("| left out after, ms (median / p99 / most) | lane |\n|---|---|");
    for (name, times) in NAMES.into_iter().zip(&out) {
        println!("| {} | {name} |", quantiles(times));
    }
    println!("\n{requests} requests, {failed} failed, {} to removed endpoints. Copies:", removed(&backends));
    for (_, mirror) in gateway.metrics().mirrors() {
        let ended = Ended::ALL.iter().map(|outcome| (outcome.as_str(), mirror.outcome_total(*outcome)));
        let told: Vec<_> =
            ended.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
        println!("{}.", told.join(", "));
    }
    if failed > 0 || removed(&backends) > 0 {
        return Err("a request that may be retried failed, or was sent to a removed endpoint".into());
    }
    Ok(())
}

fn addresses(set: &[Endpoint]) -> Vec<std::net::SocketAddr> {
    set.iter().map(|endpoint| endpoint.address).collect()
}

fn state(backend: &BackendRef, address: &str) -> Option<State> {
    let set = backend.endpoints();
    let entry = set.entries().iter().find(|entry| entry.endpoint.address().to_string() == address)?;
    Some(entry.endpoint.condition().state())
}
