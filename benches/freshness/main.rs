//! How fresh endpoints are under load, as a table; and, if asked, the same churn at the peers.
//!
//! `cargo bench --bench freshness -- [swaps=1000] [names=5] [peers=PATH-OF-FOLDER]`; `--profile fast`
//! builds sooner. `peers` names a folder with the programs `envoy` and `traefik`; nginx is taken from
//! the path. What cannot be started is left out, with a word. Nothing but loopback is used.

mod endpoints;
mod figures;
mod gateway;
mod load;
mod names;
mod peers;
mod stall;

use std::path::PathBuf;
use std::time::Duration;

use figures::Figures;

/// Requests a second, over all connections.
pub(crate) const RATE: u32 = 2000;
/// Connections of the load.
pub(crate) const CONNECTIONS: usize = 16;

/// A failure is the end of a bench, with a reason.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let argument = |name: &str| {
        let prefix = format!("{name}=");
        std::env::args().find_map(|text| text.strip_prefix(&prefix).map(str::to_owned))
    };
    let number = |name, default| argument(name).map_or(Ok(default), |text| text.parse::<usize>());
    let (swaps, names) = (number("swaps", 1000)?, number("names", 5)?);
    stall::run();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let own = gateway::churn(swaps).await?;
        println!("\nendpoint files replaced by rename, {swaps} times, under {RATE} requests a second");
        Figures::heading();
        own.print("mirrorgate");
        if let Some(folder) = argument("peers").map(PathBuf::from) {
            // They take longer to notice: each swap waits for them.
            let fewer = swaps.min(20);
            for (name, ended) in peers::all(&folder, fewer).await {
                match ended {
                    Ok(figures) => figures.print(&format!("{name} ({fewer} times)")),
                    Err(error) => println!("{name}: left out: {error}"),
                }
            }
        }
        names::run(names).await
    })
}

/// A pause between two changes that lets the last one settle.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
