//! What a backend does with its endpoints, and when requests are sent again.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;

use crate::config::decode::{Located, Report, WordOr};
use crate::config::document::At;
use crate::config::error::Problem;
use crate::config::raw::{self, FailureWord};
use crate::discovery::resolver::{MaxAge, WhenTooOld};
use crate::limits;
use crate::plan::{
    BackendPolicy, BalancePlan, EjectionPlan, FailureSet, HashKey, HealthCheck, HealthPlan, Protocol,
    RetryPlan,
};

/// What `raw` says of its endpoints; `zone` is the gateway's own.
pub(super) fn backend(
    raw: &raw::Backend,
    zone: Option<&Arc<str>>,
    protocol: Protocol,
    report: &mut Report<'_>,
) -> BackendPolicy {
    let prefers = raw.prefer_zone.as_ref().is_none_or(|switch| switch.value);
    BackendPolicy {
        balance: match &raw.balance {
            None => BalancePlan::default(),
            Some(WordOr::Word(word)) => word.value.0.clone(),
            Some(WordOr::Mapping(raw)) => match &raw.consistent {
                WordOr::Word(word) => BalancePlan::Consistent(word.value.0.clone()),
                WordOr::Mapping(choice) => BalancePlan::Consistent(key(choice, report)),
            },
        },
        slow_start: time(raw.slow_start.as_ref()),
        zone: zone.filter(|_| prefers).cloned(),
        health: raw.health.as_ref().and_then(|raw| health(raw, protocol, report)),
        ejection: match &raw.ejection {
            None => Some(EjectionPlan::default()),
            Some(WordOr::Word(_)) => None,
            Some(WordOr::Mapping(raw)) => Some(ejection(raw, report)),
        },
        max_age: raw.max_age.as_ref().map(|raw| MaxAge {
            after: positive(&raw.after, report),
            then: raw.then.as_ref().map_or(WhenTooOld::Keep, |word| word.value.0),
        }),
        drain: raw.drain.as_ref().map(|drain| drain.value),
    }
}

/// When a route's requests are sent again.
pub(super) fn retries(raw: &raw::Retries, report: &mut Report<'_>) -> RetryPlan {
    super::route::refuse_empty(raw.on.length, raw.on.at, "leave `retries` out to have none", report);
    if let Some(size) = raw.max_body.as_ref().filter(|size| size.value.0 > limits::RETRY_BODY.1) {
        let most = limits::RETRY_BODY.1 >> 20;
        report.error(size.at, Problem::new(format!("a body of more than {most}MiB cannot be kept")));
    }
    RetryPlan {
        attempts: raw.attempts.as_ref().map_or(1, |attempts| attempts.value.0),
        on: failures(raw.on.items.iter().map(|word| &word.value)),
        per_try_timeout: raw.per_try_timeout.as_ref().map(|time| positive(time, report)),
        max_body: raw.max_body.as_ref().map_or(limits::RETRY_BODY.0, |size| size.value.0),
        backoff: None,
        same_endpoint: false,
    }
}

fn key(raw: &raw::ConsistentChoice, report: &mut Report<'_>) -> HashKey {
    one_of(&["header", "cookie", "query"], &raw.given, report);
    match (&raw.header, &raw.cookie, &raw.query) {
        (Some(header), ..) => HashKey::Header(header.value.clone()),
        (_, Some(cookie), _) => HashKey::Cookie(cookie.value.0.as_str().into()),
        (.., Some(query)) => HashKey::Query(query.value.0.as_str().into()),
        // That it says nothing was told.
        _ => HashKey::Path,
    }
}

fn health(raw: &raw::Health, protocol: Protocol, report: &mut Report<'_>) -> Option<HealthPlan> {
    one_of(&["http", "tcp", "grpc"], &raw.given, report);
    let check = match (&raw.http, &raw.tcp, &raw.grpc) {
        (Some(http), ..) => {
            let path = PathAndQuery::try_from(http.path.value.0.as_str()).ok()?;
            match &http.expected {
                None => HealthCheck::http(path),
                Some(list) => {
                    let hint = "leave `expected` out to take 200-399";
                    super::route::refuse_empty(list.length, list.at, hint, report);
                    let expected = list.items.iter().map(|range| range.value.0.clone()).collect();
                    HealthCheck::Http { path, expected }
                }
            }
        }
        (_, Some(_), _) => HealthCheck::Tcp,
        (.., Some(grpc)) => {
            if protocol == Protocol::Http1 {
                let problem = Problem::new("gRPC needs HTTP/2, and this backend speaks HTTP/1");
                report.error(grpc.given.at, problem.hint("add `protocol: h2c`"));
            }
            let service = grpc.service.as_ref().map(|service| service.value.0.clone());
            HealthCheck::Grpc { service: service.unwrap_or_default() }
        }
        _ => return None,
    };
    let HealthPlan { check, interval, timeout, healthy, unhealthy } = HealthPlan::of(check);
    Some(HealthPlan {
        check,
        interval: raw.interval.as_ref().map_or(interval, |time| positive(time, report)),
        timeout: raw.timeout.as_ref().map_or(timeout, |time| positive(time, report)),
        healthy: raw.healthy.as_ref().map_or(healthy, |count| count.value.0),
        unhealthy: raw.unhealthy.as_ref().map_or(unhealthy, |count| count.value.0),
    })
}

fn ejection(raw: &raw::Ejection, report: &mut Report<'_>) -> EjectionPlan {
    let default = EjectionPlan::default();
    for word in raw.on.iter().flat_map(|list| &list.items) {
        if matches!(&word.value, FailureWord::Statuses(range) if *range.0.start() < 500) {
            let problem = Problem::new("a status below 500 is not the endpoint's failure");
            report.error(word.at, problem.hint("write 503 or 500-599"));
        }
    }
    let time = raw.time.as_ref().map_or(default.time, |time| positive(time, report));
    EjectionPlan {
        failures: raw.failures.as_ref().map_or(default.failures, |count| count.value.0),
        on: raw.on.as_ref().map_or(default.on, |list| failures(list.items.iter().map(|word| &word.value))),
        slower_than: raw.slower_than.as_ref().map(|time| positive(time, report)),
        time,
        longest: raw.longest.as_ref().map_or(default.longest, |time| time.value).max(time),
        most_percent: raw.most_percent.as_ref().map_or(default.most_percent, |part| part.value.0),
    }
}

fn failures<'a>(words: impl Iterator<Item = &'a FailureWord>) -> FailureSet {
    let mut set = FailureSet::default();
    for word in words {
        match word {
            FailureWord::Connect => set.connect = true,
            FailureWord::Reset => set.reset = true,
            FailureWord::Timeout => set.timeout = true,
            FailureWord::Statuses(range) => set.statuses.add(range.0.clone()),
        }
    }
    set
}

/// Tells when not exactly one of `keys` is given.
fn one_of(keys: &[&str], given: &crate::config::decode::Given, report: &mut Report<'_>) {
    let mut found = keys.iter().filter(|key| given.key(key).is_some());
    if let (Some(first), Some(second)) = (found.next(), found.next()) {
        let at: At = given.key(second).unwrap_or(given.at);
        report.error(at, Problem::new(format!("`{second}` stands beside `{first}`")));
    } else if !keys.iter().any(|key| given.intended(key)) {
        let problem = Problem::new("it says nothing");
        report.error(given.at, problem.hint(format!("give one of {}", keys.join(", "))));
    }
}

fn positive(time: &Located<Duration>, report: &mut Report<'_>) -> Duration {
    if time.value.is_zero() {
        report.error(time.at, Problem::new("the time must be more than 0"));
    }
    time.value
}

/// 0 is none.
fn time(raw: Option<&Located<Duration>>) -> Option<Duration> {
    raw.map(|time| time.value).filter(|time| !time.is_zero())
}
