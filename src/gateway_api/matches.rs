//! What a rule matches: from the text of a route to the vocabulary of the routing table.

use http::HeaderName;

use super::model::{Condition, Match, PathCondition};
use crate::routing::matches::{HostPattern, PathMatch, Pattern, RouteMatch, ValueMatch};

/// Reads `host`, exact or `*.suffix`.
pub fn host(host: &str) -> HostPattern {
    let host = host.to_ascii_lowercase();
    match host.strip_prefix('*') {
        Some(suffix) => HostPattern::Suffix(suffix.to_owned()),
        None => HostPattern::Exact(host),
    }
}

/// Reads a match; the error is for people.
pub fn route_match(raw: &Match) -> Result<RouteMatch, String> {
    let path = match &raw.path {
        None => None,
        Some(PathCondition::Exact(path)) => Some(PathMatch::Exact(path.clone())),
        Some(PathCondition::Prefix(path)) => Some(PathMatch::Prefix(path.clone())),
        Some(PathCondition::Regex(expression)) => Some(PathMatch::Regex(pattern(expression)?)),
    };
    let headers: Result<_, String> = raw
        .headers
        .iter()
        .map(|condition| {
            let name = HeaderName::try_from(condition.name.as_str())
                .map_err(|_| format!("{:?} is no name of a header field", condition.name))?;
            Ok((name, value(condition)?))
        })
        .collect();
    let query: Result<_, String> =
        raw.query.iter().map(|condition| Ok((condition.name.clone(), value(condition)?))).collect();
    Ok(RouteMatch { path, method: raw.method.clone(), headers: headers?, query: query? })
}

fn value(condition: &Condition) -> Result<ValueMatch, String> {
    match condition.regex {
        true => Ok(ValueMatch::Regex(pattern(&condition.value)?)),
        false => Ok(ValueMatch::Exact(condition.value.clone())),
    }
}

fn pattern(expression: &str) -> Result<Pattern, String> {
    Pattern::new(expression).map_err(|error| format!("{expression:?} is no regular expression: {error}"))
}
