//! Responses of the admin API.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::Value;

/// A whole body, or a stream that goes on until the client leaves.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(super) type Reply = Response<Body>;

pub(super) fn plain(status: StatusCode, text: impl Into<String>) -> Reply {
    let mut text = text.into();
    text.push('\n');
    whole(status, "text/plain; charset=utf-8", text)
}

pub(super) fn json(status: StatusCode, value: &Value) -> Reply {
    let mut text = format!("{value:#}");
    text.push('\n');
    whole(status, "application/json", text)
}

pub(super) fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    with_body(status, content_type, Full::new(body.into()).boxed_unsync())
}

pub(super) fn with_body(status: StatusCode, content_type: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Names from the configuration are in these pages: no browser shall take them for markup.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}
