//! HTTP/2 clients that make work: whatever they send ends their connection, or waits until they read, and
//! others are served meanwhile.

use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, Frames, GOAWAY, HEADERS, PADDED, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, get,
};
use crate::harness::{End, Gateway, PATIENCE, Upstream, gateway, within};

const ENHANCE_YOUR_CALM: u32 = 11;
const PROTOCOL_ERROR: u32 = 1;

/// A gateway whose backend reads heads and nothing else for `/stalled`.
async fn stalling() -> (Upstream, Gateway) {
    let primary = Upstream::script(|mut served| async move {
        while let Some(head) = served.wire.head().await {
            if head.line.contains("/stalled") {
                return served.hang().await;
            }
            served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", primary.address)).await;
    (primary, gateway)
}

fn upload(stream: u32) -> Vec<u8> {
    let head = block(&get(&[(":method", Some("POST")), (":path", Some("/stalled"))]));
    frame(HEADERS, END_HEADERS, stream, &head)
}

/// Floods with `unit` behind `begun`, and what became of the connection: the code of its end, or
/// `None` when all of it was taken or the end overtook its reason.
async fn flood(gateway: &Gateway, begun: &[u8], unit: &[u8], bytes: usize) -> (Option<u32>, usize) {
    let mut client = Frames::connect(gateway.address).await;
    client.wire.send(begun).await;
    let piece = unit.repeat(64 * 1024 / unit.len());
    let mut sent = 0;
    let taken = async {
        while sent < bytes && client.wire.push(&piece).await {
            sent += piece.len();
        }
    };
    within("a flood taken or refused", taken).await;
    let code = if sent < bytes { client.ended().await } else { None };
    assert_eq!(gateway.get("/good").await.text(), "ok", "others are served");
    (code, sent)
}

/// What takes no part of a window could pile up without end in front of a backend that does not read.
#[tokio::test(flavor = "multi_thread")]
async fn frames_without_content_end_the_connection() {
    let (_primary, gateway) = stalling().await;
    let head = block(&get(&[]));
    let cases = [
        ("empty DATA", upload(1), frame(DATA, 0, 1, &[])),
        ("padding alone", upload(1), frame(DATA, PADDED, 1, &[&[255][..], &[0; 255]].concat())),
        ("empty CONTINUATION", frame(HEADERS, END_STREAM, 1, &head), frame(CONTINUATION, 0, 1, &[])),
    ];
    for (name, begun, unit) in cases {
        let most = 64 * 1024 * 1024;
        let (code, sent) = flood(&gateway, &begun, &unit, most).await;
        assert!(sent < most, "{name}: all of it was taken");
        assert!(matches!(code, Some(ENHANCE_YOUR_CALM | PROTOCOL_ERROR) | None), "{name}: {code:?}");
    }
    gateway.counts("mirrorgate_client_connections", &[], 0.0).await;
    gateway.counts("mirrorgate_refused_total", &["reason=\"http2_"], 3.0).await;
}

/// Nobody has a reason for so many frames that ask for no work: they cost little, but without end.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_change_nothing_end_the_connection() {
    let (_primary, gateway) = stalling().await;
    let one = 1_u32.to_be_bytes();
    let cases = [
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 15])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &one)),
        ("an answer to no PING", frame(PING, 1, 0, &[7; 8])),
        ("an unknown frame", frame(99, 0, 0, &[])),
    ];
    for (name, unit) in &cases {
        let most = 16 * 1024 * 1024;
        let (_, sent) = flood(&gateway, &[], unit, most).await;
        assert!(sent < most, "{name}: all of it was taken");
    }
    #[expect(clippy::cast_precision_loss)]
    let refused = cases.len() as f64;
    gateway.counts("mirrorgate_refused_total", &["reason=\"http2_flood\""], refused).await;
    gateway.counts("mirrorgate_client_connections", &[], 0.0).await;
}

/// A download whose client makes room for every kilobyte, by a frame for the stream and one for the
/// connection, and asks each time whether we live: more such frames than a flood has, each with a reason.
#[tokio::test(flavor = "multi_thread")]
async fn room_that_is_made_for_a_download_is_no_flood() {
    const BYTES: usize = 32 * 1024 * 1024;
    let primary = Upstream::script(|mut served| async move {
        while served.wire.head().await.is_some() {
            served.wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n")).await;
            served.wire.send(vec![b'x'; BYTES]).await;
        }
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", primary.address)).await;
    let mut client = Frames::connect(gateway.address).await;
    client.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&get(&[]))).await;
    let room = [
        frame(WINDOW_UPDATE, 0, 0, &1024_u32.to_be_bytes()),
        frame(WINDOW_UPDATE, 0, 1, &1024_u32.to_be_bytes()),
        frame(PING, 0, 0, &[7; 8]),
    ]
    .concat();
    let mut got = 0;
    let download = async {
        while got < BYTES {
            let frame = client.next().await.expect("the connection goes on");
            if frame.kind == DATA {
                got += frame.payload.len();
                client.wire.send(room.repeat(frame.payload.len().div_ceil(1024))).await;
            }
        }
    };
    within("a download", download).await;
    gateway.counts("mirrorgate_refused_total", &["reason=\"http2_flood\""], 0.0).await;
}

/// A window that opens by a byte, closes and opens again, for as many streams as there may be.
#[tokio::test(flavor = "multi_thread")]
async fn settings_that_move_all_windows_leave_others_served() {
    let (_primary, gateway) = stalling().await;
    let mut client = Frames::connect(gateway.address).await;
    for stream in (1..256).step_by(2) {
        client.wire.send(upload(stream)).await;
    }
    let window = |bytes: u32| [&[0, 4][..], &bytes.to_be_bytes()].concat();
    let toggle = [frame(SETTINGS, 0, 0, &window(1)), frame(SETTINGS, 0, 0, &window(0x7fff_ffff))].concat();
    // Not read: what answers them fills the way back, and then they are not read either.
    let quiet = std::time::Duration::from_millis(200);
    let taken = client.wire.send_until_blocked_or_closed(&toggle.repeat(500_000), quiet).await;
    assert!(taken < toggle.len() * 500_000);
    assert_eq!(gateway.get("/good").await.text(), "ok");
}

/// Rapid reset by our own hand (CVE-2025-8671): each stream is broken so that we have to reset it.
#[tokio::test(flavor = "multi_thread")]
async fn resets_that_a_client_provokes_end_the_connection() {
    let (primary, gateway) = stalling().await;
    let mut client = Frames::connect(gateway.address).await;
    let mut sent = 0;
    let provoke = async {
        for stream in (1..40_000).step_by(2) {
            let broken = [upload(stream), frame(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes())].concat();
            if !client.wire.push(&broken).await {
                break;
            }
            sent += 1;
        }
    };
    within("streams broken", provoke).await;
    let code = tokio::time::timeout(PATIENCE, client.ended()).await.unwrap();
    assert!(matches!(code, Some(ENHANCE_YOUR_CALM | PROTOCOL_ERROR) | None), "{code:?} after {sent}");
    assert!(sent < 20_000, "all streams were taken");
    assert!(primary.connections() < 1000, "{} of them went on", primary.connections());
    assert_eq!(gateway.get("/good").await.text(), "ok");
}

/// As many streams as are allowed are in use, not more, however often they are opened anew.
#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_however_fast_they_come() {
    let (primary, gateway) = stalling().await;
    let mut client = Frames::connect(gateway.address).await;
    let mut refused = 0;
    for stream in (1..1000).step_by(2) {
        if !client.wire.push(&upload(stream)).await {
            break;
        }
    }
    let count = async {
        while let Some(frame) = client.next().await {
            refused += usize::from(frame.kind == RST_STREAM);
            if refused >= 500 - 128 || frame.kind == GOAWAY {
                return;
            }
        }
    };
    within("the streams beyond the bound refused", count).await;
    assert!(primary.connections() <= 128, "{} requests went on", primary.connections());
    assert_eq!(gateway.get("/good").await.text(), "ok");
}

/// Trailers with a pseudo-header end their stream; the connection where they come so slowly that the
/// frame's head has gone on before. Nobody is told that such a request is complete.
#[tokio::test(flavor = "multi_thread")]
async fn pseudo_headers_in_trailers_are_refused_at_any_pace() {
    let primary = Upstream::saying("p").await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", primary.address)).await;
    let trailers = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&[("x", "y"), (":path", "/smuggled")]));
    for (count, piece) in [(1.0, usize::MAX), (2.0, 1)] {
        let mut client = Frames::connect(gateway.address).await;
        client.wire.send(upload(1)).await;
        client.wire.send(frame(DATA, 0, 1, b"test")).await;
        for piece in trailers.chunks(piece) {
            client.wire.send(piece).await;
            tokio::task::yield_now().await;
        }
        let fate = client.fate(1).await;
        assert!(matches!(fate, Fate::Reset(PROTOCOL_ERROR) | Fate::Ended(None)), "{fate:?}");
        gateway.counts("mirrorgate_refused_total", &["reason=\"framing\""], count).await;
    }
    assert_eq!(gateway.get("/good").await.text(), "p");
    assert!(
        primary
            .requests()
            .iter()
            .all(|request| request.end != End::Complete || request.line.contains("/good"))
    );
}
