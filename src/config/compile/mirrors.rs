//! The mirrors of a route.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::backends::BackendTable;
use super::filters::{header_edits, path_rewrite};
use super::matches::{alternatives, one_of};
use super::route::refuse_empty;
use crate::config::decode::{Located, Report, WordOr};
use crate::config::error::Problem;
use crate::config::http_values::{OversizeWord, SampleWord, Text};
use crate::config::raw;
use crate::limits;
use crate::plan::{
    CopyEdits, CopyTimeouts, Fraction, MirrorPlan, Oversize, RampPlan, SampleKey, SharePlan, StopPlan,
};

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
        plans.extend(mirror(route, raw, backend.unwrap_or_default(), report));
    }
    plans
}

fn mirror(
    route: &raw::Route,
    raw: &raw::Mirror,
    backend: Arc<str>,
    report: &mut Report<'_>,
) -> Option<MirrorPlan> {
    let mut plan = MirrorPlan::new(backend);
    let share = share(raw, report);
    plan.sample_by = sample_by(raw, report);
    plan.methods = raw.methods.as_ref().map(|list| {
        refuse_empty(list.length, list.at, "leave `methods` out for all; `percent: 0` is off", report);
        list.items.iter().map(|method| method.value.clone()).collect()
    });
    plan.matches = alternatives(raw.matches.as_ref(), report);
    plan.edits = CopyEdits {
        headers: raw.headers.as_ref().map(|edits| header_edits(edits, report)).unwrap_or_default(),
        // A host name consists of characters that a header value may have.
        host: raw.host.as_ref().and_then(|host| HeaderValue::from_str(&host.value.0).ok()),
        path: raw.path.as_ref().and_then(|path| path_rewrite(route, path, report)),
        strip_credentials: raw.strip.is_some(),
    };
    plan.timeouts = timeouts(raw, report);
    plan.max_body = raw.max_body.as_ref().map(|size| size.value.0 as u64);
    plan.on_oversize = oversize(raw, report);
    if let Some(budget) = &raw.budget {
        plan.in_flight = budget.in_flight.as_ref().map_or(plan.in_flight, |count| count.value.0 as usize);
        plan.lag = budget.lag.as_ref().map_or(plan.lag, |size| size.value.0);
        plan.rate = budget.rate.as_ref().map(|rate| rate.value.0);
    }
    plan.share = share?;
    Some(plan)
}

fn share(raw: &raw::Mirror, report: &mut Report<'_>) -> Option<SharePlan> {
    let stop = raw.stop.as_ref().map(|stop| self::stop(stop, report));
    let ramp = raw.ramp.as_ref().map(|ramp| self::ramp(raw, ramp, report));
    let fraction = fraction(raw, report)?;
    match ramp {
        None => Some(SharePlan { fraction, ramp: None, stop }),
        Some(ramp) => {
            let ramp = ramp?;
            Some(SharePlan { fraction: *ramp.steps.first()?, ramp: Some(ramp), stop })
        }
    }
}

fn ramp(mirror: &raw::Mirror, raw: &raw::Ramp, report: &mut Report<'_>) -> Option<RampPlan> {
    if let (Some(at), Some(other)) =
        (mirror.given.key("ramp"), ["percent", "fraction"].iter().find(|key| mirror.given.key(key).is_some()))
    {
        let problem = Problem::new(format!("`ramp` stands beside `{other}`"));
        report.error(at, problem.hint("the first of `steps` is where it begins"));
    }
    refuse_empty(raw.steps.length, raw.steps.at, "name the percentages, as [1, 5, 25, 100]", report);
    if raw.steps.length > limits::RAMP_STEPS {
        let problem = format!("{} steps are more than {}", raw.steps.length, limits::RAMP_STEPS);
        report.error(raw.steps.at, Problem::new(problem));
    }
    let mut steps: Vec<Fraction> = Vec::new();
    for step in &raw.steps.items {
        let fraction = step.value.0;
        let product =
            |one: Fraction, other: Fraction| u64::from(one.numerator) * u64::from(other.denominator);
        if steps.last().is_some_and(|last| product(*last, fraction) >= product(fraction, *last)) {
            let problem = Problem::new("a step is not greater than the one before");
            report.error(step.at, problem.hint("write the percentages in ascending order"));
        }
        steps.push(fraction);
    }
    refuse_zero(&raw.every, "the time of a step", report);
    (!steps.is_empty()).then_some(RampPlan { steps, every: raw.every.value })
}

fn stop(raw: &raw::Stop, report: &mut Report<'_>) -> StopPlan {
    let default = StopPlan::default();
    if let Some(window) = &raw.window {
        refuse_zero(window, "the window", report);
    }
    StopPlan {
        error_rate: raw.error_rate.as_ref().map_or(default.error_rate, |rate| rate.value.0),
        drop_rate: raw.drop_rate.as_ref().map_or(default.drop_rate, |rate| rate.value.0),
        window: raw.window.as_ref().map_or(default.window, |window| window.value),
        minimum: raw.minimum.as_ref().map_or(default.minimum, |minimum| u64::from(minimum.value.0)),
    }
}

fn sample_by(raw: &raw::Mirror, report: &mut Report<'_>) -> Option<SampleKey> {
    match raw.sample_by.as_ref()? {
        WordOr::Word(word) => Some(match word.value {
            SampleWord::Path => SampleKey::Path,
            SampleWord::Client => SampleKey::Client,
        }),
        WordOr::Mapping(name) => {
            one_of(&name.given, &["header", "cookie", "query"], report);
            for text in [&name.cookie, &name.query].into_iter().flatten() {
                if text.value.0.is_empty() {
                    report.error(text.at, Problem::new("a key to sample by has a name"));
                }
            }
            let text = |text: &Option<Located<Text>>| text.as_ref().map(|text| text.value.0.clone());
            let header = name.header.as_ref().map(|header| SampleKey::Header(header.value.clone()));
            header
                .or_else(|| text(&name.cookie).map(SampleKey::Cookie))
                .or_else(|| text(&name.query).map(SampleKey::Query))
        }
    }
}

fn timeouts(raw: &raw::Mirror, report: &mut Report<'_>) -> CopyTimeouts {
    let default = CopyTimeouts::default();
    let budget = raw.budget.as_ref();
    let connect = budget.and_then(|budget| budget.connect.as_ref());
    let first_byte = budget.and_then(|budget| budget.first_byte.as_ref());
    if let Some(timeout) = &raw.timeout
        && timeout.value.is_zero()
    {
        let problem = Problem::new("a mirror's timeout must be more than 0");
        report.error(timeout.at, problem.hint("`percent: 0` switches a mirror off"));
    }
    for time in [connect, first_byte].into_iter().flatten() {
        refuse_zero(time, "a deadline", report);
    }
    CopyTimeouts {
        connect: connect.map_or(default.connect, |time| time.value),
        first_byte: first_byte.map(|time| time.value),
        total: raw.timeout.as_ref().map_or(default.total, |time| time.value),
    }
}

fn oversize(raw: &raw::Mirror, report: &mut Report<'_>) -> Oversize {
    let chosen = raw.on_oversize.as_ref().map(|word| match word.value {
        OversizeWord::Stream => Oversize::Stream,
        OversizeWord::Skip => Oversize::Skip,
        OversizeWord::HeadersOnly => Oversize::HeadersOnly,
    });
    if let (Some(word), false, Some(Oversize::Skip | Oversize::HeadersOnly)) =
        (&raw.on_oversize, raw.given.intended("max_body"), chosen)
    {
        let problem = Problem::new("it is not said from what size on");
        report.error(word.at, problem.hint("give the mirror a `max_body`, as 1MiB"));
    }
    chosen.unwrap_or(if raw.max_body.is_some() { Oversize::Skip } else { Oversize::Stream })
}

fn refuse_zero(time: &Located<Duration>, what: &str, report: &mut Report<'_>) {
    if time.value.is_zero() {
        report.error(time.at, Problem::new(format!("{what} must be more than 0")));
    }
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
