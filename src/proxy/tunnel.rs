//! Other protocols on a client's connection: an upgrade of HTTP/1.1 (RFC 9110, 7.8), or a stream of
//! HTTP/2 that was opened by extended CONNECT (RFC 8441).
//!
//! Inside the gateway there is one form of both, the upgrade: a GET, answered with 101 and a tunnel.
//! [`asked_for`] makes it of what a client says, [`Asked::answer`] turns the answer into what the client
//! understands. From then on the two connections are one, byte for byte, and neither side is read
//! faster than the other takes it. Called by [`super::request`].

pub(super) mod patient;
pub mod websocket;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, response};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, copy_bidirectional};

use self::patient::Patient;
use super::connection::Context;
use crate::upstream::pool::Lease;
use crate::upstream::stream::Stream;

/// A client's wish to speak something else on its connection.
pub struct Asked {
    /// What it wants to speak.
    pub protocol: HeaderValue,
    by: By,
    /// What proves that a WebSocket's endpoint has read the key that it was sent.
    accept: Option<HeaderValue>,
    on_upgrade: OnUpgrade,
}

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Upgrade,
    Connect,
}

/// What an endpoint made of a tunnel.
pub type Through = (Lease, Stream, Bytes);

/// The protocol that a request asks to switch to. Must be called before hop-by-hop fields go. An
/// extended CONNECT becomes the GET that it stands for.
pub fn asked_for<B>(request: &mut Request<B>) -> Option<Asked> {
    let (protocol, by) = match request.version() {
        Version::HTTP_2 => (connect(request)?, By::Connect),
        // RFC 9113, 8.6: HTTP/2 has no such upgrade; nor has HTTP/1.0.
        Version::HTTP_11 => (upgrade(request.headers())?, By::Upgrade),
        _ => return None,
    };
    Some(Asked { protocol, by, accept: None, on_upgrade: hyper::upgrade::on(request) })
}

fn connect<B>(request: &mut Request<B>) -> Option<HeaderValue> {
    let protocol = request.extensions_mut().remove::<Protocol>()?;
    *request.method_mut() = Method::GET;
    HeaderValue::from_str(protocol.as_str()).ok()
}

fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let tokens = |value: &HeaderValue| value.as_bytes().to_ascii_lowercase();
    let is =
        |list: &[u8], token: &[u8]| list.split(|byte| *byte == b',').any(|one| one.trim_ascii() == token);
    let named = headers.get_all(CONNECTION).iter().any(|value| is(&tokens(value), b"upgrade"));
    // What speaks HTTP/2 behind an upgrade would be asked for things that no route has seen; such a
    // request is served as it stands, which RFC 9110 leaves to us.
    let offered = headers.get_all(UPGRADE).iter().any(|value| is(&tokens(value), b"h2c"));
    (named && !offered).then(|| protocol.clone())
}

impl Asked {
    /// Gives a WebSocket of HTTP/2, which has no key, one for endpoints of HTTP/1; remembers which
    /// answer is the right one. `random` is asked for its bits.
    pub fn prepare(&mut self, headers: &mut HeaderMap, random: impl FnOnce() -> [u64; 2]) {
        if !websocket::is(&self.protocol) {
            return;
        }
        if self.by == By::Connect {
            headers.insert(SEC_WEBSOCKET_KEY, websocket::key(random()));
        }
        self.accept = headers.get(SEC_WEBSOCKET_KEY).and_then(websocket::accept);
    }

    /// Whether an answer without a tunnel would be taken for one with: a client of extended CONNECT
    /// takes every 2xx for a stream of its protocol.
    pub fn is_misled_by(&self, status: StatusCode) -> bool {
        self.by == By::Connect && status.is_success()
    }

    /// Turns the head of an endpoint's 101 into what the client understands. False when the endpoint
    /// has not read the key that it was sent.
    pub fn answer(&self, parts: &mut response::Parts, stream: &Stream) -> bool {
        let keyed = !matches!(stream, Stream::Http2(_));
        match (self.by, keyed) {
            (By::Connect, true) => {
                let proven = parts.headers.remove(SEC_WEBSOCKET_ACCEPT) == self.accept;
                if !proven {
                    return false;
                }
            }
            (By::Upgrade, false) => {
                if let Some(accept) = &self.accept {
                    parts.headers.insert(SEC_WEBSOCKET_ACCEPT, accept.clone());
                }
            }
            (By::Upgrade, true) | (By::Connect, false) => {}
        }
        match self.by {
            By::Connect => {
                parts.status = StatusCode::OK;
                parts.headers.remove(CONNECTION);
                parts.headers.remove(UPGRADE);
            }
            By::Upgrade => {
                parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                parts.headers.entry(UPGRADE).or_insert_with(|| self.protocol.clone());
            }
        }
        true
    }

    /// Joins the client's connection or stream to the endpoint's, once hyper has sent the answer.
    pub fn splice(self, context: &Arc<Context>, (lease, mut stream, read): Through) {
        let Self { by, on_upgrade, .. } = self;
        if by == By::Upgrade {
            context.state().pass_through();
        }
        // As a connection it goes on: counted, and waited for by a drain. A stream is a request in
        // flight of its connection, which is not idle for as long as it lives.
        let held = (context.place(), (by == By::Connect).then(|| context.state().request()));
        let patience = context.gateway().table().limits().write_stall;
        context.worker().spawn(async move {
            let _held = held;
            let Ok(client) = on_upgrade.await else { return };
            let mut client = Patient::new(TokioIo::new(client), patience);
            if !read.is_empty() && client.write_all(&read).await.is_err() {
                return;
            }
            // Either side's end is the other's; a failure has nobody left to be told.
            tokio::select! {
                _ended = copy_bidirectional(&mut client, &mut stream) => {}
                () = lease.expired() => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn asked(fields: &[(&str, &str)]) -> Option<String> {
        let mut request = Request::get("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let asked = asked_for(&mut request.body(()).unwrap())?;
        Some(asked.protocol.to_str().unwrap().to_owned())
    }

    #[test]
    fn an_upgrade_must_be_named_and_must_not_be_to_http2() {
        assert_eq!(
            asked(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]).as_deref(),
            Some("websocket")
        );
        assert_eq!(asked(&[("upgrade", "websocket")]), None);
        assert_eq!(asked(&[("connection", "upgrade")]), None);
        for list in ["h2c", "H2C", "websocket, h2c"] {
            assert_eq!(
                asked(&[("connection", "upgrade, http2-settings"), ("upgrade", list)]),
                None,
                "{list}"
            );
        }
    }

    #[test]
    fn extended_connect_becomes_the_get_that_it_stands_for() {
        let mut request = Request::connect("http://a.test/chat").version(Version::HTTP_2).body(()).unwrap();
        assert!(asked_for(&mut request).is_none(), "a CONNECT without a protocol stays one");
        assert_eq!(request.method(), Method::CONNECT);
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        let mut asked = asked_for(&mut request).unwrap();
        assert_eq!((request.method(), request.uri().path()), (&Method::GET, "/chat"));

        let mut headers = HeaderMap::new();
        asked.prepare(&mut headers, || [1, 2]);
        assert_eq!(headers[SEC_WEBSOCKET_KEY].len(), 24);
        assert_eq!(websocket::accept(&headers[SEC_WEBSOCKET_KEY]), asked.accept);
        assert!(asked.is_misled_by(StatusCode::NO_CONTENT) && !asked.is_misled_by(StatusCode::FORBIDDEN));
    }
}
