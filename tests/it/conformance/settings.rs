//! SETTINGS, and the windows that they change (h2spec: http2 3.5, 6.5.2, 6.5.3, 6.9.1 and 6.9.2).

use super::Expected::{Acknowledgement, ConnectionError, Data};
use super::{
    Case, FLOW_CONTROL_ERROR, PONG, PROTOCOL_ERROR, Step, case, number, ping, request, setting, steps,
};
use crate::harness::frames::{SETTINGS, WINDOW_UPDATE, frame};

const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW: u16 = 4;
const MAX_FRAME: u16 = 5;

pub(super) fn cases() -> Vec<Case> {
    let refused =
        |name, identifier, value, code| case(name, &[setting(identifier, value)], ConnectionError(code));
    vec![
        refused("6.5.2: ENABLE_PUSH 2", ENABLE_PUSH, 2, &[PROTOCOL_ERROR]),
        refused("6.5.2: INITIAL_WINDOW_SIZE 2^31", INITIAL_WINDOW, 1 << 31, &[FLOW_CONTROL_ERROR]),
        refused("6.5.2: MAX_FRAME_SIZE 2^14 - 1", MAX_FRAME, (1 << 14) - 1, &[PROTOCOL_ERROR]),
        refused("6.5.2: MAX_FRAME_SIZE 2^24", MAX_FRAME, 1 << 24, &[PROTOCOL_ERROR]),
        case("6.5.2: an unknown setting", &[setting(0xff, 1), ping()], PONG),
        case(
            "6.5.3: the last of two values counts",
            &[frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 100, 0, 4, 0, 0, 0, 1]), request(1)],
            Data(1, 1),
        ),
        case("6.5.3: SETTINGS are acknowledged", &[setting(3, 100)], Acknowledgement),
        case("6.9.1: no more DATA than the window", &[setting(INITIAL_WINDOW, 1), request(1)], Data(1, 1)),
        steps(
            "6.9.2: a window that grows behind HEADERS",
            vec![
                Step::Send([setting(INITIAL_WINDOW, 0), request(1), ping()].concat()),
                Step::Send(setting(INITIAL_WINDOW, 1)),
            ],
            Data(1, 1),
        ),
        steps(
            "6.9.2: a window that has become negative",
            vec![
                Step::Send([setting(INITIAL_WINDOW, 3), request(1)].concat()),
                Step::Data(1, 3),
                Step::Send([setting(INITIAL_WINDOW, 2), frame(WINDOW_UPDATE, 0, 1, &number(2))].concat()),
            ],
            Data(1, 1),
        ),
        case(
            "6.9.2: INITIAL_WINDOW_SIZE that overflows a window",
            &[request(1), setting(INITIAL_WINDOW, 0x8000_0000)],
            ConnectionError(&[FLOW_CONTROL_ERROR]),
        ),
    ]
}
