//! Resources become a plan and statuses: pure, and the same whenever the resources are the same.

mod mirrors;
mod report;
mod rules;

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::backends::{Routing, resolve};
use super::listeners::{Addresses, Listener, Owner, ServedGateway, Speaks, served};
use super::model::{self, Reference, Route, RouteKind};
use super::parents::{Attachment, ListenerIndex, attach};
use super::refs::for_each_backend;
use super::resources::{Key, Resources};
use super::status::{Condition, RouteStatus, Statuses};
use super::{CONTROLLER, matches};
use crate::config;
use crate::discovery::source::EndpointAddress;
use crate::plan::{BackendSpec, ListenerPlan, ListenerTls, Plan, RoutePlan, SectionPlan};
use crate::tls::{CertificatePlan, PemSource};

/// What is served, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The controller that GatewayClasses name.
    pub controller: String,
    /// A Gateway of a class that is not there is served, too.
    pub any_class: bool,
    /// Only this one is served.
    pub gateway: Option<Key>,
    /// Where requests for Services go unless they say otherwise.
    pub routing: Routing,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            controller: CONTROLLER.to_owned(),
            any_class: false,
            gateway: None,
            routing: Routing::default(),
        }
    }
}

impl Settings {
    /// Why listeners that speak so cannot be served, if so.
    pub fn cannot_speak(&self, speaks: Speaks) -> Option<&'static str> {
        match speaks {
            Speaks::Http | Speaks::Https | Speaks::Unsupported => None,
            Speaks::TlsTerminate | Speaks::TlsPassthrough => Some("TLS without HTTP in it is not served"),
        }
    }
}

/// What resources come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translation {
    /// Sockets.
    pub listeners: Vec<ListenerPlan>,
    /// Their parts.
    pub sections: Vec<SectionPlan>,
    /// What routes refer to.
    pub backends: Vec<BackendSpec>,
    /// Rules of routes, the oldest route first.
    pub routes: Vec<RoutePlan>,
    /// What became of every object.
    pub statuses: Statuses,
}

impl Translation {
    /// The plan, which has all but routes, and what they need, from `base`.
    pub fn plan(&self, base: &Plan) -> Plan {
        let mut plan = base.clone();
        plan.listeners.clone_from(&self.listeners);
        plan.sections.clone_from(&self.sections);
        plan.backends.clone_from(&self.backends);
        for backend in &mut plan.backends {
            backend.policy.zone.clone_from(&base.zone);
        }
        plan.routes.clone_from(&self.routes);
        plan
    }
}

/// Translates `resources`; `addresses` remembers which Gateway has which.
pub fn translate(resources: &Resources, settings: &Settings, addresses: &mut Addresses) -> Translation {
    let mut gateways = served(resources, settings, addresses);
    let mut work = Work { resources, settings, backends: BTreeMap::new(), names: HashSet::new() };
    let mut translation = Translation::default();
    for route in model::routes(resources) {
        let attachments: Vec<_> = route
            .parents
            .iter()
            .filter_map(|parent| Some((parent.clone(), attach(resources, &gateways, &route, parent)?)))
            .collect();
        // No parent of it is ours, and so neither is it.
        if attachments.is_empty() {
            continue;
        }
        let listeners = attached(&attachments);
        for (gateway, listener) in &listeners {
            let gateway = gateways.get_mut(*gateway);
            if let Some(listener) = gateway.and_then(|gateway| gateway.listeners.get_mut(*listener)) {
                listener.attached += 1;
            }
        }
        let (routes, conditions) = work.route(&route, &gateways, &listeners);
        translation.routes.extend(routes);
        let parents = attachments.into_iter().map(|(parent, attachment)| {
            let mut states = vec![attachment.accepted];
            conditions.apply(&mut states);
            (parent, states)
        });
        let status = RouteStatus { generation: route.generation, parents: parents.collect() };
        translation.statuses.routes.insert((route.kind, route.key.clone()), status);
    }
    translation.backends = work.backends.into_values().collect();
    (translation.listeners, translation.sections) = sockets(resources, &gateways);
    report::report(resources, settings, &gateways, &mut translation.statuses);
    translation
}

fn attached(attachments: &[(model::ParentRef, Attachment)]) -> Vec<ListenerIndex> {
    let mut all: Vec<_> =
        attachments.iter().flat_map(|(_, attachment)| attachment.listeners.clone()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What is said of a route beside whether a parent takes it.
#[derive(Debug)]
struct RouteConditions {
    resolved: Condition,
    /// Rules that cannot be done, of how many.
    impossible: Vec<String>,
    rules: usize,
}

impl RouteConditions {
    fn apply(&self, states: &mut Vec<Condition>) {
        let messages = self.impossible.join("; ");
        let none_left = !self.impossible.is_empty() && self.impossible.len() == self.rules;
        match states.first_mut() {
            Some(accepted) if none_left && accepted.holds => {
                *accepted = Condition::no("Accepted", "UnsupportedValue", messages);
            }
            Some(accepted) if !self.impossible.is_empty() && accepted.holds => states.push(Condition {
                kind: "PartiallyInvalid",
                holds: true,
                reason: "UnsupportedValue",
                message: messages,
            }),
            _ => {}
        }
        states.push(self.resolved.clone());
    }
}

/// What is gathered while routes are gone through.
struct Work<'a> {
    resources: &'a Resources,
    settings: &'a Settings,
    backends: BTreeMap<Arc<str>, BackendSpec>,
    names: HashSet<Arc<str>>,
}

impl Work<'_> {
    fn route(
        &mut self,
        route: &Route,
        gateways: &[ServedGateway],
        listeners: &[ListenerIndex],
    ) -> (Vec<RoutePlan>, RouteConditions) {
        let mut resolved: BTreeMap<&Reference, Result<BackendSpec, Condition>> = BTreeMap::new();
        for_each_backend(route, |reference, _| {
            resolved.entry(reference).or_insert_with(|| {
                resolve(self.resources, self.settings, (route.kind, &route.key.namespace), reference)
            });
        });
        let problem = resolved.values().find_map(|found| found.as_ref().err().cloned());
        let mut conditions = RouteConditions {
            resolved: problem.unwrap_or_else(|| Condition::yes("ResolvedRefs", "ResolvedRefs")),
            impossible: Vec::new(),
            rules: route.rules.len(),
        };
        let sections: Vec<Arc<str>> = listeners
            .iter()
            .filter_map(|(gateway, listener)| {
                let gateway = gateways.get(*gateway)?;
                Some(section(gateway, gateway.listeners.get(*listener)?))
            })
            .collect();
        let hosts: Vec<_> = route.hostnames.iter().map(|host| matches::host(host)).collect();
        let names: BTreeMap<_, _> = resolved
            .iter()
            .filter_map(|(reference, found)| Some((*reference, found.as_ref().ok()?.name.clone())))
            .collect();
        let mut plans = Vec::new();
        for (position, rule) in route.rules.iter().enumerate() {
            let name = self.name(route, position);
            let mut plan = rules::rule(self.resources, route, rule, name, &names);
            conditions
                .impossible
                .extend(plan.impossible.map(|problem| format!("rule {}: {problem}", position + 1)));
            plan.route.listeners = Some(sections.clone());
            plan.route.hosts.clone_from(&hosts);
            plans.push(plan.route);
        }
        // TLS that goes through, or ends here, has no requests to route.
        if sections.is_empty() || route.kind == RouteKind::Tls {
            return (Vec::new(), conditions);
        }
        self.backends.extend(resolved.into_values().flatten().map(|spec| (spec.name.clone(), spec)));
        (plans, conditions)
    }

    /// `namespace/name/rule-<n>`; routes of different kinds may have the same name.
    fn name(&mut self, route: &Route, position: usize) -> Arc<str> {
        let plain: Arc<str> = format!("{}/rule-{}", route.key, position + 1).into();
        let name = match self.names.contains(&plain) {
            true => format!("{plain}/{}", route.kind).into(),
            false => plain,
        };
        self.names.insert(name.clone());
        name
    }
}

/// The name of a listener's part of a socket.
fn section(gateway: &ServedGateway, listener: &Listener) -> Arc<str> {
    match &listener.owner {
        Owner::Gateway => format!("{}/{}", gateway.key, listener.name).into(),
        Owner::Set(set) => format!("{}/{set}/{}", gateway.key, listener.name).into(),
    }
}

fn socket(gateway: &ServedGateway, port: u16) -> Arc<str> {
    format!("{}:{port}", gateway.key).into()
}

/// Sockets of all Gateways that have an address, and their parts.
fn sockets(resources: &Resources, gateways: &[ServedGateway]) -> (Vec<ListenerPlan>, Vec<SectionPlan>) {
    let mut sockets: BTreeMap<Arc<str>, ListenerPlan> = BTreeMap::new();
    let mut sections = Vec::new();
    for gateway in gateways {
        let Ok(address) = gateway.address else { continue };
        for listener in gateway.listeners.iter().filter(|listener| listener.is_programmed()) {
            let name = socket(gateway, listener.port);
            sections.push(SectionPlan {
                name: section(gateway, listener),
                listener: name.clone(),
                host: listener.hostname.as_deref().map(matches::host),
            });
            let plan = sockets.entry(name.clone()).or_insert_with(|| {
                let plan =
                    config::new_listener(EndpointAddress::Tcp(SocketAddr::new(address, listener.port)));
                ListenerPlan { name, ..plan }
            });
            if listener.speaks == Speaks::Https {
                let tls = plan.tls.get_or_insert_with(|| ListenerTls {
                    certificates: Vec::new(),
                    client: None,
                    tls13_only: false,
                });
                for certificate in certificates(resources, listener) {
                    if !tls.certificates.contains(&certificate) {
                        tls.certificates.push(certificate);
                    }
                }
            }
        }
    }
    (sockets.into_values().collect(), sections)
}

fn certificates(resources: &Resources, listener: &Listener) -> Vec<CertificatePlan> {
    let pem = |key: &Key, name| secret_text(resources, key, name).map(|text| PemSource::Text(text.into()));
    listener
        .usable_certificates
        .iter()
        .filter_map(|key| Some(CertificatePlan { cert: pem(key, "tls.crt")?, key: pem(key, "tls.key")? }))
        .collect()
}

/// The text of one entry of a Secret.
pub(super) fn secret_text(resources: &Resources, key: &Key, name: &str) -> Option<String> {
    let secret = resources.secrets.get(key)?;
    let data = secret.data.as_ref().and_then(|data| data.get(name));
    let text = secret.string_data.as_ref().and_then(|data| data.get(name));
    match (data, text) {
        (Some(data), _) => String::from_utf8(data.0.clone()).ok(),
        (None, text) => text.cloned(),
    }
}
