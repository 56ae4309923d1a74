//! A mirror filter becomes a mirror of the plan, with what a MirrorPolicy says beyond it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method};

use crate::gateway_api::filters::edits;
use crate::gateway_api::ignored::Ignored;
use crate::gateway_api::model::{
    Edits, MirrorFilter, MirrorPolicySpec, Route, SampleBy, SampleType, duration,
};
use crate::gateway_api::refs::for_each_backend;
use crate::gateway_api::resources::{Key, Resources};
use crate::limits;
use crate::plan::{Fraction, MirrorPlan, SampleKey};
use crate::shard::Lane;

/// Plans the mirror that `filter` of `route` asks for, of a `fraction` of the requests.
pub(super) fn mirror(
    resources: &Resources,
    route: &Route,
    (filter, fraction): (&MirrorFilter, Fraction),
    backend: Arc<str>,
) -> MirrorPlan {
    let mut plan = MirrorPlan::new(backend);
    plan.share.fraction = fraction;
    let policies = policies(resources, route)
        .filter(|(_, policy)| policy.backend.as_ref().is_none_or(|name| *name == filter.backend.name));
    // In order of their names: the last that says something about a setting counts.
    for (_, policy) in policies {
        // What is ignored is told of the route, once for all of its mirrors.
        apply(&mut plan, policy);
    }
    plan
}

/// What MirrorPolicies say about mirrors of `route` that means nothing, a line for each.
pub(super) fn ignored(resources: &Resources, route: &Route) -> Vec<String> {
    let mut backends = HashSet::new();
    for_each_backend(route, |reference, place| {
        if place.lane == Lane::Mirror {
            backends.insert(reference.name.as_str());
        }
    });
    let lines = policies(resources, route).flat_map(|(key, policy)| {
        let named = format!("{} {}", route.kind, route.key);
        let missing = match &policy.backend {
            _ if backends.is_empty() => Some(Ignored::new("targetRef", named, "it has no mirror")),
            Some(name) if !backends.contains(name.as_str()) => {
                Some(Ignored::new("backend", name, format!("no mirror of {named} goes there")))
            }
            _ => None,
        };
        let wrong = apply(&mut MirrorPlan::new(Arc::from("")), policy);
        let object = format!("MirrorPolicy {key}");
        missing.into_iter().chain(wrong).map(move |ignored| ignored.of(&object))
    });
    lines.collect()
}

/// The same of MirrorPolicies whose route is not there.
pub(super) fn without_a_route(resources: &Resources) -> Vec<String> {
    let lines = resources.mirror_policies.iter().filter_map(|(key, policy)| {
        let target = &policy.spec.target_ref;
        let route = Key::new(key.namespace.clone(), target.name.clone());
        let hint = match target.kind.as_str() {
            "HTTPRoute" if resources.http_routes.contains_key(&route) => return None,
            "GRPCRoute" if resources.grpc_routes.contains_key(&route) => return None,
            "HTTPRoute" | "GRPCRoute" => format!("there is no {} {route}", target.kind),
            _ => "mirrors are those of an HTTPRoute or of a GRPCRoute".to_owned(),
        };
        let value = format!("{} {}", target.kind, target.name);
        Some(Ignored::new("targetRef", value, hint).of(&format!("MirrorPolicy {key}")))
    });
    lines.collect()
}

fn policies<'a>(
    resources: &'a Resources,
    route: &'a Route,
) -> impl Iterator<Item = (&'a Key, &'a MirrorPolicySpec)> {
    let all = resources.mirror_policies.iter().map(|(key, policy)| (key, &policy.spec));
    all.filter(|(key, policy)| {
        let target = &policy.target_ref;
        key.namespace == route.key.namespace
            && target.kind == route.kind.name()
            && target.name == route.key.name
    })
}

/// Puts what `policy` says into `plan`. What means nothing changes nothing, so that a policy never costs a
/// mirror, and is returned.
fn apply(plan: &mut MirrorPlan, policy: &MirrorPolicySpec) -> Vec<Ignored> {
    let mut ignored = Vec::new();
    if let Some(text) = &policy.timeout {
        match duration(text).filter(|time| *time > Duration::ZERO) {
            Some(timeout) => plan.timeouts.total = timeout,
            None => ignored.push(Ignored::new("timeout", text, "write a time above 0, as 5s or 1m30s")),
        }
    }
    if let Some(raw) = &policy.sample_by {
        plan.sample_by = sample_by(raw);
        if plan.sample_by.is_none() {
            let value = format!("{:?} {}", raw.r#type, raw.name.as_deref().unwrap_or_default());
            ignored.push(Ignored::new("sampleBy", value.trim_end(), "add the `name` of one"));
        }
    }
    if let Some(text) = &policy.host {
        match host(text) {
            Some(host) => plan.edits.host = Some(host),
            None => ignored.push(Ignored::new("host", text, "write a host alone, as shop.example.com")),
        }
    }
    if let Some(names) = &policy.methods {
        let (read, wrong): (Vec<_>, Vec<_>) = names
            .iter()
            .map(|name| (name, Method::from_bytes(name.as_bytes())))
            .partition(|(_, read)| read.is_ok());
        // Where none is left none is copied: what was meant was less than all.
        plan.methods = Some(read.into_iter().filter_map(|(_, method)| method.ok()).collect());
        let wrong = wrong.into_iter();
        ignored.extend(wrong.map(|(name, _)| Ignored::new("methods", name, "write a method, as GET")));
    }
    if let Some(raw) = &policy.headers {
        let pairs = |map: &BTreeMap<String, String>| {
            map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let raw = Edits { set: pairs(&raw.set), add: pairs(&raw.add), remove: raw.remove.clone() };
        match edits(&raw) {
            Ok(edits) => plan.edits.headers = edits,
            Err(problem) => {
                let names = [&raw.set, &raw.add].into_iter().flatten().map(|(name, _)| name);
                let names: Vec<_> = names.chain(&raw.remove).map(String::as_str).collect();
                ignored.push(Ignored::new("headers", names.join(", "), problem));
            }
        }
    }
    plan.edits.strip_credentials |= policy.strip.is_some();
    if let Some(budget) = &policy.budget {
        match budget.in_flight.map(|count| count as usize) {
            Some(count) if count > limits::MIRROR_IN_FLIGHT_MOST => {
                let hint = format!("write no more than {}", limits::MIRROR_IN_FLIGHT_MOST);
                ignored.push(Ignored::new("budget.inFlight", count.to_string(), hint));
            }
            count => plan.in_flight = count.unwrap_or(plan.in_flight),
        }
        plan.lag = budget.lag_bytes.map_or(plan.lag, |lag| lag as usize);
    }
    ignored
}

/// A host, which may have a port, for the Host field.
fn host(text: &str) -> Option<HeaderValue> {
    let authority: Authority = text.parse().ok()?;
    HeaderValue::from_str(authority.as_str())
        .ok()
        .filter(|_| !authority.host().is_empty() && !text.contains('@'))
}

/// `None`, which is a draw for each request, where a name is missing that is needed.
fn sample_by(raw: &SampleBy) -> Option<SampleKey> {
    let name = || raw.name.clone().filter(|name| !name.is_empty());
    match raw.r#type {
        SampleType::Header => HeaderName::try_from(name()?).ok().map(SampleKey::Header),
        SampleType::Cookie => name().map(SampleKey::Cookie),
        SampleType::Query => name().map(SampleKey::Query),
        SampleType::Path => Some(SampleKey::Path),
        SampleType::Client => Some(SampleKey::Client),
    }
}
