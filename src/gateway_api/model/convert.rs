//! From the generated types to the model: the only place that knows how the kinds differ.
//!
//! What is alike for the API is another Rust type in each place; macros write one conversion for all.

/// Whatever names a backend.
macro_rules! reference {
    ($raw:expr) => {
        Reference {
            group: $raw.group.clone().unwrap_or_default(),
            kind: $raw.kind.clone().unwrap_or_else(|| "Service".to_owned()),
            namespace: $raw.namespace.clone(),
            name: $raw.name.clone(),
            port: $raw.port,
        }
    };
}

mod filters;
mod ignored;

use std::str::FromStr;
use std::time::Duration;

use gateway_api::experimental::grpcroutes as grpc;
use gateway_api::experimental::httproutes as http_types;
use gateway_api::experimental::tlsroutes::TlsRoute;
use http::Method;
use kube::ResourceExt;

use self::filters::{grpc_backend_filter, grpc_rule_filter, http_backend_filter, http_rule_filter};
use self::ignored::{http_ignored, sessions};
use super::{
    Condition, Match, ParentRef, PathCondition, Reference, Retry, Route, RouteKind, Rule, WeightedRef,
};
use crate::gateway_api::resources::{Key, Resources, seniority};

/// Every route of `resources`, the oldest first.
pub fn routes(resources: &Resources) -> Vec<Route> {
    let http = resources.http_routes.values().map(|route| (&route.metadata, Route::from(&**route)));
    let grpc = resources.grpc_routes.values().map(|route| (&route.metadata, Route::from(&**route)));
    let tls = resources.tls_routes.values().map(|route| (&route.metadata, Route::from(&**route)));
    let mut routes: Vec<_> = http.chain(grpc).chain(tls).collect();
    routes.sort_by_cached_key(|(metadata, _)| seniority(metadata));
    routes.into_iter().map(|(_, route)| route).collect()
}

/// A duration as Gateway API writes it (GEP-2257); `None` if it is none.
pub(in crate::gateway_api) fn duration(text: &str) -> Option<Duration> {
    let read = gateway_api::Duration::from_str(text).ok()?;
    Some(Duration::new(read.as_secs(), read.subsec_nanos()))
}

macro_rules! parents {
    ($raw:expr) => {
        $raw.iter()
            .flatten()
            .map(|raw| ParentRef {
                group: raw.group.clone(),
                kind: raw.kind.clone(),
                namespace: raw.namespace.clone(),
                name: raw.name.clone(),
                section: raw.section_name.clone(),
                port: raw.port,
            })
            .collect()
    };
}

/// A negative weight cannot be stored in a cluster; in a file it takes nothing.
fn weight(raw: Option<i32>) -> u32 {
    u32::try_from(raw.unwrap_or(1)).unwrap_or(0)
}

impl From<&http_types::HttpRoute> for Route {
    fn from(raw: &http_types::HttpRoute) -> Self {
        Self {
            kind: RouteKind::Http,
            key: Key::of(raw),
            generation: raw.metadata.generation.unwrap_or(0),
            annotations: raw.annotations().clone(),
            hostnames: raw.spec.hostnames.clone().unwrap_or_default(),
            parents: parents!(raw.spec.parent_refs),
            rules: match &raw.spec.rules {
                // As the API server fills in.
                None => vec![Rule::default()],
                Some(rules) => rules.iter().map(http_rule).collect(),
            },
        }
    }
}

fn http_rule(raw: &http_types::HttpRouteRules) -> Rule {
    let retry = raw.retry.as_ref().map(|retry| Retry {
        codes: retry.codes.iter().flatten().filter_map(|code| u16::try_from(*code).ok()).collect(),
        attempts: retry.attempts.and_then(|attempts| u32::try_from(attempts).ok()),
        backoff: retry.backoff.as_deref().and_then(duration),
    });
    Rule {
        name: raw.name.clone(),
        matches: raw.matches.iter().flatten().map(http_match).collect(),
        filters: raw.filters.iter().flatten().map(http_rule_filter).collect(),
        backends: raw
            .backend_refs
            .iter()
            .flatten()
            .map(|raw| WeightedRef {
                reference: reference!(raw),
                weight: weight(raw.weight),
                filters: raw.filters.iter().flatten().map(http_backend_filter).collect(),
            })
            .collect(),
        request_timeout: raw.timeouts.as_ref().and_then(|timeouts| timeouts.request.clone()),
        backend_timeout: raw.timeouts.as_ref().and_then(|timeouts| timeouts.backend_request.clone()),
        retry,
        ignored: http_ignored(raw),
    }
}

fn http_match(raw: &http_types::HttpRouteRulesMatches) -> Match {
    use http_types::{
        HttpRouteRulesMatchesHeadersType as Header, HttpRouteRulesMatchesMethod as Verb,
        HttpRouteRulesMatchesPathType as Path, HttpRouteRulesMatchesQueryParamsType as Query,
    };
    let path = raw.path.as_ref().map(|path| {
        let value = path.value.clone().unwrap_or_else(|| "/".to_owned());
        match path.r#type {
            None | Some(Path::PathPrefix) => PathCondition::Prefix(value),
            Some(Path::Exact) => PathCondition::Exact(value),
            Some(Path::RegularExpression) => PathCondition::Regex(value),
        }
    });
    Match {
        path,
        method: raw.method.as_ref().map(|method| match method {
            Verb::Get => Method::GET,
            Verb::Head => Method::HEAD,
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Delete => Method::DELETE,
            Verb::Connect => Method::CONNECT,
            Verb::Options => Method::OPTIONS,
            Verb::Trace => Method::TRACE,
            Verb::Patch => Method::PATCH,
        }),
        headers: raw
            .headers
            .iter()
            .flatten()
            .map(|raw| Condition {
                name: raw.name.clone(),
                value: raw.value.clone(),
                regex: matches!(raw.r#type, Some(Header::RegularExpression)),
            })
            .collect(),
        query: raw
            .query_params
            .iter()
            .flatten()
            .map(|raw| Condition {
                name: raw.name.clone(),
                value: raw.value.clone(),
                regex: matches!(raw.r#type, Some(Query::RegularExpression)),
            })
            .collect(),
    }
}

impl From<&grpc::GrpcRoute> for Route {
    fn from(raw: &grpc::GrpcRoute) -> Self {
        Self {
            kind: RouteKind::Grpc,
            key: Key::of(raw),
            generation: raw.metadata.generation.unwrap_or(0),
            annotations: raw.annotations().clone(),
            hostnames: raw.spec.hostnames.clone().unwrap_or_default(),
            parents: parents!(raw.spec.parent_refs),
            rules: raw.spec.rules.iter().flatten().map(grpc_rule).collect(),
        }
    }
}

fn grpc_rule(raw: &grpc::GrpcRouteRules) -> Rule {
    Rule {
        name: raw.name.clone(),
        matches: raw.matches.iter().flatten().map(grpc_match).collect(),
        filters: raw.filters.iter().flatten().map(grpc_rule_filter).collect(),
        backends: raw
            .backend_refs
            .iter()
            .flatten()
            .map(|raw| WeightedRef {
                reference: reference!(raw),
                weight: weight(raw.weight),
                filters: raw.filters.iter().flatten().map(grpc_backend_filter).collect(),
            })
            .collect(),
        ignored: raw.session_persistence.iter().map(|_| sessions()).collect(),
        ..Rule::default()
    }
}

/// A gRPC call is a POST to `/service/method`.
fn grpc_match(raw: &grpc::GrpcRouteRulesMatches) -> Match {
    let path = raw.method.as_ref().and_then(|method| {
        let regex = matches!(method.r#type, Some(grpc::GrpcRouteRulesMatchesMethodType::RegularExpression));
        match (&method.service, &method.method, regex) {
            (None, None, _) => None,
            (Some(service), Some(method), false) => {
                Some(PathCondition::Exact(format!("/{service}/{method}")))
            }
            (Some(service), None, false) => Some(PathCondition::Prefix(format!("/{service}"))),
            (None, Some(method), false) => Some(PathCondition::Regex(format!("/[^/]+/{}", literal(method)))),
            (service, method, true) => {
                let any = "[^/]+";
                let service = service.as_deref().unwrap_or(any);
                Some(PathCondition::Regex(format!("/(?:{service})/(?:{})", method.as_deref().unwrap_or(any))))
            }
        }
    });
    Match {
        path,
        method: None,
        headers: raw
            .headers
            .iter()
            .flatten()
            .map(|raw| Condition {
                name: raw.name.clone(),
                value: raw.value.clone(),
                regex: matches!(raw.r#type, Some(grpc::GrpcRouteRulesMatchesHeadersType::RegularExpression)),
            })
            .collect(),
        query: Vec::new(),
    }
}

/// `text` as an expression that matches it alone.
fn literal(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, character| {
        if !character.is_ascii_alphanumeric() && character != '_' {
            escaped.push('\\');
        }
        escaped.push(character);
        escaped
    })
}

impl From<&TlsRoute> for Route {
    fn from(raw: &TlsRoute) -> Self {
        let rules = raw.spec.rules.iter().map(|rule| Rule {
            name: rule.name.clone(),
            backends: rule
                .backend_refs
                .iter()
                .map(|raw| WeightedRef {
                    reference: reference!(raw),
                    weight: weight(raw.weight),
                    filters: Vec::new(),
                })
                .collect(),
            ..Rule::default()
        });
        Self {
            kind: RouteKind::Tls,
            key: Key::of(raw),
            generation: raw.metadata.generation.unwrap_or(0),
            annotations: raw.annotations().clone(),
            hostnames: raw.spec.hostnames.clone(),
            parents: parents!(raw.spec.parent_refs),
            rules: rules.collect(),
        }
    }
}
