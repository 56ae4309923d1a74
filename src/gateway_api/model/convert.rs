//! From the generated types to the model: the only place that knows how the kinds differ.
//!
//! The same filter is another Rust type in each of four places (two kinds of route, rule or backend);
//! the macros write one conversion for all. Each ends in a `match` without a wildcard.

use std::str::FromStr;
use std::time::Duration;

use gateway_api::experimental::grpcroutes as grpc;
use gateway_api::experimental::httproutes as http_types;
use gateway_api::experimental::tlsroutes::TlsRoute;
use http::Method;
use kube::ResourceExt;

use super::{
    Condition, CorsFilter, Edits, Filter, Match, MirrorFilter, NewPath, ParentRef, PathCondition,
    RedirectFilter, Reference, Retry, RewriteFilter, Route, RouteKind, Rule, WeightedRef,
};
use crate::gateway_api::resources::Key;

/// A duration as Gateway API writes it (GEP-2257); `None` if it is none.
pub(in crate::gateway_api) fn duration(text: &str) -> Option<Duration> {
    let read = gateway_api::Duration::from_str(text).ok()?;
    Some(Duration::new(read.as_secs(), read.subsec_nanos()))
}

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

macro_rules! edits {
    ($raw:expr) => {
        Edits {
            set: $raw.set.iter().flatten().map(|one| (one.name.clone(), one.value.clone())).collect(),
            add: $raw.add.iter().flatten().map(|one| (one.name.clone(), one.value.clone())).collect(),
            remove: $raw.remove.clone().unwrap_or_default(),
        }
    };
}

macro_rules! mirror {
    ($raw:expr) => {
        MirrorFilter {
            backend: reference!($raw.backend_ref),
            percent: $raw.percent,
            fraction: $raw
                .fraction
                .as_ref()
                .map(|fraction| (fraction.numerator, fraction.denominator.unwrap_or(100))),
        }
    };
}

// A filter whose own part is missing is as one that is not known: it must not be passed over.
macro_rules! http_filter {
    ($function:ident, $raw:ident, $kind:ident, $path_rewrite:ident, $path_redirect:ident, $scheme:ident) => {
        fn $function(raw: &http_types::$raw) -> Filter {
            use http_types::$kind as Kind;
            match raw.r#type {
                Kind::RequestHeaderModifier => match &raw.request_header_modifier {
                    Some(part) => Filter::RequestHeaders(edits!(part)),
                    None => Filter::Unsupported { what: "RequestHeaderModifier", backend: None },
                },
                Kind::ResponseHeaderModifier => match &raw.response_header_modifier {
                    Some(part) => Filter::ResponseHeaders(edits!(part)),
                    None => Filter::Unsupported { what: "ResponseHeaderModifier", backend: None },
                },
                Kind::RequestMirror => match &raw.request_mirror {
                    Some(part) => Filter::Mirror(mirror!(part)),
                    None => Filter::Unsupported { what: "RequestMirror", backend: None },
                },
                Kind::RequestRedirect => match &raw.request_redirect {
                    Some(part) => Filter::Redirect(RedirectFilter {
                        scheme: part.scheme.as_ref().map(|scheme| match scheme {
                            http_types::$scheme::Http => "http",
                            http_types::$scheme::Https => "https",
                        }),
                        hostname: part.hostname.clone(),
                        path: part.path.as_ref().map(|path| match path.r#type {
                            http_types::$path_redirect::ReplaceFullPath => {
                                NewPath::Full(path.replace_full_path.clone().unwrap_or_default())
                            }
                            http_types::$path_redirect::ReplacePrefixMatch => {
                                NewPath::Prefix(path.replace_prefix_match.clone().unwrap_or_default())
                            }
                        }),
                        port: part.port,
                        status: part.status_code,
                    }),
                    None => Filter::Unsupported { what: "RequestRedirect", backend: None },
                },
                Kind::UrlRewrite => match &raw.url_rewrite {
                    Some(part) => Filter::Rewrite(RewriteFilter {
                        hostname: part.hostname.clone(),
                        path: part.path.as_ref().map(|path| match path.r#type {
                            http_types::$path_rewrite::ReplaceFullPath => {
                                NewPath::Full(path.replace_full_path.clone().unwrap_or_default())
                            }
                            http_types::$path_rewrite::ReplacePrefixMatch => {
                                NewPath::Prefix(path.replace_prefix_match.clone().unwrap_or_default())
                            }
                        }),
                    }),
                    None => Filter::Unsupported { what: "URLRewrite", backend: None },
                },
                Kind::Cors => match &raw.cors {
                    Some(part) => Filter::Cors(CorsFilter {
                        origins: part.allow_origins.clone().unwrap_or_default(),
                        methods: part.allow_methods.clone().unwrap_or_default(),
                        headers: part.allow_headers.clone().unwrap_or_default(),
                        expose: part.expose_headers.clone().unwrap_or_default(),
                        credentials: part.allow_credentials.unwrap_or(false),
                        max_age: part.max_age,
                    }),
                    None => Filter::Unsupported { what: "CORS", backend: None },
                },
                Kind::ExtensionRef => Filter::Unsupported { what: "ExtensionRef", backend: None },
                Kind::ExternalAuth => Filter::Unsupported {
                    what: "ExternalAuth",
                    backend: raw.external_auth.as_ref().map(|part| reference!(part.backend_ref)),
                },
            }
        }
    };
}

http_filter!(
    http_rule_filter,
    HttpRouteRulesFilters,
    HttpRouteRulesFiltersType,
    HttpRouteRulesFiltersUrlRewritePathType,
    HttpRouteRulesFiltersRequestRedirectPathType,
    HttpRouteRulesFiltersRequestRedirectScheme
);
http_filter!(
    http_backend_filter,
    HttpRouteRulesBackendRefsFilters,
    HttpRouteRulesBackendRefsFiltersType,
    HttpRouteRulesBackendRefsFiltersUrlRewritePathType,
    HttpRouteRulesBackendRefsFiltersRequestRedirectPathType,
    HttpRouteRulesBackendRefsFiltersRequestRedirectScheme
);

macro_rules! grpc_filter {
    ($function:ident, $raw:ident, $kind:ident) => {
        fn $function(raw: &grpc::$raw) -> Filter {
            use grpc::$kind as Kind;
            match raw.r#type {
                Kind::RequestHeaderModifier => match &raw.request_header_modifier {
                    Some(part) => Filter::RequestHeaders(edits!(part)),
                    None => Filter::Unsupported { what: "RequestHeaderModifier", backend: None },
                },
                Kind::ResponseHeaderModifier => match &raw.response_header_modifier {
                    Some(part) => Filter::ResponseHeaders(edits!(part)),
                    None => Filter::Unsupported { what: "ResponseHeaderModifier", backend: None },
                },
                Kind::RequestMirror => match &raw.request_mirror {
                    Some(part) => Filter::Mirror(mirror!(part)),
                    None => Filter::Unsupported { what: "RequestMirror", backend: None },
                },
                Kind::ExtensionRef => Filter::Unsupported { what: "ExtensionRef", backend: None },
            }
        }
    };
}

grpc_filter!(grpc_rule_filter, GrpcRouteRulesFilters, GrpcRouteRulesFiltersType);
grpc_filter!(grpc_backend_filter, GrpcRouteRulesBackendRefsFilters, GrpcRouteRulesBackendRefsFiltersType);

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
