//! What the backend is told of the client, and what is believed of those in front.
//!
//! With no trusted hop a client's `X-Forwarded-For` still goes on, with the client's address behind it
//! (as nginx and Envoy do it): the last entries are always true. Only `trusted_hops` says how many of
//! them are read. An `X-Request-Id` is kept from anyone, if it looks like one: nothing is decided by
//! it, and a client that sends one wants to find it again.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::authority::Authority;
use super::fields::Survey;
use super::{COPY_MARKER, ClientInfo, TrustSettings};
use crate::limits;

/// Whom the request came from, hop by hop.
pub static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static CLIENT_CERTIFICATE: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// By which a request and its copies are found.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How many gateways have copied the request, if those in front may say so; else the marker goes.
pub(super) fn copy_hops(headers: &mut HeaderMap, survey: &Survey, settings: &TrustSettings) -> Option<u32> {
    if !survey.copy_marker {
        return None;
    }
    if settings.trusted_hops == 0 {
        headers.remove(&COPY_MARKER);
        return None;
    }
    // A marker that cannot be read still marks a copy: one that is not copied again.
    let hops = headers.get(&COPY_MARKER)?.to_str().ok().and_then(|text| text.parse().ok());
    Some(hops.unwrap_or(limits::MIRROR_HOPS))
}

/// Sets the forwarding fields and says who the client is.
pub(super) fn forward(
    headers: &mut HeaderMap,
    survey: &Survey,
    client: &ClientInfo,
    settings: &TrustSettings,
    authority: Option<&Authority>,
) -> IpAddr {
    let trusted = settings.trusted_hops > 0;
    let mut address = client.address;
    if survey.forwarded_for == 0 {
        headers.insert(&FORWARDED_FOR, client.forwarded_for.clone());
    } else {
        let entries: Vec<&[u8]> = headers.get_all(&FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
        let mut list = entries.join(&b", "[..]);
        if trusted {
            address = believed(&list, settings.trusted_hops).unwrap_or(address);
        }
        list.extend_from_slice(b", ");
        list.extend_from_slice(client.forwarded_for.as_bytes());
        // One line: some backends read no other.
        let list = HeaderValue::from_bytes(&list).unwrap_or_else(|_| client.forwarded_for.clone());
        headers.insert(&FORWARDED_FOR, list);
    }
    match trusted && survey.forwarded_proto {
        true => last_line(headers, &FORWARDED_PROTO),
        false => drop(headers.insert(&FORWARDED_PROTO, client.proto.clone())),
    }
    match authority {
        _ if trusted && survey.forwarded_host => last_line(headers, &FORWARDED_HOST),
        Some(authority) => drop(headers.insert(&FORWARDED_HOST, authority.as_value().clone())),
        None if survey.forwarded_host => drop(headers.remove(&FORWARDED_HOST)),
        None => {}
    }
    address
}

/// Of several lines keeps the last, which the nearest hop has added: backends differ in which they read.
fn last_line(headers: &mut HeaderMap, name: &HeaderName) {
    let further = headers.get_all(name).iter().skip(1).last().cloned();
    if let Some(last) = further {
        headers.insert(name, last);
    }
}

/// The entry that the farthest of `hops` proxies has appended. `None` when there are fewer entries, or
/// it is no address: then nobody trusted has said who the client is.
fn believed(list: &[u8], hops: u32) -> Option<IpAddr> {
    let nth = usize::try_from(hops).ok()?.checked_sub(1)?;
    let entry = list.rsplit(|&byte| byte == b',').nth(nth)?;
    let entry = std::str::from_utf8(entry).ok()?.trim();
    let address = entry.parse::<IpAddr>().ok();
    let address = address.or_else(|| entry.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.or_else(|| entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok()).map(|ip| ip.to_canonical())
}

/// Says who a client is by its certificate. Nobody else is believed: only this gateway has verified it.
pub(super) fn certify(headers: &mut HeaderMap, survey: &Survey, client: &ClientInfo) {
    match &client.identity {
        Some(identity) => {
            headers.insert(&CLIENT_CERTIFICATE, identity.clone());
        }
        None if survey.client_certificate => {
            headers.remove(&CLIENT_CERTIFICATE);
        }
        None => {}
    }
}

/// Keeps the request's id if there is a usable one, else makes one.
pub(super) fn identify(headers: &mut HeaderMap, survey: &Survey, random: impl FnOnce() -> [u64; 2]) {
    let usable = survey.request_ids == 1
        && headers.get(&REQUEST_ID).map(HeaderValue::as_bytes).is_some_and(|id| {
            (1..=limits::REQUEST_ID_BYTES).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
        });
    if !usable && let Ok(id) = HeaderValue::from_bytes(&uuid(random())) {
        headers.insert(&REQUEST_ID, id);
    }
}

/// 128 random bits as a UUID of version 4 (RFC 9562 5.4).
fn uuid([high, low]: [u64; 2]) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    let mut bits = (u128::from(high) << 64) | u128::from(low);
    let mut text = [b'-'; 36];
    for (at, place) in text.iter_mut().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            // The topmost four bits are below 16, as is the table's length.
            *place = DIGITS[(bits >> 124) as usize];
            bits <<= 4;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_of_version_4() {
        assert_eq!(&uuid([0, 0]), b"00000000-0000-4000-8000-000000000000");
        assert_eq!(&uuid([u64::MAX; 2]), b"ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(
            &uuid([0x0123_4567_89ab_cdef, 0x0123_4567_89ab_cdef]),
            b"01234567-89ab-4def-8123-456789abcdef"
        );
    }

    #[test]
    fn the_entry_of_the_farthest_trusted_hop_is_the_client() {
        let believed = |list: &str, hops| believed(list.as_bytes(), hops).map(|ip| ip.to_string());
        assert_eq!(believed("1.1.1.1, 2.2.2.2", 1).as_deref(), Some("2.2.2.2"));
        assert_eq!(believed("1.1.1.1,2.2.2.2", 2).as_deref(), Some("1.1.1.1"));
        assert_eq!(believed("1.1.1.1, 2.2.2.2", 3), None);
        assert_eq!(believed("6.6.6.6, 1.1.1.1:80", 1).as_deref(), Some("1.1.1.1"));
        assert_eq!(believed("[2001:db8::1]:80", 1).as_deref(), Some("2001:db8::1"));
        assert_eq!(believed("[2001:db8::1]", 1).as_deref(), Some("2001:db8::1"));
        assert_eq!(believed("::ffff:1.2.3.4", 1).as_deref(), Some("1.2.3.4"));
        assert_eq!(believed("6.6.6.6, unknown", 1), None);
        assert_eq!(believed("", 1), None);
        assert_eq!(believed("1.1.1.1", 0), None);
    }
}
