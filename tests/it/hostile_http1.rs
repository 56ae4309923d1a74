//! A corpus of HTTP/1 requests that two readers could take for different ones. Each comes alone, behind
//! a good request, and byte by byte behind one, and always with another request behind it: refused with
//! one answer, counted once, the connection closed, and nothing of it with a backend or a mirror.

use crate::harness::{End, Wire};
use crate::hostile::{Scene, scene};

const GOOD: &[u8] = b"GET /good HTTP/1.1\r\nhost: a\r\n\r\n";
const BEHIND: &[u8] = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
/// Bytes that no method, field name or target may hold, apart from line ends.
const NO_TOKEN: &[u8] = b"\0\x01\x08\x0b\x0c\x0e\x1b\x1f \x7f\"(),/;<=>?@[\\]{}\x80\xa0\xff";

pub type Cases = Vec<(String, Vec<u8>)>;

/// One request for each of `middles`, between `before` and `after`.
fn around(what: &str, before: &[u8], middles: &[&[u8]], after: &[u8]) -> Cases {
    let one = |middle: &&[u8]| {
        (format!("{what} {:?}", String::from_utf8_lossy(middle)), [before, middle, after].concat())
    };
    middles.iter().map(one).collect()
}

fn framing_fields() -> Cases {
    let fields: &[&[u8]] = &[
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\t: chunked",
        b"Transfer-Encoding\0: chunked",
        b"Transfer-Encoding\xa0: chunked",
        b"Transfer-Encoding\r\n: chunked",
        b" Transfer-Encoding: chunked",
        b"X: y\r\n Transfer-Encoding: chunked",
        b"X: y\nTransfer-Encoding: chunked",
        b"X: y\rTransfer-Encoding: chunked",
        b"X: y\r\n\rTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: \x0bchunked",
        b"Transfer-Encoding: chunked\x0c",
        b"Transfer-Encoding: \0chunked",
        b"Transfer-Encoding: chunked\xa0",
        b"Transfer-Encoding: \xffchunked",
        b"Transfer-Encoding: chun\xc5\xbfed",
        b"Transfer-Encod\xc4\xb1ng: chunked",
        b"Transfer-Encoding: chunk",
        b"Transfer-Encoding: \"chunked\"",
        b"Transfer-Encoding: 'chunked'",
        b"Transfer-Encoding: chunked;q=1",
        b"Transfer-Encoding: chunked,",
        b"Transfer-Encoding: ,chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: identity, chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:",
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-Encoding:\r\n\tchunked",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Transfer-Encoding: chunked\r\nContent-Length:",
        b"Content-Length: 5\r\nTransfer-Encoding: identity",
        b"Content-Length: 5\r\nTransfer-Encoding: x",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\ncontent-length: 5",
        b"Content-Length: 5,5",
        b"Content-Length: 5, 6",
        b"Content-Length: 5,",
        b"Content-Length: ,5",
        b"Content-Length: 5 5",
        b"Content-Length : 5",
        b"\xefContent-Length: 5",
        b"Content-Length: +5",
        b"Content-Length: -5",
        b"Content-Length: -0",
        b"Content-Length: 0x5",
        b"Content-Length: 5.0",
        b"Content-Length: 5e0",
        b"Content-Length: 1_0",
        b"Content-Length: '5'",
        b"Content-Length: \x0b5",
        b"Content-Length: 5\0",
        b"Content-Length: \xd9\xa5",
        b"Content-Length: a",
        b"Content-Length:",
        b"Content-Length:\r\n 5",
        b"Content-Length: 5\r\n 6",
        b"Content-Length: 5\n\nX: y",
        b"Content-Length: 9223372036854775808",
        b"Content-Length: 18446744073709551615",
        b"Content-Length: 18446744073709551621",
    ];
    around("field", b"POST /smuggled HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n\r\n0\r\n\r\n")
}

fn lines() -> Cases {
    let lines: &[&[u8]] = &[
        b"GET /smuggled HTTP/1.1\nHost: a\n\n",
        b"GET /smuggled HTTP/1.1\rHost: a\r\r",
        b"GET /smuggled HTTP/1.1\r\r\nHost: a\r\n\r\n",
        b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\r\n",
        b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\n",
        b"GET /smuggled HTTP/1.1\n\rHost: a\n\r\n\r",
        b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX: y\r\n \r\n\r\n",
        b"GET /smuggled HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        b"GET /smuggled HTTP/1.1\r\n Host: a\r\nHost: b\r\n\r\n",
        b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        b"GET /smuggled HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
        b"\r\n\r\n\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\0GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\xef\xbb\xbfGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"GET /smuggled\r\n\r\n",
        b"GET /smuggled HTTP/1.1\r\n\r\n",
        b"POST /smuggled HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\0\xc8\x01\0\0\xc4\x03\x03\r\n\r\n",
    ];
    let mut all = around("lines", b"", lines, b"");
    let starts: &[&[u8]] = &[
        b"GET  /smuggled HTTP/1.1",
        b"GET /smuggled  HTTP/1.1",
        b"GET\t/smuggled HTTP/1.1",
        b"GET /smuggled\tHTTP/1.1",
        b" GET /smuggled HTTP/1.1",
        b"GET /smuggled HTTP/1.1 ",
        b"GET /smuggled HTTP/1.1 x",
        b"GET /smuggled HTTP/1.1 HTTP/1.1",
        b"GET /smuggled HTTP/1.2",
        b"GET /smuggled HTTP/0.9",
        b"GET /smuggled HTTP/1.10",
        b"GET /smuggled HTTP/01.1",
        b"GET /smuggled HTTP/1,1",
        b"GET /smuggled http/1.1",
        b"GET /smuggled HTTP /1.1",
        b"GET /smuggled HTTP/\xb9.1",
        b"GET smuggled HTTP/1.1",
        b"GET ?smuggled HTTP/1.1",
        b"GET * HTTP/1.1",
        b"OPTIONS *smuggled HTTP/1.1",
        b"GET a:80 HTTP/1.1",
        b"GET \\smuggled HTTP/1.1",
        b"GET /smuggled#x HTTP/1.1",
        b"GET /smuggled%00 HTTP/1.1",
        b"GET http://b/smuggled HTTP/1.1",
        b"GET http://a:81/smuggled HTTP/1.1",
        b"GET http://u@a/smuggled HTTP/1.1",
        b"GET http://a@b/smuggled HTTP/1.1",
        b"GET http://a\\@b/smuggled HTTP/1.1",
        b"GET http:///smuggled HTTP/1.1",
        b"GET http:/smuggled HTTP/1.1",
        b"GET ftp://a/smuggled HTTP/1.1",
        b"GET file:///smuggled HTTP/1.1",
        b"GET javascript:smuggled HTTP/1.1",
        b" /smuggled HTTP/1.1",
    ];
    all.extend(around("line", b"", starts, b"\r\nHost: a\r\n\r\n"));
    let hosts: &[&[u8]] = &[
        b"Host: a\r\nHost: a",
        b"Host: a\r\nhOST: b",
        b"Host:",
        b"Host: ",
        b"Host: a b",
        b"Host: a, b",
        b"Host: u@a",
        b"Host: a/b",
        b"Host: a?b",
        b"Host: a#b",
        b"Host: a:",
        b"Host: a:x",
        b"Host: a:-1",
        b"Host: a:65536",
        b"Host: a\0b",
        b"Host: a\rb",
        b"Host : a",
        b"Host:\r\n a",
        b"Host: %61",
        b"Host: \xc3\xb6",
        b"Host: [::1",
        b"Host: [g::1]",
        b"Host: [::1]x",
        b"Host: .",
        b"Host: ..",
        b"Host: a..b",
        b"X: y",
    ];
    all.extend(around("host", b"GET /smuggled HTTP/1.1\r\n", hosts, b"\r\n\r\n"));
    all
}

fn bytes() -> Cases {
    let head = b"\r\nHost: a\r\n\r\n";
    let mut all = Cases::new();
    for byte in NO_TOKEN {
        let method = [b"GE", &[*byte][..], b"T /smuggled HTTP/1.1", head].concat();
        let name = [b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX", &[*byte][..], b"Y: z\r\n\r\n"].concat();
        all.extend([(format!("{byte:#x} in a method"), method), (format!("{byte:#x} in a name"), name)]);
    }
    for byte in (0..0x20).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        let value = [b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX: y", &[byte][..], b"z\r\n\r\n"].concat();
        let target = [b"GET /smuggled", &[byte][..], b"x HTTP/1.1", head].concat();
        all.extend([(format!("{byte:#x} in a value"), value), (format!("{byte:#x} in a target"), target)]);
    }
    all
}

/// Of these the head is good, so that a backend may have seen it; but none of them as a whole.
fn chunks() -> Cases {
    let chunks: &[&[u8]] = &[
        b"-1\r\nx\r\n0\r\n\r\n",
        b"+1\r\nx\r\n0\r\n\r\n",
        b"0x1\r\nx\r\n0\r\n\r\n",
        b"1_0\r\nx\r\n0\r\n\r\n",
        b"1,0\r\nx\r\n0\r\n\r\n",
        b"g\r\nx\r\n0\r\n\r\n",
        b"\xd9\xa1\r\nx\r\n0\r\n\r\n",
        b" 1\r\nx\r\n0\r\n\r\n",
        b"1 \r\nx\r\n0\r\n\r\n",
        b"1\t\r\nx\r\n0\r\n\r\n",
        b"1 ;a\r\nx\r\n0\r\n\r\n",
        b"\r\nx\r\n0\r\n\r\n",
        b";a\r\nx\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\nx\r\n0\r\n\r\n",
        b"10000000000000001\r\nx\r\n0\r\n\r\n",
        b"100000000000000001\r\nx\r\n0\r\n\r\n",
        b"00000000000000000\r\n\r\n",
        b"1\nx\r\n0\r\n\r\n",
        b"1\rx\r\n0\r\n\r\n",
        b"1\r\r\nx\r\n0\r\n\r\n",
        b"1\r\nx\n0\r\n\r\n",
        b"1\r\nx\n\r0\r\n\r\n",
        b"1\r\nxy\r\n0\r\n\r\n",
        b"3\r\nxy\r\n0\r\n\r\n",
        b"1\r\nxAA0\r\n\r\n",
        b"1\r\nx\r\n0\n\r\n",
        b"1\r\nx\r\n0\r\n\n",
        b"1;a\nx\r\n0\r\n\r\n",
        b"1;a\rb\r\nx\r\n0\r\n\r\n",
        b"1;\0\r\nx\r\n0\r\n\r\n",
        b"1;a=\"\n\"\r\nx\r\n0\r\n\r\n",
        b"0\r\nX y: z\r\n\r\n",
        b"0\r\nX\r\n\r\n",
        b"0\r\nX: y\r\n z\r\n\r\n",
        b"0\r\nX: y\n\r\n",
        b"0\r\nX: \0\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
    ];
    let head = b"POST /cut HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut all = around("chunks", head, chunks, b"");
    let long = [&head[..], b"1;", &[b'a'; 5000], b"\r\nx\r\n0\r\n\r\n"].concat();
    let many = [&head[..], b"0\r\n", &b"a: b\r\n".repeat(200), b"\r\n"].concat();
    all.extend([("a long extension".into(), long), ("many trailers".into(), many)]);
    all
}

fn too_much() -> Cases {
    let long = |count| vec![b'x'; count];
    let head: &[u8] = b"\r\nHost: a\r\n\r\n";
    vec![
        ("a long field".into(), [b"GET /smuggled HTTP/1.1\r\nX: ", &long(70_000)[..], head].concat()),
        ("many fields".into(), [b"GET /smuggled HTTP/1.1", &b"\r\na: b".repeat(101)[..], head].concat()),
        ("a long target".into(), [b"GET /smuggled", &long(20_000)[..], b" HTTP/1.1", head].concat()),
        ("a long method".into(), [&long(70_000)[..], b" /smuggled HTTP/1.1", head].concat()),
    ]
}

/// All of it.
pub fn corpus() -> Cases {
    [framing_fields(), lines(), bytes(), chunks(), too_much()].concat()
}

/// The statuses of the answers that `said` holds.
fn statuses(said: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(said);
    let codes = text.split("HTTP/1.1 ").skip(1);
    codes.map(|rest| rest.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0)).collect()
}

/// Sends `bytes`, all at once or one by one, and what is said until the gateway closes.
async fn told(scene: &Scene, bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut wire: Wire = scene.gateway.connect().await;
    for piece in bytes.chunks(piece) {
        if !wire.send(piece).await {
            break;
        }
    }
    wire.closed().await
}

async fn all_are_refused(scene: &Scene, cases: Cases) {
    let (mut failed, mut counted) = (Vec::new(), 0.0);
    for (name, request) in cases {
        for (good, piece) in [(0, usize::MAX), (1, usize::MAX), (1, 1)] {
            if piece == 1 && request.len() > 1000 {
                continue;
            }
            let bytes = [&GOOD.repeat(good)[..], &request, BEHIND].concat();
            let codes = statuses(&told(scene, &bytes, piece).await);
            let answers = codes.len() == good + 1 && codes[..good].iter().all(|code| *code == 200);
            if !answers || !codes.last().is_some_and(|code| (400..600).contains(code)) {
                failed.push(format!("{name} behind {good}, by {piece}: {codes:?}"));
            }
            // It is counted when the connection has ended, which its client may see before.
            counted += 1.0;
            scene.gateway.counts("mirrorgate_refused_total", &[], counted).await;
        }
    }
    assert!(failed.is_empty(), "{} are not:\n{}", failed.len(), failed.join("\n"));
}

/// Good requests are served, and nothing else has come to anybody as a whole.
async fn nothing_got_through(scene: &Scene) {
    assert_eq!(scene.gateway.get("/good").await.text(), "p");
    scene.gateway.settled().await;
    for upstream in [&scene.primary, &scene.mirror] {
        for request in upstream.requests() {
            let cut = request.line == "POST /cut HTTP/1.1" && request.end != End::Complete;
            assert!(cut || request.line == "GET /good HTTP/1.1", "{request:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn framing_fields_are_refused() {
    let scene = scene("").await;
    all_are_refused(&scene, framing_fields()).await;
    nothing_got_through(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_and_bytes_are_refused() {
    let scene = scene("").await;
    all_are_refused(&scene, [lines(), bytes(), too_much()].concat()).await;
    nothing_got_through(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_refused() {
    let scene = scene("").await;
    all_are_refused(&scene, chunks()).await;
    nothing_got_through(&scene).await;
}
