//! The same filter is another Rust type in each of four places: two kinds of route, rule or backend. Each
//! conversion ends in a `match` without a wildcard.

use gateway_api::experimental::grpcroutes as grpc;
use gateway_api::experimental::httproutes as http_types;

use crate::gateway_api::model::{
    CorsFilter, Edits, Filter, MirrorFilter, NewPath, RedirectFilter, Reference, RewriteFilter,
};

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
        pub(super) fn $function(raw: &http_types::$raw) -> Filter {
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
        pub(super) fn $function(raw: &grpc::$raw) -> Filter {
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
