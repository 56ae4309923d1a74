//! The gateway's reading of HTTP/1 against two others: httparse's of what the client sent, and httparse's
//! of what the upstreams got. Whatever comes, either the gateway refuses, or primary and mirror see exactly
//! the messages that httparse sees, no more and no less.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Gateway, within};
use crate::{hostile, hostile_http1};

/// Inputs that are made up, from a fixed seed: what is found depends on the change and not on the day.
const MADE_UP: u64 = 400;

/// A whole request, as far as two readers have to agree on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    method: String,
    target: String,
    /// Those named `x-` and one letter.
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// What follows the last whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    Partial,
    /// No message, or one that can be read in two ways.
    Refused,
}

/// The messages at the front of `bytes`, how many bytes they take, and what follows them.
fn read(bytes: &[u8]) -> (Vec<Seen>, usize, Rest) {
    let (mut messages, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match message(&bytes[at..]) {
            Ok(Some((seen, length, last))) => {
                messages.push(seen);
                at += length;
                if last {
                    return (messages, at, Rest::Nothing);
                }
            }
            Ok(None) => return (messages, at, Rest::Partial),
            Err(()) => return (messages, at, Rest::Refused),
        }
    }
    (messages, at, Rest::Nothing)
}

/// One message, its length, and whether its connection ends with it.
fn message(bytes: &[u8]) -> Result<Option<(Seen, usize, bool)>, ()> {
    let mut room = [httparse::EMPTY_HEADER; 128];
    let mut head = httparse::Request::new(&mut room);
    let httparse::Status::Complete(start) = head.parse(bytes).map_err(drop)? else { return Ok(None) };
    let all = |name: &str| -> Vec<&[u8]> {
        let named = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value.trim_ascii()).collect()
    };
    let http10 = head.version == Some(0);
    let rest = &bytes[start..];
    let hosts = all("host").len();
    if hosts > 1 || hosts == 0 && !http10 {
        return Err(());
    }
    let (body, length) = match (&all("transfer-encoding")[..], &all("content-length")[..]) {
        ([], []) => (Vec::new(), 0),
        ([], [length]) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let length: usize = std::str::from_utf8(length).unwrap().parse().map_err(drop)?;
            match rest.get(..length) {
                Some(body) => (body.to_vec(), length),
                None => return Ok(None),
            }
        }
        ([encoding], []) if encoding.eq_ignore_ascii_case(b"chunked") && !http10 => match chunks(rest)? {
            Some(read) => read,
            None => return Ok(None),
        },
        _ => return Err(()),
    };
    let marks = head.headers.iter().filter(|field| field.name.len() == 3);
    let marks = marks.map(|field| (field.name.to_ascii_lowercase(), field.value.trim_ascii().to_vec()));
    let mut fields: Vec<_> = marks.filter(|(name, _)| name.starts_with("x-")).collect();
    fields.sort();
    let (method, target) = (head.method.unwrap().to_owned(), origin(head.path.unwrap()));
    Ok(Some((Seen { method, target, fields, body }, start + length, http10)))
}

/// A chunked body, and how long it is with its framing.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ()> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let httparse::Status::Complete((line, size)) =
            httparse::parse_chunk_size(&bytes[at..]).map_err(drop)?
        else {
            return Ok(None);
        };
        at += line;
        if size == 0 {
            let mut room = [httparse::EMPTY_HEADER; 128];
            return match httparse::parse_headers(&bytes[at..], &mut room).map_err(drop)? {
                httparse::Status::Complete((end, _)) => Ok(Some((body, at + end))),
                httparse::Status::Partial => Ok(None),
            };
        }
        let end = usize::try_from(size).ok().and_then(|size| at.checked_add(size)).ok_or(())?;
        let Some(data) = bytes.get(at..end) else { return Ok(None) };
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => {}
            Some(_) => return Err(()),
            None => return Ok(None),
        }
        body.extend_from_slice(data);
        at = end + 2;
    }
}

/// The target without scheme and authority, which Host says.
fn origin(target: &str) -> String {
    let Some((_, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) else {
        return target.to_owned();
    };
    match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('/') => rest[at..].to_owned(),
        Some(at) => format!("/{}", &rest[at..]),
        None => "/".to_owned(),
    }
}

/// An upstream that keeps every byte until it is a message, and answers each message.
#[derive(Clone, Default)]
struct Recorder {
    seen: Arc<Mutex<Vec<Seen>>>,
    /// What came and is no message.
    refused: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let recorder = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(recorder.clone().serve(stream));
            }
        });
        address
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        while stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
            let (messages, length, rest) = read(&bytes);
            if rest == Rest::Refused {
                self.refused.lock().unwrap().push(String::from_utf8_lossy(&bytes).into());
                return;
            }
            bytes.drain(..length);
            for message in messages {
                self.seen.lock().unwrap().push(message);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// Sends all of `bytes` and nothing more; the statuses that are said until the gateway closes.
async fn told(address: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        // It may be closed before all of it was taken.
        let _taken = writer.write_all(bytes).await;
        let _closed = writer.shutdown().await;
    };
    let mut said = Vec::new();
    let reading = async { while reader.read_buf(&mut said).await.is_ok_and(|count| count > 0) {} };
    within("the connection's end", async { tokio::join!(sending, reading) }).await;
    let text = String::from_utf8_lossy(&said);
    let codes = text.split("HTTP/1.").skip(1);
    codes.map(|rest| rest.get(2..5).and_then(|code| code.parse().ok()).unwrap_or(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_and_mirror_see_what_httparse_sees_or_the_gateway_refuses() {
    let (primary, mirror) = (Recorder::default(), Recorder::default());
    // With `half_close`, so that what was sent is served although nothing follows.
    let text = format!(
        "listeners: [{{ address: '127.0.0.1:0', name: edge, half_close: true }}]\nadmin: off\nworkers: 2\n\
         routes: [{{ backend: 'http://{}', mirrors: ['http://{}'] }}]",
        primary.listen().await,
        mirror.listen().await
    );
    let gateway = Gateway::start(&text, Path::new(""), None).await;
    let hostile = hostile::AMBIGUOUS.iter().map(|(_, head)| head.as_bytes().to_vec());
    let corpus = hostile.chain(hostile_http1::corpus().into_iter().map(|(_, bytes)| bytes));
    let behind = |bytes: Vec<u8>| {
        let good = b"GET /good HTTP/1.1\r\nhost: a\r\n\r\n";
        [[&bytes[..], good].concat(), [&good[..], &bytes, good].concat()]
    };
    let inputs = corpus.flat_map(behind).chain((0..MADE_UP).map(made_up));
    let (mut expected, mut failed) = (Vec::new(), Vec::new());
    let (mut whole, mut refused) = (0, 0);
    for bytes in inputs {
        let (messages, _, rest) = read(&bytes);
        let before = expected.len();
        let statuses = told(gateway.address, &bytes).await;
        let served = statuses.iter().take_while(|status| **status == 200).count();
        let is_refused = served < statuses.len();
        (whole, refused) = (whole + usize::from(!is_refused), refused + usize::from(is_refused));
        let seen = primary.seen().split_off(before);
        let agrees = served <= messages.len() && seen == messages[..served.min(messages.len())];
        // Nothing but what is not yet whole may be left without an answer.
        let complete = is_refused || served == messages.len() && rest != Rest::Refused;
        if !agrees || !complete {
            let text = String::from_utf8_lossy(&bytes);
            failed
                .push(format!("{text:?}: {statuses:?}, upstream {seen:?}, httparse {messages:?}, {rest:?}"));
        }
        expected.extend(seen);
    }
    assert!(failed.is_empty(), "{} inputs are read in two ways:\n{}", failed.len(), failed.join("\n"));
    // Else the laws would hold for nothing.
    assert!(whole > 100 && refused > 100 && expected.len() > 500, "{whole}, {refused}, {}", expected.len());
    gateway.settled().await;
    assert_eq!(primary.seen(), expected, "something came late");
    let sorted = |mut all: Vec<Seen>| {
        all.sort();
        all
    };
    assert_eq!(sorted(mirror.seen()), sorted(expected));
    for side in [&primary, &mirror] {
        assert_eq!(*side.refused.lock().unwrap(), Vec::<String>::new(), "what came upstream is no HTTP");
    }
}

/// Some requests, most of them good in most respects.
fn made_up(seed: u64) -> Vec<u8> {
    let mut random = Rng::with_seed(seed);
    let count = random.usize(1..5);
    let mut bytes: Vec<u8> = (0..count).flat_map(|number| one(&mut random, seed, number)).collect();
    if random.u8(0..8) == 0 {
        let at = random.usize(..bytes.len());
        match random.u8(0..3) {
            0 => bytes[at] = random.u8(..),
            1 => bytes.insert(at, *pick(&mut random, b"\r\n\t :;,0\0")),
            _ => drop(bytes.remove(at)),
        }
    }
    bytes
}

fn one(random: &mut Rng, seed: u64, number: usize) -> Vec<u8> {
    let method = pick(random, &["GET", "POST", "PUT", "PATCH", "DELETE"]);
    let name = format!("/{seed}/{number}");
    let target = match random.u8(0..6) {
        0 => format!("http://a{name}"),
        1 => format!("{name}?x=/&y"),
        _ => name,
    };
    let version = if random.u8(0..20) == 0 { "HTTP/1.0" } else { "HTTP/1.1" };
    let end = if random.u8(0..40) == 0 { "\n" } else { "\r\n" };
    let mut fields = vec!["Host: a".to_owned(), format!("x-n: {number}")];
    for _ in 0..random.u8(0..3) {
        fields.push((*pick(random, EXTRAS)).to_owned());
    }
    if random.u8(0..8) == 0 {
        fields.push((*pick(random, ODD_FIELDS)).to_owned());
    }
    let content = *pick(random, CONTENTS);
    let body = match random.u8(0..16) {
        0..=5 => {
            fields.push(format!("Content-Length: {}", content.len()));
            content.as_bytes().to_vec()
        }
        6..=10 => {
            fields.push(
                (*pick(random, &["Transfer-Encoding: chunked", "transfer-encoding:Chunked "])).to_owned(),
            );
            in_chunks(random, content)
        }
        11 => {
            fields.push((*pick(random, FRAMINGS)).to_owned());
            if random.bool() { in_chunks(random, content) } else { content.as_bytes().to_vec() }
        }
        _ => Vec::new(),
    };
    random.shuffle(&mut fields);
    let head = format!("{method} {target} {version}{end}{}{end}{end}", fields.join(end));
    [head.as_bytes(), &body].concat()
}

const EXTRAS: &[&str] =
    &["x-a: b", "x-b:c", "x-d:\te\t", "x-e:", "x-f: \u{e4}", "Accept: */*", "x-g: a: b, c"];

const ODD_FIELDS: &[&str] = &[
    "x-c : d",
    "x-e: f\r\n g",
    "x-f",
    ": g",
    "x-g: \u{1}",
    "x-h: a\rb",
    "x-i: a\nx-j: b",
    " x-k: l",
    "Host: b",
];

const FRAMINGS: &[&str] = &[
    "Content-Length: 3",
    "Content-Length: 99",
    "Content-Length: +3",
    "Content-Length: 3, 3",
    "Content-Length: 3\r\nContent-Length: 3",
    "Content-Length: 0x3",
    "Content-Length: 3\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 3",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:\r\n chunked",
];

const CONTENTS: &[&str] = &[
    "",
    "x",
    "hello",
    "0\r\n\r\n",
    "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
    "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
];

/// `content` in chunks, some of which are none.
fn in_chunks(random: &mut Rng, content: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = content.as_bytes();
    while !rest.is_empty() {
        let (chunk, left) = rest.split_at(random.usize(1..=rest.len()));
        rest = left;
        let size = chunk.len();
        let line = match random.u8(0..24) {
            0 => format!("{size:X}"),
            1 => format!("{size:04x}"),
            2 => format!("{size:x};a=b"),
            3 => format!("{size:x};a=\"0\""),
            4 => format!("{size:x} "),
            5 => format!("0x{size:x}"),
            6 => format!("{:x}", size + 1),
            _ => format!("{size:x}"),
        };
        let end = if random.u8(0..40) == 0 { "\n" } else { "\r\n" };
        out.extend([line.as_bytes(), end.as_bytes(), chunk, b"\r\n"].concat());
    }
    out.extend_from_slice(pick::<&[u8]>(
        random,
        &[&b"0\r\n\r\n"[..], b"0\r\n\r\n", b"0\r\nx-t: 1\r\n\r\n", b"00\r\n\r\n", b"0\r\n"],
    ));
    out
}

fn pick<'all, T>(random: &mut Rng, all: &'all [T]) -> &'all T {
    &all[random.usize(..all.len())]
}
