//! A mirror filter becomes a mirror of the plan, with what a MirrorPolicy says beyond it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use crate::gateway_api::filters::{edits, fraction};
use crate::gateway_api::model::{
    Edits, MirrorFilter, MirrorPolicySpec, Route, SampleBy, SampleType, duration,
};
use crate::gateway_api::resources::Resources;
use crate::plan::{MirrorPlan, SampleKey};
use crate::routing::filter::HeaderEdits;

/// Plans the mirror that `filter` of `route` asks for.
pub(super) fn mirror(
    resources: &Resources,
    route: &Route,
    filter: &MirrorFilter,
    backend: Arc<str>,
) -> MirrorPlan {
    let mut plan = MirrorPlan::new(backend);
    plan.share.fraction = fraction(filter);
    let policies = resources.mirror_policies.iter().filter(|(key, policy)| {
        let target = &policy.spec.target_ref;
        key.namespace == route.key.namespace
            && target.kind == route.kind.name()
            && target.name == route.key.name
            && policy.spec.backend.as_ref().is_none_or(|name| *name == filter.backend.name)
    });
    // In order of their names: the last that says something about a setting counts.
    for (_, policy) in policies {
        apply(&mut plan, &policy.spec);
    }
    plan
}

fn apply(plan: &mut MirrorPlan, policy: &MirrorPolicySpec) {
    if let Some(timeout) = policy.timeout.as_deref().and_then(duration).filter(|time| *time > Duration::ZERO)
    {
        plan.timeouts.total = timeout;
    }
    if let Some(raw) = &policy.sample_by {
        plan.sample_by = sample_by(raw);
    }
    if let Some(host) = policy.host.as_deref().and_then(|host| HeaderValue::from_str(host).ok()) {
        plan.edits.host = Some(host);
    }
    if let Some(methods) = &policy.methods {
        plan.methods =
            Some(methods.iter().filter_map(|name| Method::from_bytes(name.as_bytes()).ok()).collect());
    }
    if let Some(raw) = &policy.headers {
        let pairs = |map: &std::collections::BTreeMap<String, String>| {
            map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let raw = Edits { set: pairs(&raw.set), add: pairs(&raw.add), remove: raw.remove.clone() };
        // What cannot stand in a header changes nothing: a policy never costs a mirror.
        plan.edits.headers = edits(&raw).unwrap_or_else(|_| HeaderEdits::default());
    }
    plan.edits.strip_credentials |= policy.strip.is_some();
    if let Some(budget) = &policy.budget {
        if let Some(in_flight) = budget.in_flight {
            plan.in_flight = in_flight as usize;
        }
        if let Some(lag) = budget.lag_bytes {
            plan.lag = lag as usize;
        }
    }
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
