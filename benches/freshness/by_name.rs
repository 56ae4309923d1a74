//! DNS: how long after a name server changes its answer the new address is in use.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mirrorgate::app::{Handle, Origin, start};
use mirrorgate::upstream::registry::BackendRef;

use crate::by_file::removed;
use crate::endpoints::Endpoint;
use crate::figures::{Figures, quantiles};
use crate::load::Load;
use crate::names::{NameServer, Say, TTL};
use crate::{NAMES, Outcome, Pairs, backend, observe, published};

/// A name server for `primary.bench.test` and `mirror.bench.test`, and endpoints that they may have.
pub(crate) struct Names {
    pub(crate) server: NameServer,
    pub(crate) pairs: Pairs,
    told: Arc<Mutex<[Vec<Ipv4Addr>; 2]>>,
}

impl Names {
    /// Says the first endpoint of each pair.
    pub(crate) async fn start() -> Outcome<Self> {
        let pairs = at_one_port().await?;
        let told = Arc::<Mutex<[Vec<Ipv4Addr>; 2]>>::default();
        let said = told.clone();
        let server = NameServer::start(move |name, _| {
            let [primary, mirror] = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Say::Addresses(if name.starts_with("mirror") { mirror } else { primary })
        })
        .await?;
        let names = Self { server, pairs, told };
        names.say(0);
        Ok(names)
    }

    /// From now on: the endpoint of this index of each pair.
    pub(crate) fn say(&self, index: usize) {
        self.set(self.pairs.each_ref().map(|pair| match pair[index].address {
            SocketAddr::V4(address) => vec![*address.ip()],
            SocketAddr::V6(_) => Vec::new(),
        }));
    }

    /// The port of all endpoints.
    pub(crate) fn port(&self) -> u16 {
        self.pairs[0][0].address.port()
    }

    fn set(&self, told: [Vec<Ipv4Addr>; 2]) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    async fn gateway(&self) -> Outcome<(Handle, [BackendRef; 2], tempfile::TempDir)> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("gateway.yaml");
        let (server, port) = (self.server.address, self.port());
        std::fs::write(
            &file,
            format!(
                "listeners: [127.0.0.1:0]\nadmin: off\nworkers: 2\nresolver: {{ servers: [\"{server}\"] }}\n\
                 routes: [{{ backend: primary, mirrors: [mirror] }}]\n\
                 backends:\n  primary: {{ dns: \"primary.bench.test.:{port}\" }}\n  \
                 mirror: {{ dns: \"mirror.bench.test.:{port}\" }}\n"
            ),
        )?;
        let gateway = start(Origin::File(file)).await?;
        let backends = [backend(&gateway, "primary")?, backend(&gateway, "mirror")?];
        Ok((gateway, backends, folder))
    }
}

/// Four endpoints at the same port of addresses that differ.
async fn at_one_port() -> Outcome<Pairs> {
    for _ in 0..100 {
        let first = Endpoint::at(SocketAddr::from(([127, 0, 0, 41], 0))).await?;
        let port = first.address.port();
        let other = |host| Endpoint::at(SocketAddr::from(([127, 0, 0, host], port)));
        if let (Ok(second), Ok(third), Ok(fourth)) = (other(42).await, other(43).await, other(44).await) {
            return Ok([[first, second], [third, fourth]]);
        }
    }
    Err("no port is free at four addresses".into())
}

/// Changes both names `changes` times under load.
pub(crate) async fn churn(changes: usize) -> Outcome<Figures> {
    let mut names = Names::start().await?;
    let (gateway, backends, _folder) = names.gateway().await?;
    let load = Load::start(gateway.address().ok_or("no listener")?);
    let mut figures = Figures::default();
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..changes {
        names.pairs.iter().for_each(|[_, next]| next.reset());
        let next = names.pairs.each_ref().map(|[_, next]| [next.address]);
        let begun = Instant::now();
        names.say(1);
        let wait = backends.iter().zip(&next).map(|(backend, next)| published(backend, next));
        for (times, at) in figures.published.iter_mut().zip(join_all(wait).await) {
            times.push(at?.saturating_duration_since(begun));
        }
        observe(&mut figures, &mut names.pairs, begun, Duration::ZERO).await?;
    }
    (figures.requests, figures.failed) = load.stop().await;
    figures.removed = Some(removed(&backends));
    Ok(figures)
}

/// Takes all addresses from both names and gives them back, `times` times.
pub(crate) async fn emptied(times: usize) -> Outcome<()> {
    let names = Names::start().await?;
    let (_gateway, backends, _folder) = names.gateway().await?;
    let now = names.pairs.each_ref().map(|[now, _]| [now.address]);
    let mut gone = [Vec::new(), Vec::new()];
    for _ in 0..times {
        for (backend, now) in backends.iter().zip(&now) {
            published(backend, now).await?;
        }
        let begun = Instant::now();
        names.set([Vec::new(), Vec::new()]);
        for (times, at) in gone.iter_mut().zip(join_all(backends.iter().map(|one| published(one, &[]))).await)
        {
            times.push(at?.saturating_duration_since(begun));
        }
        names.say(0);
    }
    println!(
        "\nThe TTL is {TTL} s. A name whose addresses are all taken away is empty, confirmation included, after"
    );
    for (name, gone) in NAMES.into_iter().zip(&gone) {
        println!("{} ms ({name}; median / p99 / most of {times})", quantiles(gone));
    }
    Ok(())
}
