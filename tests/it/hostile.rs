//! Clients that mean harm. Whatever they send is refused or held to bounds, nothing of it reaches a
//! backend or a mirror, and the next good request is served.

use std::time::Duration;

use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame, get, length,
};
use crate::harness::{Authority, Gateway, PATIENCE, Upstream, Wire, eventually, gateway, within};

pub struct Scene {
    pub primary: Upstream,
    pub mirror: Upstream,
    pub gateway: Gateway,
}

pub async fn scene(rest: &str) -> Scene {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let gateway = gateway(&format!(
        "routes: [{{ backend: 'http://{}', mirrors: ['http://{}'] }}]\n{rest}",
        primary.address, mirror.address
    ))
    .await;
    Scene { primary, mirror, gateway }
}

impl Scene {
    /// A good request is served, and nothing else has come to anybody.
    async fn only_good(&self, good: u64) {
        assert_eq!(self.gateway.get("/good").await.text(), "p");
        self.gateway.outcome("delivered", good).await;
        for upstream in [&self.primary, &self.mirror] {
            let lines: Vec<_> = upstream.requests().into_iter().map(|request| request.line).collect();
            assert!(lines.iter().all(|line| line == "GET /good HTTP/1.1"), "{lines:?}");
        }
    }
}

/// What comes before or after makes two readers see different messages.
pub const AMBIGUOUS: &[(&str, &str)] = &[
    (
        "CL.TE",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nG",
    ),
    ("TE.CL", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n5c\r\n"),
    (
        "TE.TE",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    ("TE obfuscated", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("TE list", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (
        "TE twice chunked",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    ("TE tab", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\u{b}chunked\r\n\r\n0\r\n\r\n"),
    ("TE space before colon", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("TE folded", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("TE in HTTP/1.0", "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("CL twice", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
    ("CL twice, equal", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na"),
    ("CL list", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\na"),
    ("CL plus", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na"),
    ("CL minus", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\na"),
    ("CL hex", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x1\r\n\r\na"),
    ("CL empty", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\na"),
    ("CL too great", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\na"),
    ("bare LF", "GET / HTTP/1.1\nhost: a\n\n"),
    ("bare LF in a field", "GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n"),
    ("bare CR in a field", "GET / HTTP/1.1\r\nhost: a\r\nx: y\rz: 1\r\n\r\n"),
    ("NUL", "GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n"),
    ("folded line", "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n"),
    ("folded first line", "GET / HTTP/1.1\r\n host: a\r\n\r\n"),
    ("space before the colon", "GET / HTTP/1.1\r\nhost : a\r\n\r\n"),
    ("no colon", "GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n"),
    ("no name", "GET / HTTP/1.1\r\nhost: a\r\n: x\r\n\r\n"),
    ("no host", "GET / HTTP/1.1\r\n\r\n"),
    ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
    ("absolute form against Host", "GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("space in the path", "GET / x HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("tab for a space", "GET\t/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("no path", "GET x HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("other version", "GET / HTTP/1.2\r\nhost: a\r\n\r\n"),
    ("another protocol", "GET / HTTP/3.0\r\nhost: a\r\n\r\n"),
    ("user in Host", "GET / HTTP/1.1\r\nhost: u@a\r\n\r\n"),
    ("NUL in the path", "GET /%00 HTTP/1.1\r\nhost: a\r\n\r\n"),
];

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_requests_are_refused_and_the_connection_closes() {
    let scene = scene("").await;
    for (name, head) in AMBIGUOUS {
        let mut client = scene.gateway.connect().await;
        client.send(head).await;
        client.send("GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let said = client.closed().await;
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with("HTTP/1.1 400") || said.starts_with("HTTP/1.1 505"), "{name}: {said:?}");
        assert_eq!(said.matches("HTTP/1.1").count(), 1, "{name}: {said:?}");
    }
    scene.only_good(1).await;
}

/// The same after a good request on the same connection, and in one write with it.
#[tokio::test(flavor = "multi_thread")]
async fn ambiguity_is_seen_behind_a_good_request_too() {
    let scene = scene("").await;
    for (good, (name, head)) in (1..).zip(AMBIGUOUS) {
        let mut client = scene.gateway.connect().await;
        client.send(format!("GET /good HTTP/1.1\r\nhost: a\r\n\r\n{head}")).await;
        client.send("GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let said = client.closed().await;
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with("HTTP/1.1 200"), "{name}: {said:?}");
        assert_eq!(said.matches("HTTP/1.1").count(), 2, "{name}: {said:?}");
        assert!(said.contains("HTTP/1.1 400") || said.contains("HTTP/1.1 505"), "{name}: {said:?}");
        scene.gateway.outcome("delivered", good).await;
    }
    scene.only_good(AMBIGUOUS.len() as u64 + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_chunks_never_look_complete_to_anybody() {
    let scene = scene("").await;
    for chunks in [
        "5\r\nhelloX0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5 \u{b};x\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "0\r\nx\r\n\r\n",
        "0\r\nbad name: x\r\n\r\n",
        "5;a=\"\nhello\r\n0\r\n\r\n",
    ] {
        let mut client = scene.gateway.connect().await;
        client
            .send(format!("POST /bad HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"))
            .await;
        client.send("GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let said = client.closed().await;
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("HTTP/1.1 200"), "{chunks:?}: {said:?}");
    }
    assert_eq!(scene.gateway.get("/good").await.text(), "p");
    for upstream in [&scene.primary, &scene.mirror] {
        for request in upstream.received(1).await {
            let whole = request.end == crate::harness::End::Complete;
            assert!(!whole || request.line == "GET /good HTTP/1.1", "{request:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_http2_requests_are_refused_one_by_one() {
    let scene = scene("").await;
    type Changes = &'static [(&'static str, Option<&'static str>)];
    let cases: &[(&str, Changes)] = &[
        ("no path", &[(":path", None)]),
        ("no method", &[(":method", None)]),
        ("no scheme", &[(":scheme", None)]),
        ("empty path", &[(":path", Some(""))]),
        ("path without a slash", &[(":path", Some("x"))]),
        ("space in the path", &[(":path", Some("/ HTTP/1.1"))]),
        ("line end in the path", &[(":path", Some("/\r\nx: y"))]),
        ("line end in a value", &[("x", Some("y\r\nz: 1"))]),
        ("LF in a value", &[("x", Some("y\nz: 1"))]),
        ("NUL in a value", &[("x", Some("\0"))]),
        ("line end in a name", &[("x\r\ny", Some("z"))]),
        ("colon in a name", &[("x: y", Some("z"))]),
        ("upper case name", &[("Xx", Some("y"))]),
        ("space in the method", &[(":method", Some("GET / HTTP/1.1\r\nx"))]),
        ("unknown pseudo-header", &[(":x", Some("y"))]),
        ("response's pseudo-header", &[(":status", Some("200"))]),
        ("connection", &[("connection", Some("close"))]),
        ("keep-alive", &[("keep-alive", Some("1"))]),
        ("proxy-connection", &[("proxy-connection", Some("close"))]),
        ("transfer-encoding", &[("transfer-encoding", Some("chunked"))]),
        ("upgrade", &[("upgrade", Some("websocket"))]),
        ("te", &[("te", Some("gzip"))]),
        ("authority against Host", &[("host", Some("other"))]),
        ("user in the authority", &[(":authority", Some("u@test"))]),
        ("line end in the authority", &[(":authority", Some("a\r\nx: y"))]),
        ("scheme with a line end", &[(":scheme", Some("http://x/\r\n"))]),
        ("length without a body", &[("content-length", Some("5"))]),
        ("length that is none", &[("content-length", Some("+0"))]),
        ("expect in the protocol", &[(":protocol", Some("websocket"))]),
        ("CONNECT with a path", &[(":method", Some("CONNECT"))]),
    ];
    for (name, changes) in cases {
        let mut client = Frames::connect(scene.gateway.address).await;
        let fate = client.ask(1, &get(changes)).await;
        match fate {
            Fate::Answered(400..=499, _) | Fate::Reset(1) | Fate::Ended(Some(1)) => {}
            fate => panic!("{name}: {fate:?}"),
        }
    }
    // A pseudo-header behind a field, and one that stands twice.
    for fields in [
        &[(":method", "GET"), (":scheme", "http"), ("x", "y"), (":path", "/smuggled"), (":authority", "a")][..],
        &[
            (":method", "GET"),
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/smuggled"),
            (":authority", "a"),
        ],
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/smuggled"),
            (":path", "/"),
            (":authority", "a"),
        ],
    ] {
        let fate = Frames::connect(scene.gateway.address).await.ask(1, fields).await;
        assert!(
            matches!(fate, Fate::Answered(400..=499, _) | Fate::Reset(1) | Fate::Ended(Some(1))),
            "{fate:?}"
        );
    }
    scene.only_good(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_length_than_announced_never_looks_complete() {
    let scene = scene("").await;
    for (length, body) in [("2", &b"abcdef"[..]), ("10", b"abc")] {
        let mut client = Frames::connect(scene.gateway.address).await;
        let fields = get(&[(":method", Some("POST")), ("content-length", Some(length))]);
        client.send(HEADERS, END_HEADERS, 1, &block(&fields)).await;
        client.send(DATA, END_STREAM, 1, body).await;
        let fate = client.fate(1).await;
        assert!(!matches!(fate, Fate::Answered(200..=299, _)), "{length}: {fate:?}");
    }
    assert_eq!(scene.gateway.get("/good").await.text(), "p");
    for upstream in [&scene.primary, &scene.mirror] {
        for request in upstream.received(1).await {
            let whole = request.end == crate::harness::End::Complete;
            assert!(!whole || request.line == "GET /good HTTP/1.1", "{request:?}");
        }
    }
}

/// CVE-2023-44487: each stream is reset as soon as it is opened.
#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_the_connection() {
    let scene = scene("").await;
    let mut client = Frames::connect(scene.gateway.address).await;
    let head = block(&get(&[]));
    let mut flood = Vec::new();
    for stream in (1..20_000).step_by(2) {
        flood.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &head));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    // It may be closed before all of it was taken.
    let _taken = tokio::time::timeout(PATIENCE, client.wire.push(&flood)).await.unwrap();
    // ENHANCE_YOUR_CALM, unless the reset overtook it.
    assert!(matches!(client.ended().await, Some(11) | None));
    assert!(scene.primary.count() < 1000, "{} requests went on", scene.primary.count());
    scene.gateway.counts("mirrorgate_refused_total", &["reason=\"http2_flood\""], 1.0).await;
    assert_eq!(scene.gateway.get("/good").await.text(), "p");
}

/// CVE-2024-27316: a head that never ends.
#[tokio::test(flavor = "multi_thread")]
async fn endless_continuations_end_the_connection() {
    let scene = scene("").await;
    let mut client = Frames::connect(scene.gateway.address).await;
    client.send(HEADERS, END_STREAM, 1, &block(&get(&[]))).await;
    let more = frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(1000))]));
    let mut sent = 0;
    while sent < 10_000 && client.wire.push(&more).await {
        sent += 1;
    }
    assert!(sent < 10_000, "10 MB of a head were taken");
    client.ended().await;
    scene.only_good(1).await;
}

/// A field of 3 kB, said once and then named by a byte, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn compressed_heads_are_as_large_as_what_they_say() {
    let scene = scene("").await;
    let mut client = Frames::connect(scene.gateway.address).await;
    let mut bomb = block(&get(&[]));
    bomb.extend([0x40, 1, b'a']);
    length(&mut bomb, 3000);
    bomb.extend([b'x'; 3000]);
    bomb.extend([0xbe; 8000]);
    client.send(HEADERS, END_STREAM | END_HEADERS, 1, &bomb).await;
    let fate = client.fate(1).await;
    assert!(matches!(fate, Fate::Answered(431, _) | Fate::Reset(_) | Fate::Ended(Some(_))), "{fate:?}");
    scene.only_good(1).await;
}

/// Who asks for answers without end, and whether it reads them or not, is not read from any more.
#[tokio::test(flavor = "multi_thread")]
async fn floods_of_pings_and_settings_end_the_connection() {
    let scene = scene("").await;
    let floods = [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])];
    for one in floods {
        let mut client = Frames::connect(scene.gateway.address).await;
        let flood = one.repeat(64 * 1024 * 1024 / one.len());
        let quiet = Duration::from_millis(500);
        let taken = client.wire.send_until_blocked_or_closed(&flood, quiet).await;
        assert!(taken < flood.len(), "all of {} bytes were taken", flood.len());
        scene.gateway.get("/good").await;
    }
    scene.gateway.counts("mirrorgate_refused_total", &["reason=\"http2_flood\""], 2.0).await;
    scene.only_good(3).await;
}

/// A client that asks for much and takes nothing holds back its own stream, and no more memory than
/// a window.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_zero_holds_back_the_backend_and_nobody_else() {
    let (told, mut pushed) = tokio::sync::mpsc::unbounded_channel();
    let primary = Upstream::script(move |mut served| {
        let told = told.clone();
        async move {
            while let Some(request) = served.request().await {
                if request.line.contains("/small") {
                    served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                    continue;
                }
                let length = 64 * 1024 * 1024;
                served.wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")).await;
                let quiet = Duration::from_millis(500);
                told.send(served.wire.send_until_blocked(&vec![b'x'; length], quiet).await).unwrap();
            }
        }
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", primary.address)).await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 0
    let mut client = Frames::with_settings(gateway.address, &[0, 4, 0, 0, 0, 0]).await;
    client.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&get(&[(":path", Some("/large"))]))).await;
    let pushed = within("the backend being held back", pushed.recv()).await.unwrap();
    // Most of it is what the kernel keeps for both sockets.
    assert!(pushed < 32 * 1024 * 1024, "{pushed} bytes were taken for a client that takes none");
    assert_eq!(gateway.get("/small").await.text(), "ok");
    // Another stream of the same connection gets on as soon as it has a window.
    client.send(HEADERS, END_STREAM | END_HEADERS, 3, &block(&get(&[(":path", Some("/small"))]))).await;
    client.send(WINDOW_UPDATE, 0, 3, &1000_u32.to_be_bytes()).await;
    assert_eq!(client.fate(3).await, Fate::Answered(200, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_have_deadlines_in_every_phase() {
    let scene =
        scene("limits: { first_byte: 500ms, head_time: 500ms, idle: 500ms, write_stall: 500ms }").await;
    // Not a byte.
    let mut silent = scene.gateway.connect().await;
    assert_eq!(silent.closed().await, b"");
    // A head that drips: each byte comes in time, the head does not.
    let mut slow = scene.gateway.connect().await;
    let drip = async {
        for byte in b"GET / HTTP/1.1\r\nhost: a\r\nx: ".iter().chain(&[b'y'; 1000]) {
            if !slow.send([*byte]).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            if !slow.is_silent_for(Duration::from_millis(1)).await {
                break;
            }
        }
    };
    within("the end of a slow head", drip).await;
    let said = slow.closed().await;
    assert!(said.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&said));
    // Half of HTTP/2's preface; and all of it, with no request behind.
    let mut half = scene.gateway.connect().await;
    half.send("PRI * HTTP/2.0\r\n").await;
    half.closed().await;
    let mut idle = Frames::connect(scene.gateway.address).await;
    // It is told, so that it knows of a request on its way just then that nobody looked at.
    let goodbye = async {
        loop {
            let frame = idle.next().await.expect("a GOAWAY");
            if frame.kind == GOAWAY {
                return frame.payload;
            }
        }
    };
    assert_eq!(within("a goodbye", goodbye).await, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    // It does not answer what it is asked then, and is left all the same.
    assert_eq!(idle.ended().await, None);
    // A kept connection without another request.
    let mut kept = scene.gateway.connect().await;
    kept.send("GET /good HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(kept.response().await.text(), "p");
    assert_eq!(kept.closed().await, b"");
    scene.only_good(2).await;
}

/// A connection of HTTP/2 without a request may be idle for long; one whose head never ends may not.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_http2_has_the_time_of_a_head() {
    let scene = scene("limits: { head_time: 500ms }").await;
    let head = block(&get(&[]));
    let whole = frame(HEADERS, END_STREAM | END_HEADERS, 1, &head);
    for begun in [&frame(HEADERS, END_STREAM, 1, &head)[..], &whole[..5], &whole[..12]] {
        let mut client = Frames::connect(scene.gateway.address).await;
        client.wire.send(begun).await;
        within("its end", client.wire.closed()).await;
    }
    scene.gateway.counts("mirrorgate_refused_total", &["reason=\"head_timeout\""], 3.0).await;
    // One that took its time and came is answered.
    let mut client = Frames::connect(scene.gateway.address).await;
    client.wire.send(&whole[..12]).await;
    client.wire.send(&whole[12..]).await;
    assert_eq!(client.fate(1).await, Fate::Answered(200, 1));
}

/// A stream whose client opens no window is reset when its time is up, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_stays_shut_ends_its_stream_alone() {
    let scene = scene("limits: { write_stall: 1s }").await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 0
    let mut client = Frames::with_settings(scene.gateway.address, &[0, 4, 0, 0, 0, 0]).await;
    client.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&get(&[]))).await;
    const CANCEL: u32 = 8;
    assert_eq!(client.fate(1).await, Fate::Reset(CANCEL));
    client.send(HEADERS, END_STREAM | END_HEADERS, 3, &block(&get(&[]))).await;
    client.send(WINDOW_UPDATE, 0, 3, &1000_u32.to_be_bytes()).await;
    assert_eq!(client.fate(3).await, Fate::Answered(200, 1));
    scene.gateway.counts("mirrorgate_client_deadlines_total", &["deadline=\"write_stall\""], 1.0).await;
}

/// The same at leisure: each request is taken in, sent on and then given up.
#[tokio::test(flavor = "multi_thread")]
async fn resets_one_by_one_end_the_connection_too() {
    let primary = Upstream::script(|mut served| async move {
        if served.request().await.is_some() {
            served.hang().await;
        }
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", primary.address)).await;
    let mut client = Frames::connect(gateway.address).await;
    let head = block(&get(&[]));
    for number in 0..2000_u32 {
        let stream = 2 * number + 1;
        let asked = client.send(HEADERS, END_STREAM | END_HEADERS, stream, &head).await;
        let before = number as usize;
        let gone = || gateway.sum("mirrorgate_client_deadlines_total", &["deadline=\"abandoned\""]) == 1.0;
        eventually("the request sent on", || primary.count() > before || gone()).await;
        if !asked || gone() || !client.send(RST_STREAM, 0, stream, &8_u32.to_be_bytes()).await {
            break;
        }
    }
    client.ended().await;
    assert!((500..=600).contains(&primary.count()), "{} requests went on", primary.count());
    gateway.counts("mirrorgate_client_deadlines_total", &["deadline=\"abandoned\""], 1.0).await;
}

/// What is sent before HTTP drips, a byte at a time, each of them in time: it ends when its time is up, it
/// is counted, and whoever comes next is served.
#[tokio::test(flavor = "multi_thread")]
async fn what_drips_before_http_has_deadlines_too() {
    let authority = Authority::new();
    authority.sign("shop", "shop.test");
    let primary = Upstream::saying("p").await;
    let of = async |listener: &str| {
        let text = format!(
            "listeners: [{{ address: '127.0.0.1:0', name: edge{listener} }}]\nadmin: off\nworkers: 2\n\
             limits: {{ first_byte: 500ms, tls_handshake: 500ms, head_time: 500ms }}\n\
             routes: [{{ backend: 'http://{}' }}]",
            primary.address
        );
        Gateway::start(&text, authority.path(), None).await
    };
    // A record of TLS that says it has 512 bytes; a line of PROXY; a header of its second version.
    let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 252][..], &[0; 500]].concat();
    let line = [&b"PROXY TCP4 192.0.2.1 "[..], &[b'1'; 80]].concat();
    let header = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[0; 500]].concat();
    let tls = ", tls: { certificates: [{ cert: shop.crt, key: shop.key }] }";
    let proxy = ", proxy_protocol: true";
    let good = b"GET /good HTTP/1.1\r\nhost: shop.test\r\n\r\n";
    for (listener, drips, metric, label) in [
        (tls, &hello, "mirrorgate_tls_handshakes_failed_total", ""),
        (proxy, &line, "mirrorgate_refused_total", "reason=\"proxy_protocol\""),
        (proxy, &header, "mirrorgate_refused_total", "reason=\"proxy_protocol\""),
        (
            "",
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            "mirrorgate_client_deadlines_total",
            "deadline=\"head\"",
        ),
    ] {
        let gateway = of(listener).await;
        let mut slow = gateway.connect().await;
        within("the end of what drips", drip(&mut slow, drips)).await;
        gateway.counts(metric, &[label], 1.0).await;
        gateway.counts("mirrorgate_client_connections", &[], 0.0).await;
        let served = if listener == tls {
            let tunnel = authority.tunnel(gateway.address, "shop.test", "http/1.1").await;
            let mut client = Wire::connect(tunnel).await;
            client.send(good).await;
            client.response().await
        } else {
            let named = if listener == proxy { &b"PROXY TCP4 192.0.2.1 10.0.0.1 80 80\r\n"[..] } else { b"" };
            gateway.ask([named, good].concat()).await
        };
        assert_eq!(served.text(), "p", "{listener}");
    }
}

/// Sends `bytes` one by one, as slowly as to be far from done when any deadline here has passed, until the
/// other side closes.
async fn drip(client: &mut Wire, bytes: &[u8]) {
    for byte in bytes.iter().cycle().take(bytes.len().max(200)) {
        if !client.send([*byte]).await || !client.is_silent_for(Duration::from_millis(50)).await {
            return;
        }
    }
    panic!("all of it was taken");
}
