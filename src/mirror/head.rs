//! The head of a copy: what the primary gets, without what is meant for it alone, with the mirror's
//! own edits and the marks of a copy.
//!
//! Pure. Shares nothing with the primary's head afterwards. Called by [`super::copy`].

use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHORIZATION, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderName, HeaderValue, Request, Uri, request};

use super::loop_guard::LoopGuard;
use super::{Subject, trace};
use crate::plan::CopyEdits;
use crate::proxy::sanitize::COPY_MARKER;
use crate::upstream::http1::head::Length;

/// Says how long the body was that a copy came without.
static OMITTED_BODY: HeaderName = HeaderName::from_static("x-mirrorgate-omitted-body");

/// The head of a copy of `subject`, whose span in a trace is `span`.
pub(super) fn copied(
    subject: &Subject<'_>,
    edits: &CopyEdits,
    guard: &LoopGuard,
    span: u64,
) -> request::Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    let parts = subject.parts;
    (copy.method, copy.uri, copy.version) = (parts.method.clone(), parts.uri.clone(), parts.version);
    copy.headers = parts.headers.clone();
    // Nobody would send the mirror the body that it asks for.
    copy.headers.remove(EXPECT);
    if edits.strip_credentials {
        for name in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE] {
            copy.headers.remove(name);
        }
    }
    edits.headers.apply(&mut copy.headers);
    if let Some(host) = &edits.host {
        copy.headers.insert(HOST, host.clone());
    }
    if let (Some(path), Some(target)) = (&edits.path, parts.uri.path_and_query())
        && let Ok(target) = path.apply(target, subject.prefix)
    {
        copy.uri = Uri::from(target);
    }
    trace::child(&mut copy.headers, span);
    copy.headers.insert(&COPY_MARKER, HeaderValue::from(subject.hops.unwrap_or(0) + 1));
    guard.sign(&mut copy.headers);
    copy
}

/// Makes `copy` the head of a request without a body; says how long that was.
pub(super) fn without_body(copy: &mut request::Parts, length: Length) -> Length {
    if let Length::Exact(bytes) = length {
        copy.headers.insert(&OMITTED_BODY, HeaderValue::from(bytes));
    }
    for name in [TRANSFER_ENCODING, TRAILER] {
        copy.headers.remove(name);
    }
    copy.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    Length::Exact(0)
}
