//! A configuration without a file: `--listen`, `--backend`, `--mirror`.

use std::sync::Arc;

use serde_json::json;

use super::Configuration;
use super::address::{ListenAddress, Url};
use super::compile;
use super::decode::Scalar;
use super::error::{Errors, Problem};
use super::raw::AdminWord;
use super::units::Percent;
use crate::discovery::source::{EndpointAddress, SourceSpec};
use crate::plan::{
    AccessLogPlan, AdminPlan, BackendPolicy, BackendSpec, ClientLimits, Fraction, MirrorPlan,
    NameServersPlan, Plan, RouteAction, WeightedBackend,
};

/// The plan that the command line describes: one route for everything.
///
/// All of `backends` form one pool: addresses that speak the same protocol become the endpoints of
/// one backend; with a name among them, each URL is a backend of its own and they share the requests
/// equally, since every name is looked up by itself. Each of `mirrors` is a mirror of its own, and
/// `percent` (0 to 100; all if absent) goes for each. `admin` is an address or `off`.
pub fn from_flags(
    listen: &[String],
    backends: &[String],
    mirrors: &[String],
    percent: Option<f64>,
    admin: Option<&str>,
) -> Result<Configuration, Errors> {
    let mut flags = Flags { errors: Errors::default() };
    let listeners = flags.each("--listen", listen, ListenAddress::parse);
    let listeners: Vec<EndpointAddress> = listeners.into_iter().map(|address| address.0).collect();
    flags.require("--listen", listen, "--listen 127.0.0.1:8080");
    flags.require("--backend", backends, "--backend http://127.0.0.1:9001");
    let admin_address = match admin.map(AdminWord::parse) {
        None => Some(compile::ADMIN),
        Some(Ok(AdminWord(address))) => address,
        Some(Err(problem)) => flags.error("--admin", problem),
    };
    let fraction = match percent.map(|percent| Percent::parse(&percent.to_string())) {
        None => Some(Fraction::ALL),
        Some(Ok(Percent(fraction))) => Some(fraction),
        Some(Err(problem)) => flags.error("--mirror-percent", problem),
    };
    let primary = flags.each("--backend", backends, Url::parse);
    let copies = flags.each("--mirror", mirrors, Url::parse);
    if let Some(twice) = listeners.iter().enumerate().find_map(|(index, address)| {
        let admin = admin_address.map(EndpointAddress::Tcp);
        let clash =
            listeners.iter().take(index).any(|other| other == address) || admin.as_ref() == Some(address);
        let chosen = matches!(address, EndpointAddress::Tcp(address) if address.port() == 0);
        (clash && !chosen).then_some(address)
    }) {
        let problem = Problem::new(format!("{twice} is used twice, --admin included"));
        flags.error::<()>("--listen", problem);
    }
    if !flags.errors.is_empty() {
        return Err(flags.errors.settled());
    }
    let mut specs = pool(&primary);
    let forward = specs.iter().map(|spec| WeightedBackend::new(spec.name.clone(), 1)).collect();
    let mut route = compile::new_route("route-1".into(), RouteAction::Forward(forward));
    for url in copies {
        let mut mirror = MirrorPlan::new(url.name.clone());
        mirror.share.fraction = fraction.unwrap_or(Fraction::ALL);
        route.mirrors.push(mirror);
        if !specs.iter().any(|spec| spec.name == url.name) {
            specs.push(spec(url));
        }
    }
    Ok(Configuration {
        plan: Plan {
            listeners: listeners.into_iter().map(compile::new_listener).collect(),
            admin: admin_address.map(|address| AdminPlan { address, token_file: None }),
            access_log: AccessLogPlan::Off,
            traces: None,
            sections: Vec::new(),
            streams: Vec::new(),
            backends: specs,
            routes: vec![route],
            trusted_hops: 0,
            via: None,
            name_servers: NameServersPlan::default(),
            zone: None,
            workers: None,
            limits: ClientLimits::default(),
        },
        document: json!({
            "listen": listen, "backend": backends, "mirror": mirrors,
            "mirror_percent": percent, "admin": admin,
        }),
        warnings: Vec::new(),
    })
}

/// The backends that `urls` are together, without repetitions.
fn pool(urls: &[Url]) -> Vec<BackendSpec> {
    let mut distinct: Vec<&Url> = Vec::new();
    for url in urls {
        if !distinct.iter().any(|other| other.name == url.name) {
            distinct.push(url);
        }
    }
    let mut endpoints = Vec::new();
    for url in &distinct {
        match (&url.source, distinct.first()) {
            (SourceSpec::Static(list), Some(first))
                if first.protocol == url.protocol && first.transport == url.transport =>
            {
                endpoints.extend(list.clone())
            }
            _ => return distinct.into_iter().cloned().map(spec).collect(),
        }
    }
    match distinct.as_slice() {
        [first, _, ..] => vec![BackendSpec {
            name: Arc::from("backend"),
            source: SourceSpec::Static(endpoints),
            protocol: first.protocol,
            host: None,
            transport: first.transport.clone(),
            policy: BackendPolicy::default(),
        }],
        _ => distinct.into_iter().cloned().map(spec).collect(),
    }
}

fn spec(url: Url) -> BackendSpec {
    BackendSpec {
        name: url.name,
        source: url.source,
        protocol: url.protocol,
        host: None,
        transport: url.transport,
        policy: BackendPolicy::default(),
    }
}

/// Collects what is wrong with flags.
struct Flags {
    errors: Errors,
}

impl Flags {
    fn each<T>(&mut self, flag: &str, texts: &[String], read: impl Fn(&str) -> Result<T, Problem>) -> Vec<T> {
        let mut values = Vec::with_capacity(texts.len());
        for text in texts {
            match read(text) {
                Ok(value) => values.push(value),
                Err(problem) => {
                    self.error::<()>(flag, problem);
                }
            }
        }
        values
    }

    fn require(&mut self, flag: &str, texts: &[String], example: &str) {
        if texts.is_empty() {
            self.error::<()>(flag, Problem::new("is missing").hint(format!("write {example}")));
        }
    }

    fn error<T>(&mut self, flag: &str, problem: Problem) -> Option<T> {
        self.errors.push(problem.at(0, 0, flag.to_owned()));
        None
    }
}
