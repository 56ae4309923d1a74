//! Conformance of the HTTP/2 server to RFC 9113 and RFC 7541: the cases of the independent suite
//! h2spec (groups generic, http2 and hpack), written anew on raw frames, with prior knowledge and over
//! TLS.
//!
//! Where h2spec takes a closed connection for any error, here a code has to be said first: the one that
//! the RFC names, or PROTOCOL_ERROR, which is what h2 says of a connection whose frames it cannot
//! decode. One case ends otherwise than h2spec wants, and says so where it stands.

mod frames;
mod generic;
mod hpack;
mod messages;
mod settings;
mod streams;

use std::net::SocketAddr;

use crate::harness::frames::{
    DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, block,
    decode_status, frame, get,
};
use crate::harness::{Authority, Gateway, PATIENCE, Upstream, within};

const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

/// What a client does, and what has to become of it.
struct Case {
    name: &'static str,
    steps: Vec<Step>,
    expected: Expected,
}

enum Step {
    /// Writes these bytes.
    Send(Vec<u8>),
    /// Waits for the end of the answer on this stream.
    Ends(u32),
    /// Waits for as many bytes of a body on this stream.
    Data(u32, usize),
}

#[derive(Debug)]
enum Expected {
    /// GOAWAY with one of these codes or PROTOCOL_ERROR, and the end of the connection.
    ConnectionError(&'static [u32]),
    /// RST_STREAM with one of these codes, or a connection error with one.
    StreamError(u32, &'static [u32]),
    /// An answer with this status.
    Answer(u32, u16),
    /// So many bytes of a body, in one frame.
    Data(u32, usize),
    /// The answer to a PING.
    Pong([u8; 8]),
    /// A SETTINGS frame with ACK behind the one for the first SETTINGS.
    Acknowledgement,
}

fn case(name: &'static str, frames: &[Vec<u8>], expected: Expected) -> Case {
    Case { name, steps: vec![Step::Send(frames.concat())], expected }
}

fn steps(name: &'static str, steps: Vec<Step>, expected: Expected) -> Case {
    Case { name, steps, expected }
}

/// A header block that every server takes: GET / at `test`, from the static table.
fn good() -> Vec<u8> {
    vec![0x82, 0x86, 0x84, 0x41, 4, b't', b'e', b's', b't']
}

/// The same as POST.
fn post() -> Vec<u8> {
    vec![0x83, 0x86, 0x84, 0x41, 4, b't', b'e', b's', b't']
}

/// HEADERS of a request that must not reach anybody.
fn bad(stream: u32, changes: &[(&str, Option<&str>)]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&get(changes)))
}

/// A whole good request.
fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &good())
}

/// The head of one whose body is to come.
fn upload(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &post())
}

fn ping() -> Vec<u8> {
    frame(PING, 0, 0, b"conforms")
}

const PONG: Expected = Expected::Pong(*b"conforms");

fn setting(identifier: u16, value: u32) -> Vec<u8> {
    let mut payload = identifier.to_be_bytes().to_vec();
    payload.extend(value.to_be_bytes());
    frame(SETTINGS, 0, 0, &payload)
}

fn number(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

/// Does what the case says, and says what is wrong with what came of it.
async fn run(address: SocketAddr, case: &Case) -> Result<(), String> {
    let mut client = Frames::connect(address).await;
    let mut seen = Vec::new();
    for step in &case.steps {
        match step {
            // What was refused already need not be taken.
            Step::Send(bytes) => drop(client.wire.push(bytes).await),
            Step::Ends(stream) => {
                let ends = |frame: &Frame| frame.stream == *stream && frame.flags & END_STREAM != 0;
                skip_to(&mut client, &mut seen, |frame| matches!(frame.kind, DATA | HEADERS) && ends(frame))
                    .await?;
            }
            Step::Data(stream, length) => {
                let wanted = |frame: &Frame| frame.kind == DATA && frame.stream == *stream;
                let got = skip_to(&mut client, &mut seen, wanted).await?;
                if got.payload.len() != *length {
                    return Err(format!("{} bytes, not {length}", got.payload.len()));
                }
            }
        }
    }
    meets(&mut client, &case.expected, &mut seen).await
}

/// The next frame that is `wanted`.
async fn skip_to(
    client: &mut Frames,
    seen: &mut Vec<Frame>,
    wanted: impl Fn(&Frame) -> bool,
) -> Result<Frame, String> {
    loop {
        let Some(frame) = client.next().await else { return Err(format!("closed after {seen:?}")) };
        seen.push(frame.clone());
        if wanted(&frame) {
            return Ok(frame);
        }
        if frame.kind == GOAWAY {
            return Err(format!("given up: {seen:?}"));
        }
    }
}

async fn meets(client: &mut Frames, expected: &Expected, seen: &mut Vec<Frame>) -> Result<(), String> {
    let mut acknowledged = seen.iter().filter(|frame| is_acknowledgement(frame)).count();
    while let Some(frame) = client.next().await {
        seen.push(frame.clone());
        acknowledged += usize::from(is_acknowledgement(&frame));
        let code = |at: usize| u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap());
        let met = match expected {
            Expected::ConnectionError(codes) if frame.kind == GOAWAY => {
                while client.next().await.is_some() {}
                codes.contains(&code(4)) || code(4) == PROTOCOL_ERROR
            }
            Expected::StreamError(stream, codes) => match frame.kind {
                RST_STREAM if frame.stream == *stream => codes.contains(&code(0)),
                GOAWAY => codes.contains(&code(4)) || code(4) == PROTOCOL_ERROR,
                _ => continue,
            },
            Expected::Answer(stream, status) if frame.kind == HEADERS && frame.stream == *stream => {
                decode_status(&frame.payload) == *status
            }
            Expected::Data(stream, length) if frame.kind == DATA && frame.stream == *stream => {
                frame.payload.len() == *length
            }
            Expected::Pong(payload) if frame.kind == PING => frame.flags & 1 == 1 && frame.payload == payload,
            Expected::Acknowledgement if acknowledged == 2 => true,
            _ if frame.kind == GOAWAY => false,
            _ => continue,
        };
        return if met { Ok(()) } else { Err(format!("not {expected:?} but {seen:?}")) };
    }
    Err(format!("closed instead of {expected:?}, after {seen:?}"))
}

fn is_acknowledgement(frame: &Frame) -> bool {
    frame.kind == SETTINGS && frame.flags & 1 == 1
}

fn cases() -> Vec<Case> {
    [
        generic::cases(),
        frames::cases(),
        settings::cases(),
        streams::cases(),
        messages::cases(),
        hpack::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Every case fails or none: so one run tells all of them.
async fn conforms(address: SocketAddr) {
    let mut failed = Vec::new();
    for case in cases() {
        let ran = tokio::time::timeout(PATIENCE, run(address, &case)).await;
        if let Err(error) = ran.unwrap_or_else(|_| Err("nothing came of it".into())) {
            failed.push(format!("{}: {error}", case.name));
        }
    }
    for preface in ["INVALID CONNECTION PREFACE\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"] {
        let mut client = Frames::silent(address).await;
        client.wire.push(preface.as_bytes()).await;
        // h2spec, http2 3.5: closed, GOAWAY may be left out. Without TLS it is a request of HTTP/1, too.
        let said = client.wire.closed().await;
        let length = said.get(2).map_or(0, |length| usize::from(*length));
        let settings_alone = said.get(3) == Some(&SETTINGS) && said.len() == 9 + length;
        if !said.starts_with(b"HTTP/1.1 400 ") && !settings_alone {
            failed.push(format!("3.5: {preface:?}: {said:?}"));
        }
    }
    assert!(failed.is_empty(), "{} of {} fail:\n{}", failed.len(), cases().len(), failed.join("\n"));
}

/// Good requests are served afterwards, and no bad one has come to anybody.
async fn unharmed(address: SocketAddr, upstreams: [&Upstream; 2]) {
    let mut client = Frames::connect(address).await;
    let asked = get(&[(":path", Some("/good"))]);
    let fate = within("a good answer", client.ask(1, &asked)).await;
    assert_eq!(fate, crate::harness::frames::Fate::Answered(200, 5));
    for upstream in upstreams {
        crate::harness::eventually("the good request", || {
            upstream.requests().iter().any(|request| request.line == "GET /good HTTP/1.1")
        })
        .await;
        for request in upstream.requests() {
            assert!(!format!("{request:?}").to_lowercase().contains("smuggled"), "{request:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_with_prior_knowledge_conforms() {
    let (primary, mirror) = (Upstream::saying("hello").await, Upstream::saying("m").await);
    let routes =
        format!("[{{ backend: 'http://{}', mirrors: ['http://{}'] }}]", primary.address, mirror.address);
    let gateway = crate::harness::gateway(&format!("routes: {routes}")).await;
    conforms(gateway.address).await;
    unharmed(gateway.address, [&primary, &mirror]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_over_tls_conforms() {
    let (primary, mirror) = (Upstream::saying("hello").await, Upstream::saying("m").await);
    let authority = Authority::new();
    authority.sign("shop", "shop.test");
    let text = format!(
        "listeners: [{{ address: '127.0.0.1:0', tls: {{ certificates: [{{ cert: shop.crt, key: shop.key }}] }} }}]\n\
         admin: off\nworkers: 2\nroutes: [{{ backend: 'http://{}', mirrors: ['http://{}'] }}]",
        primary.address, mirror.address
    );
    let gateway = Gateway::start(&text, authority.path(), None).await;
    let address = authority.tunnel(gateway.address, "shop.test", "h2").await;
    conforms(address).await;
    unharmed(address, [&primary, &mirror]).await;
}
