//! This gateway under churn: two endpoint files, one for a primary and one for its mirror, replaced
//! by rename at once.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mirrorgate::app::{Handle, Origin, start};
use mirrorgate::shard::Lane;
use mirrorgate::upstream::registry::BackendRef;

use crate::figures::Figures;
use crate::load::Load;
use crate::{NAMES, Outcome, backend, observe, pairs, published};

/// Swaps both files `swaps` times under load.
pub(crate) async fn churn(swaps: usize) -> Outcome<Figures> {
    let folder = tempfile::tempdir()?;
    let mut pairs = pairs().await?;
    for (name, [endpoint, _]) in NAMES.into_iter().zip(&pairs) {
        write(folder.path(), name, &[endpoint.address])?;
    }
    let (gateway, backends) = gateway(folder.path(), "", "").await?;
    let load = Load::start(gateway.address().ok_or("no listener")?);
    let mut figures = Figures::default();
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..swaps {
        pairs.iter().for_each(|[_, next]| next.reset());
        let next = pairs.each_ref().map(|[_, next]| [next.address]);
        for (name, next) in NAMES.into_iter().zip(&next) {
            stage(folder.path(), name, next)?;
        }
        let begun = Instant::now();
        for name in NAMES {
            rename(folder.path(), name)?;
        }
        let wait = backends.iter().zip(&next).map(|(backend, next)| published(backend, next));
        for (times, at) in figures.published.iter_mut().zip(join_all(wait).await) {
            times.push(at?.saturating_duration_since(begun));
        }
        observe(&mut figures, &mut pairs, begun, Duration::ZERO).await?;
    }
    (figures.requests, figures.failed) = load.stop().await;
    figures.removed = Some(removed(&backends));
    Ok(figures)
}

/// A gateway of the endpoint files in `folder`, and its backends. `route` and `backend` are added to
/// the route and to both backends.
pub(crate) async fn gateway(folder: &Path, route: &str, more: &str) -> Outcome<(Handle, [BackendRef; 2])> {
    let file = folder.join("gateway.yaml");
    std::fs::write(
        &file,
        format!(
            "listeners: [127.0.0.1:0]\nadmin: off\nworkers: 2\n\
             routes: [{{ backend: primary, mirrors: [mirror]{route} }}]\n\
             backends: {{ primary: {{ file: primary.yaml{more} }}, mirror: {{ file: mirror.yaml{more} }} }}\n"
        ),
    )?;
    let gateway = start(Origin::File(file)).await?;
    let backends = [backend(&gateway, "primary")?, backend(&gateway, "mirror")?];
    Ok((gateway, backends))
}

/// Requests that were sent to removed endpoints of any of them.
pub(crate) fn removed(backends: &[BackendRef]) -> u64 {
    let of = |backend: &BackendRef| -> u64 {
        Lane::ALL.iter().map(|lane| backend.metrics().sent_to_removed_total(*lane)).sum()
    };
    backends.iter().map(of).sum()
}

/// Replaces the file of `name` by rename.
pub(crate) fn write(folder: &Path, name: &str, addresses: &[SocketAddr]) -> std::io::Result<()> {
    stage(folder, name, addresses)?;
    rename(folder, name)
}

/// Writes what [`rename`] puts in place.
pub(crate) fn stage(folder: &Path, name: &str, addresses: &[SocketAddr]) -> std::io::Result<()> {
    let lines: String = addresses.iter().map(|address| format!("  - \"{address}\"\n")).collect();
    std::fs::write(folder.join(format!(".{name}")), format!("endpoints:\n{lines}"))
}

pub(crate) fn rename(folder: &Path, name: &str) -> std::io::Result<()> {
    std::fs::rename(folder.join(format!(".{name}")), folder.join(format!("{name}.yaml")))
}
