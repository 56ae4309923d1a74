//! How fresh endpoints are, in figures: for primary and mirror, under load, and beside peers. Prints
//! the tables of `docs/freshness.md`.
//!
//! `benches/freshness/run` finds the peers and puts the tables into the docs. By hand:
//! `cargo bench --bench freshness -- [swaps=1000] [names=30] [kills=20] [peer_swaps=20]
//! [picks=1000000] [envoy=PROGRAM] [traefik=PROGRAM] [nginx=PROGRAM]`; `--profile fast` builds sooner. What is not
//! given or cannot be started is left out, with a word. Nothing but loopback is used.

mod by_file;
mod by_name;
mod cost;
mod endpoints;
mod figures;
mod kill;
mod load;
// The tests' own, who use all of it.
#[allow(dead_code, unreachable_pub)]
#[path = "../../tests/it/harness/names.rs"]
mod names;
mod peer_files;
mod peers;
mod stall;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use endpoints::Endpoint;
use figures::Figures;
use mirrorgate::app::Handle;
use mirrorgate::upstream::registry::BackendRef;

/// Requests a second, over all connections.
pub(crate) const RATE: u32 = 2000;
/// Connections of the load.
pub(crate) const CONNECTIONS: usize = 16;
/// The backends of the one route, in the order of the lanes.
pub(crate) const NAMES: [&str; 2] = ["primary", "mirror"];

/// A failure is the end of a bench, with a reason.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let argument = |name: &str| {
        let prefix = format!("{name}=");
        std::env::args().find_map(|text| text.strip_prefix(&prefix).map(str::to_owned))
    };
    let number = |name, default| argument(name).map_or(Ok(default), |text| text.parse::<usize>());
    let (swaps, names) = (number("swaps", 1000)?, number("names", 30)?);
    let (kills, peer_swaps, picks) =
        (number("kills", 20)?, number("peer_swaps", 20)?, number("picks", 1_000_000)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        println!("### Endpoints replaced under {RATE} requests a second\n");
        Figures::heading();
        for (name, figures) in [
            ("mirrorgate, file", by_file::churn(swaps).await?),
            ("mirrorgate, DNS", by_name::churn(names).await?),
        ] {
            figures.print(name);
            if figures.failed > 0 || figures.removed != Some(0) {
                return Err("a request failed, or was sent to a removed endpoint".into());
            }
        }
        let mut left_out = Vec::new();
        for (name, ended) in peers::all(&argument, peer_swaps).await {
            match ended {
                Ok(figures) => figures.print(name),
                Err(error) => left_out.push(format!("{name}: left out: {error}")),
            }
        }
        left_out.iter().for_each(|line| println!("\n{line}"));
        by_name::emptied(names.min(10)).await?;
        kill::run(kills).await?;
        cost::publish_by_files().await
    })?;
    cost::publish();
    cost::pick(picks as u32);
    stall::run();
    Ok(())
}

/// A pause between two changes that lets the last one settle.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Two endpoints for each lane: the one in use and the next one.
pub(crate) type Pairs = [[Endpoint; 2]; 2];

/// Pairs of endpoints at any ports.
pub(crate) async fn pairs() -> Outcome<Pairs> {
    Ok([
        [Endpoint::start().await?, Endpoint::start().await?],
        [Endpoint::start().await?, Endpoint::start().await?],
    ])
}

/// What one change did, seen from the endpoints: when the next ones were used first and the old ones
/// last, counted from `begun`, and how many connections the old ones have left after `linger`.
pub(crate) async fn observe(
    figures: &mut Figures,
    pairs: &mut Pairs,
    begun: Instant,
    linger: Duration,
) -> Outcome<()> {
    for (lane, [_, next]) in pairs.iter().enumerate() {
        figures.first[lane].push(next.awaited().await?.saturating_duration_since(begun));
    }
    settle().await;
    tokio::time::sleep(linger).await;
    for (lane, [old, _]) in pairs.iter().enumerate() {
        figures.last[lane].extend(old.last().map(|last| last.saturating_duration_since(begun)));
        figures.lingering[lane] = figures.lingering[lane].max(old.open());
    }
    pairs.iter_mut().for_each(|pair| pair.swap(0, 1));
    Ok(())
}

/// The backend called `name`.
pub(crate) fn backend(gateway: &Handle, name: &str) -> Outcome<BackendRef> {
    let live = gateway.registry().live();
    Ok(live.into_iter().find(|backend| &**backend.name() == name).ok_or("a backend is missing")?)
}

/// When `addresses` and no others are in use.
pub(crate) async fn published(backend: &BackendRef, addresses: &[SocketAddr]) -> Outcome<Instant> {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let in_use = || {
        let set = backend.endpoints();
        let mut entries = set.entries().iter().map(|entry| entry.endpoint.address().to_string());
        set.len() == addresses.len() && entries.all(|address| addresses.contains(&address))
    };
    let mut revision = backend.revision();
    tokio::time::timeout(Duration::from_secs(60), revision.wait_for(|_| in_use())).await??;
    Ok(Instant::now())
}
