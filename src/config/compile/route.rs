//! Routes: names, listeners, hosts, where requests go, and by when.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::backends::BackendTable;
use super::{Unique, filters, limits, matches, mirrors, unknown};
use crate::config::decode::{Located, Report};
use crate::config::document::At;
use crate::config::error::Problem;
use crate::config::raw;
use crate::plan::{ListenerPlan, RouteAction, RouteLimits, RoutePlan, Timeouts, WeightedBackend};
use crate::routing::filter::Filters;
use crate::routing::matches::HostPattern;

/// The route called `name` that takes every request and has the default deadlines.
pub(crate) fn new_route(name: Arc<str>, action: RouteAction) -> RoutePlan {
    RoutePlan {
        name,
        listeners: None,
        hosts: Vec::new(),
        matches: Vec::new(),
        action,
        filters: Filters::default(),
        timeouts: Timeouts::default(),
        limits: RouteLimits::default(),
        mirrors: Vec::new(),
    }
}

pub(super) fn routes(
    file: &raw::File,
    listeners: &[(ListenerPlan, At)],
    backends: &mut BackendTable,
    report: &mut Report<'_>,
) -> Vec<RoutePlan> {
    let Some(list) = &file.routes else { return Vec::new() };
    let mut names = Unique::default();
    let mut plans = Vec::with_capacity(list.items.len());
    // With a listener that could not be read, its name may be any.
    let all_listeners = listeners.len() == file.listeners.length;
    for (position, raw) in list.items.iter().enumerate() {
        let (name, at) = match &raw.name {
            Some(name) => (name.value.0.clone(), name.at),
            None => (format!("route-{}", position + 1), raw.given.at),
        };
        names.add(name.clone(), at, "route", report);
        let action = action(raw, backends, report);
        let mut plan = new_route(name.into(), action);
        for listener in raw.listeners.iter().flat_map(|list| &list.items) {
            let known = listeners.iter().map(|(plan, _)| &*plan.name);
            if all_listeners && !known.clone().any(|name| name == listener.value.0) {
                let problem = unknown("listener", &listener.value.0, known, report);
                report.error(listener.at, problem);
            }
        }
        plan.listeners = raw.listeners.as_ref().map(|list| {
            refuse_empty(list.length, list.at, "leave `listeners` out to serve all", report);
            list.items.iter().map(|name| name.value.0.as_str().into()).collect()
        });
        plan.hosts = hosts(raw, report);
        plan.matches = matches::matches(raw, report);
        plan.filters = filters::filters(raw, report);
        plan.timeouts = timeouts(raw);
        plan.limits = raw.limits.as_ref().map(|raw| limits::route(raw, report)).unwrap_or_default();
        plan.mirrors = mirrors::mirrors(raw, backends, report);
        plans.push(plan);
    }
    plans
}

pub(super) fn refuse_empty(length: usize, at: At, hint: &str, report: &mut Report<'_>) {
    if length == 0 {
        report.error(at, Problem::new("the list is empty").hint(hint));
    }
}

fn hosts(raw: &raw::Route, report: &mut Report<'_>) -> Vec<HostPattern> {
    let Some(list) = &raw.hosts else { return Vec::new() };
    refuse_empty(list.length, list.at, "leave `hosts` out to serve any", report);
    if let Some(any) = list.items.iter().find(|host| host.value.is_none()) {
        if list.length > 1 {
            let problem = Problem::new("any host (`*`) stands beside others");
            report.error(any.at, problem.hint("leave the others out, or write two routes"));
        }
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let mut patterns: Vec<HostPattern> = list.items.iter().filter_map(|host| host.value.clone()).collect();
    patterns.retain(|pattern| seen.insert(pattern.clone()));
    patterns
}

/// What happens to requests of the route: exactly one of three.
fn action(raw: &raw::Route, backends: &mut BackendTable, report: &mut Report<'_>) -> RouteAction {
    const ACTIONS: [&str; 3] = ["backend", "backends", "redirect"];
    let mut given = ACTIONS.iter().filter(|key| raw.given.key(key).is_some());
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        let at = raw.given.key(second).unwrap_or(raw.given.at);
        let problem = Problem::new(format!("`{second}` stands beside `{first}`"));
        report.error(
            at,
            problem.hint(match *second {
                "redirect" => "a redirect answers by itself: it takes no backend",
                _ => "list all of them in `backends`",
            }),
        );
    }
    if !ACTIONS.iter().any(|key| raw.given.intended(key)) {
        let problem = Problem::new("it is not said where its requests go");
        report.error(raw.given.at, problem.hint("give it `backend`, `backends` or `redirect`"));
    }
    // Each of them is compiled even if they exclude each other, for the errors in them.
    let single = raw.backend.as_ref().and_then(|reference| backends.reference(reference, report));
    let mut forward: Vec<_> = single.into_iter().map(|backend| WeightedBackend::new(backend, 1)).collect();
    if let Some(list) = &raw.backends {
        refuse_empty(list.length, list.at, "name at least one backend", report);
        let weight = |raw: &raw::WeightedBackend| raw.weight.as_ref().map_or(1, |weight| weight.value.0);
        if list.length > 0 && list.items.len() == list.length && list.items.iter().all(|raw| weight(raw) == 0)
        {
            let problem = Problem::new("every backend has the weight 0");
            report.error(list.at, problem.hint("give one a weight above 0"));
        }
        for raw in &list.items {
            if let Some(backend) = backends.reference(&raw.backend, report) {
                forward.push(WeightedBackend::new(backend, weight(raw)));
            }
        }
    }
    match &raw.redirect {
        Some(redirect) => RouteAction::Redirect(filters::redirect(raw, redirect, report)),
        None => RouteAction::Forward(forward),
    }
}

fn timeouts(raw: &raw::Route) -> Timeouts {
    let default = Timeouts::default();
    let Some(raw) = &raw.timeouts else { return default };
    let choose = |given: &Option<Located<Duration>>, default| match given {
        Some(duration) => Some(duration.value).filter(|value| !value.is_zero()),
        None => default,
    };
    Timeouts {
        request: choose(&raw.request, default.request),
        backend: choose(&raw.backend, default.backend),
    }
}
