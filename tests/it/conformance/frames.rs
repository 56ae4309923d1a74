//! Frames by themselves (h2spec: http2 3.5, 4, 5.5, 6 and 7).

use super::Expected::{Answer, ConnectionError, StreamError};
use super::{
    COMPRESSION_ERROR, Case, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PONG, PROTOCOL_ERROR, STREAM_CLOSED, Step,
    case, good, number, ping, request, steps, upload,
};
use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame,
};

const PRIORITY_5: [u8; 5] = [0, 0, 0, 0, 15];

pub(super) fn cases() -> Vec<Case> {
    [formats(), header_blocks(), data_and_headers(), small_frames(), windows(), continuations()]
        .into_iter()
        .flatten()
        .collect()
}

fn formats() -> Vec<Case> {
    let reserved = {
        let mut bytes = ping();
        bytes[5] |= 0x80;
        bytes
    };
    let large = vec![0; (1 << 14) + 1];
    vec![
        case("4.1: a frame of an unknown type", &[frame(22, 0, 0, &[0; 8]), ping()], PONG),
        case("4.1: undefined flags", &[frame(PING, 0x16, 0, b"conforms")], PONG),
        case("4.1: the reserved bit", &[reserved], PONG),
        case(
            "4.2: DATA of 2^14 bytes",
            &[upload(1), frame(DATA, END_STREAM, 1, &large[1..])],
            Answer(1, 200),
        ),
        case(
            "4.2: DATA that is too large",
            &[upload(1), frame(DATA, END_STREAM, 1, &large)],
            StreamError(1, &[FRAME_SIZE_ERROR]),
        ),
        case(
            "4.2: HEADERS that are too large",
            &[frame(HEADERS, END_STREAM | END_HEADERS, 1, &large)],
            ConnectionError(&[FRAME_SIZE_ERROR]),
        ),
        case("5.5: an unknown extension", &[frame(0xff, 0, 0, b"unknown"), ping()], PONG),
        case(
            "5.5: an unknown extension within a head",
            &[frame(HEADERS, END_STREAM, 1, &good()), frame(0xff, 1, 0, b"unknown")],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.4.1: a PING of a wrong length",
            &[frame(PING, 0, 0, &[0; 6])],
            ConnectionError(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "7: GOAWAY with an unknown code",
            &[frame(GOAWAY, 0, 0, &[number(0), number(0xff)].concat()), ping()],
            PONG,
        ),
        case(
            "7: RST_STREAM with an unknown code",
            &[upload(1), frame(RST_STREAM, 0, 1, &number(0xff)), ping()],
            PONG,
        ),
        case(
            "8.2: PUSH_PROMISE",
            &[frame(PUSH_PROMISE, END_HEADERS, 1, &[&number(3)[..], &good()].concat())],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
    ]
}

fn header_blocks() -> Vec<Case> {
    let begun = || frame(HEADERS, END_STREAM, 1, &good());
    vec![
        case(
            "4.3: a block that cannot be decoded",
            &[frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0x40])],
            ConnectionError(&[COMPRESSION_ERROR]),
        ),
        case(
            "4.3: PRIORITY within a head",
            &[begun(), frame(PRIORITY, 0, 1, &PRIORITY_5)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "4.3: HEADERS of another stream within a head",
            &[begun(), request(3)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.2: PRIORITY behind HEADERS that go on",
            &[begun(), frame(PRIORITY, 0, 3, &PRIORITY_5)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.2: DATA within a head",
            &[begun(), frame(DATA, END_STREAM, 1, b"x")],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case("6.2: PING within a head", &[begun(), ping()], ConnectionError(&[PROTOCOL_ERROR])),
    ]
}

fn data_and_headers() -> Vec<Case> {
    vec![
        case(
            "6.1: DATA on stream 0",
            &[frame(DATA, END_STREAM, 0, b"test")],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        steps(
            "6.1: DATA on a closed stream",
            vec![Step::Send(request(1)), Step::Ends(1), Step::Send(frame(DATA, END_STREAM, 1, b"test"))],
            StreamError(1, &[STREAM_CLOSED]),
        ),
        case(
            "6.1: DATA that is shorter than its padding",
            &[upload(1), frame(DATA, END_STREAM | PADDED, 1, b"\x06test")],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.2: HEADERS on stream 0",
            &[frame(HEADERS, END_STREAM | END_HEADERS, 0, &good())],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.2: HEADERS that are shorter than their padding",
            &[frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &[&[200], &good()[..]].concat())],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
    ]
}

fn small_frames() -> Vec<Case> {
    let refused = |name, bytes, code| case(name, &[bytes], ConnectionError(code));
    vec![
        refused("6.3: PRIORITY on stream 0", frame(PRIORITY, 0, 0, &PRIORITY_5), &[PROTOCOL_ERROR]),
        case(
            "6.3: PRIORITY of a wrong length",
            &[upload(1), frame(PRIORITY, 0, 1, &PRIORITY_5[..4])],
            StreamError(1, &[FRAME_SIZE_ERROR]),
        ),
        refused("6.4: RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, &number(8)), &[PROTOCOL_ERROR]),
        refused("6.4: RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, &number(8)), &[PROTOCOL_ERROR]),
        case(
            "6.4: RST_STREAM of a wrong length",
            &[upload(1), frame(RST_STREAM, 0, 1, &[0; 3])],
            ConnectionError(&[FRAME_SIZE_ERROR]),
        ),
        refused(
            "6.5: SETTINGS with ACK and a payload",
            frame(SETTINGS, 1, 0, &[0, 3, 0, 0, 0, 1]),
            &[FRAME_SIZE_ERROR],
        ),
        refused("6.5: SETTINGS on a stream", frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 1]), &[PROTOCOL_ERROR]),
        refused("6.5: SETTINGS of a wrong length", frame(SETTINGS, 0, 0, &[0, 3, 0]), &[FRAME_SIZE_ERROR]),
        refused("6.7: PING on a stream", frame(PING, 0, 1, &[0; 8]), &[PROTOCOL_ERROR]),
        refused("6.7: PING of a wrong length", frame(PING, 0, 0, &[0; 7]), &[FRAME_SIZE_ERROR]),
        refused("6.8: GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), &[PROTOCOL_ERROR]),
    ]
}

fn windows() -> Vec<Case> {
    let most = number(0x7fff_ffff);
    vec![
        case(
            "6.9: WINDOW_UPDATE by 0 for the connection",
            &[frame(WINDOW_UPDATE, 0, 0, &number(0))],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.9: WINDOW_UPDATE by 0 for a stream",
            &[upload(1), frame(WINDOW_UPDATE, 0, 1, &number(0))],
            StreamError(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "6.9: WINDOW_UPDATE of a wrong length",
            &[frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])],
            ConnectionError(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "6.9.1: the window of a connection above 2^31-1",
            &[frame(WINDOW_UPDATE, 0, 0, &most), frame(WINDOW_UPDATE, 0, 0, &most)],
            ConnectionError(&[FLOW_CONTROL_ERROR]),
        ),
        case(
            "6.9.1: the window of a stream above 2^31-1",
            &[upload(1), frame(WINDOW_UPDATE, 0, 1, &most), frame(WINDOW_UPDATE, 0, 1, &most)],
            StreamError(1, &[FLOW_CONTROL_ERROR]),
        ),
    ]
}

fn continuations() -> Vec<Case> {
    let field = block(&[("x-test", "yes")]);
    let more = |flags, stream| frame(CONTINUATION, flags, stream, &field);
    let begun = || frame(HEADERS, END_STREAM, 1, &good());
    let mut all = vec![case(
        "6.10: several CONTINUATION",
        &[begun(), more(0, 1), more(END_HEADERS, 1)],
        Answer(1, 200),
    )];
    for (name, frames) in [
        (
            "6.10: DATA behind a CONTINUATION that goes on",
            [begun(), more(0, 1), frame(DATA, END_STREAM, 1, b"x")],
        ),
        ("6.10: CONTINUATION on stream 0", [begun(), more(0, 1), more(END_HEADERS, 0)]),
        ("6.10: CONTINUATION of another stream", [begun(), more(0, 1), more(END_HEADERS, 3)]),
        ("6.10: CONTINUATION behind the end of HEADERS", [request(1), more(END_HEADERS, 1), ping()]),
        (
            "6.10: CONTINUATION behind the end of CONTINUATION",
            [begun(), more(END_HEADERS, 1), more(END_HEADERS, 1)],
        ),
        (
            "6.10: CONTINUATION behind DATA",
            [upload(1), frame(DATA, END_STREAM, 1, b"x"), more(END_HEADERS, 1)],
        ),
    ] {
        all.push(case(name, &frames, ConnectionError(&[PROTOCOL_ERROR, STREAM_CLOSED])));
    }
    all
}
