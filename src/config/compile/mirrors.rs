//! The mirrors of a route.

use std::collections::HashSet;
use std::sync::Arc;

use super::backends::BackendTable;
use super::filters::header_edits;
use super::route::refuse_empty;
use crate::config::decode::Report;
use crate::config::error::Problem;
use crate::config::raw;
use crate::limits;
use crate::plan::{Fraction, MirrorPlan};
use crate::routing::filter::HeaderEdits;

/// A mirror of every request, with the defaults.
pub(crate) fn new_mirror(backend: Arc<str>) -> MirrorPlan {
    MirrorPlan {
        backend,
        fraction: Fraction::ALL,
        methods: None,
        headers: HeaderEdits::default(),
        timeout: limits::MIRROR_TIMEOUT,
        in_flight: limits::MIRROR_IN_FLIGHT,
        lag: limits::MIRROR_LAG,
    }
}

pub(super) fn mirrors(
    route: &raw::Route,
    backends: &mut BackendTable,
    report: &mut Report<'_>,
) -> Vec<MirrorPlan> {
    let Some(list) = &route.mirrors else { return Vec::new() };
    if let (Some(_), Some(_)) = (route.given.key("redirect"), list.items.first()) {
        let problem = Problem::new("`mirrors` stands beside `redirect`");
        report
            .error(list.at, problem.hint("what is answered with a redirect is not forwarded, nor mirrored"));
    }
    if list.length > limits::MIRRORS_PER_ROUTE {
        let problem = format!("{} mirrors are more than {}", list.length, limits::MIRRORS_PER_ROUTE);
        report.error(list.at, Problem::new(problem));
    }
    let mut seen = HashSet::new();
    let mut plans = Vec::with_capacity(list.items.len());
    for raw in &list.items {
        let backend = backends.reference(&raw.backend, report);
        if let Some(backend) = &backend
            && !seen.insert(backend.clone())
        {
            let problem = Problem::new(format!("the route has two mirrors to {backend:?}"));
            report.warn(raw.backend.at, problem.hint("their numbers are added up in metrics"));
        }
        // Compiled even without a backend, for the errors in it.
        plans.extend(mirror(raw, backend.unwrap_or_default(), report));
    }
    plans
}

fn mirror(raw: &raw::Mirror, backend: Arc<str>, report: &mut Report<'_>) -> Option<MirrorPlan> {
    let mut plan = new_mirror(backend);
    plan.fraction = fraction(raw, report)?;
    plan.methods = raw.methods.as_ref().map(|list| {
        refuse_empty(list.length, list.at, "leave `methods` out for all; `percent: 0` is off", report);
        list.items.iter().map(|method| method.value.clone()).collect()
    });
    if let Some(edits) = &raw.headers {
        plan.headers = header_edits(edits, report);
    }
    if let Some(timeout) = &raw.timeout {
        if timeout.value.is_zero() {
            let problem = Problem::new("a mirror's timeout must be more than 0");
            report.error(timeout.at, problem.hint("`percent: 0` switches a mirror off"));
        }
        plan.timeout = timeout.value;
    }
    if let Some(budget) = &raw.budget {
        plan.in_flight = budget.in_flight.as_ref().map_or(plan.in_flight, |count| count.value.0 as usize);
        plan.lag = budget.lag.as_ref().map_or(plan.lag, |size| size.value.0);
    }
    Some(plan)
}

fn fraction(raw: &raw::Mirror, report: &mut Report<'_>) -> Option<Fraction> {
    if let (Some(_), Some(at)) = (raw.given.key("percent"), raw.given.key("fraction")) {
        let problem = Problem::new("`fraction` stands beside `percent`");
        report.error(at, problem.hint("give one of the two"));
    }
    if let Some(parts) = &raw.fraction {
        let numerator = parts.numerator.value.0;
        let denominator = parts.denominator.as_ref().map_or(100, |number| number.value.0);
        if numerator > denominator {
            let problem = Problem::new(format!("{numerator} of {denominator} is more than all"));
            report.error(parts.numerator.at, problem);
            return None;
        }
        return Some(Fraction { numerator, denominator });
    }
    Some(raw.percent.as_ref().map_or(Fraction::ALL, |percent| percent.value.0))
}
