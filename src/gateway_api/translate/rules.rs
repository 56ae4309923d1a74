//! One rule of a route becomes one route of the plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::mirrors::mirror;
use crate::config;
use crate::gateway_api::filters::sort;
use crate::gateway_api::matches::route_match;
use crate::gateway_api::model::{Reference, Route, Rule, WeightedRef, duration};
use crate::gateway_api::resources::Resources;
use crate::plan::{RouteAction, RoutePlan, Timeouts, WeightedBackend};
use crate::routing::matches::{PathMatch, Pattern, RouteMatch};

/// A rule's plan, and why it can only fail, if so.
pub(super) struct RulePlan {
    pub(super) route: RoutePlan,
    pub(super) impossible: Option<String>,
}

/// Plans `rule` of `route`; `names` are the backends of those references that mean one.
pub(super) fn rule(
    resources: &Resources,
    route: &Route,
    rule: &Rule,
    name: Arc<str>,
    names: &BTreeMap<&Reference, Arc<str>>,
) -> RulePlan {
    let mut impossible = None;
    let mut plan = config::new_route(name, RouteAction::Fail);
    // Of alternatives one may be malformed; the others stand. A rule all of whose are malformed takes
    // nothing, rather than everything.
    let read: Vec<_> = rule.matches.iter().map(route_match).collect();
    impossible = read.iter().find_map(|read| read.as_ref().err().cloned()).or(impossible);
    plan.matches = read.into_iter().flatten().collect();
    if plan.matches.is_empty() && !rule.matches.is_empty() {
        plan.matches.extend(nothing());
    }
    let sorted = sort(&rule.filters);
    plan.timeouts = match timeouts(rule) {
        Ok(timeouts) => timeouts,
        Err(problem) => {
            impossible.get_or_insert(problem);
            Timeouts::default()
        }
    };
    plan.mirrors = sorted
        .mirrors
        .iter()
        .filter_map(|filter| Some(mirror(resources, route, filter, names.get(&filter.backend)?.clone())))
        .collect();
    plan.filters = sorted.filters;
    if sorted.impossible.is_some() {
        impossible = sorted.impossible;
    }
    plan.action = match (&impossible, sorted.redirect) {
        (Some(_), _) => RouteAction::Fail,
        (None, Some(redirect)) => RouteAction::Redirect(redirect),
        (None, None) => RouteAction::Forward(
            rule.backends.iter().map(|backend| weighted(resources, route, backend, names)).collect(),
        ),
    };
    if !matches!(plan.action, RouteAction::Forward(_)) {
        // What is not forwarded is not mirrored.
        plan.mirrors.clear();
    }
    RulePlan { route: plan, impossible }
}

/// A backend's share. What cannot be resolved, or done, takes its share under a name that no backend
/// has, and is answered 500.
fn weighted(
    resources: &Resources,
    route: &Route,
    backend: &WeightedRef,
    names: &BTreeMap<&Reference, Arc<str>>,
) -> WeightedBackend {
    let sorted = sort(&backend.filters);
    let done = sorted.impossible.is_none() && sorted.redirect.is_none();
    let name = names.get(&backend.reference).filter(|_| done).cloned();
    let mirrors = match name {
        Some(_) => sorted
            .mirrors
            .iter()
            .filter_map(|filter| Some(mirror(resources, route, filter, names.get(&filter.backend)?.clone())))
            .collect(),
        None => Vec::new(),
    };
    let mut share = WeightedBackend::new(name.unwrap_or_default(), backend.weight);
    share.filters = sorted.filters;
    share.mirrors = mirrors;
    share
}

fn timeouts(rule: &Rule) -> Result<Timeouts, String> {
    let read = |text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => duration(text).map(Some).ok_or_else(|| format!("{text:?} is no duration")),
    };
    let default = Timeouts::default();
    // Zero is no timeout.
    let choose = |read: Option<std::time::Duration>, default| match read {
        Some(time) => Some(time).filter(|time| !time.is_zero()),
        None => default,
    };
    Ok(Timeouts {
        request: choose(read(&rule.request_timeout)?, default.request),
        backend: choose(read(&rule.backend_timeout)?, default.backend),
    })
}

/// A match that no path meets.
fn nothing() -> Option<RouteMatch> {
    let never = Pattern::new("[^\\x00-\\xff]").ok()?;
    Some(RouteMatch { path: Some(PathMatch::Regex(never)), ..RouteMatch::default() })
}
