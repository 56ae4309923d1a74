//! The resources and what each method does to them.

use std::convert::Infallible;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;

use super::AdminState;
use super::access::{Access, Denial};
use super::backends;
use super::mirrors;
use super::readiness::Verdict;
use super::reply::{Reply, json, plain, whole, with_body};
use crate::telemetry::exposition::{self, Format};

const INDEX: &str = include_str!("index.html");

/// What can be asked for. What can be changed has no other use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Index,
    Live,
    Ready,
    Metrics,
    Backends,
    Mirrors,
    Routes,
    Configuration,
    Drain,
    Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Read,
    Change,
}

impl Resource {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Index,
            "/live" => Self::Live,
            "/ready" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/backends" => Self::Backends,
            "/mirrors" => Self::Mirrors,
            "/routes" => Self::Routes,
            "/config" => Self::Configuration,
            "/drain" => Self::Drain,
            "/log" => Self::Log,
            _ => return None,
        })
    }
}

impl Action {
    fn of(method: &Method) -> Option<Self> {
        match *method {
            // hyper leaves the body out for HEAD.
            Method::GET | Method::HEAD => Some(Self::Read),
            Method::POST => Some(Self::Change),
            _ => None,
        }
    }
}

/// The whole API.
pub(super) async fn answer(
    request: Request<Incoming>,
    state: Arc<AdminState>,
    access: Arc<Access>,
) -> Result<Reply, Infallible> {
    let Some(resource) = Resource::of(request.uri().path()) else {
        return Ok(plain(StatusCode::NOT_FOUND, "no such page; see /"));
    };
    let Some(action) = Action::of(request.method()) else {
        return Ok(not_allowed("GET, HEAD, POST"));
    };
    Ok(match (action, resource) {
        (Action::Read, Resource::Index) => whole(StatusCode::OK, "text/html; charset=utf-8", INDEX),
        (Action::Read, Resource::Live) => plain(StatusCode::OK, "live"),
        (Action::Read, Resource::Ready) => ready(&state),
        (Action::Read, Resource::Metrics) => metrics(&request, state).await,
        (Action::Read, Resource::Backends) if parameter(&request, "watch").as_deref() == Some("1") => {
            with_body(StatusCode::OK, "application/x-ndjson", backends::watch(state))
        }
        (Action::Read, Resource::Backends) => blocking(move || backends::list(&state)).await,
        (Action::Read, Resource::Mirrors) => blocking(move || mirrors::list(&state)).await,
        (Action::Read, Resource::Routes) => blocking(move || json(StatusCode::OK, &(state.routes)())).await,
        (Action::Read, Resource::Configuration) => {
            blocking(move || json(StatusCode::OK, &(state.configuration)())).await
        }
        (Action::Change, Resource::Drain | Resource::Log | Resource::Mirrors) => {
            match access.allows_change(request.headers()).await {
                Ok(()) if resource == Resource::Mirrors => mirrors::change(request, &state).await,
                Ok(()) => change(resource, &request, &state),
                Err(denial) => denied(&denial),
            }
        }
        (Action::Read, Resource::Drain | Resource::Log) => not_allowed("POST"),
        (
            Action::Change,
            Resource::Index
            | Resource::Live
            | Resource::Ready
            | Resource::Metrics
            | Resource::Backends
            | Resource::Routes
            | Resource::Configuration,
        ) => not_allowed("GET, HEAD"),
    })
}

fn ready(state: &AdminState) -> Reply {
    let (status, ready, pending) = match state.readiness.verdict() {
        Verdict::Ready => (StatusCode::OK, true, Vec::new()),
        Verdict::Pending(pending) => (StatusCode::SERVICE_UNAVAILABLE, false, pending),
        Verdict::Draining => (StatusCode::SERVICE_UNAVAILABLE, false, vec!["draining".to_owned()]),
    };
    let warnings = (state.warnings)();
    json(status, &json!({ "ready": ready, "pending": pending, "warnings": warnings }))
}

async fn metrics(request: &Request<Incoming>, state: Arc<AdminState>) -> Reply {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    blocking(move || match exposition::render(&state.metrics, backends::now(&state.registry), format) {
        Ok(text) => whole(StatusCode::OK, format.content_type(), text),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    })
    .await
}

/// Large pages are made off the control runtime, where endpoint updates must not wait for them.
async fn blocking(make: impl FnOnce() -> Reply + Send + 'static) -> Reply {
    tokio::task::spawn_blocking(make)
        .await
        .unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "this page cannot be made now"))
}

fn change(resource: Resource, request: &Request<Incoming>, state: &AdminState) -> Reply {
    if resource == Resource::Drain {
        state.readiness.drain();
        state.drain.send_replace(true);
        tracing::info!("told to drain");
        return plain(StatusCode::ACCEPTED, "draining");
    }
    let Some(level) = parameter(request, "level") else {
        return plain(StatusCode::BAD_REQUEST, "say which: /log?level=debug");
    };
    match (state.set_log_level)(&level) {
        Ok(()) => plain(StatusCode::OK, format!("log level is {level}")),
        Err(error) => plain(StatusCode::BAD_REQUEST, error),
    }
}

fn denied(denial: &Denial) -> Reply {
    match denial {
        Denial::ReadOnly => plain(
            StatusCode::FORBIDDEN,
            "nothing can be changed from beyond loopback; configure `admin: { address, token_file }`",
        ),
        Denial::Foreign(header) => {
            plain(StatusCode::FORBIDDEN, format!("the {header} header does not name this listener"))
        }
        Denial::Unreadable => plain(StatusCode::INTERNAL_SERVER_ERROR, "the token file cannot be read"),
        Denial::Token => {
            let mut reply = plain(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong");
            reply.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            reply
        }
    }
}

fn not_allowed(allowed: &'static str) -> Reply {
    let mut reply = plain(StatusCode::METHOD_NOT_ALLOWED, format!("allowed here: {allowed}"));
    reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    reply
}

/// A parameter of the query, decoded.
fn parameter(request: &Request<Incoming>, name: &str) -> Option<String> {
    let pairs = request.uri().query()?.split('&');
    let value = pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1;
    decoded(value)
}

/// `text` without percent-encoding; `None` if that is no text.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    #[test]
    fn parameters_are_decoded() {
        for (text, decoded) in [
            ("debug", Some("debug")),
            ("warn%2Cmirrorgate%3Dtrace", Some("warn,mirrorgate=trace")),
            ("%c3%a9", Some("é")),
            ("", Some("")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%ff", None),
            ("%é", None),
        ] {
            assert_eq!(super::decoded(text).as_deref(), decoded, "{text}");
        }
    }
}
