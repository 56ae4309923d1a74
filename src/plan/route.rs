//! Which requests go where, and within which bounds.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::{MirrorPlan, RetryPlan};
use crate::limits;
use crate::routing::filter::{Filters, Redirect};
use crate::routing::matches::{HostPattern, RouteMatch};

/// Hosts and matches → backends and mirrors.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutePlan {
    /// Its name, unique; `route-<n>` when the configuration gives none.
    pub name: Arc<str>,
    /// Names of the listeners it serves; `None` is all.
    pub listeners: Option<Vec<Arc<str>>>,
    /// Hosts it serves; empty is any.
    pub hosts: Vec<HostPattern>,
    /// Alternatives, one of which must hold; empty is everything.
    pub matches: Vec<RouteMatch>,
    /// What happens to a request that matches.
    pub action: RouteAction,
    /// Edits of the request and of the response.
    pub filters: Filters,
    /// Deadlines of the transaction.
    pub timeouts: Timeouts,
    /// When a request is sent again; `None`: only when nothing of it was sent, or when a kept
    /// connection turned out to be closed.
    pub retries: Option<RetryPlan>,
    /// What it takes.
    pub limits: RouteLimits,
    /// Who gets copies.
    pub mirrors: Vec<MirrorPlan>,
}

/// Names in TLS → backends.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamPlan {
    /// Its name, unique among all routes.
    pub name: Arc<str>,
    /// Names of the parts of listeners that it serves.
    pub sections: Vec<Arc<str>>,
    /// Names that clients ask for.
    pub hosts: Vec<HostPattern>,
    /// Who takes its connections, by weight.
    pub backends: Vec<WeightedBackend>,
}

/// What happens to a request that matches a route.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteAction {
    /// It is sent to one of these, drawn by weight. Empty, or all of weight 0: answered 500, as
    /// Gateway API has it for a rule without a valid backend.
    Forward(Vec<WeightedBackend>),
    /// It is answered with a redirect.
    Redirect(Redirect),
    /// It is answered 500: the route asks for something that cannot be done.
    Fail,
}

/// A backend and its share of a route's traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedBackend {
    /// Name of an entry in [`Plan::backends`](super::Plan::backends). A name that is not among them takes its share all the
    /// same, which is answered 500, as Gateway API has it for a backend that cannot be resolved.
    pub backend: Arc<str>,
    /// Share relative to the others; 0 takes none.
    pub weight: u32,
    /// Edits of the requests that go there and of their responses, after the route's.
    pub filters: Filters,
    /// Who gets copies of these requests, beside the route's mirrors.
    pub mirrors: Vec<MirrorPlan>,
}

impl WeightedBackend {
    /// A share of a backend, without filters of its own.
    pub fn new(backend: Arc<str>, weight: u32) -> Self {
        Self { backend, weight, filters: Filters::default(), mirrors: Vec::new() }
    }
}

/// Deadlines of one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The whole transaction, to the last byte of the response.
    pub request: Option<Duration>,
    /// One attempt, up to the response's head.
    pub backend: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { request: None, backend: Some(limits::BACKEND_TIMEOUT) }
    }
}

/// What a route takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// Bytes of a request's body; above it 413.
    pub body: Option<u64>,
    /// Requests a time; above it 429.
    pub rate: Option<RatePlan>,
}

/// Requests a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RatePlan {
    /// So many…
    pub requests: u32,
    /// …in this time.
    pub per: Duration,
    /// Requests that may come at once.
    pub burst: u32,
    /// Whose requests are counted together.
    pub key: RateKey,
}

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateKey {
    /// Everybody's.
    All,
    /// Those of one client address.
    Client,
    /// Those with the same value of a header field; those without it are one.
    Header(HeaderName),
}
