//! Hop-by-hop fields (RFC 9110 7.6.1): found in one pass, then only those found are removed.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE, UPGRADE};

/// Those of one hop, besides `Connection` and what it names. `Proxy-Authenticate` and
/// `Proxy-Authorization` are not among them: they are meant for a proxy, and this is a gateway.
const HOP_BY_HOP: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];

/// Never removed because `Connection` names them: without them the message would have another
/// framing or target than it was checked for, or a client could take from the proxies in front what
/// they say of it.
const NOT_REMOVABLE: [&str; 13] = [
    "content-length",
    "transfer-encoding",
    "host",
    "te",
    "trailer",
    "cookie",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-request-id",
    "x-mirrorgate-copy",
    "x-mirrorgate-token",
];

/// Never accepted in a trailer section, where no check of the head has seen them (RFC 9110 6.5.1).
const NOT_IN_TRAILERS: [&str; 35] = [
    // Framing and hops.
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // Routing and who asks.
    "forwarded",
    "host",
    "via",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-mirrorgate-copy",
    "x-mirrorgate-token",
    "x-request-id",
    "x-real-ip",
    // Authentication.
    "authorization",
    "cookie",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    "www-authenticate",
    // How a message is to be treated.
    "cache-control",
    "content-encoding",
    "content-range",
    "content-type",
    "expect",
    "location",
    "max-forwards",
    "range",
    "vary",
];

/// What this gateway vouches for. A backend of CGI or WSGI reads a name with `_` for `-` as the same one, so
/// that a client could say there what it may not say.
const VOUCHED: [&str; 4] =
    ["x-forwarded-client-cert", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];

/// What one pass over a head's fields has found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) host: Option<HeaderValue>,
    pub(super) hosts: u32,
    pub(super) lengths: u32,
    pub(super) cookies: u32,
    pub(super) forwarded_for: u32,
    pub(super) forwarded_proto: bool,
    pub(super) forwarded_host: bool,
    pub(super) client_certificate: bool,
    pub(super) request_ids: u32,
    pub(super) copy_marker: bool,
    pub(super) copy_token: bool,
    pub(super) transfer_encoding: bool,
    connection: bool,
    /// Values of `Connection` that say more than `close` or `keep-alive`.
    named: Vec<HeaderValue>,
    upgrade: Option<HeaderValue>,
    /// Names that a backend could take for one of [`VOUCHED`].
    mistakable: Vec<HeaderName>,
    te: bool,
    te_trailers: bool,
    te_else: bool,
    /// Bit per entry of [`HOP_BY_HOP`].
    hop_by_hop: u8,
}

impl Survey {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut survey = Self::default();
        for (name, value) in headers {
            survey.note(name, value);
        }
        survey
    }

    #[inline]
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        match name.as_str() {
            "host" => {
                self.hosts += 1;
                self.host = Some(value.clone());
            }
            "connection" => {
                self.connection = true;
                let value_bytes = value.as_bytes();
                if !value_bytes.eq_ignore_ascii_case(b"keep-alive")
                    && !value_bytes.eq_ignore_ascii_case(b"close")
                {
                    self.named.push(value.clone());
                }
            }
            "te" => {
                // A second field line is written anew with the first, even if it says nothing.
                self.te_else |= std::mem::replace(&mut self.te, true);
                for coding in tokens(value) {
                    if coding.eq_ignore_ascii_case(b"trailers") {
                        self.te_trailers = true;
                    } else {
                        self.te_else = true;
                    }
                }
            }
            "upgrade" => self.upgrade = Some(value.clone()),
            "cookie" => self.cookies += 1,
            "content-length" => self.lengths += 1,
            "transfer-encoding" => self.transfer_encoding = true,
            "x-forwarded-for" => self.forwarded_for += 1,
            "x-forwarded-proto" => self.forwarded_proto = true,
            "x-forwarded-host" => self.forwarded_host = true,
            "x-forwarded-client-cert" => self.client_certificate = true,
            "x-request-id" => self.request_ids += 1,
            "x-mirrorgate-copy" => self.copy_marker = true,
            "x-mirrorgate-token" => self.copy_token = true,
            "keep-alive" => self.hop_by_hop |= 1,
            "proxy-connection" => self.hop_by_hop |= 2,
            "http2-settings" => self.hop_by_hop |= 4,
            other if other.starts_with('x') && is_mistakable(other) => self.mistakable.push(name.clone()),
            _ => {}
        }
    }

    /// Whether there are fields that HTTP/2 forbids (RFC 9113 8.2.2).
    pub(super) fn has_connection_fields(&self) -> bool {
        self.connection
            || self.upgrade.is_some()
            || self.transfer_encoding
            || self.te_else
            || self.hop_by_hop & 3 != 0
    }

    /// The protocol to upgrade to, when `Connection` says that it is meant for this hop. An upgrade to
    /// HTTP/2 is not offered on: RFC 9113 has done away with it.
    pub(super) fn upgrade(&self) -> Option<HeaderValue> {
        let protocol =
            self.upgrade.as_ref().filter(|value| !value.as_bytes().eq_ignore_ascii_case(b"h2c"))?;
        let mut named = self.named.iter().flat_map(tokens);
        named.any(|name| name.eq_ignore_ascii_case(b"upgrade")).then(|| protocol.clone())
    }

    /// Removes what this pass has found of one hop. `TE: trailers` and `Trailer` stay: without them
    /// no trailer would get through.
    pub(super) fn strip_hop_by_hop(&self, headers: &mut HeaderMap) {
        if self.connection {
            headers.remove(CONNECTION);
        }
        for name in self.named.iter().flat_map(tokens) {
            let removable = !NOT_REMOVABLE.iter().any(|kept| kept.as_bytes().eq_ignore_ascii_case(name));
            if let Ok(name) = std::str::from_utf8(name)
                && removable
            {
                headers.remove(name);
            }
        }
        if self.upgrade.is_some() {
            headers.remove(UPGRADE);
        }
        if self.te_else || (self.te && !self.te_trailers) {
            headers.remove(TE);
            if self.te_trailers {
                headers.insert(TE, HeaderValue::from_static("trailers"));
            }
        }
        for name in &self.mistakable {
            headers.remove(name);
        }
        if self.hop_by_hop != 0 {
            for name in HOP_BY_HOP {
                headers.remove(name);
            }
        }
    }
}

fn is_mistakable(name: &str) -> bool {
    let alike = |vouched: &str| {
        vouched.len() == name.len()
            && vouched
                .bytes()
                .zip(name.bytes())
                .all(|(one, other)| one == other || (one == b'-' && other == b'_'))
    };
    VOUCHED.iter().any(|vouched| alike(vouched))
}

/// Drops from a trailer section what would change the message that it ends. Says how many fields were
/// dropped.
pub fn trailers(trailers: &mut HeaderMap) -> usize {
    let forbidden: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| NOT_IN_TRAILERS.contains(&name.as_str()) || is_mistakable(name.as_str()))
        .cloned()
        .collect();
    let before = trailers.len();
    for name in &forbidden {
        trailers.remove(name);
    }
    before - trailers.len()
}

/// The members of a comma-separated list.
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}
