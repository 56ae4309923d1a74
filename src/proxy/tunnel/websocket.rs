//! The handshake of WebSocket (RFC 6455, 4): a key that the client draws, and what proves that the
//! server has read it. Nothing of it exists in HTTP/2 (RFC 8441, 5).

use data_encoding::BASE64;
use http::HeaderValue;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// What the key is hashed with (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether `protocol` is WebSocket.
pub fn is(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().eq_ignore_ascii_case(b"websocket")
}

/// A key of `random` bits.
pub fn key([one, two]: [u64; 2]) -> HeaderValue {
    let text = BASE64.encode(&[one.to_ne_bytes(), two.to_ne_bytes()].concat());
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="))
}

/// What a server that has read `key` answers.
pub fn accept(key: &HeaderValue) -> Option<HeaderValue> {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
    HeaderValue::from_str(&BASE64.encode(hash.as_ref())).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_example_of_rfc_6455() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
