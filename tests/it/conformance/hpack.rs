//! Compressed heads (h2spec: hpack, and generic 5).

use super::Expected::{Answer, ConnectionError};
use super::{COMPRESSION_ERROR, Case, Step, case, good, steps};
use crate::harness::frames::{END_HEADERS, END_STREAM, HEADERS, frame};

/// `user-agent: h2spec` and `x-test: h2spec` behind their first byte, plain and in Huffman's code.
const USER_AGENT: &[u8] = b"\x0auser-agent\x06h2spec";
const USER_AGENT_CODED: &[u8] = b"\x87\xb5\x05\xb1\x61\xcc\x5a\x93\x84\x9c\x48\xac\xa4";
const TEST: &[u8] = b"\x06x-test\x06h2spec";
const TEST_CODED: &[u8] = b"\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4";

pub(super) fn cases() -> Vec<Case> {
    let head = |block: &[u8]| frame(HEADERS, END_STREAM | END_HEADERS, 1, block);
    let with = |bytes: &[u8]| head(&[&good()[..], bytes].concat());
    let taken = |name, bytes: &[u8]| case(name, &[with(bytes)], Answer(1, 200));
    let refused = |name, bytes: &[u8]| case(name, &[with(bytes)], ConnectionError(&[COMPRESSION_ERROR]));
    let mut all = vec![
        taken("generic 5: an indexed field", b"\xba"),
        taken("generic 5: incremental, a name of the static table", b"\x7a\x06h2spec"),
        taken("generic 5: not indexed, a name of the static table", b"\x0f\x2b\x06h2spec"),
        taken("generic 5: never indexed, a name of the static table", b"\x1f\x2b\x06h2spec"),
        case("generic 5: a size update", &[head(&[&[0x20], &good()[..]].concat())], Answer(1, 200)),
        case(
            "generic 5: two size updates",
            &[head(&[&[0x20, 0x3f, 0xe1, 0x1f], &good()[..]].concat())],
            Answer(1, 200),
        ),
        steps(
            "generic 5: what was indexed by an earlier head",
            vec![
                Step::Send(with(&[&[0x40], TEST].concat())),
                Step::Ends(1),
                Step::Send(frame(HEADERS, END_STREAM | END_HEADERS, 3, &[&good()[..], &[0xbf]].concat())),
            ],
            Answer(3, 200),
        ),
        refused("hpack 2.3.3: an index beyond the table", b"\xc6"),
        refused("hpack 2.3.3: a name's index beyond the table", b"\x7f\x80\x01\x04test"),
        refused("hpack 2.3.3: an index that overflows", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
        refused("hpack 4.2: a size update behind a field", b"\x20"),
        refused(
            "hpack 5.2: padding of more than 7 bits",
            b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff",
        ),
        refused("hpack 5.2: padding with zeros", b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"),
        refused(
            "hpack 5.2: the end-of-string symbol",
            b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\xff\xff\xff\xfd\x25\x42\x7f",
        ),
        refused("hpack 5.2: a string beyond the block", b"\x00\x06x-test\x7e"),
        refused("hpack 6.1: index 0", b"\x80"),
        case(
            "hpack 6.3: a table larger than was allowed",
            &[head(&[&[0x3f, 0xe1, 0xff, 0x03], &good()[..]].concat())],
            ConnectionError(&[COMPRESSION_ERROR]),
        ),
    ];
    let kinds = [(0x40, "incremental"), (0x00, "not indexed"), (0x10, "never indexed")];
    let values = [USER_AGENT, USER_AGENT_CODED, TEST, TEST_CODED];
    for (first, name) in kinds {
        all.extend(values.map(|value| taken(name, &[&[first], value].concat())));
    }
    all
}
