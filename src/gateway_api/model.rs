//! One shape for all kinds of route, so that whatever is done with routes is written once.
//!
//! `convert` makes it of the typed objects and is the only place that knows how the kinds differ.

mod convert;
mod policy;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::Method;

pub(super) use self::convert::duration;
pub use self::convert::routes;
pub use self::policy::{MirrorPolicy, MirrorPolicySpec, SampleBy, SampleType};
use super::GROUP;
use super::ignored::Ignored;
use super::resources::Key;

/// A kind of route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// HTTPRoute.
    Http,
    /// GRPCRoute.
    Grpc,
    /// TLSRoute.
    Tls,
}

impl RouteKind {
    /// As in a resource's `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
            Self::Tls => "TLSRoute",
        }
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A route of any kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Which kind it is.
    pub kind: RouteKind,
    /// Its name.
    pub key: Key,
    /// What its status is observed at.
    pub generation: i64,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Hosts as written; empty is any.
    pub hostnames: Vec<String>,
    /// What it wants to attach to.
    pub parents: Vec<ParentRef>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// What a route wants to attach to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParentRef {
    /// As written.
    pub group: Option<String>,
    /// As written.
    pub kind: Option<String>,
    /// As written; absent is the route's own.
    pub namespace: Option<String>,
    /// The parent's name.
    pub name: String,
    /// One of its listeners; absent is all.
    pub section: Option<String>,
    /// Listeners on this port; absent is all.
    pub port: Option<i32>,
}

impl ParentRef {
    /// Whether it names an object of Gateway API's `kind`.
    pub fn is(&self, kind: &str) -> bool {
        self.group.as_deref().unwrap_or(GROUP) == GROUP && self.kind.as_deref().unwrap_or("Gateway") == kind
    }

    /// The object that it names, from a route in `namespace`.
    pub fn key(&self, namespace: &str) -> Key {
        Key::new(self.namespace.as_deref().unwrap_or(namespace), self.name.clone())
    }
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Alternatives; empty is everything.
    pub matches: Vec<Match>,
    /// In order.
    pub filters: Vec<Filter>,
    /// Where requests go.
    pub backends: Vec<WeightedRef>,
    /// The whole transaction, as written.
    pub request_timeout: Option<String>,
    /// One attempt, as written.
    pub backend_timeout: Option<String>,
    /// When a request is sent again.
    pub retry: Option<Retry>,
    /// What it asks for that means nothing here.
    pub ignored: Vec<Ignored>,
}

/// When a request is sent again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retry {
    /// Statuses that are tried again.
    pub codes: Vec<u16>,
    /// Tries after the first.
    pub attempts: Option<u32>,
    /// Least pause between tries.
    pub backoff: Option<Duration>,
}

/// A backend and its share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightedRef {
    /// The backend.
    pub reference: Reference,
    /// Share; absent is 1.
    pub weight: u32,
    /// What is done to requests that go there.
    pub filters: Vec<Filter>,
}

/// A backend as a route names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// API group; empty is core.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Absent is the route's own.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// The Service's port.
    pub port: Option<i32>,
}

impl Reference {
    /// The object that it names, from a route in `namespace`.
    pub fn key(&self, namespace: &str) -> Key {
        Key::new(self.namespace.as_deref().unwrap_or(namespace), self.name.clone())
    }
}

/// A condition on a request, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    /// On the path.
    pub path: Option<PathCondition>,
    /// On the method.
    pub method: Option<Method>,
    /// On header fields.
    pub headers: Vec<Condition>,
    /// On the query.
    pub query: Vec<Condition>,
}

/// A condition on the path, as written.
#[derive(Clone, Debug, PartialEq)]
pub enum PathCondition {
    /// The path is this.
    Exact(String),
    /// The path begins with these segments.
    Prefix(String),
    /// The whole path matches.
    Regex(String),
}

/// A condition on a named value, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    /// Of the field or parameter.
    pub name: String,
    /// What it must be, or match.
    pub value: String,
    /// Whether `value` is a regular expression.
    pub regex: bool,
}

/// What a rule does to requests and responses. A new kind does not compile before every `match` on
/// it, the walker's first of all, says what becomes of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Edits of the request's head.
    RequestHeaders(Edits),
    /// Edits of the response's head.
    ResponseHeaders(Edits),
    /// A copy to another backend.
    Mirror(MirrorFilter),
    /// An answer that sends the client elsewhere.
    Redirect(RedirectFilter),
    /// Another host or path.
    Rewrite(RewriteFilter),
    /// Cross-origin requests.
    Cors(CorsFilter),
    /// Something that this program has not, in a word. Requests must not pass without it.
    Unsupported {
        /// The filter's type.
        what: &'static str,
        /// A backend that it names.
        backend: Option<Reference>,
    },
}

/// Edits of header fields, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    /// Replaced.
    pub set: Vec<(String, String)>,
    /// Added.
    pub add: Vec<(String, String)>,
    /// Taken away.
    pub remove: Vec<String>,
}

/// A copy to another backend, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MirrorFilter {
    /// Who gets the copies.
    pub backend: Reference,
    /// 0 to 100.
    pub percent: Option<i32>,
    /// Numerator and denominator.
    pub fraction: Option<(i32, i32)>,
}

/// Another path, as written.
#[derive(Clone, Debug, PartialEq)]
pub enum NewPath {
    /// The whole.
    Full(String),
    /// What the prefix becomes.
    Prefix(String),
}

/// A redirect, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RedirectFilter {
    /// `http` or `https`.
    pub scheme: Option<&'static str>,
    /// Host.
    pub hostname: Option<String>,
    /// Path.
    pub path: Option<NewPath>,
    /// Port.
    pub port: Option<i32>,
    /// Absent is 302.
    pub status: Option<i64>,
}

/// A rewrite, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RewriteFilter {
    /// Host.
    pub hostname: Option<String>,
    /// Path.
    pub path: Option<NewPath>,
}

/// Cross-origin requests, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CorsFilter {
    /// Origins, with `*` inside.
    pub origins: Vec<String>,
    /// Methods, or `*`.
    pub methods: Vec<String>,
    /// Header fields of requests, or `*`.
    pub headers: Vec<String>,
    /// Header fields of responses, or `*`.
    pub expose: Vec<String>,
    /// Whether credentials may be sent.
    pub credentials: bool,
    /// Seconds for which a browser may believe it.
    pub max_age: Option<i32>,
}
