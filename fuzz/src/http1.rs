//! What a backend sends, read by the gateway's codec and by hyper's client: where both take it as a
//! whole, they take it for the same; and no split of the bytes changes what the codec reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use mirrorgate::upstream::http1::body::{Decoder, Piece};
use mirrorgate::upstream::http1::head::{Length, read_response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::choices::Choices;

/// A response as it was read: its status, fields of the head but for framing, and body.
#[derive(Debug, PartialEq)]
struct Read {
    status: StatusCode,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// Reads all but the first two bytes as what a backend sends until it closes.
pub fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let method = choices.pick(&[0, 0, 0, 1]);
    let method = [Method::GET, Method::HEAD][method].clone();
    let piece = choices.below(40) + 1;
    let sent = choices.0;
    let whole = ours(sent, &method, usize::MAX);
    assert_eq!(whole, ours(sent, &method, piece), "in pieces of {piece}");
    if let (Some(ours), Some(theirs)) = (whole, theirs(sent, &method)) {
        assert_eq!(ours, theirs);
    }
}

/// As the gateway reads it. `None` when it refuses, or when it is not complete.
fn ours(sent: &[u8], method: &Method, piece: usize) -> Option<Read> {
    let mut pieces = sent.chunks(piece);
    let mut input = BytesMut::new();
    let head = loop {
        match read_response(&mut input, method, true).ok()? {
            Some(head) if head.status == StatusCode::SWITCHING_PROTOCOLS => return None,
            Some(head) if head.status.is_informational() => {}
            Some(head) => break head,
            None => input.extend_from_slice(pieces.next()?),
        }
    };
    let mut body = Vec::new();
    let mut decoder = Decoder::new(head.length);
    loop {
        match decoder.next(&mut input).ok()? {
            Piece::Data(data) => body.extend_from_slice(&data),
            Piece::Trailers(_) | Piece::End => break,
            Piece::More => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None if decoder.may_close() && head.length == Length::UntilClose => break,
                None => return None,
            },
        }
    }
    Some(Read { status: head.status, fields: fields(&head.headers), body })
}

/// As hyper's client reads it.
fn theirs(sent: &[u8], method: &Method) -> Option<Read> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let stream = Canned { sent: Bytes::copy_from_slice(sent), asked: false, waiting: None };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.ok()?;
        let connection = tokio::spawn(connection);
        let request = Request::builder().method(method).uri("/").header("host", "a");
        let response = sender.send_request(request.body(Empty::new()).ok()?).await.ok()?;
        let (parts, incoming) = response.into_parts();
        let body = incoming.collect().await.ok()?.to_bytes().to_vec();
        connection.abort();
        (parts.status != StatusCode::SWITCHING_PROTOCOLS).then(|| Read {
            status: parts.status,
            fields: fields(&parts.headers),
            body,
        })
    })
}

/// Names in order, and values; how the message is framed is what the body tells.
fn fields(headers: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    let framing = ["content-length", "transfer-encoding", "connection"];
    let mut fields: Vec<_> = headers
        .iter()
        .filter(|(name, _)| !framing.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    fields.sort();
    fields
}

/// A backend that sends what it has once it was asked, and closes.
struct Canned {
    sent: Bytes,
    asked: bool,
    waiting: Option<Waker>,
}

impl AsyncRead for Canned {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            self.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        let length = self.sent.len().min(buffer.remaining());
        buffer.put_slice(&self.sent.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Canned {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.asked = true;
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
