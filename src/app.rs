//! The wiring, in a straight line: configuration → control runtime → workers → drain.
//!
//! The control runtime (discovery, reload, admin API, signals) and the workers are apart: no scrape
//! and no large endpoint list ever stands in front of a request.

mod base;
mod descriptors;
mod feed;
mod handle;
mod listeners;
mod origin;
mod reload;
mod sources;
mod traces;
mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::feed::Feed;
pub use self::handle::{Handle, start};
use self::listeners::Listeners;
pub use self::origin::{Origin, ResourceOptions};
use self::reload::Reloader;
use crate::admin::readiness::Readiness;
use crate::admin::{Admin, AdminState};
use crate::config::Configuration;
use crate::discovery::Discovery;
use crate::discovery::kubernetes::SliceStore;
use crate::limits;
use crate::mirror::supervise::supervise;
use crate::plan::Plan;
use crate::proxy::tls::Terminator;
use crate::proxy::{Gateway, Workers};
use crate::routing::table::Builder;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{logging, process};
use crate::upstream;
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

/// Why the process cannot run; each line is for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

/// Runs until SIGTERM or SIGINT, and drains.
pub fn run(options: Options) -> Result<(), Unusable> {
    let level = logging::start(options.log.as_deref()).map_err(unusable)?;
    descriptors::raise();
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let control = control.map_err(unusable)?;
    control.block_on(async {
        let (configuration, feed, slices) = options.origin.load().await?;
        let running = Running::start(configuration, feed, slices, Some(level)).await?;
        running.until_told_to_stop().await;
        let gateway = running.gateway.clone();
        let drained = tokio::select! {
            () = running.drain(options.drain_delay) => true,
            () = stop_signal() => false,
        };
        if !drained {
            tracing::warn!("stopped before everything was drained");
            flush(&gateway).await;
        }
        if !drained || gateway.connections() > 0 {
            // Threads that still serve must not hold the process.
            std::process::exit(0);
        }
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

/// What is wrong with the files that `plan` names: certificates, keys and roots.
pub fn unusable_files(plan: &Plan) -> Vec<String> {
    let listeners = plan.listeners.iter().filter_map(|listener| Some((listener, listener.tls.as_ref()?)));
    let of_listeners = listeners.flat_map(|(listener, tls)| {
        let errors = Terminator::new(tls).err().unwrap_or_default();
        errors.into_iter().map(move |error| format!("listener {}: {error}", listener.name))
    });
    let backends = plan.backends.iter().filter_map(|spec| Some((spec, spec.transport.tls.as_ref()?)));
    let of_backends = backends.filter_map(|(spec, tls)| {
        upstream::tls::check(tls).err().map(|error| format!("backend {}: {error}", spec.name))
    });
    of_listeners.chain(of_backends).collect()
}

/// Everything that runs.
struct Running {
    gateway: Arc<Gateway>,
    workers: Workers,
    listeners: Arc<Listeners>,
    readiness: Readiness,
    registry: Arc<Registry>,
    admin: Option<SocketAddr>,
    drain: watch::Sender<bool>,
    reloader: Arc<Reloader>,
    /// The control side; ends when this is dropped.
    tasks: JoinSet<()>,
}

impl Running {
    async fn start(
        configuration: Configuration,
        feed: Feed,
        slices: Arc<SliceStore>,
        level: Option<logging::LogLevel>,
    ) -> Result<Self, Unusable> {
        let plan = &configuration.plan;
        for warning in &configuration.warnings {
            tracing::warn!("{warning}");
        }
        let workers = plan.workers.unwrap_or_else(cores);
        // More than there are threads: one for what a program hands in itself ([`Handle::service`]),
        // one for spans.
        let shards = workers + 2;
        let metrics = Arc::new(Metrics::new(shards));
        let registry = Arc::new(Registry::new(shards, metrics.clone()));
        let builder = Arc::new(Builder::new(registry.clone(), metrics.clone()));
        let listeners = Arc::new(Listeners::new(builder.clone()));

        // All that can be unusable is tried before anything runs, and told at once.
        let bound = match &feed {
            Feed::Resources(feed) => {
                let (bound, failed) = listeners.bind_possible(&plan.listeners);
                feed.report(&failed);
                Ok(bound)
            }
            Feed::Fixed | Feed::File(_) => listeners.bind(&plan.listeners),
        };
        let admin = match &plan.admin {
            Some(admin) => Admin::bind(admin).await.map(Some),
            None => Ok(None),
        };
        let access_log = AccessLog::start(&plan.access_log, shards, metrics.clone());
        let (bound, admin, access_log) = all_usable(bound, admin, access_log)?;

        let table = builder.build(plan);
        let readiness = Readiness::new();
        let complete = readiness.wait_for("configuration");
        sources::wait_for_primaries(&table, &readiness);
        let mut tasks = JoinSet::new();
        tasks.spawn(Discovery::new(sources::settings(plan, slices)).run(registry.clone()));
        tasks.spawn(reap(registry.clone()));
        sources::first_answers(&table).await;

        let traces = traces::start(plan, workers + 1, &registry, &metrics, &mut tasks);
        let (gateway, threads) =
            Gateway::start(workers, table, metrics.clone(), (access_log, traces)).map_err(unusable)?;
        tasks.spawn(watch_memory(gateway.clone()));
        tasks.spawn(supervise(gateway.clone()));
        listeners.open(&gateway, bound, &plan.listeners);
        tracing::info!(workers, "{}", summary(plan));
        let drain = watch::Sender::new(false);
        let reloader = Reloader::new(
            configuration,
            feed,
            builder,
            listeners.clone(),
            gateway.clone(),
            readiness.clone(),
        );
        let reloader = Arc::new(reloader);
        let admin_address = admin.as_ref().map(Admin::address);
        if let Some(admin) = admin {
            tracing::info!("admin API on http://{}", admin.address());
            let state = AdminState {
                metrics,
                registry: registry.clone(),
                lanes: view::lanes(gateway.clone()),
                readiness: readiness.clone(),
                warnings: view::warnings(reloader.clone()),
                mirrors: view::mirrors(gateway.clone()),
                routes: view::routes(gateway.clone()),
                configuration: view::configuration(reloader.clone()),
                drain: drain.clone(),
                set_log_level: Arc::new(move |text| match &level {
                    Some(level) => level.set(text).map_err(|error| error.to_string()),
                    None => Err("the log belongs to the program around the gateway".to_owned()),
                }),
            };
            tasks.spawn(admin.serve(Arc::new(state)));
        }
        tasks.spawn(reloader.clone().run(complete));
        Ok(Self {
            gateway,
            workers: threads,
            listeners,
            readiness,
            registry,
            admin: admin_address,
            drain,
            reloader,
            tasks,
        })
    }

    async fn until_told_to_stop(&self) {
        let mut asked = self.drain.subscribe();
        tokio::select! {
            () = stop_signal() => {}
            _ = asked.wait_for(|asked| *asked) => {}
        }
    }

    /// Not ready at once; accepting for `delay` more; then in-flight requests, and copies for less
    /// long.
    async fn drain(self, delay: Duration) {
        let Self { gateway, workers, listeners, readiness, reloader, tasks, .. } = self;
        tracing::info!("draining");
        readiness.drain();
        let drained = async {
            tokio::time::sleep(delay).await;
            listeners.close();
            gateway.drain();
            gateway.stop(limits::DRAIN, limits::DRAIN_COPIES);
            // A worker that panicked has said so.
            let _joined = tokio::task::spawn_blocking(move || workers.join()).await;
            flush(&gateway).await;
            gateway.traces().flush(limits::SPANS_INTERVAL).await;
        };
        tokio::join!(drained, reloader.resign());
        tracing::info!("drained");
        drop(tasks);
    }
}

/// Gives the access log a moment to write what is left.
async fn flush(gateway: &Gateway) {
    let log = gateway.access_log().clone();
    let flushed = tokio::task::spawn_blocking(move || log.flush(Duration::from_secs(1)));
    if !matches!(flushed.await, Ok(true)) {
        tracing::warn!("the end of the access log is lost");
    }
}

/// Tells the gateway how much memory the process takes.
async fn watch_memory(gateway: Arc<Gateway>) {
    let mut turns = tokio::time::interval(limits::MEMORY_TICK);
    loop {
        turns.tick().await;
        let limit = gateway.table().limits().memory;
        let used = limit.and_then(|_| process::resident_bytes()).unwrap_or(0);
        gateway.admission().memory_is(used, limit);
    }
}

/// Closes connections that have been idle for too long.
async fn reap(registry: Arc<Registry>) {
    let mut turns = tokio::time::interval(limits::REAP);
    loop {
        turns.tick().await;
        let now = Instant::now();
        registry.live().iter().for_each(|backend| backend.reap(now));
        // Reads files; beside the control runtime, like all that blocks.
        let living = registry.live();
        let _read = tokio::task::spawn_blocking(move || living.iter().for_each(|one| one.reload_tls())).await;
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

/// Resolves when the process is told to stop.
pub(crate) async fn stop_signal() {
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
