//! What of a request decides where a consistent choice sends it.

use std::net::IpAddr;

use http::header::COOKIE;
use http::request;

use super::maglev::hash;
use crate::plan::HashKey;

/// The key that a request has `by` one of its properties; `None` when it has none.
pub(in crate::upstream) fn hash_of(
    by: &HashKey,
    parts: &request::Parts,
    client: Option<IpAddr>,
) -> Option<u64> {
    match by {
        HashKey::Header(name) => parts.headers.get(name).map(|value| hash(value.as_bytes())),
        HashKey::Cookie(name) => {
            let cookies =
                parts.headers.get_all(COOKIE).iter().flat_map(|field| {
                    field.as_bytes().split(|byte| *byte == b';').map(|pair| pair.trim_ascii())
                });
            named(cookies, name).map(hash)
        }
        HashKey::Query(name) => {
            named(parts.uri.query()?.as_bytes().split(|byte| *byte == b'&'), name).map(hash)
        }
        HashKey::Path => Some(hash(parts.uri.path().as_bytes())),
        HashKey::Client => Some(match client? {
            IpAddr::V4(address) => hash(&address.octets()),
            IpAddr::V6(address) => hash(&address.octets()),
        }),
    }
}

/// The value of the first pair called `name`.
fn named<'a>(mut pairs: impl Iterator<Item = &'a [u8]>, name: &str) -> Option<&'a [u8]> {
    pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}
