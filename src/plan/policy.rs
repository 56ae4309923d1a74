//! How a backend's endpoints share its requests, when one is left out, and when a request is sent
//! again: plain data, carried out by [`crate::upstream`].

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};

use crate::discovery::resolver::MaxAge;
use crate::limits;

/// What a backend does with its endpoints. The same for everybody who refers to it.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendPolicy {
    /// Who takes the next request.
    pub balance: BalancePlan,
    /// Time over which the share of an endpoint grows to the whole that just came into use.
    pub slow_start: Option<Duration>,
    /// Endpoints of this zone are used alone as long as one of them can be.
    pub zone: Option<Arc<str>>,
    /// How endpoints are probed; `None` takes the source's word.
    pub health: Option<HealthPlan>,
    /// When an endpoint is left out because of what traffic met there; `None` never does.
    pub ejection: Option<EjectionPlan>,
    /// When a set that its source no longer confirms is too old.
    pub max_age: Option<MaxAge>,
    /// Time that exchanges in flight with a removed endpoint are given; `None` is for ever.
    pub drain: Option<Duration>,
}

impl Default for BackendPolicy {
    fn default() -> Self {
        Self {
            balance: BalancePlan::default(),
            slow_start: None,
            zone: None,
            health: None,
            ejection: Some(EjectionPlan::default()),
            max_age: None,
            drain: None,
        }
    }
}

/// Who takes the next request. Weights hold with each of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BalancePlan {
    /// Of two drawn endpoints the one with less to do.
    #[default]
    LeastLoad,
    /// Each in turn, apart for each worker.
    RoundRobin,
    /// Any.
    Random,
    /// The same for equal keys, as far as the set allows.
    Consistent(HashKey),
}

/// What of a request decides where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// A header field; a request without it is drawn.
    Header(HeaderName),
    /// A cookie; a request without it is drawn.
    Cookie(Arc<str>),
    /// A parameter of the query; a request without it is drawn.
    Query(Arc<str>),
    /// The path, without the query.
    Path,
    /// The client's address.
    Client,
}

/// How endpoints are probed.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthPlan {
    /// What is asked.
    pub check: HealthCheck,
    /// From one probe of an endpoint to the next; shortened by up to a tenth, so that probes spread.
    pub interval: Duration,
    /// One probe, connecting included.
    pub timeout: Duration,
    /// Probes in a row that make an unhealthy endpoint healthy.
    pub healthy: u32,
    /// Probes in a row that make a healthy endpoint unhealthy; the very first decides alone.
    pub unhealthy: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq)]
pub enum HealthCheck {
    /// GET of a path, in the backend's protocol.
    Http {
        /// Path and query.
        path: http::uri::PathAndQuery,
        /// Statuses of a healthy endpoint.
        expected: StatusSet,
    },
    /// That a connection is accepted.
    Tcp,
    /// `grpc.health.v1.Health/Check` of a service; empty is the server as a whole.
    Grpc {
        /// Its name.
        service: String,
    },
}

impl HealthPlan {
    /// As often and as strictly as where nothing else is said.
    pub fn of(check: HealthCheck) -> Self {
        let (interval, timeout) = limits::PROBE;
        let (healthy, unhealthy) = limits::PROBE_THRESHOLDS;
        Self { check, interval, timeout, healthy, unhealthy }
    }
}

impl HealthCheck {
    /// GET of `path`, of which every answer that is no error is one of a healthy endpoint.
    pub fn http(path: http::uri::PathAndQuery) -> Self {
        Self::Http { path, expected: [200..=399].into_iter().collect() }
    }
}

/// When an endpoint is left out because of what traffic met there, apart for each lane.
#[derive(Clone, Debug, PartialEq)]
pub struct EjectionPlan {
    /// Failures in a row.
    pub failures: u32,
    /// What counts as a failure.
    pub on: FailureSet,
    /// A response whose head takes longer than this counts as a failure, too.
    pub slower_than: Option<Duration>,
    /// How long it is left out for the first time; doubles each time that it failed again.
    pub time: Duration,
    /// How long at most.
    pub longest: Duration,
    /// Part of the endpoints that may be left out at once, in percent.
    pub most_percent: u32,
}

impl Default for EjectionPlan {
    fn default() -> Self {
        Self {
            failures: limits::EJECTION_FAILURES,
            on: FailureSet { connect: true, ..FailureSet::default() },
            slower_than: None,
            time: limits::EJECTION_TIME.0,
            longest: limits::EJECTION_TIME.1,
            most_percent: limits::EJECTION_PERCENT,
        }
    }
}

/// When a route's requests are sent again to another endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPlan {
    /// How often one request is sent again.
    pub attempts: u32,
    /// After what.
    pub on: FailureSet,
    /// One attempt, up to the response's head, instead of the route's `timeouts.backend`.
    pub per_try_timeout: Option<Duration>,
    /// Bytes of a body that are kept to be sent again; a request with a longer one is sent once.
    pub max_body: usize,
    /// Least time between one attempt and the next.
    pub backoff: Option<Duration>,
    /// When every endpoint was asked, they are asked again. Otherwise none is sent a request twice.
    pub same_endpoint: bool,
}

/// Ways in which an exchange fails.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FailureSet {
    /// No connection.
    pub connect: bool,
    /// The connection ended, or what came is not HTTP, before a response.
    pub reset: bool,
    /// No response in time.
    pub timeout: bool,
    /// One of these statuses.
    pub statuses: StatusSet,
}

/// A set of status codes from 100 to 599.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusSet([u64; 8]);

impl StatusSet {
    /// Adds all codes of `range`; what lies outside of 100 to 599 is left out.
    pub fn add(&mut self, range: RangeInclusive<u16>) {
        for code in (*range.start()).max(100)..=(*range.end()).min(599) {
            if let Some((word, bit)) = self.place(code) {
                self.0[word] |= bit;
            }
        }
    }

    /// Whether `status` is in it.
    pub fn contains(&self, status: StatusCode) -> bool {
        self.place(status.as_u16()).is_some_and(|(word, bit)| self.0[word] & bit != 0)
    }

    /// Whether there is none in it.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 8]
    }

    fn place(&self, code: u16) -> Option<(usize, u64)> {
        let index = usize::from(code.checked_sub(100)?);
        (index / 64 < self.0.len()).then_some((index / 64, 1 << (index % 64)))
    }
}

impl FromIterator<RangeInclusive<u16>> for StatusSet {
    fn from_iter<T: IntoIterator<Item = RangeInclusive<u16>>>(ranges: T) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.add(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_statuses_has_what_was_added_and_nothing_else() {
        let set: StatusSet = [200..=399, 404..=404, 0..=100, 599..=1000].into_iter().collect();
        for code in 100..1000 {
            let expected = matches!(code, 100 | 200..=399 | 404 | 599);
            let status = StatusCode::from_u16(code).unwrap_or_default();
            assert_eq!(set.contains(status), expected, "{code}");
        }
        assert!(StatusSet::default().is_empty() && !set.is_empty());
    }
}
