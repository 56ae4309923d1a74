//! What gRPC asks of a gateway: failures of the gateway itself as gRPC statuses, the deadline that the
//! client sends, and the status that stands in trailers. All else is HTTP/2, which passes as it is.
//!
//! Called by [`super::request`] and [`super::reply`].

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::reply::Refusal;
use crate::upstream::ExchangeError;

/// A status of gRPC; the 17 that there are, and what is none of them.
pub const STATUSES: usize = 18;

const DEADLINE_EXCEEDED: u16 = 4;
const RESOURCE_EXHAUSTED: u16 = 8;
const UNIMPLEMENTED: u16 = 12;
const INTERNAL: u16 = 13;
const UNAVAILABLE: u16 = 14;

/// Whether a request is gRPC, by its content type: `application/grpc`, with or without a suffix.
/// gRPC-Web is not: its clients read HTTP statuses.
pub fn is_asked(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return false };
    kind.as_bytes()
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

/// How long the client waits, as it says itself: up to 8 digits and a unit. `None` when it says
/// nothing, or nothing that can be read.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let (&unit, digits) = headers.get("grpc-timeout")?.as_bytes().split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The status in a response's trailers, or in its head when there is nothing else.
pub fn status(fields: &HeaderMap) -> Option<u16> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// What a gRPC client is told instead of `status` and `text`.
pub fn answer(refusal: &Refusal, status: StatusCode, text: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert("grpc-status", HeaderValue::from(code(refusal, status)));
    fields.insert("grpc-message", HeaderValue::from_static(text));
    response
}

/// As gRPC maps HTTP statuses, but for deadlines and sizes, of which a gateway knows more.
fn code(refusal: &Refusal, status: StatusCode) -> u16 {
    match (refusal, status) {
        (Refusal::RequestTimeout | Refusal::Exchange(ExchangeError::Timeout(_)), _) => DEADLINE_EXCEEDED,
        (_, StatusCode::PAYLOAD_TOO_LARGE) => RESOURCE_EXHAUSTED,
        (_, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => UNIMPLEMENTED,
        (_, status) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => INTERNAL,
        _ => UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn the_content_type_tells_grpc() {
        for yes in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            assert!(is_asked(&of("content-type", yes)), "{yes}");
        }
        for no in ["application/grpc-web", "application/json", "application/grp"] {
            assert!(!is_asked(&of("content-type", no)), "{no}");
        }
    }

    #[test]
    fn timeouts_have_a_number_and_a_unit() {
        for (text, time) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("100000000S", None),
            ("-1S", None),
            ("1.5S", None),
            ("1s", None),
        ] {
            assert_eq!(timeout(&of("grpc-timeout", text)), time, "{text}");
        }
    }
}
