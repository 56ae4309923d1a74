//! States and numbers of streams (h2spec: http2 5.1 and 5.3).

use super::Expected::{ConnectionError, StreamError};
use super::{
    Case, PROTOCOL_ERROR, REFUSED_STREAM, STREAM_CLOSED, Step, case, good, number, request, setting, steps,
    upload,
};
use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PRIORITY, RST_STREAM, WINDOW_UPDATE, WITH_PRIORITY,
    frame,
};

pub(super) fn cases() -> Vec<Case> {
    let data = || frame(DATA, END_STREAM, 1, b"test");
    let more = || frame(CONTINUATION, END_HEADERS, 1, &good());
    let reset = || frame(RST_STREAM, 0, 1, &number(8));
    let closed = |name, behind, expected| {
        steps(name, vec![Step::Send(request(1)), Step::Ends(1), Step::Send(behind)], expected)
    };
    let own = [&number(1)[..], &[15]].concat();
    vec![
        case("5.1: DATA on an idle stream", &[data()], ConnectionError(&[PROTOCOL_ERROR])),
        case("5.1: RST_STREAM on an idle stream", &[reset()], ConnectionError(&[PROTOCOL_ERROR])),
        case(
            "5.1: WINDOW_UPDATE on an idle stream",
            &[frame(WINDOW_UPDATE, 0, 1, &number(100))],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case("5.1: CONTINUATION on an idle stream", &[more()], ConnectionError(&[PROTOCOL_ERROR])),
        case(
            "5.1: DATA on a half-closed stream",
            &[setting(4, 0), request(1), data()],
            StreamError(1, &[STREAM_CLOSED]),
        ),
        case(
            "5.1: HEADERS on a half-closed stream",
            &[setting(4, 0), request(1), request(1)],
            StreamError(1, &[STREAM_CLOSED]),
        ),
        case(
            "5.1: CONTINUATION on a half-closed stream",
            &[setting(4, 0), request(1), more()],
            StreamError(1, &[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        case("5.1: DATA behind RST_STREAM", &[upload(1), reset(), data()], StreamError(1, &[STREAM_CLOSED])),
        case(
            "5.1: HEADERS behind RST_STREAM",
            &[upload(1), reset(), request(1)],
            StreamError(1, &[STREAM_CLOSED]),
        ),
        case(
            "5.1: CONTINUATION behind RST_STREAM",
            &[upload(1), reset(), more()],
            StreamError(1, &[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        closed("5.1: DATA on a closed stream", data(), StreamError(1, &[STREAM_CLOSED])),
        closed("5.1: HEADERS on a closed stream", request(1), ConnectionError(&[STREAM_CLOSED])),
        closed(
            "5.1: CONTINUATION on a closed stream",
            more(),
            ConnectionError(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        case("5.1.1: a stream with an even number", &[request(2)], ConnectionError(&[PROTOCOL_ERROR])),
        case(
            "5.1.1: a stream with a lower number",
            &[request(5), request(3)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.1.2: more streams than were allowed",
            &(0..200).map(|number| upload(number * 2 + 1)).collect::<Vec<_>>(),
            StreamError(257, &[REFUSED_STREAM, PROTOCOL_ERROR]),
        ),
        case(
            "5.3.1: HEADERS that depend on themselves",
            &[frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, &[own.clone(), good()].concat())],
            StreamError(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "5.3.1: PRIORITY that depends on itself",
            &[upload(1), frame(PRIORITY, 0, 1, &own)],
            StreamError(1, &[PROTOCOL_ERROR]),
        ),
    ]
}
