//! What a client is told when there is no response to pass on; in `body`, the body of every reply.

mod body;
pub mod trailers;

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

pub use self::body::{Content, ReplyBody};
use super::sanitize::Refused;
use crate::telemetry::access_log::ResponseFlag as Flag;
use crate::telemetry::metrics::Refusal as Counted;
use crate::upstream::ExchangeError;
use crate::upstream::body::BodyError;
use crate::upstream::connect::ConnectError;
use crate::upstream::tls::TlsError;

/// Why a request is answered by the gateway itself.
#[derive(Debug)]
pub enum Refusal {
    /// The request is malformed or ambiguous; the connection closes.
    Malformed(Refused),
    /// CONNECT, which a reverse proxy has no use for.
    MethodNotAllowed,
    /// No route takes it.
    NoRoute,
    /// Its connection was begun for another host (RFC 9110, 15.5.20).
    Misdirected,
    /// The route has no backend that takes traffic.
    NoBackend,
    /// The route takes no more requests now; after this time it does.
    TooMany(Duration),
    /// The body is larger than the route takes.
    TooLarge,
    /// The process sheds load.
    Overloaded,
    /// The exchange with the backend failed.
    Exchange(ExchangeError),
    /// The transaction took longer than `timeouts.request`.
    RequestTimeout,
    /// A rewrite of the route yields no valid path.
    Rewrite,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self::Malformed(refused)
    }
}

/// What an operator looks for in an access record: Envoy's response flags and details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Envoy's response flag.
    pub flag: Flag,
    /// What happened, in a word.
    pub details: &'static str,
}

/// The response passed on without incident.
pub const VIA_UPSTREAM: Reason = Reason { flag: Flag::None, details: "via_upstream" };
/// A redirect.
pub const DIRECT: Reason = Reason { flag: Flag::None, details: "direct_response" };

const TOO_LARGE: (StatusCode, Flag, &str, &str) =
    (StatusCode::PAYLOAD_TOO_LARGE, Flag::None, "request_payload_too_large", "request body too large");

impl Refusal {
    /// Status, reason and a short plain text: the one place where failures become answers.
    pub fn answer(&self) -> (StatusCode, Reason, &'static str) {
        let (status, flag, details, text) = match self {
            Self::Malformed(what) => {
                (what.status(), Flag::DownstreamProtocolError, what.as_str(), "malformed request")
            }
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                Flag::DownstreamProtocolError,
                "connect_refused",
                "method not allowed",
            ),
            Self::Misdirected => {
                (StatusCode::MISDIRECTED_REQUEST, Flag::NoRoute, "misdirected_request", "misdirected request")
            }
            Self::NoRoute => (StatusCode::NOT_FOUND, Flag::NoRoute, "route_not_found", "no route"),
            Self::NoBackend => (
                StatusCode::INTERNAL_SERVER_ERROR,
                Flag::NoHealthyUpstream,
                "no_backend",
                "route without backend",
            ),
            Self::Rewrite => {
                (StatusCode::INTERNAL_SERVER_ERROR, Flag::None, "rewrite_failed", "rewrite failed")
            }
            Self::TooMany(_) => {
                (StatusCode::TOO_MANY_REQUESTS, Flag::RateLimited, "rate_limited", "too many requests")
            }
            Self::TooLarge => TOO_LARGE,
            Self::Overloaded => {
                (StatusCode::SERVICE_UNAVAILABLE, Flag::OverloadManager, "overload", "overloaded")
            }
            Self::RequestTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, Flag::UpstreamTimeout, "request_timeout", "request timeout")
            }
            Self::Exchange(error) => match error {
                ExchangeError::NoEndpoints => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    Flag::NoHealthyUpstream,
                    "no_healthy_upstream",
                    "no endpoints",
                ),
                ExchangeError::Connect(ConnectError::Io(_) | ConnectError::Removed) => (
                    StatusCode::BAD_GATEWAY,
                    Flag::UpstreamConnectionFailure,
                    "connect_failed",
                    "cannot connect to backend",
                ),
                ExchangeError::Connect(ConnectError::Timeout(_)) => (
                    StatusCode::GATEWAY_TIMEOUT,
                    Flag::UpstreamConnectionFailure,
                    "connect_timeout",
                    "backend connect timeout",
                ),
                ExchangeError::Tls(TlsError::Timeout(_)) => (
                    StatusCode::GATEWAY_TIMEOUT,
                    Flag::UpstreamConnectionFailure,
                    "tls_timeout",
                    "backend TLS handshake timeout",
                ),
                ExchangeError::Tls(_) => (
                    StatusCode::BAD_GATEWAY,
                    Flag::UpstreamConnectionFailure,
                    "tls_failed",
                    "no TLS with the backend",
                ),
                ExchangeError::Timeout(_) => (
                    StatusCode::GATEWAY_TIMEOUT,
                    Flag::UpstreamTimeout,
                    "response_timeout",
                    "backend timeout",
                ),
                ExchangeError::Reset | ExchangeError::Removed => (
                    StatusCode::BAD_GATEWAY,
                    Flag::UpstreamConnectionTermination,
                    "upstream_reset",
                    "backend closed the connection",
                ),
                ExchangeError::Protocol(_) => (
                    StatusCode::BAD_GATEWAY,
                    Flag::UpstreamConnectionTermination,
                    "upstream_protocol_error",
                    "backend sent an invalid response",
                ),
                ExchangeError::Request(BodyError::Malformed) => (
                    StatusCode::BAD_REQUEST,
                    Flag::DownstreamProtocolError,
                    "malformed_body",
                    "malformed request body",
                ),
                ExchangeError::Request(BodyError::TooLarge) => TOO_LARGE,
                ExchangeError::Request(BodyError::ClientGone | BodyError::Cut) => (
                    StatusCode::BAD_REQUEST,
                    Flag::DownstreamConnectionTermination,
                    "client_gone",
                    "request body broken off",
                ),
            },
        };
        (status, Reason { flag, details }, text)
    }

    /// What it counts as among what was turned away without asking a backend; `None` when one was
    /// asked.
    pub fn counted(&self) -> Option<Counted> {
        match self {
            Self::Malformed(Refused::TooManyFields) => Some(Counted::HeadTooLarge),
            Self::Malformed(_) => Some(Counted::Target),
            Self::MethodNotAllowed => Some(Counted::Method),
            Self::NoRoute => Some(Counted::NoRoute),
            Self::Misdirected => Some(Counted::Misdirected),
            Self::NoBackend => Some(Counted::NoBackend),
            Self::Exchange(ExchangeError::NoEndpoints) => Some(Counted::NoEndpoints),
            Self::TooMany(_) => Some(Counted::Rate),
            Self::TooLarge | Self::Exchange(ExchangeError::Request(BodyError::TooLarge)) => {
                Some(Counted::BodyTooLarge)
            }
            Self::Overloaded => Some(Counted::Overload),
            Self::Exchange(_) | Self::RequestTimeout | Self::Rewrite => None,
        }
    }

    /// The reply, without a body yet to be counted.
    pub fn response(&self, text: &'static str, status: StatusCode) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from_static(text.as_bytes()));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Self::TooMany(wait) = self {
            // Whole seconds, and never too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // Of a refused CONNECT, what follows is perhaps what its client would have sent through (RFC 9110, 9.3.6).
        if matches!(
            self,
            Self::Malformed(_) | Self::MethodNotAllowed | Self::Exchange(ExchangeError::Request(_))
        ) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
