//! Who gets copies: of which requests, with which edits, and within which bounds.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use crate::limits;
use crate::routing::filter::{HeaderEdits, PathRewrite};
use crate::routing::matches::RouteMatch;

/// One mirror of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct MirrorPlan {
    /// Name of an entry in [`Plan::backends`](super::Plan::backends).
    pub backend: Arc<str>,
    /// How many of the requests are copied.
    pub share: SharePlan,
    /// What decides whether a request is among them; `None` draws for each request.
    pub sample_by: Option<SampleKey>,
    /// Methods that are copied; `None` is all.
    pub methods: Option<Vec<Method>>,
    /// Alternatives, one of which must hold for what the primary gets; empty is everything.
    pub matches: Vec<RouteMatch>,
    /// What is changed in the copy, after the route's filters.
    pub edits: CopyEdits,
    /// Deadlines of one copy.
    pub timeouts: CopyTimeouts,
    /// Bytes of a declared body above which `on_oversize` applies; `None` is no bound.
    pub max_body: Option<u64>,
    /// What happens to a request whose declared body is larger than that.
    pub on_oversize: Oversize,
    /// Copies in flight at once.
    pub in_flight: usize,
    /// Bytes that one copy may lag behind the primary.
    pub lag: usize,
    /// Copies begun per second; `None` is no bound.
    pub rate: Option<u32>,
}

impl MirrorPlan {
    /// A mirror of every request, with the defaults.
    pub fn new(backend: Arc<str>) -> Self {
        Self {
            backend,
            share: SharePlan::default(),
            sample_by: None,
            methods: None,
            matches: Vec::new(),
            edits: CopyEdits::default(),
            timeouts: CopyTimeouts::default(),
            max_body: None,
            on_oversize: Oversize::Stream,
            in_flight: limits::MIRROR_IN_FLIGHT,
            lag: limits::MIRROR_LAG,
            rate: None,
        }
    }
}

/// How many requests are copied, and what changes that by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct SharePlan {
    /// The share; with a ramp, its first step.
    pub fraction: Fraction,
    /// The share grows by itself.
    pub ramp: Option<RampPlan>,
    /// The mirror is stopped by itself.
    pub stop: Option<StopPlan>,
}

impl Default for SharePlan {
    fn default() -> Self {
        Self { fraction: Fraction::ALL, ramp: None, stop: None }
    }
}

/// A share that grows while the mirror does well.
#[derive(Clone, Debug, PartialEq)]
pub struct RampPlan {
    /// The shares, ascending, at least one.
    pub steps: Vec<Fraction>,
    /// How long the mirror does well before the next.
    pub every: Duration,
}

/// When a mirror is stopped. Rates are shares, 0 to 1, of the requests that were to be copied.
#[derive(Clone, Debug, PartialEq)]
pub struct StopPlan {
    /// Share of copies that failed, were refused by the breaker, or were answered 5xx where the
    /// primary did not answer so.
    pub error_rate: f64,
    /// Share of copies that a budget skipped or cut.
    pub drop_rate: f64,
    /// Over how long.
    pub window: Duration,
    /// Requests to be copied in that time, below which nothing is concluded.
    pub minimum: u64,
}

impl Default for StopPlan {
    fn default() -> Self {
        Self {
            error_rate: limits::STOP_RATE,
            drop_rate: limits::STOP_RATE,
            window: limits::STOP_WINDOW,
            minimum: limits::STOP_MINIMUM,
        }
    }
}

/// By what requests are sampled: the same key is always in or always out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SampleKey {
    /// The first field of that name.
    Header(HeaderName),
    /// The first cookie of that name.
    Cookie(String),
    /// The first parameter of that name.
    Query(String),
    /// The path, without the query.
    Path,
    /// The client's address.
    Client,
}

/// What is changed in a copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CopyEdits {
    /// Edits of its head.
    pub headers: HeaderEdits,
    /// A new Host.
    pub host: Option<HeaderValue>,
    /// A new path.
    pub path: Option<PathRewrite>,
    /// Takes away what proves who the client is: `Authorization`, `Proxy-Authorization`, `Cookie`.
    pub strip_credentials: bool,
}

impl CopyEdits {
    /// Whether a copy is as the primary's request is.
    pub fn is_empty(&self) -> bool {
        let Self { headers, host, path, strip_credentials } = self;
        headers.is_empty() && host.is_none() && path.is_none() && !strip_credentials
    }
}

/// Deadlines of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyTimeouts {
    /// To establish a connection.
    pub connect: Duration,
    /// From the end of the request to the head of the answer; `None` leaves it to `total`.
    pub first_byte: Option<Duration>,
    /// From the end of the request to the end of the copy.
    pub total: Duration,
}

impl Default for CopyTimeouts {
    fn default() -> Self {
        Self { connect: limits::CONNECT, first_byte: None, total: limits::MIRROR_TIMEOUT }
    }
}

/// What happens to a request whose body is declared larger than the mirror wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversize {
    /// It is copied all the same.
    Stream,
    /// It is not copied.
    Skip,
    /// Its head is copied.
    HeadersOnly,
}

/// A share, exact: `numerator` of `denominator`, with `numerator <= denominator` and
/// `denominator >= 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    /// How many…
    pub numerator: u32,
    /// …of how many.
    pub denominator: u32,
}

impl Fraction {
    /// Everything.
    pub const ALL: Self = Self { numerator: 1, denominator: 1 };

    /// Where in the 64-bit number line this share ends: a uniform draw below it is in. `None` means
    /// that every draw is in. Since a smaller share ends earlier, 5 % lies within 10 %.
    pub fn threshold(self) -> Option<u64> {
        if self.numerator >= self.denominator {
            return None;
        }
        Some(((u128::from(self.numerator) << 64) / u128::from(self.denominator)) as u64)
    }

    /// Its percentage, as near as can be, for people.
    pub fn percent(self) -> f64 {
        f64::from(self.numerator) * 100.0 / f64::from(self.denominator)
    }
}
