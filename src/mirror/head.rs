//! A copy's request: what the primary gets, without what is meant for it alone, with the mirror's own
//! edits and the marks of a copy.
//!
//! Pure, and shares nothing with the primary's request afterwards. Called by [`super::copy`].

use std::time::Instant;

use http::header::{AUTHORIZATION, COOKIE, EXPECT, HOST, PROXY_AUTHORIZATION, TRAILER};
use http::{HeaderName, HeaderValue, Request, Uri, request};

use super::loop_guard::COPY_TOKEN;
use super::{Mirror, Subject, trace};
use crate::plan::CopyEdits;
use crate::proxy::sanitize::COPY_MARKER;
use crate::upstream::ExchangeError;
use crate::upstream::body::RequestBody;
use crate::upstream::http1::head::Length;
use crate::upstream::message::{Head, Message};

/// Says how long the body was that a copy came without.
static OMITTED_BODY: HeaderName = HeaderName::from_static("x-mirrorgate-omitted-body");

/// The copy that `mirror` gets of `subject`, begun `now`, with the span `span` in a trace. If it
/// `omits` the body, it says how long that was.
///
/// Written straight from the primary's head unless the mirror edits it: that saves a map's copy for
/// each request (2,000 instructions of 28,000).
pub(super) fn message(
    subject: &Subject<'_>,
    mirror: &Mirror,
    body: RequestBody,
    omits: bool,
    (now, span): (Instant, u64),
) -> Result<Message, ExchangeError> {
    let edited = (!mirror.plan.edits.is_empty()).then(|| edited(subject, &mirror.plan.edits));
    let parts = edited.as_ref().unwrap_or(subject.parts);
    let marker = match subject.hops {
        // Nearly always, and without an allocation.
        None | Some(0) => HeaderValue::from_static("1"),
        Some(hops) => HeaderValue::from(hops + 1),
    };
    let mut extra = Vec::with_capacity(5);
    extra.extend([(&COPY_MARKER, marker), (&COPY_TOKEN, mirror.guard.sign(now))]);
    let trace = trace::child(&parts.headers, span);
    // Nobody would send the mirror the body that a request with `Expect` waits for leave to send.
    let without: &[&HeaderName] = match (&trace, omits) {
        (None, false) => &[&EXPECT],
        (None, true) => &[&EXPECT, &TRAILER],
        (Some(_), false) => &[&EXPECT, &trace::PARENT, &trace::STATE],
        (Some(_), true) => &[&EXPECT, &TRAILER, &trace::PARENT, &trace::STATE],
    };
    if let Some([parent, state]) = trace {
        extra.extend([(&trace::PARENT, parent), (&trace::STATE, state)]);
    }
    let mut length = subject.length;
    if let (true, Length::Exact(bytes)) = (omits, length) {
        extra.push((&OMITTED_BODY, HeaderValue::from(bytes)));
        length = Length::Exact(0);
    }
    let client = Some(subject.connection);
    let head = Head { client, extra: &extra, without, ..Head::new(parts, length) };
    Message::new(mirror.backend.speech(), &head, body)
}

fn edited(subject: &Subject<'_>, edits: &CopyEdits) -> request::Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    let parts = subject.parts;
    (copy.method, copy.uri, copy.version) = (parts.method.clone(), parts.uri.clone(), parts.version);
    copy.headers = parts.headers.clone();
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
    copy
}
