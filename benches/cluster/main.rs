//! A cluster of the size that hurts: how long start-up takes, how much memory, and how long it is from
//! an EndpointSlice event being sent to its set being in use, for primaries and for mirrors.
//!
//! `cargo bench --bench cluster -- [services=5000] [routes=2000] [endpoints=10] [rate=100] [seconds=30]
//! [onlookers=0] [edits=0]`; onlookers watch `/backends`, and read `/metrics` once a second each; `edits` routes
//! are changed each second, which has all compiled anew. `--profile fast` builds sooner. The API server is the one that the tests use, in a process of its
//! own, so that the memory is the gateway's. Nothing but loopback is used.

mod resources;
// Its faults are for tests.
#[allow(dead_code, clippy::unwrap_used)]
#[path = "../../src/gateway_api/cluster/tests/server.rs"]
mod server;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mirrorgate::app::{self, Handle, Origin, ResourceOptions};
use mirrorgate::gateway_api::cluster::Options;
use mirrorgate::upstream::registry::BackendRef;

use self::resources::Size;

/// A failure is the end of a bench, with a reason.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Start-up and everything else that is not the events takes less, or never ends.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Outcome<()> {
    let number = |name: &str, default: usize| {
        let prefix = format!("{name}=");
        let given = std::env::args().find_map(|text| text.strip_prefix(&prefix).map(str::to_owned));
        given.map_or(Ok(default), |text| text.parse())
    };
    let size = Size {
        services: number("services", 5000)?,
        routes: number("routes", 2000)?,
        endpoints: number("endpoints", 10)?,
    };
    let load = Load {
        rate: number("rate", 100)?,
        seconds: number("seconds", 30)?,
        onlookers: number("onlookers", 0)?,
        edits: number("edits", 0)?,
    };
    // As the process has it: one thread for the control side.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    match std::env::args().any(|argument| argument == "serve") {
        true => runtime.block_on(resources::serve(&size)),
        false => runtime.block_on(async {
            let limit = PATIENCE + 2 * Duration::from_secs(load.seconds as u64);
            tokio::time::timeout(limit, measure(&size, &load)).await?
        }),
    }
}

/// What happens while it is measured.
struct Load {
    /// EndpointSlice events a second.
    rate: usize,
    seconds: usize,
    onlookers: usize,
    /// Changes of routes a second.
    edits: usize,
}

/// The API server, in another process. Talking to it blocks, which holds up nobody here.
struct Cluster {
    process: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Cluster {
    fn start(size: &Size) -> Outcome<(Self, String)> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve".to_owned()])
            .args(size.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (orders, answers) = (process.stdin.take(), process.stdout.take());
        let (orders, answers) = orders.zip(answers).ok_or("no pipes to the API server")?;
        let mut cluster = Self { process, orders, answers: BufReader::new(answers).lines() };
        let address = cluster.answer()?;
        Ok((cluster, address))
    }

    fn order(&mut self, order: &str) -> Outcome<()> {
        Ok(writeln!(self.orders, "{order}")?)
    }

    fn answer(&mut self) -> Outcome<String> {
        Ok(self.answers.next().ok_or("the API server ended")??)
    }

    /// Statuses written so far.
    fn written(&mut self) -> Outcome<usize> {
        self.order("written")?;
        Ok(self.answer()?.parse()?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.process.kill();
    }
}

async fn measure(size: &Size, load: &Load) -> Outcome<()> {
    let events = load.rate * load.seconds;
    let (mut cluster, address) = Cluster::start(size)?;
    let begun = Instant::now();
    let gateway = start(&address).await?;
    let backends = complete(&gateway, size).await;
    println!("{size}\nstart-up: all sets in use after {:.0?}", begun.elapsed());
    while cluster.written()? < size.routes {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("start-up: all statuses written after {:.0?}", begun.elapsed());
    println!("memory at rest: {} MiB", resident()?);

    let admin = gateway.admin().ok_or("no admin API")?;
    let told = look_on(admin, load.onlookers)?;

    let table = gateway.gateway().table().clone();
    let cpu = cpu_seconds()?;
    let begun = Instant::now();
    let mut waits = HashMap::from([("primary", Vec::new()), ("mirror", Vec::new())]);
    let mut turns = tokio::time::interval(Duration::from_secs(1) / load.rate as u32);
    for event in 0..events {
        turns.tick().await;
        if load.edits > 0 && event.is_multiple_of((load.rate / load.edits).max(1)) {
            // Far from those whose endpoints change now.
            cluster.order(&format!("edit {} {}", (size.routes / 2 + event) % size.routes, event + 1))?;
        }
        let (lane, service) = size.referred(event);
        let Some(backend) = backends.get(&resources::backend(service)) else {
            return Err(format!("nobody refers to service {service}").into());
        };
        let generation = backend.endpoints().generation();
        let sent = Instant::now();
        cluster.order(&format!("change {service} {}", event + 1))?;
        let taken = published(backend.clone(), generation, sent).await?;
        waits.entry(lane).or_default().push(taken);
    }
    let elapsed = begun.elapsed();
    let compiled =
        if Arc::ptr_eq(&table, &gateway.gateway().table()) { "nothing was" } else { "routes were" };
    println!("{events} events in {elapsed:.1?}; {compiled} compiled");
    println!("CPU meanwhile: {:.1} % of a core", (cpu_seconds()? - cpu) / elapsed.as_secs_f64() * 100.0);
    for (lane, mut waits) in waits {
        waits.sort_unstable();
        let at = |share: f64| waits.get((waits.len() as f64 * share) as usize).copied().unwrap_or_default();
        println!(
            "sent to in use, {lane}: median {:.2?}, p99 {:.2?}, greatest {:.2?}",
            at(0.5),
            at(0.99),
            waits.last().copied().unwrap_or_default()
        );
    }
    if load.onlookers > 0 {
        println!(
            "told to {} who looked on: {} MiB",
            load.onlookers,
            told.load(Ordering::Relaxed) / 1024 / 1024
        );
    }
    println!("memory after the events: {} MiB", resident()?);
    gateway.stop(Duration::ZERO).await;
    Ok(())
}

/// Threads that watch and read metrics until the process ends; how many bytes they were told.
fn look_on(admin: SocketAddr, onlookers: usize) -> Outcome<Arc<AtomicU64>> {
    let told = Arc::new(AtomicU64::new(0));
    for _ in 0..onlookers {
        for path in ["/backends?watch=1", "/metrics"] {
            let told = told.clone();
            std::thread::Builder::new().spawn(move || {
                // Ends with the gateway.
                while look(admin, path, &told).is_ok() {
                    std::thread::sleep(Duration::from_secs(1));
                }
            })?;
        }
    }
    Ok(told)
}

fn look(admin: SocketAddr, path: &str, told: &AtomicU64) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(admin)?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => told.fetch_add(read as u64, Ordering::Relaxed),
        };
    }
}

async fn start(address: &str) -> Outcome<Handle> {
    let client = kube::Config::new(format!("http://{address}").parse()?);
    let cluster = Options { client: Some(client), ..Options::default() };
    let resources = ResourceOptions { admin: Some("127.0.0.1:0".to_owned()), ..ResourceOptions::default() };
    Ok(app::start(Origin::Kubernetes { cluster: Box::new(cluster), resources }).await?)
}

/// Waits until every backend has its endpoints.
async fn complete(gateway: &Handle, size: &Size) -> HashMap<String, BackendRef> {
    loop {
        let live = gateway.registry().live();
        let full = live.iter().filter(|one| one.endpoints().entries().len() == size.endpoints);
        if full.count() >= 2 * size.routes {
            return live.into_iter().map(|one| (one.name().to_string(), one)).collect();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for another generation, beside the control runtime so as not to take its time.
async fn published(backend: BackendRef, generation: u64, sent: Instant) -> Outcome<Duration> {
    let waited = tokio::task::spawn_blocking(move || {
        while backend.endpoints().generation() == generation && sent.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_micros(50));
        }
        sent.elapsed()
    });
    Ok(waited.await?)
}

fn resident() -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).ok_or("no resident pages")?.parse()?;
    Ok(pages * 4096 / 1024 / 1024)
}

fn cpu_seconds() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    Ok((ticks(11).zip(ticks(12)).map(|(user, system)| user + system).ok_or("no CPU time")?) / 100.0)
}
