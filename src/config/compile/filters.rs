//! Edits of heads, rewrites and redirects.

use http::{HeaderName, HeaderValue, StatusCode};

use super::Unique;
use super::matches::one_of;
use crate::config::decode::{Located, Report, Scalar, Table};
use crate::config::document::At;
use crate::config::error::Problem;
use crate::config::http_values::SchemeWord;
use crate::config::{raw, secrets};
use crate::routing::filter::{Filters, HeaderEdits, PathRewrite, Redirect};

pub(super) fn filters(route: &raw::Route, report: &mut Report<'_>) -> Filters {
    let Some(raw) = &route.filters else { return Filters::default() };
    if let (Some(_), Some(key)) = (
        route.given.key("redirect"),
        ["request_headers", "host", "path"].iter().find_map(|key| raw.given.key(key)),
    ) {
        let problem = Problem::new("a request that is answered with a redirect does not leave");
        report.error(key, problem.hint("say in `redirect` where it leads"));
    }
    let edits = |raw: &Option<raw::HeaderEdits>, report: &mut Report<'_>| {
        raw.as_ref().map(|edits| header_edits(edits, report)).unwrap_or_default()
    };
    Filters {
        request_headers: edits(&raw.request_headers, report),
        response_headers: edits(&raw.response_headers, report),
        // A host name consists of characters that a header value may have.
        host: raw.host.as_ref().and_then(|host| HeaderValue::from_str(&host.value.0).ok()),
        path: raw.path.as_ref().and_then(|path| path_rewrite(route, path, report)),
        cors: None,
    }
}

pub(super) fn redirect(route: &raw::Route, raw: &raw::Redirect, report: &mut Report<'_>) -> Redirect {
    if !["scheme", "host", "port", "path"].iter().any(|key| raw.given.intended(key)) {
        let problem = Problem::new("a redirect to the same place would go round in circles");
        report.error(raw.given.at, problem.hint("give it `scheme`, `host`, `port` or `path`"));
    }
    let status = raw.status.as_ref().map_or(302, |status| status.value.0);
    if let (Some(status), false) = (&raw.status, matches!(status, 301 | 302 | 303 | 307 | 308)) {
        let problem = Problem::new(format!("{} is not the status of a redirect", status.value.0));
        report.error(status.at, problem.hint("allowed here: 301, 302, 303, 307, 308"));
    }
    Redirect {
        scheme: raw.scheme.as_ref().map(|scheme| match scheme.value {
            SchemeWord::Http => "http",
            SchemeWord::Https => "https",
        }),
        host: raw.host.as_ref().map(|host| host.value.0.clone()),
        port: raw.port.as_ref().and_then(|port| u16::try_from(port.value.0).ok()),
        path: raw.path.as_ref().and_then(|path| path_rewrite(route, path, report)),
        status: u16::try_from(status)
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(StatusCode::FOUND),
    }
}

pub(super) fn path_rewrite(
    route: &raw::Route,
    raw: &raw::PathRewrite,
    report: &mut Report<'_>,
) -> Option<PathRewrite> {
    one_of(&raw.given, &["prefix", "full"], report);
    if let Some(path) = &raw.prefix {
        let paths = route
            .matches
            .iter()
            .flat_map(|list| &list.items)
            .filter_map(|alternative| alternative.path.as_ref());
        if let Some(other) = paths.into_iter().find(|path| !path.given.intended("prefix")) {
            let place = report.document.path(other.given.at);
            let problem = Problem::new("no prefix matches here that could be replaced");
            report.error(raw.given.at, problem.hint(format!("{place} is not a prefix; write `full`")));
        }
        return Some(PathRewrite::Prefix(path.value.0.clone()));
    }
    raw.full.as_ref().map(|path| PathRewrite::Full(path.value.0.clone()))
}

pub(super) fn header_edits(raw: &raw::HeaderEdits, report: &mut Report<'_>) -> HeaderEdits {
    let mut removed = Unique::default();
    let mut remove = Vec::new();
    for name in raw.remove.iter().flat_map(|list| &list.items) {
        refuse_reserved(&name.value, name.at, report);
        removed.add(name.value.clone(), name.at, "header", report);
        remove.push(name.value.clone());
    }
    HeaderEdits { set: fields(raw.set.as_ref(), report), add: fields(raw.add.as_ref(), report), remove }
}

fn fields(
    table: Option<&Table<Located<HeaderValue>>>,
    report: &mut Report<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut names = Unique::default();
    let mut fields = Vec::new();
    for (key, value) in table.into_iter().flat_map(|table| &table.0) {
        match HeaderName::parse(&key.value) {
            Ok(name) => {
                refuse_reserved(&name, key.at, report);
                names.add(name.clone(), key.at, "header", report);
                if let Some(value) = value {
                    let mut value = value.value.clone();
                    // Kept out of debug output and of HPACK's tables.
                    value.set_sensitive(secrets::is_sensitive(&name));
                    fields.push((name, value));
                }
            }
            Err(problem) => report.error(key.at, problem),
        }
    }
    fields
}

/// Fields that say where a message ends or who may forward it are not for editing: a wrong one is a
/// smuggled request (RFC 9112, 11.2), or a copy that is copied for ever.
fn refuse_reserved(name: &HeaderName, at: At, report: &mut Report<'_>) {
    let hint = match name.as_str() {
        "host" => "`host` in `filters` and `host: upstream` on a backend change the Host",
        "content-length" | "transfer-encoding" | "trailer" => "it belongs to the framing of the message",
        "connection" | "keep-alive" | "proxy-connection" | "te" | "upgrade" | "expect" => {
            "it belongs to the connection"
        }
        "x-mirrorgate-copy" | "x-mirrorgate-token" => "it keeps copies from being copied again",
        _ => return,
    };
    report.error(at, Problem::new(format!("{name} cannot be edited")).hint(hint));
}
