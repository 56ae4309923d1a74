//! The command line: what to do, and the exit code it ends with.
//!
//! 0 fine; 1 the configuration or an address is unusable; 2 wrong usage.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::app::{self, Options, Origin, ResourceOptions};
use crate::gateway_api::backends::Routing;
use crate::gateway_api::listeners::{AddressPool, Addresses};
use crate::gateway_api::reachable::{Reachable, StatusAddress};
use crate::gateway_api::resources::Key;
use crate::gateway_api::translate::{Settings, translate};
use crate::gateway_api::{self, manifests};
use crate::{config, demo, import};

/// A reverse proxy that forwards each request to the primary backend and copies it to mirrors.
#[derive(Parser)]
#[command(name = "mirrorgate", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway.
    Run(Box<Run>),
    /// Check a configuration file, or Kubernetes manifests and the conditions that a cluster would
    /// get: exit 0, or 1 with everything that is wrong at once.
    Check {
        /// The configuration file, or a file or folder of manifests.
        file: PathBuf,
        #[command(flatten)]
        resources: Resources,
    },
    /// Show the job in half a minute: a primary and a mirror in this process, traffic, endpoint churn.
    Demo {
        /// How many seconds to run; 0 is until it is stopped.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// Print routes for what another proxy was told: Gateway API resources for Ingresses with the mirror
    /// annotations of ingress-nginx, a configuration for an nginx configuration with `mirror`. What is
    /// not carried over is said on standard error.
    Import {
        /// A file or folder of Ingresses, with their Services, or an nginx configuration.
        path: PathBuf,
        /// The Gateway that routes of Ingresses attach to.
        #[arg(long, value_name = "NAMESPACE/NAME", value_parser = key, default_value = "mirrorgate/mirrorgate")]
        gateway: Key,
    },
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
}

#[derive(Args)]
struct Run {
    /// A configuration file, reloaded when it changes and on SIGHUP.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["listen", "manifests", "kubernetes"], conflicts_with_all = ["listen", "backend", "mirror"])]
    config: Option<PathBuf>,
    /// Where to listen, such as 127.0.0.1:8080.
    #[arg(long, value_name = "ADDRESS", requires = "backend", conflicts_with_all = ["manifests", "kubernetes"])]
    listen: Vec<String>,
    /// An endpoint of the primary backend, such as http://127.0.0.1:9001; may repeat.
    #[arg(long, value_name = "URL", requires = "listen")]
    backend: Vec<String>,
    /// A mirror, such as http://127.0.0.1:9002; may repeat, each is a mirror of its own.
    #[arg(long, value_name = "URL", requires = "backend")]
    mirror: Vec<String>,
    /// How many percent of the requests the mirrors get.
    #[arg(long, value_name = "PERCENT", requires = "mirror")]
    mirror_percent: Option<f64>,
    /// Where the admin API listens, or `off`.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    admin: Option<String>,
    /// Gateway API and core/v1 YAML, a file or a folder, reloaded when it changes; `--config` beside it
    /// gives everything but routes.
    #[arg(long, value_name = "PATH", conflicts_with = "kubernetes")]
    manifests: Option<PathBuf>,
    /// The same resources from a cluster: in-cluster, or by KUBECONFIG.
    #[arg(long)]
    kubernetes: bool,
    /// Watch only this namespace; may repeat.
    #[arg(long, value_name = "NAMESPACE", requires = "kubernetes")]
    namespace: Vec<String>,
    #[command(flatten)]
    resources: Resources,
    /// Time to go on accepting after SIGTERM, so that load balancers notice.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    drain_delay: Duration,
    /// What to log: error, warn, info, debug, trace, or a filter such as mirrorgate=debug.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

/// How Kubernetes resources are served.
#[derive(Args)]
struct Resources {
    /// Serve only this Gateway.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = key)]
    gateway: Option<Key>,
    /// Addresses for Gateways that name none, such as 10.0.0.10-10.0.0.60; without it they share all
    /// addresses of the machine.
    #[arg(long, value_name = "FIRST-LAST")]
    address_pool: Option<AddressPool>,
    /// Where Gateways that share all addresses of the machine are reached, for their statuses: an IP
    /// address or a host name; may repeat.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "status_service")]
    status_address: Vec<StatusAddress>,
    /// The same from the Service in front of them: its load balancer's addresses and external IPs, else its
    /// cluster IPs.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = key)]
    status_service: Option<Key>,
    /// Send requests for Services to their endpoints or to their cluster IP.
    #[arg(long, value_name = "WHERE", value_parser = routing, default_value = "endpoints")]
    backend_routing: Routing,
    /// The controller that GatewayClasses name.
    #[arg(long, value_name = "NAME", default_value = gateway_api::CONTROLLER)]
    controller: String,
}

impl Resources {
    fn settings(&self, any_class: bool) -> Settings {
        Settings {
            controller: self.controller.clone(),
            any_class,
            gateway: self.gateway.clone(),
            routing: self.backend_routing,
            reachable: self.reachable(),
        }
    }

    fn reachable(&self) -> Reachable {
        match (&self.status_service, self.status_address.as_slice()) {
            (Some(service), _) => Reachable::Behind(service.clone()),
            (None, []) => Reachable::Unknown,
            (None, addresses) => Reachable::At(addresses.to_vec()),
        }
    }

    fn options(&self, config: Option<PathBuf>, admin: Option<String>, any_class: bool) -> ResourceOptions {
        ResourceOptions { config, admin, settings: self.settings(any_class), pool: self.address_pool }
    }
}

/// Does what the arguments say.
pub fn main() -> ExitCode {
    // clap itself exits with 2 on wrong usage.
    match Arguments::parse().command {
        Command::Run(run) => start(*run),
        Command::Check { file, resources } if manifests::are_at(&file) => check_manifests(&file, &resources),
        Command::Check { file, .. } => check(&file),
        Command::Demo { seconds } => ended(demo::run(Duration::from_secs(seconds))),
        Command::Import { path, gateway } => import(&path, &gateway),
        Command::Schema => say(&format!("{:#}", config::schema())),
    }
}

fn start(run: Run) -> ExitCode {
    let origin = match (run.manifests, run.config) {
        (Some(path), config) => {
            Origin::Manifests { path, resources: run.resources.options(config, run.admin, true) }
        }
        (None, config) if run.kubernetes => {
            match kubernetes(&run.resources, run.namespace, config, run.admin) {
                Ok(origin) => origin,
                Err(error) => return fail(&error),
            }
        }
        (None, Some(file)) => Origin::File(file),
        (None, None) => {
            let flags = config::from_flags(
                &run.listen,
                &run.backend,
                &run.mirror,
                run.mirror_percent,
                run.admin.as_deref(),
            );
            match flags {
                Ok(loaded) => Origin::Flags(Box::new(loaded)),
                Err(errors) => return fail(&errors.to_string()),
            }
        }
    };
    ended(app::run(Options { origin, drain_delay: run.drain_delay, log: run.log }))
}

#[cfg(feature = "kubernetes")]
fn kubernetes(
    resources: &Resources,
    namespaces: Vec<String>,
    config: Option<PathBuf>,
    admin: Option<String>,
) -> Result<Origin, String> {
    let cluster =
        gateway_api::cluster::Options { namespaces, gateway: resources.gateway.clone(), client: None };
    Ok(Origin::Kubernetes { cluster: Box::new(cluster), resources: resources.options(config, admin, false) })
}

#[cfg(not(feature = "kubernetes"))]
fn kubernetes(
    _: &Resources,
    _: Vec<String>,
    _: Option<PathBuf>,
    _: Option<String>,
) -> Result<Origin, String> {
    Err("this program was built without the feature `kubernetes`; --manifests works".to_owned())
}

/// Prints the conditions that a cluster would get. 1 if a document cannot be read, or if something is
/// not accepted, not resolved or not programmed.
fn check_manifests(path: &std::path::Path, resources: &Resources) -> ExitCode {
    let read = manifests::load(path);
    let mut addresses = Addresses::new(resources.address_pool);
    let translation = translate(&read.resources, &resources.settings(true), &mut addresses);
    let conditions = translation.statuses.to_string();
    say(conditions.trim_end());
    let problems = read.problems.iter().chain(&read.warnings).map(ToString::to_string);
    for problem in problems.chain(translation.ignored.iter().cloned()) {
        eprintln!("{problem}");
    }
    let fine = read.problems.is_empty() && read.warnings.is_empty() && translation.ignored.is_empty();
    match fine && !translation.statuses.complain() {
        true => say(&format!(
            "{}: ok, {} listeners, {} routes, {} backends",
            path.display(),
            translation.listeners.len(),
            translation.routes.len(),
            translation.backends.len(),
        )),
        false => ExitCode::from(1),
    }
}

fn import(path: &std::path::Path, gateway: &Key) -> ExitCode {
    match import::import(path, gateway) {
        Ok(import) => {
            for note in &import.notes {
                eprintln!("{note}");
            }
            say(import.text.trim_end())
        }
        Err(error) => fail(&error),
    }
}

fn check(file: &std::path::Path) -> ExitCode {
    match config::load(file) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("{warning}");
            }
            let unusable = app::unusable_files(&loaded.plan);
            if !unusable.is_empty() {
                let lines: Vec<_> =
                    unusable.iter().map(|line| format!("{}: {line}", file.display())).collect();
                return fail(&lines.join("\n"));
            }
            say(&format!("{}: ok, {}", file.display(), app::summary(&loaded.plan)))
        }
        Err(errors) => fail(&errors.to_string()),
    }
}

fn ended<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("{}", text.trim_end());
    ExitCode::from(1)
}

fn say(text: &str) -> ExitCode {
    // A reader that has seen enough (`| head`) is no failure of ours.
    let _closed = writeln!(std::io::stdout(), "{text}");
    ExitCode::SUCCESS
}

fn key(text: &str) -> Result<Key, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(Key::new(namespace, name)),
        _ => Err("write NAMESPACE/NAME".to_owned()),
    }
}

fn routing(text: &str) -> Result<Routing, String> {
    match text {
        "endpoints" => Ok(Routing::Endpoints),
        "service" => Ok(Routing::Service),
        _ => Err("write endpoints or service".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    config::duration(text)
}
