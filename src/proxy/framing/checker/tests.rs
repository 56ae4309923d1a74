#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

const GOOD: &str = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";

fn verdict(bytes: &[u8]) -> (Option<(Refusal, Position)>, u32) {
    let mut checker = Checker::new();
    let refused = checker.advance(bytes).err().map(|violation| (violation.refusal, violation.position));
    (refused, checker.heads())
}

fn refusal(bytes: &[u8]) -> Option<Refusal> {
    verdict(bytes).0.map(|(refusal, _)| refusal)
}

#[test]
fn requests_that_mean_one_thing_pass() {
    for (request, heads, position) in [
        (GOOD, 1, Position::Between),
        ("\r\nGET / HTTP/1.1\r\nhOST:\ta\t\r\n\r\n", 1, Position::Between),
        ("GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n", 2, Position::Between),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 1, Position::Between),
        ("GET http://a/b HTTP/1.1\r\nHost: a\r\nX: caf\u{e9}\tb\r\n\r\n", 1, Position::Between),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n1234567GET", 1, Position::Head),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.0\r\n\r\n",
            2,
            Position::Between,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n12", 1, Position::Body),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked \r\n\r\n\
             3\r\nabc\r\n0a;x=\"y\"\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET / HTTP/1.0\r\n\r\n",
            2,
            Position::Between,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", 1, Position::Body),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encodin: x\r\nContent-Lengths: x\r\n\r\n",
            1,
            Position::Between,
        ),
    ] {
        let mut checker = Checker::new();
        assert_eq!(checker.advance(request.as_bytes()), Ok(()), "{request:?}");
        assert_eq!((checker.heads(), checker.position()), (heads, position), "{request:?}");
    }
}

#[test]
fn heads_that_two_parsers_could_read_differently_are_refused() {
    use Refusal::*;
    let fields: &[(&str, Refusal)] = &[
        // CL.TE, TE.CL
        ("Content-Length: 6\r\nTransfer-Encoding: chunked", LengthWithEncoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 6", LengthWithEncoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", LengthWithEncoding),
        // TE.TE
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", RepeatedEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-encoding: cow", RepeatedEncoding),
        ("Transfer-Encoding: xchunked", TransferEncoding),
        ("Transfer-Encoding: chunked, identity", TransferEncoding),
        ("Transfer-Encoding: gzip, chunked", TransferEncoding),
        ("Transfer-Encoding: chunked, chunked", TransferEncoding),
        ("Transfer-Encoding: identity", TransferEncoding),
        ("Transfer-Encoding: \"chunked\"", TransferEncoding),
        ("Transfer-Encoding: chunked;q=1", TransferEncoding),
        ("Transfer-Encoding:", TransferEncoding),
        ("Transfer-Encoding: \x0bchunked", ControlByte),
        ("Transfer-Encoding : chunked", SpaceBeforeColon),
        ("Transfer-Encoding\t: chunked", SpaceBeforeColon),
        (" Transfer-Encoding: chunked", Folded),
        ("X: y\r\n Transfer-Encoding: chunked", Folded),
        ("Transfer-Encoding:\r\n chunked", TransferEncoding),
        ("X: y\rTransfer-Encoding: chunked", BareReturn),
        ("X: y\nTransfer-Encoding: chunked", BareLineFeed),
        ("X: y\r\r", BareReturn),
        // Lengths
        ("Content-Length: 6\r\nContent-Length: 6", RepeatedLength),
        ("Content-Length: 6\r\nContent-Length: 5", RepeatedLength),
        ("Content-Length: 6, 6", RepeatedLength),
        ("Content-Length:", MalformedLength),
        ("Content-Length: +6", MalformedLength),
        ("Content-Length: -6", MalformedLength),
        ("Content-Length: 0x6", MalformedLength),
        ("Content-Length: 6 6", MalformedLength),
        ("Content-Length: 6a", MalformedLength),
        ("Content-Length: 6.0", MalformedLength),
        ("Content-Length: 9223372036854775808", MalformedLength),
        ("Content-Length: 18446744073709551617", MalformedLength),
        ("Content-Length: 6\u{b}", ControlByte),
        // Names and values
        (": x", FieldName),
        ("X", FieldName),
        ("X\0: y", ControlByte),
        ("X(: y", FieldName),
        ("X: \0", ControlByte),
        ("X: a\x7f", ControlByte),
        ("X: a\u{1b}[2J", ControlByte),
        ("Host: b", RepeatedHost),
        ("host: a", RepeatedHost),
    ];
    for (fields, expected) in fields {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        assert_eq!(refusal(request.as_bytes()), Some(*expected), "{fields:?}");
        let second = format!("{GOOD}{request}");
        let mut checker = Checker::new();
        let violation = checker.advance(second.as_bytes()).unwrap_err();
        assert_eq!((violation.refusal, checker.heads()), (*expected, 1), "pipelined {fields:?}");
        assert_eq!(violation.deliver, GOOD.len(), "nothing of the second goes on");
    }
}

#[test]
fn request_lines_are_taken_literally() {
    use Refusal::*;
    for (line, expected) in [
        ("GET  / HTTP/1.1", RequestLine),
        ("GET /  HTTP/1.1", RequestLine),
        ("GET\t/ HTTP/1.1", RequestLine),
        (" GET / HTTP/1.1", RequestLine),
        ("GET / HTTP/1.1 ", RequestLine),
        ("GET / a HTTP/1.1", RequestLine),
        ("GET /#a HTTP/1.1", RequestLine),
        ("GET HTTP/1.1", RequestLine),
        ("GET /", RequestLine),
        ("GET  HTTP/1.1", RequestLine),
        ("G(T / HTTP/1.1", RequestLine),
        ("GET /\0 HTTP/1.1", ControlByte),
        ("GET /\r HTTP/1.1", BareReturn),
        ("GET / HTTP/1.1\r", BareReturn),
        ("GET / HTTP/1.2", Version),
        ("GET / HTTP/2.0", Version),
        ("GET / HTTP/0.9", Version),
        ("GET / http/1.1", Version),
        ("PRI * HTTP/2.0", Version),
        ("\u{16}\u{3}\u{1}\u{2}", ControlByte),
    ] {
        let request = format!("{line}\r\nHost: a\r\n\r\n");
        let found = refusal(request.as_bytes());
        assert_eq!(found, Some(expected), "{line:?}");
    }
    assert_eq!(refusal(b"GET / HTTP/1.1\nHost: a\r\n\r\n"), Some(BareLineFeed));
    assert_eq!(refusal(b"GET / HTTP/1.1\r\nHost: a\r\n\n"), Some(BareLineFeed));
    assert_eq!(refusal(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Some(BareLineFeed));
    assert_eq!(refusal(b"\r\n\r\n\r\nGET / HTTP/1.1\r\n"), Some(EmptyLines));
    assert_eq!(refusal(b"GET / HTTP/1.1\r\n\r\n"), Some(MissingHost));
    assert_eq!(refusal(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), Some(RepeatedHost));
    assert_eq!(refusal(b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Some(EncodingInHttp10));
}

#[test]
fn chunks_end_where_they_say() {
    use Refusal::*;
    for (body, expected) in [
        ("g\r\n", ChunkSize),
        ("\r\n", ChunkSize),
        ("-1\r\n", ChunkSize),
        ("+1\r\n", ChunkSize),
        ("0x1\r\n", ChunkSize),
        (" 1\r\n", ChunkSize),
        ("1 \r\n", ChunkSize),
        ("1 ;x\r\n", ChunkSize),
        ("8000000000000000\r\n", ChunkSize),
        ("ffffffffffffffff\r\n", ChunkSize),
        ("00000000000000001\r\n", ChunkSize),
        ("10000000000000001\r\n", ChunkSize),
        ("1\n", BareLineFeed),
        ("1\r\ra", BareReturn),
        ("1;x\n", BareLineFeed),
        ("1;x\0\r\n", ControlByte),
        ("1;x\rX\n", BareReturn),
        ("1\r\nab\r\n", ChunkEnd),
        ("1\r\na\n", ChunkEnd),
        ("1\r\na\rX", ChunkEnd),
        ("0\r\n x\r\n", Folded),
        ("0\r\nx\r\n", FieldName),
        ("0\r\nx : y\r\n", SpaceBeforeColon),
        ("0\r\nx: y\n", BareLineFeed),
        ("0\r\n\n", BareLineFeed),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let (refused, heads) = verdict(request.as_bytes());
        assert_eq!((refused, heads), (Some((expected, Position::Body)), 1), "{body:?}");
    }
}

#[test]
fn limits_hold_to_the_byte() {
    let head = |filler: usize| {
        let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
        head.resize(head.len() + filler, b'x');
        head.extend_from_slice(b"\r\n\r\n");
        head
    };
    let fits = limits::HEAD_BYTES - head(0).len();
    assert_eq!(verdict(&head(fits)), (None, 1));
    let (refused, heads) = verdict(&head(fits + 1));
    assert_eq!((refused, heads), (Some((Refusal::HeadBytes, Position::Head)), 0));

    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(count - 1));
    assert_eq!(refusal(fields(limits::HEAD_FIELDS).as_bytes()), None);
    assert_eq!(refusal(fields(limits::HEAD_FIELDS + 1).as_bytes()), Some(Refusal::HeadFields));

    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let line = |length: usize| format!("{chunked}0;{}\r\n\r\n", "x".repeat(length - 2));
    assert_eq!(refusal(line(limits::CHUNK_LINE).as_bytes()), None);
    assert_eq!(refusal(line(limits::CHUNK_LINE + 1).as_bytes()), Some(Refusal::ChunkLine));
    let trailers = format!("{chunked}0\r\n{}", "a: b\r\n".repeat(limits::HEAD_FIELDS + 1));
    assert_eq!(refusal(trailers.as_bytes()), Some(Refusal::Trailers));
}

#[test]
fn what_was_refused_stays_refused() {
    let mut checker = Checker::new();
    let first = checker.advance(b"GET / HTTP/1.1\n").unwrap_err();
    let again = checker.advance(GOOD.as_bytes()).unwrap_err();
    assert_eq!((first.refusal, again.refusal), (Refusal::BareLineFeed, Refusal::BareLineFeed));
    assert_eq!((first.deliver, again.deliver), (0, 0));
}

/// Well-formed messages, seldom a piece of one, and seldom a byte changed.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let chunked = "POST /\u{e9} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: a:80\r\nX-Y:  z \r\n\r\n";
    let messages = prop::sample::select(vec![
        GOOD.to_owned(),
        "POST /a?b=c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "PUT /a HTTP/1.0\r\nContent-Length: 3\r\nX: y\r\n\r\n\r\n0".to_owned(),
        "\r\nGET / HTTP/1.0\r\n\r\n".to_owned(),
        "GET http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX:\r\n\r\n".to_owned(),
        format!("{chunked}0\r\n\r\n"),
        format!("{chunked}5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"),
        format!("{chunked}0a;b=c\r\n0123456789\r\n00;\r\n\r\n"),
        format!("{chunked}5\r\n0\r\n\r\n\r\n0\r\n\r\n"),
    ]);
    let pieces = prop::sample::select(vec![
        "\r\n",
        "\n",
        "GET ",
        "/x ",
        "HTTP/1.1\r\n",
        "Host: a\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "X: y\r\n",
        "0\r\n",
        "5\r\n",
    ]);
    let stream =
        prop::collection::vec(prop_oneof![12 => messages, 1 => pieces.prop_map(str::to_owned)], 1..6);
    let bytes = prop::sample::select(b"\r\n \t:;,0a/\0\x80#".to_vec());
    let change = (any::<prop::sample::Index>(), bytes, 0..3);
    let changes = prop_oneof![2 => Just(vec![]), 3 => prop::collection::vec(change, 1..3)];
    (stream, changes).prop_map(|(pieces, changes)| {
        let mut bytes = pieces.concat().into_bytes();
        for (index, byte, how) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

/// Where heads and messages end, told byte by byte, and whether all was accepted.
fn boundaries(bytes: &[u8]) -> (Vec<(usize, Position)>, bool) {
    let mut checker = Checker::new();
    let mut ends = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        let before = (checker.heads(), checker.position());
        if checker.advance(&[*byte]).is_err() {
            return (ends, false);
        }
        let after = (checker.heads(), checker.position());
        if after.0 != before.0 || (before.1 == Position::Body && after.1 != Position::Body) {
            ends.push((at + 1, after.1));
        }
    }
    (ends, true)
}

/// The same by httparse, with the framing rules of RFC 9112 6.3 on top. `None` when it refuses.
fn reference(bytes: &[u8]) -> Option<Vec<(usize, Position)>> {
    let mut ends = Vec::new();
    let mut at = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; limits::HEAD_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let httparse::Status::Complete(length) = request.parse(&bytes[at..]).ok()? else {
            return Some(ends);
        };
        assert_eq!(Some(parsed(&request)), naive(&bytes[at..at + length]), "one reading of the head");
        at += length;
        let value = |name: &str| {
            request
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name))
                .map(|field| field.value)
        };
        if value("transfer-encoding").is_some() {
            ends.push((at, Position::Body));
            at = match chunked_end(bytes, at)? {
                Some(end) => end,
                None => return Some(ends),
            };
        } else if let Some(length) = value("content-length") {
            let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
            ends.push((at, if length > 0 { Position::Body } else { Position::Between }));
            at += length;
            if length == 0 {
                continue;
            }
            if at > bytes.len() {
                return Some(ends);
            }
        } else {
            ends.push((at, Position::Between));
            continue;
        }
        ends.push((at, Position::Between));
    }
}

/// `Some(None)`: not complete yet.
fn chunked_end(bytes: &[u8], mut at: usize) -> Option<Option<usize>> {
    loop {
        let httparse::Status::Complete((length, size)) = httparse::parse_chunk_size(&bytes[at..]).ok()?
        else {
            return Some(None);
        };
        at += length;
        if size == 0 {
            let mut fields = [httparse::EMPTY_HEADER; limits::HEAD_FIELDS];
            return match httparse::parse_headers(&bytes[at..], &mut fields).ok()? {
                httparse::Status::Complete((length, _)) => Some(Some(at + length)),
                httparse::Status::Partial => Some(None),
            };
        }
        let Some(end) = at.checked_add(usize::try_from(size).ok()?) else { return Some(None) };
        let Some(rest) = bytes.get(end..) else { return Some(None) };
        if rest.len() < 2 {
            return b"\r\n".starts_with(rest).then_some(None);
        }
        if !rest.starts_with(b"\r\n") {
            return None;
        }
        at = end + 2;
    }
}

type Head = (Vec<u8>, Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>);

fn parsed(request: &httparse::Request<'_, '_>) -> Head {
    let fields = request.headers.iter();
    (
        request.method.unwrap().as_bytes().to_vec(),
        request.path.unwrap().as_bytes().to_vec(),
        fields.map(|field| (field.name.as_bytes().to_vec(), field.value.to_vec())).collect(),
    )
}

/// A head read by the letter: lines at CRLF, words at single spaces, fields at the first colon.
fn naive(head: &[u8]) -> Option<Head> {
    // One character a byte, so that the reading below is of bytes.
    let head: String = head.iter().map(|&byte| char::from(byte)).collect();
    let bytes = |text: &str| text.chars().map(|character| character as u8).collect::<Vec<u8>>();
    let mut lines = head.split("\r\n").skip_while(|line| line.is_empty());
    let line: Vec<&str> = lines.next()?.split(' ').collect();
    let [method, target, _] = line[..] else { return None };
    let mut fields = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        fields.push((bytes(name), bytes(value.trim_matches([' ', '\t']))));
    }
    Some((bytes(method), bytes(target), fields))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_split_changes_the_verdict(
        bytes in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let whole = verdict(&bytes);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut checker = Checker::new();
        let mut refused = None;
        let mut from = 0;
        for cut in cuts {
            if let Err(violation) = checker.advance(&bytes[from..cut]) {
                prop_assert!(violation.deliver <= cut - from);
                refused = Some((violation.refusal, violation.position));
                break;
            }
            from = cut;
        }
        prop_assert_eq!((refused, checker.heads()), whole);
    }

    #[test]
    fn what_is_accepted_has_one_reading(bytes in stream()) {
        // A line is judged when it is complete; httparse judges its beginning too.
        let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let bytes = &bytes[..end];
        let (ends, accepted) = boundaries(bytes);
        if accepted {
            prop_assert_eq!(Some(ends), reference(bytes));
        }
    }

    #[test]
    fn what_is_delivered_of_a_refused_head_completes_nothing(bytes in stream()) {
        let mut checker = Checker::new();
        if let Err(violation) = checker.advance(&bytes) {
            let (ends, accepted) = boundaries(&bytes[..violation.deliver]);
            prop_assert!(accepted || violation.refusal == Refusal::HeadFields);
            let heads = reference(&bytes[..violation.deliver]);
            prop_assert_eq!(heads, Some(ends));
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (refused, _) = verdict(&bytes);
        // Empty lines in front are no line of anything yet.
        let mut rest = &bytes[..];
        while let Some(more) = rest.strip_prefix(b"\r\n") {
            rest = more;
        }
        prop_assert!(refused.is_some() || !rest.contains(&b'\n'));
    }
}
