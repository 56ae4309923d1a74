//! The conditions of a route.

use http::{HeaderName, Method};

use super::Unique;
use super::route::refuse_empty;
use crate::config::decode::{List, Report, Scalar, Table};
use crate::config::error::Problem;
use crate::config::raw;
use crate::routing::matches::{PathMatch, Pattern, RouteMatch, ValueMatch};

pub(super) fn matches(route: &raw::Route, report: &mut Report<'_>) -> Vec<RouteMatch> {
    alternatives(route.matches.as_ref(), report)
}

/// The conditions of a route or of a mirror.
pub(super) fn alternatives(list: Option<&List<raw::Match>>, report: &mut Report<'_>) -> Vec<RouteMatch> {
    let Some(list) = list else { return Vec::new() };
    refuse_empty(list.length, list.at, "leave `matches` out to match every request", report);
    let alternatives = list.items.iter().map(|raw| RouteMatch {
        path: path_or_call(raw, report),
        method: match (&raw.method, &raw.grpc) {
            (Some(method), _) => Some(method.value.clone()),
            (None, grpc) => grpc.as_ref().map(|_| Method::POST),
        },
        headers: raw.headers.as_ref().map(|table| header_matches(table, report)).unwrap_or_default(),
        query: raw.query.as_ref().map(|table| query_matches(table, report)).unwrap_or_default(),
    });
    alternatives.collect()
}

/// The condition on the path, be it written as one or as a call of gRPC, whose path is
/// `/service/method`.
fn path_or_call(raw: &raw::Match, report: &mut Report<'_>) -> Option<PathMatch> {
    let Some(grpc) = &raw.grpc else {
        return raw.path.as_ref().and_then(|path| path_match(path, report));
    };
    if let Some(at) = raw.given.key("path") {
        report.error(at, Problem::new("`path` stands beside `grpc`, which says what the path is"));
    }
    match (&grpc.service, &grpc.method) {
        (Some(service), Some(method)) => {
            Some(PathMatch::Exact(format!("/{}/{}", service.value.0, method.value.0)))
        }
        (Some(service), None) => Some(PathMatch::Prefix(format!("/{}", service.value.0))),
        (None, Some(method)) => {
            let expression = format!("/[^/]+/{}", regex::escape(&method.value.0));
            Pattern::new(&expression).ok().map(PathMatch::Regex)
        }
        (None, None) => {
            let problem = Problem::new("neither a service nor a method is named");
            report.error(grpc.given.at, problem.hint("give `service`, `method` or both"));
            None
        }
    }
}

fn path_match(raw: &raw::PathChoice, report: &mut Report<'_>) -> Option<PathMatch> {
    one_of(&raw.given, &["exact", "prefix", "regex"], report);
    if let Some(path) = &raw.exact {
        return Some(PathMatch::Exact(path.value.0.clone()));
    }
    if let Some(path) = &raw.prefix {
        // A slash at the end says nothing, as in Gateway API: segments are whole anyway.
        let segments = path.value.0.trim_end_matches('/');
        return Some(PathMatch::Prefix(if segments.is_empty() { "/" } else { segments }.to_owned()));
    }
    raw.regex.as_ref().map(|pattern| PathMatch::Regex(pattern.value.clone()))
}

fn header_matches(table: &Table<raw::ValueChoice>, report: &mut Report<'_>) -> Vec<(HeaderName, ValueMatch)> {
    let mut names = Unique::default();
    let mut conditions = Vec::with_capacity(table.0.len());
    for (key, choice) in &table.0 {
        match HeaderName::parse(&key.value) {
            Ok(name) => {
                names.add(name.clone(), key.at, "header", report);
                let condition = choice.as_ref().and_then(|raw| value_match(raw, report));
                conditions.extend(condition.map(|condition| (name, condition)));
            }
            Err(problem) => report.error(key.at, problem),
        }
    }
    conditions
}

fn query_matches(table: &Table<raw::ValueChoice>, report: &mut Report<'_>) -> Vec<(String, ValueMatch)> {
    let mut conditions = Vec::with_capacity(table.0.len());
    for (key, choice) in &table.0 {
        if key.value.is_empty() {
            report.error(key.at, Problem::new("a parameter of the query has a name"));
        }
        let condition = choice.as_ref().and_then(|raw| value_match(raw, report));
        conditions.extend(condition.map(|condition| (key.value.clone(), condition)));
    }
    conditions
}

fn value_match(raw: &raw::ValueChoice, report: &mut Report<'_>) -> Option<ValueMatch> {
    one_of(&raw.given, &["exact", "regex", "present"], report);
    if let Some(text) = &raw.exact {
        return Some(ValueMatch::Exact(text.value.0.clone()));
    }
    if let Some(pattern) = &raw.regex {
        return Some(ValueMatch::Regex(pattern.value.clone()));
    }
    let present = raw.present.as_ref()?;
    if !present.value {
        let problem = Problem::new("that a value is absent cannot be asked for");
        report.error(present.at, problem.hint("let an earlier, more specific route take `present: true`"));
    }
    Some(ValueMatch::Present)
}

/// Tells if not exactly one of the `keys` is given.
pub(super) fn one_of(given: &crate::config::decode::Given, keys: &[&str], report: &mut Report<'_>) {
    let mut present = keys.iter().filter(|key| given.key(key).is_some());
    if let (Some(first), Some(second)) = (present.next(), present.next()) {
        let at = given.key(second).unwrap_or(given.at);
        let problem = Problem::new(format!("`{second}` stands beside `{first}`"));
        report.error(at, problem.hint(format!("give one of {}", keys.join(", "))));
    } else if !keys.iter().any(|key| given.intended(key)) {
        let problem = Problem::new("the condition or value is missing");
        report.error(given.at, problem.hint(format!("give one of {}", keys.join(", "))));
    }
}
