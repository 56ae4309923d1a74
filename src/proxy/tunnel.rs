//! Upgrades (RFC 9110, 7.8): after 101 the two connections are one, byte for byte.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, copy_bidirectional};

use super::connection::Context;
use crate::upstream::pool::Lease;
use crate::upstream::stream::Stream;

/// A client's wish to speak something else on its connection.
pub struct Asked {
    /// What it wants to speak.
    pub protocol: HeaderValue,
    on_upgrade: OnUpgrade,
}

/// The protocol that a request asks to switch to. Must be called before hop-by-hop fields go.
pub fn asked_for<B>(request: &mut Request<B>) -> Option<Asked> {
    let protocol = request.headers().get(UPGRADE)?.clone();
    let named = request.headers().get_all(CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    // RFC 9113, 8.6: HTTP/2 has no such upgrade.
    (named && request.version() == http::Version::HTTP_11)
        .then(|| Asked { protocol, on_upgrade: hyper::upgrade::on(request) })
}

/// Joins the client's connection to the endpoint's once hyper has sent the 101.
pub fn splice(
    context: &Arc<Context>,
    asked: Asked,
    (lease, mut stream, read): (Lease, Stream, Bytes),
    headers: &mut HeaderMap,
) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.entry(UPGRADE).or_insert(asked.protocol);
    context.state().pass_through();
    // As a connection it goes on: counted, and waited for by a drain.
    let place = context.place();
    context.worker().spawn(async move {
        let _held = (lease, place);
        let Ok(client) = asked.on_upgrade.await else { return };
        let mut client = TokioIo::new(client);
        if !read.is_empty() && client.write_all(&read).await.is_err() {
            return;
        }
        // Either side's end is the other's; a failure has nobody left to be told.
        let _ended = copy_bidirectional(&mut client, &mut stream).await;
    });
}
