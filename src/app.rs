//! The wiring, in a straight line: configuration → control runtime → workers → drain.
//!
//! The control runtime (discovery, reload, admin API, signals) and the workers are apart: no scrape
//! and no large endpoint list ever stands in front of a request.

mod listeners;
mod reload;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use self::listeners::Listeners;
use self::reload::Reloader;
use crate::admin::readiness::Readiness;
use crate::admin::{Admin, AdminState};
use crate::config::{self, Configuration};
use crate::discovery::resolver::ResolverPolicy;
use crate::discovery::{Discovery, DnsSettings, Settings};
use crate::limits;
use crate::plan::Plan;
use crate::proxy::{Gateway, Workers};
use crate::routing::table::{Builder, RoutingTable};
use crate::shard::Lane;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::logging;
use crate::telemetry::metrics::Metrics;
use crate::upstream::registry::Registry;

/// What the command line asked for.
pub struct Options {
    /// Where the configuration comes from.
    pub origin: Origin,
    /// Time to go on accepting after SIGTERM.
    pub drain_delay: Duration,
    /// What to log.
    pub log: Option<String>,
}

/// Where the configuration comes from.
pub enum Origin {
    /// A file, which is watched.
    File(PathBuf),
    /// The command line.
    Flags(Box<Configuration>),
}

/// Why the process cannot run; each line is for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

/// Runs until SIGTERM or SIGINT, and drains.
pub fn run(options: Options) -> Result<(), Unusable> {
    let level = logging::start(options.log.as_deref()).map_err(unusable)?;
    let (configuration, file) = match options.origin {
        Origin::File(file) => (config::load(&file).map_err(unusable)?, Some(file)),
        Origin::Flags(configuration) => (*configuration, None),
    };
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let control = control.map_err(unusable)?;
    control.block_on(async {
        let running = Running::start(configuration, file, level).await?;
        running.until_told_to_stop().await;
        running.drain(options.drain_delay).await;
        Ok(())
    })
}

/// One line about a plan.
pub fn summary(plan: &Plan) -> String {
    let mirrors: usize = plan.routes.iter().map(|route| route.mirrors.len()).sum();
    format!(
        "{} listeners, {} routes, {} backends, {mirrors} mirrors",
        plan.listeners.len(),
        plan.routes.len(),
        plan.backends.len(),
    )
}

/// Everything that runs.
struct Running {
    gateway: Arc<Gateway>,
    workers: Workers,
    listeners: Arc<Listeners>,
    readiness: Readiness,
    reloader: Option<Arc<Reloader>>,
    drain: watch::Sender<bool>,
}

impl Running {
    async fn start(
        configuration: Configuration,
        file: Option<PathBuf>,
        level: logging::LogLevel,
    ) -> Result<Self, Unusable> {
        let plan = &configuration.plan;
        for warning in &configuration.warnings {
            tracing::warn!("{warning}");
        }
        let workers = plan.workers.unwrap_or_else(cores);
        let metrics = Arc::new(Metrics::new(workers));
        let registry = Arc::new(Registry::new(workers, metrics.clone()));
        let builder = Arc::new(Builder::new(registry.clone(), metrics.clone()));
        let listeners = Arc::new(Listeners::new(builder.clone()));

        // All that can be unusable is tried before anything runs, and told at once.
        let bound = listeners.bind(&plan.listeners);
        let admin = match &plan.admin {
            Some(admin) => Admin::bind(admin).await.map(Some),
            None => Ok(None),
        };
        let access_log = AccessLog::start(&plan.access_log, workers, metrics.clone());
        let (bound, admin, access_log) = all_usable(bound, admin, access_log)?;

        let table = builder.build(plan);
        let readiness = Readiness::new();
        let answered = wait_for_primaries(&table, &readiness);
        tokio::spawn(Discovery::new(settings()).run(registry.clone()));
        tokio::spawn(reap(registry.clone()));
        first_answers(answered).await;

        let (gateway, threads) =
            Gateway::start(workers, table, metrics.clone(), access_log).map_err(unusable)?;
        listeners.open(&gateway, bound);
        tracing::info!(workers, "{}", summary(plan));
        let drain = watch::Sender::new(false);
        let reloader =
            Arc::new(Reloader::new(configuration, file, builder, listeners.clone(), gateway.clone()));
        if let Some(admin) = admin {
            tracing::info!("admin API on http://{}", admin.address());
            let state = AdminState {
                metrics,
                registry,
                lanes: view::lanes(gateway.clone()),
                readiness: readiness.clone(),
                routes: view::routes(gateway.clone()),
                configuration: view::configuration(reloader.clone()),
                drain: drain.clone(),
                set_log_level: Arc::new(move |text| level.set(text).map_err(|error| error.to_string())),
            };
            tokio::spawn(admin.serve(Arc::new(state)));
        }
        tokio::spawn(reloader.clone().run());
        Ok(Self { gateway, workers: threads, listeners, readiness, reloader: Some(reloader), drain })
    }

    async fn until_told_to_stop(&self) {
        let mut asked = self.drain.subscribe();
        tokio::select! {
            () = stop_signal() => {}
            _ = asked.wait_for(|asked| *asked) => {}
        }
    }

    /// Not ready at once; accepting for `delay` more; then in-flight requests, and copies for less
    /// long. A second signal ends the process at once.
    async fn drain(self, delay: Duration) {
        tracing::info!("draining");
        self.readiness.drain();
        let gateway = self.gateway.clone();
        let stopped = tokio::task::spawn_blocking(move || {
            std::thread::sleep(delay);
            self.listeners.close();
            self.gateway.drain();
            self.gateway.stop(limits::DRAIN, limits::DRAIN_COPIES);
            self.workers.join();
            drop(self.reloader);
        });
        tokio::select! {
            _ = stopped => tracing::info!("drained"),
            () = stop_signal() => tracing::warn!("stopped before everything was drained"),
        }
        let log = gateway.access_log().clone();
        let flushed = tokio::task::spawn_blocking(move || log.flush(Duration::from_secs(1)));
        if !matches!(flushed.await, Ok(true)) {
            tracing::warn!("the end of the access log is lost");
        }
        if gateway.connections() > 0 {
            // Threads that still serve must not hold the process.
            std::process::exit(0);
        }
    }
}

/// How sources are asked, by the system's own settings.
fn settings() -> Settings {
    Settings {
        parse: |text| {
            config::parse_endpoints(text, std::path::Path::new("")).map_err(|errors| errors.to_string())
        },
        dns: DnsSettings::default(),
        slices: Arc::default(),
        policy: ResolverPolicy::default(),
    }
}

/// Registers every primary's backend with `readiness`; a mirror never holds it back.
fn wait_for_primaries(table: &RoutingTable, readiness: &Readiness) -> Vec<watch::Receiver<bool>> {
    let mut answered = Vec::new();
    table.for_each_backend(|backend, lane| {
        if lane == Lane::Primary {
            readiness.wait_for_backend(backend.name(), backend.answered());
            answered.push(backend.answered());
        }
    });
    answered
}

/// Gives sources a moment to answer before the first request is accepted, or a new table is used.
async fn first_answers(answered: Vec<watch::Receiver<bool>>) {
    let all = async {
        for mut answered in answered {
            // An error means that nobody refers to it any more.
            drop(answered.wait_for(|answered| *answered).await);
        }
    };
    if tokio::time::timeout(limits::FIRST_ANSWERS, all).await.is_err() {
        tracing::warn!("a backend's source has not answered yet");
    }
}

/// Closes connections that have been idle for too long.
async fn reap(registry: Arc<Registry>) {
    let mut turns = tokio::time::interval(limits::REAP);
    loop {
        turns.tick().await;
        let Some(oldest) = Instant::now().checked_sub(limits::IDLE_AGE) else { continue };
        registry.live().iter().for_each(|backend| backend.reap(oldest));
    }
}

fn all_usable<A, B, C>(
    one: Result<A, impl std::fmt::Display>,
    two: Result<B, impl std::fmt::Display>,
    three: Result<C, impl std::fmt::Display>,
) -> Result<(A, B, C), Unusable> {
    match (one, two, three) {
        (Ok(one), Ok(two), Ok(three)) => Ok((one, two, three)),
        (one, two, three) => {
            let errors = [one.err().map(line), two.err().map(line), three.err().map(line)];
            Err(Unusable(errors.into_iter().flatten().collect::<Vec<_>>().join("\n")))
        }
    }
}

fn line(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn unusable(error: impl std::fmt::Display) -> Unusable {
    Unusable(error.to_string())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

async fn stop_signal() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without handlers the system's default ends the process, as it should.
        _ => std::future::pending().await,
    }
}
