//! Host and port as a request names them (RFC 3986 3.2.2, strictly).

use std::net::Ipv6Addr;

use http::HeaderValue;

/// Longest name in the DNS, with room for a trailing dot.
const HOST_BYTES: usize = 255;

/// A host with an optional port, as in `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    value: HeaderValue,
    /// Length of the host within `value`, without a trailing dot.
    host: usize,
    port: Option<u16>,
    /// The host in lower case, when it is not so in `value`.
    lower: Option<Box<str>>,
}

impl Authority {
    /// `None` when `value` is not a host with an optional port: no user, no empty host or port, no
    /// bytes but those of names and addresses.
    pub(super) fn new(value: HeaderValue) -> Option<Self> {
        let (host, port) = parse(value.as_bytes())?;
        let lower = host.iter().any(u8::is_ascii_uppercase).then(|| text(host).to_ascii_lowercase().into());
        let host = host.len();
        Some(Self { value, host, port, lower })
    }

    /// The host for routing: in lower case, without port and trailing dot; an IPv6 address keeps its
    /// brackets.
    pub fn host(&self) -> &str {
        match &self.lower {
            Some(lower) => lower,
            None => text(self.value.as_bytes().get(..self.host).unwrap_or_default()),
        }
    }

    /// The port, when one is named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// As it was sent.
    pub fn as_value(&self) -> &HeaderValue {
        &self.value
    }
}

/// Whether `named`, out of a target, is the authority that Host says, when `default_port` is what
/// either means without a port.
pub(super) fn agree(host: &Authority, named: &str, default_port: Option<u16>) -> bool {
    let Some((name, port)) = parse(named.as_bytes()) else {
        return false;
    };
    text(name).eq_ignore_ascii_case(host.host()) && port.or(default_port) == host.port.or(default_port)
}

fn parse(authority: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let end = match authority.first()? {
        b'[' => {
            let end = memchr::memchr(b']', authority)?;
            text(authority.get(1..end)?).parse::<Ipv6Addr>().ok()?;
            end + 1
        }
        _ => name_end(authority)?,
    };
    let (host, rest) = authority.split_at_checked(end)?;
    let port = match rest.split_first() {
        None => None,
        Some((b':', digits)) if (1..=5).contains(&digits.len()) => Some(number(digits)?),
        Some(_) => return None,
    };
    let host = host.strip_suffix(b".").unwrap_or(host);
    (host.len() <= HOST_BYTES).then_some((host, port))
}

/// Where the name or address ends that `authority` begins with. `None` when there is none, or a label of
/// it is empty: that is in no name, and `..` is in many a path that a backend makes of a host.
fn name_end(authority: &[u8]) -> Option<usize> {
    let (mut end, mut label) = (0, 0);
    for byte in authority {
        match byte {
            b'.' if label == 0 => return None,
            b'.' => label = 0,
            b'-' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => label += 1,
            _ => break,
        }
        end += 1;
    }
    (end > 0).then_some(end)
}

/// `None` when not all are digits, or the number is too large.
fn number(digits: &[u8]) -> Option<u16> {
    let number = digits
        .iter()
        .try_fold(0_u32, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0')));
    number.and_then(|number| u16::try_from(number).ok())
}

/// What [`parse`] lets through is ASCII, so nothing gets lost.
fn text(ascii: &[u8]) -> &str {
    std::str::from_utf8(ascii).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(text: &str) -> Option<Authority> {
        Authority::new(HeaderValue::from_bytes(text.as_bytes()).unwrap())
    }

    #[test]
    fn hosts_are_told_from_ports() {
        for (value, host, port) in [
            ("example.com", "example.com", None),
            ("Example.COM:8080", "example.com", Some(8080)),
            ("example.com.", "example.com", None),
            ("example.com.:1", "example.com", Some(1)),
            ("a_b-c~d", "a_b-c~d", None),
            ("127.0.0.1:0", "127.0.0.1", Some(0)),
            ("[::1]", "[::1]", None),
            ("[2001:DB8::1]:65535", "[2001:db8::1]", Some(65535)),
        ] {
            let authority = of(value).unwrap();
            assert_eq!((authority.host(), authority.port()), (host, port), "{value:?}");
            assert_eq!(authority.as_value(), value);
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "a".repeat(HOST_BYTES + 1);
        for value in [
            "",
            ".",
            "..",
            ".a",
            "a..",
            "a..b",
            ":80",
            "a:",
            "a:b",
            "a:65536",
            "a:000080",
            "a:-1",
            "a:+1",
            "a:1:2",
            "user@a",
            "a@b:80",
            "a b",
            "a/b",
            "a,b",
            "a#b",
            "a?b",
            "a\\b",
            "a%00",
            "%61",
            "::1",
            "[::1",
            "[a]",
            "[::1]a",
            "[::1%eth0]",
            "[v1.a]",
            "h\u{f6}st",
            &long,
        ] {
            assert_eq!(of(value), None, "{value:?}");
        }
    }

    #[test]
    fn default_ports_agree_with_none() {
        for (host, named, default_port, expected) in [
            ("a", "A", Some(80), true),
            ("a:80", "a", Some(80), true),
            ("a", "a:443", Some(443), true),
            ("a", "a:80", None, false),
            ("a", "a:81", Some(80), false),
            ("a.", "a", Some(80), true),
            ("a", "b", Some(80), false),
            ("a", "a@a", Some(80), false),
        ] {
            assert_eq!(agree(&of(host).unwrap(), named, default_port), expected, "{host} {named}");
        }
    }
}
