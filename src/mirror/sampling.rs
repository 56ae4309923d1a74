//! Which requests a share of less than all falls on, by a key of the request.
//!
//! The number of a key is the same in every process, on every machine, in every version: FNV-1a over
//! its bytes with 64 bits, mixed by MurmurHash3's finaliser (FNV alone spreads short keys badly over
//! the high bits, which decide). It depends on nothing but the key, so that the same key is in for
//! every mirror that has the same share, and who is in at 5 % is in at 10 %. A client that may choose
//! its key may choose to be copied or not.

use std::net::IpAddr;

use http::header::COOKIE;
use http::request;

use crate::plan::SampleKey;
use crate::routing::query;

/// The number of `key`, uniform over 64 bits.
pub fn number(key: impl IntoIterator<Item = u8>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The number of a request's key; of its id, if it has no such key; `None` without an id.
pub(super) fn draw(by: &SampleKey, parts: &request::Parts, client: IpAddr) -> Option<u64> {
    let keyed = match by {
        SampleKey::Header(name) => parts.headers.get(name).map(|value| plain(value.as_bytes())),
        SampleKey::Cookie(name) => cookie(parts, name).map(plain),
        SampleKey::Query(name) => {
            parts.uri.query().and_then(|query| query::first(query, name)).map(|value| plain(&value.decoded()))
        }
        SampleKey::Path => Some(plain(parts.uri.path().as_bytes())),
        SampleKey::Client => Some(match client {
            IpAddr::V4(address) => plain(&address.octets()),
            IpAddr::V6(address) => plain(&address.octets()),
        }),
    };
    keyed.or_else(|| parts.headers.get("x-request-id").map(|id| plain(id.as_bytes())))
}

fn plain(key: &[u8]) -> u64 {
    number(key.iter().copied())
}

fn cookie<'a>(parts: &'a request::Parts, name: &str) -> Option<&'a [u8]> {
    let fields = parts.headers.get_all(COOKIE).iter();
    fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b';')).find_map(|pair| {
        let (key, value) = pair.split_at(pair.iter().position(|&byte| byte == b'=')?);
        (key.trim_ascii() == name.as_bytes()).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use http::{HeaderName, Request};

    use super::*;
    use crate::plan::Fraction;

    fn parts() -> request::Parts {
        let request = Request::get("/a/b?v=1%202&user=u7")
            .header("x-request-id", "id-1")
            .header("x-user", "u7")
            .header("x-user", "second")
            .header("cookie", "other=1; session = u7 ;x=y")
            .header("cookie", "late=z");
        request.body(()).unwrap().into_parts().0
    }

    /// Of these numbers a change would move users from one group to another at an upgrade.
    #[test]
    fn numbers_never_change() {
        assert_eq!(plain(b""), 0xefd0_1f60_ba99_2926);
        assert_eq!(plain(b"u7"), number(*b"u7"));
        assert_eq!([plain(b"a"), plain(b"user-42")], [0x82a2_a958_a9be_ce5b, 0xa395_32c7_ab05_1e8d]);
    }

    #[test]
    fn a_key_is_the_same_wherever_it_stands() {
        let client: IpAddr = "10.0.0.1".parse().unwrap();
        let of = |key: &SampleKey| draw(key, &parts(), client).unwrap();
        let user = plain(b"u7");
        assert_eq!(of(&SampleKey::Header(HeaderName::from_static("x-user"))), user);
        assert_eq!(of(&SampleKey::Cookie("session".into())), user);
        assert_eq!(of(&SampleKey::Cookie("late".into())), plain(b"z"));
        assert_eq!(of(&SampleKey::Query("user".into())), user);
        assert_eq!(of(&SampleKey::Query("v".into())), plain(b"1 2"));
        assert_eq!(of(&SampleKey::Path), plain(b"/a/b"));
        assert_eq!(of(&SampleKey::Client), plain(&[10, 0, 0, 1]));
    }

    #[test]
    fn without_the_key_the_request_id_decides() {
        let client: IpAddr = "::1".parse().unwrap();
        for key in [
            SampleKey::Header(HeaderName::from_static("x-none")),
            SampleKey::Cookie("none".into()),
            SampleKey::Query("none".into()),
        ] {
            assert_eq!(draw(&key, &parts(), client), Some(plain(b"id-1")));
        }
    }

    #[test]
    fn shares_are_met_and_lie_within_each_other() {
        let fraction = |numerator| Fraction { numerator, denominator: 100 }.threshold().unwrap();
        for shape in
            [|n: u32| n.to_string(), |n: u32| format!("user-{n:08}"), |n: u32| format!("{n:x}@example.com")]
        {
            let numbers: Vec<u64> = (0..100_000).map(|n| plain(shape(n).as_bytes())).collect();
            for percent in [1, 5, 10, 50, 90] {
                let inside = numbers.iter().filter(|number| **number < fraction(percent)).count() as f64;
                let expected = f64::from(percent) * 1000.0;
                // Five standard deviations of a fair draw.
                let tolerance = 5.0 * (expected * (1.0 - f64::from(percent) / 100.0)).sqrt();
                assert!((inside - expected).abs() < tolerance, "{percent} %: {inside}");
            }
        }
    }
}
