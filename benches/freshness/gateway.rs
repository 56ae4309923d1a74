//! This gateway under churn: two endpoint files, one for a primary and one for its mirror, replaced
//! by rename at once.

use std::path::Path;
use std::time::{Duration, Instant};

use mirrorgate::app::{Handle, Origin, start};
use mirrorgate::shard::Lane;
use mirrorgate::upstream::registry::BackendRef;

use crate::endpoints::Endpoint;
use crate::figures::Figures;
use crate::load::Load;
use crate::{Outcome, settle};

const NAMES: [&str; 2] = ["primary", "mirror"];

/// Swaps both files `swaps` times under load.
pub(crate) async fn churn(swaps: usize) -> Outcome<Figures> {
    let folder = tempfile::tempdir()?;
    // For each lane the endpoint in use and the other one.
    let mut pairs = [
        [Endpoint::start().await?, Endpoint::start().await?],
        [Endpoint::start().await?, Endpoint::start().await?],
    ];
    for (name, [endpoint, _]) in NAMES.into_iter().zip(&pairs) {
        write(folder.path(), name, endpoint)?;
    }
    let file = folder.path().join("gateway.yaml");
    std::fs::write(
        &file,
        "listeners: [127.0.0.1:0]\nadmin: off\nworkers: 2\nroutes: [{ backend: primary, mirrors: [mirror] }]\n\
         backends: { primary: { file: primary.yaml }, mirror: { file: mirror.yaml } }\n",
    )?;
    let gateway = start(Origin::File(file)).await?;
    let backends = NAMES.map(|name| backend(&gateway, name));
    let [Some(primary), Some(mirror)] = backends else { return Err("a backend is missing".into()) };
    let load = Load::start(gateway.address().ok_or("no listener")?);
    let mut figures = Figures::default();
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..swaps {
        pairs.iter().for_each(|[_, next]| next.reset());
        let wait = [published(&primary, &pairs[0][1]), published(&mirror, &pairs[1][1])];
        for (name, [_, next]) in NAMES.into_iter().zip(&pairs) {
            stage(folder.path(), name, next)?;
        }
        let begun = Instant::now();
        for name in NAMES {
            rename(folder.path(), name)?;
        }
        for (times, at) in figures.published.iter_mut().zip(futures_util::future::join_all(wait).await) {
            times.push(at?.saturating_duration_since(begun));
        }
        for (times, [_, next]) in figures.first.iter_mut().zip(&pairs) {
            times.push(first(next).await?.saturating_duration_since(begun));
        }
        settle().await;
        for (times, [old, _]) in figures.last.iter_mut().zip(&pairs) {
            times.extend(old.last().map(|last| last.saturating_duration_since(begun)));
        }
        pairs.iter_mut().for_each(|pair| pair.swap(0, 1));
    }
    (figures.requests, figures.failed) = load.stop().await;
    let removed = |backend: &BackendRef| -> u64 {
        Lane::ALL.iter().map(|lane| backend.metrics().sent_to_removed_total(*lane)).sum()
    };
    figures.removed = Some(removed(&primary) + removed(&mirror));
    Ok(figures)
}

/// The backend called `name`.
pub(crate) fn backend(gateway: &Handle, name: &str) -> Option<BackendRef> {
    gateway.registry().live().into_iter().find(|backend| &**backend.name() == name)
}

/// When `endpoint` alone is in use.
pub(crate) async fn published(backend: &BackendRef, endpoint: &Endpoint) -> Outcome<Instant> {
    let address = endpoint.address.to_string();
    let in_use = || {
        let set = backend.endpoints();
        set.len() == 1 && set.entries().iter().all(|entry| entry.endpoint.address().to_string() == address)
    };
    let mut revision = backend.revision();
    tokio::time::timeout(Duration::from_secs(30), revision.wait_for(|_| in_use())).await??;
    Ok(Instant::now())
}

/// When `endpoint` had its first request.
pub(crate) async fn first(endpoint: &Endpoint) -> Outcome<Instant> {
    for _ in 0..60_000 {
        match endpoint.first() {
            Some(first) => return Ok(first),
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    Err("no request at the new address within a minute".into())
}

fn write(folder: &Path, name: &str, endpoint: &Endpoint) -> std::io::Result<()> {
    stage(folder, name, endpoint)?;
    rename(folder, name)
}

fn stage(folder: &Path, name: &str, endpoint: &Endpoint) -> std::io::Result<()> {
    std::fs::write(folder.join(format!(".{name}")), format!("endpoints: [\"{}\"]\n", endpoint.address))
}

fn rename(folder: &Path, name: &str) -> std::io::Result<()> {
    std::fs::rename(folder.join(format!(".{name}")), folder.join(format!("{name}.yaml")))
}
