//! HTTP in HTTP/2 (h2spec: http2 8).

use super::Expected::{Answer, StreamError};
use super::{Case, PROTOCOL_ERROR, bad, case, post, upload};
use crate::harness::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, block, frame};

type Change = (&'static str, Option<&'static str>);

pub(super) fn cases() -> Vec<Case> {
    let changed: &[(&str, &[Change])] = &[
        ("8.1.2: upper case in a name", &[("X-TEST", Some("ok"))]),
        ("8.1.2.1: an unknown pseudo-header", &[(":test", Some("ok"))]),
        ("8.1.2.1: the pseudo-header of a response", &[(":status", Some("200"))]),
        ("8.1.2.2: Connection", &[("connection", Some("keep-alive"))]),
        ("8.1.2.2: TE other than trailers", &[("te", Some("trailers, deflate"))]),
        ("8.1.2.3: empty :path", &[(":path", Some(""))]),
        ("8.1.2.3: no :method", &[(":method", None)]),
        ("8.1.2.3: no :scheme", &[(":scheme", None)]),
        ("8.1.2.3: no :path", &[(":path", None)]),
    ];
    let repeated: &[(&str, &str)] = &[
        ("8.1.2.3: :method twice", ":method"),
        ("8.1.2.3: :scheme twice", ":scheme"),
        ("8.1.2.3: :path twice", ":path"),
    ];
    let mut all: Vec<_> = changed
        .iter()
        .map(|(name, changes)| case(name, &[bad(1, changes)], StreamError(1, &[PROTOCOL_ERROR])))
        .collect();
    for (name, twice) in repeated {
        let fields =
            [(":method", "GET"), (":scheme", "http"), (":path", "/smuggled"), (":authority", "test")];
        let again = fields.iter().filter(|(name, _)| name == twice);
        let both: Vec<_> = again.clone().chain(&fields).copied().collect();
        let head = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&both));
        all.push(case(name, &[head], StreamError(1, &[PROTOCOL_ERROR])));
    }
    let late =
        [(":method", "GET"), (":scheme", "http"), ("x", "y"), (":path", "/smuggled"), (":authority", "a")];
    let trailers = |fields: &[(&str, &str)], flags| frame(HEADERS, END_HEADERS | flags, 1, &block(fields));
    let sized =
        |length| frame(HEADERS, END_HEADERS, 1, &[post(), block(&[("content-length", length)])].concat());
    let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    all.extend([
        case(
            "8.1.2.1: a pseudo-header behind a field",
            &[frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&late))],
            StreamError(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "8.1.2.1: a pseudo-header in trailers",
            &[upload(1), data(0, b"test"), trailers(&[(":method", "SMUGGLED")], END_STREAM)],
            StreamError(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "8.1.2.1: a pseudo-header of the static table in trailers",
            &[upload(1), data(0, b"test"), frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x42, 1, b'X'])],
            StreamError(1, &[PROTOCOL_ERROR]),
        ),
        case(
            // Named by the connection's dynamic table, which only h2 follows: it drops the field while
            // decoding, and nobody is told; not the backend either, which gets the request without it.
            "8.1.2.1: a pseudo-header of the dynamic table in trailers",
            &[upload(1), data(0, b"test"), frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xbe])],
            Answer(1, 200),
        ),
        case(
            "8.1: a second head that does not end the stream",
            &[upload(1), trailers(&[("x-test", "ok")], 0)],
            StreamError(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "8.1.2.6: less DATA than Content-Length",
            &[sized("10"), data(END_STREAM, b"test")],
            StreamError(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "8.1.2.6: more DATA than Content-Length",
            &[sized("1"), data(END_STREAM, b"test")],
            StreamError(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "8.1.2.6: more DATA in all than Content-Length",
            &[sized("1"), data(0, b"te"), data(END_STREAM, b"st")],
            StreamError(1, &[PROTOCOL_ERROR]),
        ),
    ]);
    all
}
