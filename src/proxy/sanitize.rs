//! What goes on of a head: target and host, hop-by-hop fields, forwarding fields, the request's id.
//! Pure functions on heads that hyper has parsed; fields are changed in place.
//!
//! Called once per request ([`inbound`]), response ([`outbound`]) and trailer section ([`trailers`]).
//! They never look at a body or a route, and never answer: what is wrong is said as [`Refused`].

mod authority;
mod fields;
mod forwarded;

use std::net::{IpAddr, SocketAddr};

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version, request, response};
use memchr::memchr_iter;

pub use self::authority::Authority;
pub use self::fields::trailers;
pub use self::forwarded::{FORWARDED_FOR, REQUEST_ID};

use self::fields::Survey;

/// The field by which a copy is known: how many gateways have copied it.
pub static COPY_MARKER: HeaderName = HeaderName::from_static("x-mirrorgate-copy");

/// What a connection knows of its client, ready to be written.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    address: IpAddr,
    forwarded_for: HeaderValue,
    proto: HeaderValue,
    secure: bool,
    identity: Option<HeaderValue>,
}

/// Who is believed, and what is written beyond the usual.
#[derive(Clone, Debug, Default)]
pub struct TrustSettings {
    /// Proxies in front of this one. Their `X-Forwarded-Proto` and `-Host` and their copy marker are
    /// believed, and the client's address is looked up in what they appended to `X-Forwarded-For`.
    pub trusted_hops: u32,
    /// What `Via` calls this gateway; `None` writes no `Via`.
    pub via: Option<Via>,
}

/// This gateway's entries in `Via`, by the version that a message came in.
#[derive(Clone, Debug)]
pub struct Via {
    http_10: HeaderValue,
    http_11: HeaderValue,
    http_2: HeaderValue,
}

/// Where a request wants to go, and what was taken from its head.
#[derive(Clone, Debug)]
pub struct Target {
    /// How it named its target.
    pub form: TargetForm,
    /// Host and port that it named. `None` only for HTTP/1.0.
    pub authority: Option<Authority>,
    /// The protocol that an HTTP/1.1 client asks to upgrade to. `Upgrade` and `Connection` are gone
    /// from the head: whoever forwards the upgrade writes both anew.
    pub upgrade: Option<HeaderValue>,
    /// Gateways that have copied it already, when it is a copy. The marker stays in the head then.
    pub copy_hops: Option<u32>,
    /// Whether it has a token by which a gateway knows copies of its own again, whoever says so.
    pub copy_token: bool,
    /// The client: the connection's other end, or whom the trusted hops say they talk to.
    pub client: IpAddr,
}

/// How a request names its target (RFC 9112 3.2). HTTP/2 requests count as `Origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// A path, beginning with a slash.
    Origin,
    /// A whole URI; it names the same authority as `Host`.
    Absolute,
    /// Host and port, with `CONNECT`.
    Authority,
    /// `*`, with `OPTIONS`.
    Asterisk,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The target is not in a form that fits the method, or has a scheme or bytes that it must not.
    Target,
    /// The target has more bytes than the gateway takes; whoever knows the limit says so.
    TargetTooLong,
    /// The head has more fields than the gateway takes; whoever knows the limit says so.
    TooManyFields,
    /// Host is missing, repeated, or not a host with an optional port.
    Host,
    /// The target and Host name different authorities.
    HostMismatch,
    /// A connection-specific field in HTTP/2.
    ConnectionField,
    /// Repeated or malformed Content-Length in HTTP/2.
    ContentLength,
    /// A field's value that begins or ends with white space in HTTP/2 (RFC 9113, 8.2.1).
    FieldValue,
}

impl Refused {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Target,
        Self::TargetTooLong,
        Self::TooManyFields,
        Self::Host,
        Self::HostMismatch,
        Self::ConnectionField,
        Self::ContentLength,
        Self::FieldValue,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::TargetTooLong => "target_too_long",
            Self::TooManyFields => "head_fields",
            Self::Host => "host",
            Self::HostMismatch => "host_mismatch",
            Self::ConnectionField => "connection_field",
            Self::ContentLength => "content_length",
            Self::FieldValue => "field_value",
        }
    }

    /// What the client is told.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Target
            | Self::Host
            | Self::HostMismatch
            | Self::ConnectionField
            | Self::ContentLength
            | Self::FieldValue => StatusCode::BAD_REQUEST,
        }
    }
}

impl ClientInfo {
    /// Once per connection. `secure`: the client came by TLS.
    pub fn new(peer: SocketAddr, secure: bool) -> Self {
        // A client of a dual-stack listener is known by the address that it uses itself.
        let address = peer.ip().to_canonical();
        Self {
            address,
            forwarded_for: HeaderValue::from_str(&address.to_string())
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            proto: HeaderValue::from_static(if secure { "https" } else { "http" }),
            secure,
            identity: None,
        }
    }

    /// Who the client is by its certificate, which was verified.
    pub fn identified(self, identity: Option<HeaderValue>) -> Self {
        Self { identity, ..self }
    }

    /// The scheme that the client came by.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The connection's other end.
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

impl Via {
    /// `None` when `pseudonym` is not a token.
    pub fn new(pseudonym: &str) -> Option<Self> {
        // A field's name is a token too.
        HeaderName::from_bytes(pseudonym.as_bytes()).ok()?;
        let entry = |version: &str| HeaderValue::from_str(&format!("{version} {pseudonym}")).ok();
        Some(Self { http_10: entry("1.0")?, http_11: entry("1.1")?, http_2: entry("2")? })
    }

    fn append(&self, version: Version, headers: &mut HeaderMap) {
        let entry = match version {
            Version::HTTP_2 => &self.http_2,
            Version::HTTP_10 => &self.http_10,
            _ => &self.http_11,
        };
        headers.append(http::header::VIA, entry.clone());
    }
}

/// Makes a client's head fit to go on, and says where it wants to go.
///
/// Afterwards: no hop-by-hop field is left but `TE: trailers` and `Trailer` (and `Transfer-Encoding`,
/// which the framing check has found to be `chunked`); there is one Host, but for HTTP/1.0; the
/// forwarding fields are set. `random` is asked for an id's 128 bits only when there is none.
///
/// # Errors
///
/// When two readers could take the target for different ones; the head is then half changed.
pub fn inbound(
    parts: &mut request::Parts,
    client: &ClientInfo,
    settings: &TrustSettings,
    random: impl FnOnce() -> [u64; 2],
) -> Result<Target, Refused> {
    let survey = Survey::of(&parts.headers);
    let http2 = parts.version >= Version::HTTP_2;
    if http2 && survey.has_connection_fields() {
        return Err(Refused::ConnectionField);
    }
    if http2 && !has_plain_length(&parts.headers, survey.lengths) {
        return Err(Refused::ContentLength);
    }
    if http2 && parts.headers.values().any(is_padded) {
        return Err(Refused::FieldValue);
    }
    let form = target_form(parts, http2)?;
    let authority = agreed_authority(parts, &survey, form)?;

    survey.strip_hop_by_hop(&mut parts.headers);
    if survey.cookies > 1 && http2 {
        join_cookies(&mut parts.headers);
    }
    let upgrade = survey.upgrade().filter(|_| parts.version == Version::HTTP_11);
    let copy_hops = forwarded::copy_hops(&mut parts.headers, &survey, settings);
    forwarded::certify(&mut parts.headers, &survey, client);
    let client = forwarded::forward(&mut parts.headers, &survey, client, settings, authority.as_ref());
    forwarded::identify(&mut parts.headers, &survey, random);
    if let Some(via) = &settings.via {
        via.append(parts.version, &mut parts.headers);
    }
    Ok(Target { form, authority, upgrade, copy_hops, copy_token: survey.copy_token, client })
}

/// Whether a head has more than `most` fields. Those of HTTP/2 were counted by nobody before; a cookie that
/// is split there counts once (RFC 9113, 8.2.3).
pub fn has_too_many(headers: &HeaderMap, most: usize) -> bool {
    let count = headers.len();
    count > most && count - headers.get_all(COOKIE).iter().skip(1).count() > most
}

/// Makes a backend's head fit to go on to a client: hop-by-hop fields are removed, but for those of a
/// 101, which are the upgrade.
pub fn outbound(parts: &mut response::Parts, settings: &TrustSettings) {
    let survey = Survey::of(&parts.headers);
    let upgrade = survey.upgrade().filter(|_| parts.status == StatusCode::SWITCHING_PROTOCOLS);
    survey.strip_hop_by_hop(&mut parts.headers);
    if survey.transfer_encoding {
        // The server writes its own, by what it knows of the body.
        parts.headers.remove(http::header::TRANSFER_ENCODING);
    }
    if parts.status == StatusCode::NO_CONTENT {
        // It must not have any (RFC 9110, 8.6), and a client of HTTP/2 would miss the bytes that it names.
        parts.headers.remove(CONTENT_LENGTH);
    }
    if let Some(protocol) = upgrade {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(http::header::UPGRADE, protocol);
    }
    if let Some(via) = &settings.via {
        via.append(parts.version, &mut parts.headers);
    }
}

fn is_padded(value: &HeaderValue) -> bool {
    matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

fn target_form(parts: &request::Parts, http2: bool) -> Result<TargetForm, Refused> {
    let uri = &parts.uri;
    let Some(path_and_query) = uri.path_and_query().filter(|text| !text.as_str().is_empty()) else {
        return if parts.method == Method::CONNECT && uri.authority().is_some() && uri.scheme().is_none() {
            Ok(TargetForm::Authority)
        } else {
            Err(Refused::Target)
        };
    };
    let text = path_and_query.as_str();
    let (origin, form) = match uri.scheme_str() {
        None => (true, TargetForm::Origin),
        Some("http" | "https") if http2 => (true, TargetForm::Origin),
        Some("http" | "https") => (false, TargetForm::Absolute),
        Some(_) => return Err(Refused::Target),
    };
    if text == "*" {
        return match parts.method {
            Method::OPTIONS if origin => Ok(TargetForm::Asterisk),
            _ => Err(Refused::Target),
        };
    }
    // An extended CONNECT (RFC 8441), which has a path, has become a GET by now.
    if parts.method == Method::CONNECT {
        return Err(Refused::Target);
    }
    // `http::Uri` holds no control byte and no space, so those need no look.
    if !text.starts_with('/') || has_encoded_nul(path_and_query.path()) {
        return Err(Refused::Target);
    }
    Ok(form)
}

/// `%00` ends a path for whoever decodes it into a C string, and not for whoever matched the route.
fn has_encoded_nul(path: &str) -> bool {
    let path = path.as_bytes();
    memchr_iter(b'%', path).any(|at| path.get(at + 1..at + 3) == Some(b"00"))
}

/// The authority that target and Host agree on. Where only an HTTP/2 `:authority` names it, Host is
/// written, so that everything behind has one place to look.
fn agreed_authority(
    parts: &mut request::Parts,
    survey: &Survey,
    form: TargetForm,
) -> Result<Option<Authority>, Refused> {
    if survey.hosts > 1 {
        return Err(Refused::Host);
    }
    let host = survey.host.as_ref().map(|host| Authority::new(host.clone()).ok_or(Refused::Host));
    let host = host.transpose()?;
    let Some(named) = parts.uri.authority() else {
        return match host {
            None if parts.version != Version::HTTP_10 => Err(Refused::Host),
            host => Ok(host),
        };
    };
    if form == TargetForm::Authority && parts.uri.port_u16().is_none() {
        return Err(Refused::Target);
    }
    let default_port = match parts.uri.scheme_str() {
        Some("https") => Some(443),
        Some(_) => Some(80),
        None => None,
    };
    if let Some(host) = host {
        return match authority::agree(&host, named.as_str(), default_port) {
            true => Ok(Some(host)),
            false => Err(Refused::HostMismatch),
        };
    }
    if parts.version == Version::HTTP_11 {
        return Err(Refused::Host);
    }
    let value = HeaderValue::from_str(named.as_str()).map_err(|_| Refused::Host)?;
    let authority = Authority::new(value.clone()).ok_or(Refused::Host)?;
    parts.headers.insert(HOST, value);
    Ok(Some(authority))
}

/// HTTP/1 is checked on its raw bytes; in HTTP/2 equal lengths may stand twice, and an HTTP/1 backend
/// would see both.
fn has_plain_length(headers: &HeaderMap, lengths: u32) -> bool {
    match lengths {
        0 => true,
        1 => headers
            .get(CONTENT_LENGTH)
            .map(HeaderValue::as_bytes)
            .is_some_and(|value| !value.is_empty() && value.iter().all(u8::is_ascii_digit)),
        _ => false,
    }
}

/// HTTP/2 may split Cookie into crumbs; HTTP/1 has one (RFC 9113 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

#[cfg(test)]
mod tests;
