//! The job in half a minute: a service and its next version in this process, the real gateway in
//! front of them, steady traffic, and endpoints that are replaced while it runs.
//!
//! Everything goes over real sockets, and the gateway is started as `run` starts it, from a file. What
//! is shown is what was counted; the demo fails when what the gateway claims did not hold.

mod latency;
mod ledger;
mod screen;
mod script;
mod service;
mod traffic;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::ledger::Ledger;
use self::screen::{Screen, say, summary};
use self::script::{Script, Told};
use self::service::{Fleet, Service};
use self::traffic::Seen;
use crate::app::{self, Handle, Origin};
use crate::limits;
use crate::mirror::outcome::Outcome;
use crate::shard::Lane;
use crate::telemetry::metrics::MirrorMetrics;
use crate::upstream::registry::BackendRef;

/// What is shown of, at any time.
struct Scene {
    services: [Arc<Service>; 2],
    backends: [BackendRef; 2],
    mirror: Arc<MirrorMetrics>,
    ledger: Arc<Ledger>,
    seen: Arc<Seen>,
    told: Arc<Told>,
}

/// The backends' names, by lane.
const NAMES: [&str; 2] = ["service", "service-next"];
/// Endpoints of each, by lane.
const ENDPOINTS: [usize; 2] = [3, 2];
const ROUTE: &str = "all";
/// One play of the script when there is no end.
const ROUND: Duration = Duration::from_secs(30);

/// Shows it for `time`, or until it is interrupted if that is zero.
///
/// # Errors
/// What could not be started, or which claim did not hold.
pub fn run(time: Duration) -> Result<(), String> {
    // The world around the gateway has threads of its own, as it would have machines of its own.
    let world = runtime(2)?;
    let control = runtime(1)?;
    let folder = Folder::new().map_err(text)?;
    let ledger = Arc::new(Ledger::new());
    let services = Lane::ALL.map(|lane| Service::new(lane, ledger.clone()));
    let fleets = world.block_on(fleets(&services, &folder)).map_err(text)?;
    let configuration = folder.configuration().map_err(text)?;
    let gateway = control.block_on(app::start(Origin::File(configuration.clone()))).map_err(text)?;

    let shown = world.block_on(show(&gateway, (services, fleets), ledger, &configuration, time));
    let _all_ended = control.block_on(gateway.stop(Duration::ZERO));
    world.shutdown_background();
    shown
}

async fn show(
    gateway: &Handle,
    (services, fleets): ([Arc<Service>; 2], [Fleet; 2]),
    ledger: Arc<Ledger>,
    configuration: &Path,
    time: Duration,
) -> Result<(), String> {
    let (Some(address), Some(admin)) = (gateway.address(), gateway.admin()) else {
        return Err("the gateway does not listen".to_owned());
    };
    let scene = scene(gateway, services, ledger).ok_or("the gateway lacks a backend")?;
    let intro =
        introduction(address, admin, configuration, &std::fs::read_to_string(configuration).map_err(text)?);
    if say(&intro).is_err() {
        return Ok(());
    }
    let (seen, told, backends) = (scene.seen.clone(), scene.told.clone(), scene.backends.clone());
    let mut script = Script { fleets, backends, seen: seen.clone(), told };
    let stop = watch::Sender::new(false);
    let clients = tokio::spawn(traffic::run(address, seen, stop.subscribe()));
    let mut play = tokio::spawn(async move {
        let played = match time.is_zero() {
            true => loop {
                if let Err(error) = script.play(ROUND).await {
                    break Err(error);
                }
            },
            false => script.play(time).await,
        };
        // Its endpoints live until the last copy ended.
        (played, script)
    });

    let mut screen = Screen::new();
    let mut ticks = interval(screen::TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut told_to_stop = pin!(app::stop_signal());
    let ended = loop {
        tokio::select! {
            _ = ticks.tick() => if screen.show(&scene).is_err() {
                // Nobody looks any more.
                return Ok(());
            },
            played = &mut play => break Some(played.map_err(text)?),
            () = &mut told_to_stop => break None,
        }
    };
    stop.send_replace(true);
    clients.await.map_err(text)?;
    settled(&scene.mirror).await;
    // The last events; an error would show again below.
    let _shown = screen.show(&scene);
    let claims = match &ended {
        Some((Err(error), _)) => Err(error.to_string()),
        _ => claims(gateway, &scene),
    };
    play.abort();
    let verdict = match &claims {
        Ok(()) => {
            "  all of it held: no request failed, no copy was lost or altered, nothing went to a removed endpoint\n"
        }
        Err(_) => "",
    };
    // Nobody may look any more; the exit code tells.
    let _said = say(&(summary(&scene) + verdict));
    claims
}

fn scene(gateway: &Handle, services: [Arc<Service>; 2], ledger: Arc<Ledger>) -> Option<Scene> {
    let live = gateway.registry().live();
    let backend = |name: &str| live.iter().find(|backend| **backend.name() == *name).cloned();
    let backends = [backend(NAMES[0])?, backend(NAMES[1])?];
    let mirror = gateway.metrics().mirror(&ROUTE.into(), &NAMES[1].into());
    Some(Scene { services, backends, mirror, ledger, seen: Seen::new(), told: Arc::default() })
}

/// Waits until every copy has its outcome; longer than a copy may take is a lost copy.
async fn settled(mirror: &MirrorMetrics) {
    let latest = Instant::now() + limits::MIRROR_TIMEOUT;
    while mirror.in_flight.load(Ordering::Relaxed) > 0 && Instant::now() < latest {
        sleep(Duration::from_millis(10)).await;
    }
}

/// What the gateway claims, checked against what was seen from outside.
fn claims(gateway: &Handle, scene: &Scene) -> Result<(), String> {
    let mut broken = Vec::new();
    let mut claim = |holds: bool, what: String| {
        if !holds {
            broken.push(what);
        }
    };
    let (answered, failed) = scene.seen.counts();
    claim(answered > 0, "no request was answered".to_owned());
    claim(
        failed == 0,
        format!("{failed} requests failed, the first: {}", scene.seen.first_failure().unwrap_or_default()),
    );
    let (_, different) = scene.ledger.compared();
    claim(different == 0, format!("{different} copies differ from their request"));

    let forwarded = gateway.metrics().route(&ROUTE.into()).forwarded_total();
    let ended: u64 = Outcome::ALL.iter().map(|outcome| scene.mirror.outcome_total(*outcome)).sum();
    let flying = scene.mirror.in_flight.load(Ordering::Relaxed) as u64;
    claim(
        flying == 0 && ended == forwarded,
        format!(
            "{forwarded} requests were forwarded, {ended} copies have an outcome, {flying} are in flight"
        ),
    );
    let delivered = scene.mirror.outcome_total(Outcome::Delivered);
    let (received, _, _) = scene.services[Lane::Mirror.index()].counts();
    claim(delivered > 0, "no copy was delivered".to_owned());
    claim(delivered <= received, format!("{delivered} copies count as delivered, {received} arrived"));
    for lane in Lane::ALL {
        let stale = scene.backends[lane.index()].metrics().sent_to_removed_total(lane);
        claim(stale == 0, format!("{stale} requests of {} went to removed endpoints", lane.as_str()));
    }
    if broken.is_empty() { Ok(()) } else { Err(format!("the demo failed: {}", broken.join("; "))) }
}

async fn fleets(services: &[Arc<Service>; 2], folder: &Folder) -> io::Result<[Fleet; 2]> {
    let fleet = |lane: Lane| {
        let (service, file) = (services[lane.index()].clone(), folder.endpoints(lane));
        Fleet::start(service, file, ENDPOINTS[lane.index()])
    };
    Ok([fleet(Lane::Primary).await?, fleet(Lane::Mirror).await?])
}

fn introduction(address: SocketAddr, admin: SocketAddr, file: &Path, configuration: &str) -> String {
    let configuration: String = configuration.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "\
A service and its next version run in this process, with the gateway in front of them. Clients send
{} requests a second. The service answers them; its next version gets a copy of each, and moves, stalls
and dies while you watch. Ctrl-C ends it.

  try         curl -i http://{address}/hello -d 'to both'
  look        curl http://{admin}/backends          also /metrics, /routes, /config, /ready
  configured  {}
{configuration}
",
        limits::DEMO_REQUESTS_PER_SECOND,
        file.display()
    )
}

/// A folder of our own that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let name = format!("mirrorgate-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        // Fails if somebody else has made it, as it must in a folder that all may write to.
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn endpoints(&self, lane: Lane) -> PathBuf {
        self.0.join(format!("{}.yaml", NAMES[lane.index()]))
    }

    fn configuration(&self) -> io::Result<PathBuf> {
        let file = self.0.join("mirrorgate.yaml");
        let [service, next] = NAMES;
        std::fs::write(
            &file,
            format!(
                "\
listeners: [127.0.0.1:0]
admin: 127.0.0.1:0
routes:
  - name: {ROUTE}
    backend: {service}
    mirrors:
      - {{ backend: {next}, timeout: 1s, budget: {{ in_flight: 256 }} }}
backends:
  {service}: {{ file: {service}.yaml }}
  {next}: {{ file: {next}.yaml }}
"
            ),
        )?;
        Ok(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It lies where the system tidies up.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn runtime(threads: usize) -> Result<Runtime, String> {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
