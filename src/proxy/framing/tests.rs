//! hyper's HTTP/1 server behind the wrapper, and raw clients in front of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Mutex;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::limits;
use crate::proxy::deadlines::{DeadlineSettings, Deadlines};

const GOOD: &str = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
const CHUNKED: &str = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

struct Server {
    deadlines: Arc<Deadlines>,
    refusals: Arc<RefusalCounts>,
    state: Arc<ConnectionState>,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<hyper::Result<()>>,
}

/// A server on one end of a pipe that carries at most `buffer` bytes at once, so that heads come in
/// pieces of at most that size.
fn serve(buffer: usize) -> (Server, DuplexStream) {
    let (client, stream) = duplex(buffer);
    let deadlines = Deadlines::new(DeadlineSettings::default());
    let refusals = Arc::new(RefusalCounts::default());
    let framed = Framed::new(stream, deadlines.register().unwrap(), Arc::clone(&refusals), true);
    let state = Arc::clone(framed.state());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = {
        let (seen, state) = (Arc::clone(&seen), Arc::clone(&state));
        service_fn(move |request| answer(request, Arc::clone(&seen), Arc::clone(&state)))
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .max_header_size(limits::HEAD_BYTES)
        .max_buf_size(limits::CONNECTION_BUFFER)
        .serve_connection(TokioIo::new(framed), service)
        .with_upgrades();
    (Server { deadlines, refusals, state, seen, task: tokio::spawn(connection) }, client)
}

/// 200 with the body; 400 with the reason when the body cannot be read; 101 and an echo for an
/// upgrade.
async fn answer(
    mut request: Request<Incoming>,
    seen: Arc<Mutex<Vec<String>>>,
    state: Arc<ConnectionState>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let _in_flight = state.request();
    seen.lock().unwrap().push(request.uri().path().to_owned());
    if request.headers().contains_key("upgrade") {
        state.pass_through();
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        return Ok(response.header("upgrade", "echo").body(Full::default()).unwrap());
    }
    Ok(match request.into_body().collect().await {
        Ok(body) => Response::new(Full::new(body.to_bytes())),
        Err(error) => {
            let reason = refusal_in(&error).expect("a refusal is in the error's chain");
            Response::builder().status(400).body(Full::from(reason.as_str())).unwrap()
        }
    })
}

fn refusal_in(error: &hyper::Error) -> Option<Refusal> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            return inner.downcast_ref::<Refusal>().copied();
        }
        source = error.source();
    }
    None
}

/// Sends `bytes` and reads until the server closes, as a client does that has nothing more to send
/// and waits.
async fn talk(client: DuplexStream, bytes: &[u8]) -> String {
    let (mut reader, mut writer) = tokio::io::split(client);
    let mut answer = Vec::new();
    let (_, read) = tokio::join!(writer.write_all(bytes), reader.read_to_end(&mut answer));
    read.unwrap();
    String::from_utf8(answer).unwrap()
}

fn statuses(answer: &str) -> Vec<&str> {
    answer.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)).collect()
}

fn with_fields(fields: &str) -> String {
    format!(
        "POST /bad HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    )
}

#[tokio::test]
async fn a_bad_head_gets_400_and_a_good_one_before_it_its_answer() {
    for (fields, refusal) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", Refusal::LengthWithEncoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", Refusal::LengthWithEncoding),
        ("Content-Length: 5\r\nContent-Length: 5", Refusal::RepeatedLength),
        ("Content-Length: +5", Refusal::MalformedLength),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", Refusal::RepeatedEncoding),
        ("Transfer-Encoding: xchunked", Refusal::TransferEncoding),
        ("Transfer-Encoding : chunked", Refusal::SpaceBeforeColon),
        ("X: y\nTransfer-Encoding: chunked", Refusal::BareLineFeed),
        ("X: y\n", Refusal::BareLineFeed),
        ("X: y\rZ: z", Refusal::BareReturn),
        ("X: y\r\n z", Refusal::Folded),
        ("X: \0", Refusal::ControlByte),
        ("Host: b", Refusal::RepeatedHost),
    ] {
        for buffer in [1, 2, 3, 7, 50, 60, 100, 4096] {
            let (server, client) = serve(buffer);
            let answer = talk(client, (GOOD.to_owned() + &with_fields(fields)).as_bytes()).await;
            assert_eq!(statuses(&answer), ["200", "400"], "{fields:?} in pieces of {buffer}: {answer}");
            let _ = server.task.await.unwrap();
            assert_eq!(*server.seen.lock().unwrap(), ["/good"], "{fields:?} in pieces of {buffer}");
            assert_eq!(server.refusals.of(refusal), 1, "{fields:?} in pieces of {buffer}");
            assert_eq!(server.refusals.iter().map(|(_, count)| count).sum::<u64>(), 1);
            assert_eq!(server.deadlines.connections(), 0, "its place is given back");
        }
    }
}

#[tokio::test]
async fn a_bad_request_line_gets_400() {
    for line in
        ["GET  / HTTP/1.1", "GET / HTTP/1.1 ", "GET / HTTP/3.0", "GET /#x HTTP/1.1", "GET / HTTP/1.1\rX"]
    {
        for buffer in [1, 5, 4096] {
            let (server, client) = serve(buffer);
            let answer = talk(client, format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).await;
            assert_eq!(statuses(&answer), ["400"], "{line:?} in pieces of {buffer}");
            assert!(server.seen.lock().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn good_requests_are_served_in_pieces_of_any_size() {
    let requests = format!(
        "\r\n{GOOD}POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
         {CHUNKED}3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n\
         GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    );
    for buffer in (1..40).chain([100, 4096]) {
        let (server, client) = serve(buffer);
        let answer = talk(client, requests.as_bytes()).await;
        assert_eq!(statuses(&answer), ["200"; 4], "in pieces of {buffer}: {answer}");
        assert!(answer.contains("hello") && answer.contains("abcde"), "{answer}");
        server.task.await.unwrap().unwrap();
        assert_eq!(*server.seen.lock().unwrap(), ["/good", "/l", "/c", "/last"]);
        assert_eq!(server.refusals.iter().map(|(_, count)| count).sum::<u64>(), 0);
    }
}

#[tokio::test]
async fn a_head_beyond_the_limits_gets_431() {
    let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(limits::HEAD_BYTES));
    let fields = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(limits::HEAD_FIELDS));
    for (head, refusal) in [(bytes, Refusal::HeadBytes), (fields, Refusal::HeadFields)] {
        for buffer in [100, 4096, 200_000] {
            let (server, client) = serve(buffer);
            let answer = talk(client, (GOOD.to_owned() + &head).as_bytes()).await;
            assert_eq!(statuses(&answer), ["200", "431"], "{refusal:?} in pieces of {buffer}");
            assert_eq!(server.refusals.of(refusal), 1);
        }
    }
}

#[tokio::test]
async fn a_bad_chunk_fails_the_body_with_its_reason() {
    for (body, refusal) in [
        ("3\r\nabc\r\nxyz\r\n0\r\n\r\n", Refusal::ChunkSize),
        ("3\r\nabcd\r\n0\r\n\r\n", Refusal::ChunkEnd),
        ("3\nabc\r\n0\r\n\r\n", Refusal::BareLineFeed),
        ("0;a\n\r\n\r\n", Refusal::BareLineFeed),
        ("0\r\nX: y\n\r\n", Refusal::BareLineFeed),
        ("fffffffffffffffff\r\n", Refusal::ChunkSize),
    ] {
        for buffer in [1, 4, 4096] {
            let (server, client) = serve(buffer);
            let request = format!("{CHUNKED}{body}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
            let answer = talk(client, request.as_bytes()).await;
            assert_eq!(statuses(&answer), ["400"], "{body:?} in pieces of {buffer}");
            assert!(answer.ends_with(refusal.as_str()), "{body:?} in pieces of {buffer}: {answer}");
            assert_eq!(*server.seen.lock().unwrap(), ["/c"]);
        }
    }
}

#[tokio::test]
async fn an_upgraded_connection_is_not_checked() {
    let (server, mut client) = serve(4096);
    client
        .write_all(b"GET /up HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        .await
        .unwrap();
    let mut answer = vec![0; 4096];
    let length = client.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 101 "));
    client.write_all(b"\0\n\r\r anything\n").await.unwrap();
    let mut echo = [0; 14];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"\0\n\r\r anything\n");
    server.deadlines.sweep(1_000_000, 0);
    client.write_all(b"later").await.unwrap();
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"later", "a quiet tunnel lives on");
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_client_may_finish_sending_and_reads_its_answer() {
    let (server, client) = serve(1024);
    let mut request = with_fields("Content-Length: x").into_bytes();
    request.resize(100_000, b'x');
    let (mut reader, mut writer) = tokio::io::split(client);
    writer.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer).await.unwrap();
    assert_eq!(statuses(std::str::from_utf8(&answer).unwrap()), ["400"]);
    assert!(!server.task.is_finished(), "still reading what the client sends");
    server.deadlines.sweep(100, 0);
    let _ = server.task.await.unwrap();
    assert_eq!(server.deadlines.expired(Expiry::Drain), 1, "but not for ever");
}

#[tokio::test]
async fn a_refused_client_cannot_send_for_ever() {
    let (server, client) = serve(64 * 1024);
    let mut request = with_fields("Content-Length: x").into_bytes();
    request.resize(limits::DRAIN_REQUEST_BYTES * 2, b'x');
    let (mut reader, mut writer) = tokio::io::split(client);
    assert!(writer.write_all(&request).await.is_err());
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer).await.unwrap();
    assert_eq!(statuses(std::str::from_utf8(&answer).unwrap()), ["400"]);
    let _ = server.task.await.unwrap();
}

#[tokio::test]
async fn a_head_that_is_not_completed_gets_408() {
    let (server, mut client) = serve(4096);
    client.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    while server.state.waiting_for() != Some(Expiry::Head) {
        tokio::task::yield_now().await;
    }
    server.deadlines.sweep(30, 0);
    assert_eq!(server.state.expired(), None, "not yet");
    server.deadlines.sweep(100, 0);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(statuses(&answer), ["408"]);
    assert_eq!(server.deadlines.expired(Expiry::Head), 1);
}

#[tokio::test]
async fn quiet_clients_are_closed_without_a_word() {
    let (server, mut client) = serve(4096);
    server.deadlines.sweep(100, 0);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty());
    assert_eq!(server.deadlines.expired(Expiry::FirstByte), 1);

    let (server, mut client) = serve(4096);
    client.write_all(GOOD.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = client.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200 "));
    server.deadlines.sweep(1000, 0);
    assert_eq!(server.state.expired(), None, "idle has a deadline of its own");
    server.deadlines.sweep(2000, 0);
    assert_eq!(client.read(&mut answer).await.unwrap(), 0);
    assert_eq!(server.deadlines.expired(Expiry::Idle), 1);
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let (server, mut client) = serve(64);
    let request = format!("POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1000));
    client.write_all(request.as_bytes()).await.unwrap();
    while !server.state.is_write_pending() {
        tokio::task::yield_now().await;
    }
    server.deadlines.sweep(119, 0);
    assert_eq!(server.state.expired(), None);
    server.deadlines.sweep(130, 0);
    assert!(server.task.await.unwrap().is_err());
    assert_eq!(server.deadlines.expired(Expiry::WriteStall), 1);
}

#[tokio::test]
async fn http2_is_told_from_http1_by_its_first_bytes() {
    for (bytes, expected) in [
        (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04"[..], Some(Protocol::Http2)),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Protocol::Http1)),
        (b"PRI * HTTP/2.0\r\n\r\nXX", Some(Protocol::Http1)),
        (b"P", Some(Protocol::Http1)),
        (b"", None),
    ] {
        for buffer in [1, 5, 4096] {
            let (client, stream) = duplex(buffer);
            let deadlines = Deadlines::new(DeadlineSettings::default());
            let mut framed = Framed::new(stream, deadlines.register().unwrap(), Arc::default(), true);
            let send = async {
                let mut client = client;
                // The server may leave once it knows enough.
                let _ = client.write_all(bytes).await;
            };
            let receive = async {
                let detected = framed.detect().await.unwrap();
                let mut rest = Vec::new();
                framed.read_to_end(&mut rest).await.map(|_| (detected, rest))
            };
            let ((), received) = tokio::join!(send, receive);
            let (detected, rest) = received.unwrap();
            assert_eq!(detected, expected, "{bytes:?} in pieces of {buffer}");
            if expected == Some(Protocol::Http2) {
                assert_eq!(rest, bytes, "all of it goes on");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_not_waited_for() {
    let (_client, stream) = duplex(64);
    let deadlines = Deadlines::new(DeadlineSettings::default());
    let mut framed = Framed::new(stream, deadlines.register().unwrap(), Arc::default(), true);
    let detect = tokio::spawn(async move { framed.detect().await.map_err(|error| error.kind()) });
    tokio::task::yield_now().await;
    deadlines.sweep(1000, 0);
    assert_eq!(detect.await.unwrap(), Err(io::ErrorKind::TimedOut));
}

/// Remembers the size of each write.
#[derive(Default)]
struct Writes(Vec<(usize, bool)>);

impl AsyncWrite for Writes {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.push((bytes.len(), false));
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total = pieces.iter().map(|piece| piece.len()).sum();
        self.0.push((total, true));
        Poll::Ready(Ok(total))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn small_pieces_are_written_as_one() {
    for (pieces, expected) in [
        (&[100, 200][..], (300, false)),
        (&[0, 100, 0], (100, false)),
        (&[0, 10_000], (10_000, false)),
        (&[100, limits::FLATTEN_WRITE], (100 + limits::FLATTEN_WRITE, true)),
        (&[1, limits::FLATTEN_WRITE - 2], (limits::FLATTEN_WRITE - 1, false)),
        (&[], (0, false)),
    ] {
        let bytes = vec![b'x'; 20_000];
        let slices: Vec<_> = pieces.iter().map(|&length| IoSlice::new(&bytes[..length])).collect();
        let mut writes = Writes::default();
        let written =
            poll_fn(|context| poll_write_flattened(Pin::new(&mut writes), context, &slices)).await.unwrap();
        assert_eq!(writes.0, [expected], "{pieces:?}");
        assert_eq!(written, expected.0);
    }
}

#[tokio::test]
async fn a_connection_rests_between_requests_only() {
    let (server, mut client) = serve(1024);
    let tick = |tick: u32| {
        server.deadlines.sweep(tick, 0);
        server.state.rests()
    };
    client.write_all(GOOD.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    while server.state.requests() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(tick(100));
    let (half, rest) = GOOD.split_at(20);
    client.write_all(half.as_bytes()).await.unwrap();
    while server.state.rests() {
        tokio::task::yield_now().await;
    }
    assert!(!tick(110), "a head has begun");
    client.write_all(rest.as_bytes()).await.unwrap();
    drop(client);
}

#[tokio::test]
async fn what_begins_a_request_is_kept_and_still_checked() {
    let (mut client, stream) = duplex(4096);
    let deadlines = Deadlines::new(DeadlineSettings::default());
    let refusals = Arc::new(RefusalCounts::default());
    let mut framed = Framed::new(stream, deadlines.register().unwrap(), Arc::clone(&refusals), true);
    client.write_all(GOOD.as_bytes()).await.unwrap();
    assert!(framed.begun().await.unwrap());
    assert!(framed.begun().await.unwrap(), "what is kept is enough");
    let mut read = vec![0; GOOD.len()];
    framed.read_exact(&mut read).await.unwrap();
    assert_eq!(read, GOOD.as_bytes());
    client.write_all(b"GET / HTTP/1.1\nHost: a\r\n\r\n").await.unwrap();
    assert!(framed.begun().await.unwrap());
    let mut read = Vec::new();
    framed.read_to_end(&mut read).await.unwrap();
    assert!(read.ends_with(POISON), "{:?}", String::from_utf8_lossy(&read));
    drop(client);

    let (client, stream) = duplex(4096);
    let mut framed = Framed::new(stream, deadlines.register().unwrap(), refusals, true);
    drop(client);
    assert!(!framed.begun().await.unwrap(), "the client left");
}

/// Responses to what came in together leave together: each lets the others go first, once.
#[tokio::test]
async fn the_first_write_after_a_read_lets_others_go_first() {
    let (mut client, stream) = duplex(4096);
    let deadlines = Deadlines::new(DeadlineSettings::default());
    let refusals = Arc::new(RefusalCounts::default());
    let mut framed = Framed::new(stream, deadlines.register().unwrap(), refusals, true);
    let mut polls = 0;
    // As many as need not wait for others.
    for _ in 0..limits::WRITES_AT_ONCE {
        let _written = Yield::Due.poll(&Context::from_waker(Waker::noop()));
    }
    for wanted in [2, 1] {
        if wanted == 2 {
            client.write_all(GOOD.as_bytes()).await.unwrap();
            framed.read_exact(&mut [0; GOOD.len()]).await.unwrap();
        }
        polls = 0;
        poll_fn(|context| {
            polls += 1;
            Pin::new(&mut framed).poll_write(context, b"HTTP/1.1 200 OK\r\n\r\n")
        })
        .await
        .unwrap();
        assert_eq!(polls, wanted);
    }
    assert_eq!(polls, 1);
}
