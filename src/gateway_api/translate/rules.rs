//! One rule of a route becomes one route of the plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::mirrors::mirror;
use crate::config;
use crate::gateway_api::filters::{Sorted, sort};
use crate::gateway_api::matches::route_match;
use crate::gateway_api::model::{Reference, Retry, Route, Rule, WeightedRef, duration};
use crate::gateway_api::resources::Resources;
use crate::limits;
use crate::plan::{FailureSet, MirrorPlan, RetryPlan, RouteAction, RoutePlan, Timeouts, WeightedBackend};
use crate::routing::matches::{PathMatch, Pattern, RouteMatch};

/// Why `rule` can only fail, if so.
pub(super) fn problem(rule: &Rule) -> Option<String> {
    let filters = || sort(&rule.filters).impossible;
    let matches = || rule.matches.iter().find_map(|one| route_match(one).err());
    filters().or_else(matches).or_else(|| timeouts(rule).err())
}

/// Why mirrors of `rule`, which is served all the same, are left out.
pub(super) fn left_out(rule: &Rule) -> Vec<String> {
    let filters = rule.backends.iter().map(|backend| &backend.filters).chain([&rule.filters]);
    filters.flat_map(|filters| sort(filters).left_out).collect()
}

/// Plans `rule` of `route`; `names` are the backends of those references that mean one.
pub(super) fn rule(
    resources: &Resources,
    route: &Route,
    rule: &Rule,
    name: Arc<str>,
    names: &BTreeMap<&Reference, Arc<str>>,
) -> RoutePlan {
    let mut plan = config::new_route(name, RouteAction::Fail);
    // Of alternatives one may be malformed; the others stand. A rule all of whose are malformed takes
    // nothing, rather than everything.
    plan.matches = rule.matches.iter().flat_map(route_match).collect();
    if plan.matches.is_empty() && !rule.matches.is_empty() {
        plan.matches.extend(nothing());
    }
    let sorted = sort(&rule.filters);
    plan.timeouts = timeouts(rule).unwrap_or_default();
    plan.retries = rule.retry.as_ref().map(retries);
    plan.mirrors = mirrors(resources, route, &sorted, names);
    plan.filters = sorted.filters;
    plan.action = match (problem(rule), sorted.redirect) {
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
    plan
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
        Some(_) => mirrors(resources, route, &sorted, names),
        None => Vec::new(),
    };
    let mut share = WeightedBackend::new(name.unwrap_or_default(), backend.weight);
    share.filters = sorted.filters;
    share.mirrors = mirrors;
    share
}

/// The mirrors whose backends mean one.
fn mirrors(
    resources: &Resources,
    route: &Route,
    sorted: &Sorted<'_>,
    names: &BTreeMap<&Reference, Arc<str>>,
) -> Vec<MirrorPlan> {
    let planned = sorted.mirrors.iter().filter_map(|(filter, fraction)| {
        Some(mirror(resources, route, (filter, *fraction), names.get(&filter.backend)?.clone()))
    });
    planned.collect()
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

/// Connection errors are tried again wherever a rule says that anything is, as the specification has it.
fn retries(raw: &Retry) -> RetryPlan {
    let statuses = raw.codes.iter().map(|code| *code..=*code).collect();
    RetryPlan {
        attempts: raw.attempts.unwrap_or(1).min(limits::RETRIES_MOST),
        on: FailureSet { connect: true, reset: true, timeout: true, statuses },
        per_try_timeout: None,
        max_body: limits::RETRY_BODY.0,
        backoff: raw.backoff.map(|time| time.min(limits::RETRY_BACKOFF)),
        same_endpoint: true,
    }
}

/// A match that no path meets.
fn nothing() -> Option<RouteMatch> {
    let never = Pattern::new("[^\\x00-\\xff]").ok()?;
    Some(RouteMatch { path: Some(PathMatch::Regex(never)), ..RouteMatch::default() })
}
