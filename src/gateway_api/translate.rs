//! Resources become a plan and statuses: pure, and the same whenever the resources are the same.

mod mirrors;
mod report;
mod rules;
mod sockets;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

pub(super) use self::sockets::secret_text;
use self::sockets::{certificate, section, sockets};
use super::backends::{Routing, resolve};
use super::listeners::{Addresses, ServedGateway, served};
use super::model::{self, Reference, Route, RouteKind, Rule};
use super::parents::{Attachment, ListenerIndex, attach};
use super::reachable::Reachable;
use super::refs::for_each_backend;
use super::resources::{Key, Resources};
use super::status::{Condition, RouteStatus, Statuses, first_lines};
use super::{CONTROLLER, annotations, ignored, matches};
use crate::plan::{BackendSpec, ListenerPlan, Plan, RouteAction, RoutePlan, SectionPlan, StreamPlan};

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
    /// Where Gateways that listen on all addresses of the machine are reached.
    pub reachable: Reachable,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            controller: CONTROLLER.to_owned(),
            any_class: false,
            gateway: None,
            routing: Routing::default(),
            reachable: Reachable::default(),
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
    /// Rules of TLS routes, the oldest route first.
    pub streams: Vec<StreamPlan>,
    /// What became of every object.
    pub statuses: Statuses,
    /// Settings of objects that are served but mean nothing, a line for each.
    pub ignored: BTreeSet<String>,
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
        plan.streams.clone_from(&self.streams);
        plan
    }
}

/// Translates `resources`; `addresses` remembers which Gateway has which.
pub fn translate(resources: &Resources, settings: &Settings, addresses: &mut Addresses) -> Translation {
    let mut gateways = served(resources, settings, addresses);
    let mut work = Work {
        resources,
        settings,
        backends: BTreeMap::new(),
        names: HashSet::new(),
        routes: Vec::new(),
        streams: Vec::new(),
    };
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
        let conditions = work.route(&route, &gateways, &listeners);
        translation.ignored.extend(conditions.ignored.iter().cloned());
        let parents = attachments.into_iter().map(|(parent, attachment)| {
            let mut states = vec![attachment.accepted];
            conditions.apply(&mut states);
            (parent, states)
        });
        let status = RouteStatus { generation: route.generation, parents: parents.collect() };
        translation.statuses.routes.insert((route.kind, route.key.clone()), status);
    }
    (translation.routes, translation.streams) = (work.routes, work.streams);
    translation.backends = work.backends.into_values().collect();
    (translation.listeners, translation.sections) = sockets(resources, &gateways);
    translation.ignored.extend(mirrors::without_a_route(resources));
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
    /// Parts of rules that cannot be done; the rules are served without them.
    left_out: Vec<String>,
    /// What means nothing of it, of its Services and of its policies.
    ignored: BTreeSet<String>,
}

impl RouteConditions {
    fn apply(&self, states: &mut Vec<Condition>) {
        let messages: Vec<_> = self.impossible.iter().chain(&self.left_out).collect();
        let messages = first_lines(messages.into_iter());
        let none_left = !self.impossible.is_empty() && self.impossible.len() == self.rules;
        match states.first_mut() {
            Some(accepted) if none_left && accepted.holds => {
                *accepted = Condition::no("Accepted", "UnsupportedValue", messages);
            }
            Some(accepted) if !messages.is_empty() && accepted.holds => states.push(Condition {
                kind: "PartiallyInvalid",
                holds: true,
                reason: "UnsupportedValue",
                message: messages,
            }),
            _ => {}
        }
        states.push(self.resolved.clone());
        states.extend(ignored::condition(&self.ignored));
    }
}

/// What is gathered while routes are gone through.
struct Work<'a> {
    resources: &'a Resources,
    settings: &'a Settings,
    backends: BTreeMap<Arc<str>, BackendSpec>,
    names: HashSet<Arc<str>>,
    routes: Vec<RoutePlan>,
    streams: Vec<StreamPlan>,
}

impl Work<'_> {
    fn route(
        &mut self,
        route: &Route,
        gateways: &[ServedGateway],
        listeners: &[ListenerIndex],
    ) -> RouteConditions {
        let mut resolved: BTreeMap<&Reference, Result<BackendSpec, Condition>> = BTreeMap::new();
        for_each_backend(route, |reference, _| {
            resolved.entry(reference).or_insert_with(|| {
                resolve(self.resources, self.settings, (route.kind, &route.key.namespace), reference)
            });
        });
        let problems = || resolved.values().filter_map(|found| found.as_ref().err());
        let messages: BTreeSet<_> = problems().map(|problem| problem.message.clone()).collect();
        let problem = problems()
            .next()
            .map(|first| Condition { message: first_lines(messages.iter()), ..first.clone() });
        let mut conditions = RouteConditions {
            resolved: problem.unwrap_or_else(|| Condition::yes("ResolvedRefs", "ResolvedRefs")),
            impossible: Vec::new(),
            rules: route.rules.len(),
            left_out: Vec::new(),
            ignored: mirrors::ignored(self.resources, route).into_iter().collect(),
        };
        for (reference, spec) in resolved.iter().filter_map(|(one, found)| Some((one, found.as_ref().ok()?)))
        {
            let service = self.resources.services.get(&reference.key(&route.key.namespace));
            let wrong = service.map(|service| annotations::ignored(service, spec.protocol));
            conditions.ignored.extend(wrong.into_iter().flatten());
        }
        // Gateways that are known to backends by different certificates reach different backends.
        let mut groups: BTreeMap<Option<&Key>, Vec<Arc<str>>> = BTreeMap::new();
        for (gateway, listener) in listeners {
            let Some(gateway) = gateways.get(*gateway) else { continue };
            let Some(listener) = gateway.listeners.get(*listener) else { continue };
            let identity = gateway.identity.as_ref().and_then(|identity| identity.as_ref().ok());
            groups.entry(identity).or_default().push(section(gateway, listener));
        }
        let names: Vec<_> = (0..route.rules.len()).map(|position| self.name(route, position)).collect();
        for (position, rule) in route.rules.iter().enumerate() {
            let told = |problem| format!("rule {}: {problem}", position + 1);
            conditions.impossible.extend(rules::problem(rule).map(told));
            conditions.left_out.extend(rules::left_out(rule).into_iter().map(told));
            let object = format!("{} {}: rule {}", route.kind, route.key, position + 1);
            conditions.ignored.extend(rule.ignored.iter().map(|ignored| ignored.of(&object)));
        }
        let several = groups.len() > 1;
        for (identity, sections) in groups {
            let specs: BTreeMap<&Reference, BackendSpec> = resolved
                .iter()
                .filter_map(|(reference, found)| {
                    Some((*reference, self.identified(found.as_ref().ok()?, identity)))
                })
                .collect();
            for (name, rule) in names.iter().zip(&route.rules) {
                let name = match identity.filter(|_| several) {
                    Some(identity) => format!("{name}@{identity}").into(),
                    None => name.clone(),
                };
                self.rule(route, rule, name, &sections, &specs);
            }
            self.backends.extend(specs.into_values().map(|spec| (spec.name.clone(), spec)));
        }
        conditions
    }

    /// Plans one rule for the listeners called `sections`.
    fn rule(
        &mut self,
        route: &Route,
        rule: &Rule,
        name: Arc<str>,
        sections: &[Arc<str>],
        specs: &BTreeMap<&Reference, BackendSpec>,
    ) {
        let names = specs.iter().map(|(reference, spec)| (*reference, spec.name.clone())).collect();
        let plan = rules::rule(self.resources, route, rule, name, &names);
        let hosts: Vec<_> = route.hostnames.iter().map(|host| matches::host(host)).collect();
        let sections = sections.to_vec();
        match (route.kind, plan.action) {
            (RouteKind::Tls, RouteAction::Forward(backends)) => {
                self.streams.push(StreamPlan { name: plan.name, sections, hosts, backends });
            }
            (_, action) => {
                self.routes.push(RoutePlan { listeners: Some(sections), hosts, action, ..plan });
            }
        }
    }

    /// A backend as the Gateway with `identity` reaches it: the name says so where it matters.
    fn identified(&self, spec: &BackendSpec, identity: Option<&Key>) -> BackendSpec {
        let mut spec = spec.clone();
        let certificate = identity.and_then(|key| certificate(self.resources, key));
        if let (Some(identity), Some(tls), Some(certificate)) =
            (identity, &mut spec.transport.tls, certificate)
        {
            tls.certificate = Some(certificate);
            spec.name = format!("{}@{identity}", spec.name).into();
        }
        spec
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
