//! What every server has to take (h2spec: generic).

use super::Expected::{Acknowledgement, Answer, Data};
use super::{Case, NO_ERROR, PONG, Step, case, good, number, ping, post, request, setting, steps, upload};
use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, RST_STREAM,
    WINDOW_UPDATE, WITH_PRIORITY, block, frame,
};

pub(super) fn cases() -> Vec<Case> {
    let (begun, rest) = (good()[..3].to_vec(), good()[3..].to_vec());
    let priority = |dependency: u32, weight: u8| [&number(dependency)[..], &[weight]].concat();
    let mut all = vec![
        case("generic 1: a preface and SETTINGS", &[setting(3, 100)], Acknowledgement),
        case(
            "generic 2: PRIORITY on an idle stream",
            &[frame(PRIORITY, 0, 1, &priority(0, 255)), ping()],
            PONG,
        ),
        case(
            "generic 2: WINDOW_UPDATE on a half-closed stream",
            &[setting(4, 0), request(1), frame(WINDOW_UPDATE, 0, 1, &number(1))],
            Data(1, 1),
        ),
        case(
            "generic 2: PRIORITY on a half-closed stream",
            &[
                setting(4, 0),
                request(1),
                frame(PRIORITY, 0, 1, &priority(0, 255)),
                frame(WINDOW_UPDATE, 0, 1, &number(1)),
            ],
            Data(1, 1),
        ),
        case(
            "generic 2: RST_STREAM on a half-closed stream",
            &[request(1), frame(RST_STREAM, 0, 1, &number(8)), ping()],
            PONG,
        ),
        steps(
            "generic 2: PRIORITY on a closed stream",
            vec![
                Step::Send(request(1)),
                Step::Ends(1),
                Step::Send([frame(PRIORITY, 0, 1, &priority(0, 255)), ping()].concat()),
            ],
            PONG,
        ),
        case("generic 3.1: DATA", &[upload(1), frame(DATA, END_STREAM, 1, b"test")], Answer(1, 200)),
        case(
            "generic 3.1: several DATA",
            &[upload(1), frame(DATA, 0, 1, b"test"), frame(DATA, END_STREAM, 1, b"test")],
            Answer(1, 200),
        ),
        case(
            "generic 3.1: DATA with padding",
            &[upload(1), frame(DATA, END_STREAM | PADDED, 1, b"\x06test\0\0\0\0\0\0")],
            Answer(1, 200),
        ),
        case("generic 3.2: HEADERS", &[request(1)], Answer(1, 200)),
        case(
            "generic 3.2: HEADERS with padding",
            &[frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &[&[6], &good()[..], &[0; 6]].concat())],
            Answer(1, 200),
        ),
        case(
            "generic 3.2: HEADERS with priority",
            &[frame(
                HEADERS,
                END_STREAM | END_HEADERS | WITH_PRIORITY,
                1,
                &[priority(0, 255), good()].concat(),
            )],
            Answer(1, 200),
        ),
        case(
            "generic 3.3: PRIORITY for an idle stream, then a lower one",
            &[frame(PRIORITY, 0, 7, &priority(0, 255)), request(5)],
            Answer(5, 200),
        ),
        case("generic 3.4: RST_STREAM", &[upload(1), frame(RST_STREAM, 0, 1, &number(8)), ping()], PONG),
        case("generic 3.5: SETTINGS", &[setting(3, 100)], Acknowledgement),
        case("generic 3.7: PING", &[ping()], PONG),
        case(
            "generic 3.8: GOAWAY",
            &[frame(GOAWAY, 0, 0, &[number(0), number(NO_ERROR)].concat()), ping()],
            PONG,
        ),
        case(
            "generic 3.9: WINDOW_UPDATE for the connection",
            &[frame(WINDOW_UPDATE, 0, 0, &number(1)), ping()],
            PONG,
        ),
        case(
            "generic 3.9: WINDOW_UPDATE for a stream",
            &[setting(4, 0), request(1), frame(WINDOW_UPDATE, 0, 1, &number(1))],
            Data(1, 1),
        ),
        case(
            "generic 3.10: CONTINUATION",
            &[frame(HEADERS, END_STREAM, 1, &begun), frame(CONTINUATION, END_HEADERS, 1, &rest)],
            Answer(1, 200),
        ),
        case(
            "generic 3.10: several CONTINUATION",
            &[
                frame(HEADERS, END_STREAM, 1, &begun),
                frame(CONTINUATION, 0, 1, &rest),
                frame(CONTINUATION, END_HEADERS, 1, &block(&[("x-test", "yes")])),
            ],
            Answer(1, 200),
        ),
        case("generic 4: GET", &[request(1)], Answer(1, 200)),
        case(
            "generic 4: HEAD",
            &[frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                1,
                &[&[0x02, 4, b'H', b'E', b'A', b'D'], &good()[1..]].concat(),
            )],
            Answer(1, 200),
        ),
        case("generic 4: POST", &[upload(1), frame(DATA, END_STREAM, 1, b"test")], Answer(1, 200)),
        case(
            "generic 4: POST with trailers",
            &[
                frame(HEADERS, END_HEADERS, 1, &[post(), block(&[("trailer", "x-test")])].concat()),
                frame(DATA, 0, 1, b"test"),
                frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&[("x-test", "ok")])),
            ],
            Answer(1, 200),
        ),
        case("generic 3.7: PING with ACK is not answered", &[frame(PING, 1, 0, b"unwanted"), ping()], PONG),
    ];
    for (name, dependency, weight) in [
        ("generic 3.3: PRIORITY 1", 0, 0),
        ("generic 3.3: PRIORITY 256", 0, 255),
        ("generic 3.3: PRIORITY with a dependency", 5, 16),
        ("generic 3.3: PRIORITY, exclusive", 1 << 31 | 5, 16),
    ] {
        let frames = [frame(PRIORITY, 0, 1, &priority(dependency, weight)), request(1)];
        all.push(case(name, &frames, Answer(1, 200)));
    }
    all
}
