//! What a configuration means: from the raw types to a [`Plan`]. What is wrong between keys is told
//! here; what is wrong with one value was told when it was read.

mod backends;
mod endpoints;
mod filters;
mod limits;
mod matches;
mod mirrors;
mod policy;
mod route;
mod tls;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backends::BackendTable;
pub(super) use endpoints::endpoint;
pub(crate) use route::new_route;

use super::decode::{Report, WordOr, suggest};
use super::document::At;
use super::error::Problem;
use super::http_values::LogWord;
use super::raw;
use crate::discovery::source::EndpointAddress;
use crate::plan::{AccessLogPlan, AdminPlan, Fraction, ListenerPlan, NameServersPlan, Plan, TracesPlan};

/// The admin API's address unless another is given.
pub(super) const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);

/// Compiles `file`, whose relative paths are relative to `base`. Of use only if `report` has no error.
pub(super) fn plan(file: &raw::File, base: &Path, report: &mut Report<'_>) -> Plan {
    let listeners = listeners(file, base, report);
    let admin = admin(file, base);
    if let Some(admin) = &admin {
        let address = EndpointAddress::Tcp(admin.address);
        let clash = file
            .listeners
            .items
            .iter()
            .find(|listener| listener.address.value.0 == address && admin.address.port() != 0);
        if let Some(listener) = clash {
            let problem = Problem::new(format!("{} is the admin API's address", admin.address));
            report.error(listener.address.at, problem.hint("give `admin` another address, or switch it off"));
        }
    }
    let zone = file.zone.as_ref().map(|zone| Arc::from(zone.value.0.as_str()));
    let mut backends = BackendTable::new(file.backends.as_ref(), zone.as_ref(), base, report);
    let routes = route::routes(file, &listeners, &mut backends, report);
    let traces = file.traces.as_ref().and_then(|raw| {
        let fraction = raw.percent.as_ref().map_or(Fraction::ALL, |percent| percent.value.0);
        Some(TracesPlan { collector: backends.reference(&raw.collector, report)?, fraction })
    });
    Plan {
        listeners: listeners.into_iter().map(|(plan, _)| plan).collect(),
        sections: Vec::new(),
        streams: Vec::new(),
        admin,
        access_log: match &file.access_log {
            None => AccessLogPlan::default(),
            Some(WordOr::Word(word)) => match word.value {
                LogWord::Off => AccessLogPlan::Off,
                LogWord::Stdout => AccessLogPlan::Stdout,
            },
            Some(WordOr::Mapping(to)) => AccessLogPlan::File(base.join(&to.file.value.0)),
        },
        traces,
        backends: backends.finish(report),
        routes,
        trusted_hops: file.trusted_hops.as_ref().map_or(0, |hops| hops.value.0),
        via: file.via.as_ref().map(|via| via.value.0.clone()),
        name_servers: file.resolver.as_ref().map(name_servers).unwrap_or_default(),
        zone,
        workers: file.workers.as_ref().map(|workers| workers.value.0 as usize),
        limits: limits::clients(file.limits.as_ref(), report),
    }
}

/// The listener at `address`, with the defaults.
pub(crate) fn new_listener(address: EndpointAddress) -> ListenerPlan {
    ListenerPlan {
        name: address.to_string().into(),
        address,
        half_close: false,
        strict_framing: true,
        tls: None,
        proxy_protocol: false,
    }
}

fn name_servers(raw: &raw::ResolverSettings) -> NameServersPlan {
    NameServersPlan {
        servers: raw.servers.items.iter().map(|server| server.value.0).collect(),
        search: raw
            .search
            .iter()
            .flat_map(|domains| &domains.items)
            .map(|domain| domain.value.0.clone())
            .collect(),
    }
}

fn listeners(file: &raw::File, base: &Path, report: &mut Report<'_>) -> Vec<(ListenerPlan, At)> {
    if file.listeners.length == 0 {
        let problem = Problem::new("there is no listener");
        report.error(file.listeners.at, problem.hint("name at least one address, as [0.0.0.0:8080]"));
    }
    let mut names = Unique::default();
    let mut addresses = Unique::default();
    let mut plans = Vec::with_capacity(file.listeners.items.len());
    for raw in &file.listeners.items {
        let address = endpoints::address(&raw.address.value.0, base);
        let chosen = matches!(address, EndpointAddress::Tcp(address) if address.port() == 0);
        let mut plan = new_listener(address.clone());
        plan.half_close = raw.half_close.as_ref().is_some_and(|switch| switch.value);
        plan.strict_framing = raw.strict_framing.as_ref().is_none_or(|switch| switch.value);
        plan.tls = raw.tls.as_ref().map(|tls| tls::listener(tls, base, report));
        plan.proxy_protocol = raw.proxy_protocol.as_ref().is_some_and(|switch| switch.value);
        if let Some(name) = &raw.name {
            plan.name = name.value.0.as_str().into();
        }
        // The system gives each listener at port 0 a port of its own.
        let one_address = chosen || addresses.add(address, raw.address.at, "address", report);
        let at = raw.name.as_ref().map_or(raw.address.at, |name| name.at);
        if one_address && !(chosen && raw.name.is_none()) {
            names.add(plan.name.clone(), at, "listener", report);
        }
        plans.push((plan, raw.given.at));
    }
    plans
}

fn admin(file: &raw::File, base: &Path) -> Option<AdminPlan> {
    match &file.admin {
        None => Some(AdminPlan { address: ADMIN, token_file: None }),
        Some(WordOr::Word(word)) => word.value.0.map(|address| AdminPlan { address, token_file: None }),
        Some(WordOr::Mapping(raw)) => Some(AdminPlan {
            address: raw.address.as_ref().map_or(ADMIN, |address| address.value),
            token_file: raw.token_file.as_ref().map(|path| base.join::<PathBuf>(path.value.0.clone().into())),
        }),
    }
}

/// What must occur once, and where it occurred first.
struct Unique<T>(HashMap<T, At>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + std::hash::Hash + std::fmt::Display> Unique<T> {
    /// Whether `item` is new; else that is told.
    fn add(&mut self, item: T, at: At, what: &str, report: &mut Report<'_>) -> bool {
        let Some(first) = self.0.get(&item) else {
            self.0.insert(item, at);
            return true;
        };
        let problem = Problem::new(format!("the {what} {:?} is here twice", item.to_string()));
        report.error(at, problem.hint(format!("the first is {}", report.document.path(*first))));
        false
    }
}

/// The error that `name` is none of the `known` ones.
fn unknown<'a>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    report: &Report<'_>,
) -> Problem {
    // As many as one can take in at a glance; the rest of a long list helps nobody.
    const SHOWN: usize = 10;
    // Comparing takes about a microsecond each, for each of up to `limits::CONFIG_ERRORS` errors.
    const COMPARED: usize = 10_000;
    let problem = Problem::new(format!("unknown {what} {name:?}"));
    if report.errors.is_full() {
        return problem;
    }
    if let Some(meant) = suggest(name, known.clone().take(COMPARED)) {
        return problem.hint(format!("did you mean {meant:?}?"));
    }
    let mut shown: Vec<&str> = known.clone().take(SHOWN).collect();
    if known.count() > SHOWN {
        shown.push("…");
    }
    match shown.is_empty() {
        true => problem,
        false => problem.hint(format!("known here: {}", shown.join(", "))),
    }
}
