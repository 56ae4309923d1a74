//! The same churn at the peers, each with what it offers for it: Envoy with endpoints from a file and
//! from names, Traefik with its file provider, nginx with a reload. What they publish, and when, cannot
//! be seen from outside; what their clients and endpoints see can.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::by_name::Names;
use crate::endpoints::Endpoint;
use crate::figures::Figures;
use crate::load::Load;
use crate::peer_files::{Told, envoy_dns, envoy_eds, file, nginx, traefik};
use crate::{Outcome, observe};

/// Time in which the last requests at an old address come in, after the first at the new one.
const LINGER: Duration = Duration::from_millis(1500);

/// A peer, with the files that it is told by.
struct Peer {
    name: &'static str,
    /// What its program is called on our command line.
    program: &'static str,
    arguments: fn(&Path) -> Vec<String>,
    /// Files by name.
    files: fn(&Path, &Told) -> Vec<(&'static str, String)>,
    /// Which of them change with the endpoints; none: its names do.
    changing: &'static [&'static str],
    /// What is run after a change.
    reload: Option<fn(&Path) -> Vec<String>>,
}

const PEERS: [Peer; 4] = [
    Peer {
        name: "Envoy, file EDS",
        program: "envoy",
        arguments: envoy_arguments,
        files: envoy_eds,
        changing: &["primary.yaml", "mirror.yaml"],
        reload: None,
    },
    Peer {
        name: "Envoy, STRICT_DNS",
        program: "envoy",
        arguments: envoy_arguments,
        files: envoy_dns,
        changing: &[],
        reload: None,
    },
    Peer {
        name: "Traefik, file",
        program: "traefik",
        arguments: |at| vec![format!("--configFile={}", file(at, "traefik.yaml"))],
        files: traefik,
        changing: &["routes.yaml"],
        reload: None,
    },
    Peer {
        name: "nginx, reload",
        program: "nginx",
        arguments: nginx_arguments,
        files: nginx,
        changing: &["nginx.conf"],
        reload: Some(|at| [nginx_arguments(at), vec!["-s".into(), "reload".into()]].concat()),
    },
];

fn envoy_arguments(at: &Path) -> Vec<String> {
    let config = file(at, "envoy.yaml");
    ["-c", &config, "--concurrency", "2", "-l", "off", "--use-dynamic-base-id"].map(str::to_owned).into()
}

fn nginx_arguments(at: &Path) -> Vec<String> {
    ["-c", &file(at, "nginx.conf"), "-e", &file(at, "error.log")].map(str::to_owned).into()
}

/// All peers, one after the other; `program` knows where each is.
pub(crate) async fn all(
    program: &impl Fn(&str) -> Option<String>,
    swaps: usize,
) -> Vec<(&'static str, Outcome<Figures>)> {
    let mut ended = Vec::new();
    for peer in PEERS {
        let figures = match program(peer.program) {
            Some(program) => peer.churn(&program, swaps).await,
            None => Err(format!("{}=PROGRAM is not given", peer.program).into()),
        };
        ended.push((peer.name, figures));
    }
    ended
}

impl Peer {
    async fn churn(&self, program: &str, swaps: usize) -> Outcome<Figures> {
        let folder = tempfile::tempdir()?;
        let at = folder.path();
        let mut names = Names::start().await?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let told = |names: &Names, index: usize| Told {
            port,
            addresses: names.pairs.each_ref().map(|pair| pair[index].address),
            name_server: names.server.address,
        };
        for (name, text) in (self.files)(at, &told(&names, 0)) {
            std::fs::write(at.join(name), text)?;
        }
        let _running = run(program, (self.arguments)(at))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        until_it_serves(address, &names.pairs[0][0]).await?;
        let load = Load::start(address);
        let mut figures = Figures::default();
        tokio::time::sleep(Duration::from_millis(500)).await;
        for _ in 0..swaps {
            names.pairs.iter().for_each(|[_, next]| next.reset());
            let files = (self.files)(at, &told(&names, 1));
            let files: Vec<_> = files.into_iter().filter(|(name, _)| self.changing.contains(name)).collect();
            for (name, text) in &files {
                std::fs::write(at.join(format!(".{name}")), text)?;
            }
            let begun = Instant::now();
            names.say(1);
            for (name, _) in &files {
                std::fs::rename(at.join(format!(".{name}")), at.join(name))?;
            }
            if let Some(reload) = self.reload {
                let mut reloading = run(program, reload(at))?;
                tokio::task::block_in_place(|| reloading.0.wait())?;
            }
            observe(&mut figures, &mut names.pairs, begun, LINGER).await?;
        }
        (figures.requests, figures.failed) = load.stop().await;
        Ok(figures)
    }
}

fn run(program: &str, arguments: Vec<String>) -> Outcome<Running> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Running(command.spawn().map_err(|error| format!("{program}: {error}"))?))
}

/// A process that ends with this value: asked first, so that its own children end, too.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already must not be asked: its number may be another's.
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        for _ in 0..30 {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until_it_serves(address: SocketAddr, primary: &Endpoint) -> Outcome<()> {
    for _ in 0..100 {
        let load = Load::start(address);
        tokio::time::sleep(Duration::from_millis(200)).await;
        load.stop().await;
        if primary.first().is_some() {
            return Ok(());
        }
    }
    Err("it does not serve".into())
}
