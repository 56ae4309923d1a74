//! Heads of HTTP/1: a request's written, a response's read. Pure: no IO, no state.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use crate::limits;
use crate::upstream::message::Head;

/// How long a message's body is, as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is no body, and the head says nothing of one.
    None,
    /// This many bytes.
    Exact(u64),
    /// Until the last chunk.
    Chunked,
    /// Until the connection closes; responses only.
    UntilClose,
}

/// What a response's head says.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status; interim ones too.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// Fields as received.
    pub headers: HeaderMap,
    /// How the body ends.
    pub length: Length,
    /// Whether another request may follow on the connection.
    pub keep_alive: bool,
}

/// Why bytes are not a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHttp {
    /// The head does not parse.
    #[error("malformed response head")]
    Head,
    /// The head has no end within the limit.
    #[error("response head too large")]
    TooLarge,
    /// Content-Length is not a number, or several differ (RFC 9112, 6.3).
    #[error("ambiguous content-length")]
    ContentLength,
    /// A chunk's size line is malformed.
    #[error("malformed chunk")]
    Chunk,
    /// Trailers do not parse.
    #[error("malformed trailers")]
    Trailers,
    /// Transfer-Encoding is there twice, or is anything but `chunked`: passed on without it, the body
    /// would be another (nginx and Envoy refuse it, too).
    #[error("unknown transfer-encoding")]
    TransferEncoding,
    /// It switches to a protocol that nobody asked for.
    #[error("unasked-for upgrade")]
    Upgrade,
    /// Only interim responses came.
    #[error("too many interim responses")]
    Interim,
}

/// Appends the head of a request. Framing fields come from its length alone, whatever its parts have,
/// so that what is said of the body is what is written. `host` takes the place of the client's. True when
/// it expects to be told to go on before its body is sent.
pub fn write_request(out: &mut BytesMut, head: &Head<'_>, host: Option<&HeaderValue>) -> bool {
    let parts = head.parts;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    out.reserve(target.len() + 128 + parts.headers.len() * 48);
    put(out, &[parts.method.as_str().as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\n"]);
    // RFC 9110, 7.2: Host first, so that whoever reads the head can route early.
    match host.or_else(|| parts.headers.get(HOST)) {
        Some(host) => put(out, &[b"host: ", host.as_bytes(), b"\r\n"]),
        None => out.extend_from_slice(b"host: \r\n"),
    }
    let (mut expects, mut has_te) = (false, false);
    for (name, value) in &parts.headers {
        let framing = *name == HOST || *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING;
        has_te |= *name == TE;
        if !framing && !head.without.contains(&name) {
            expects |= *name == EXPECT;
            put_field(out, name, value);
        }
    }
    for (name, value) in head.extra {
        put_field(out, name, value);
    }
    match head.length {
        Length::Exact(bytes) => put(out, &[b"content-length: ", decimal(bytes, &mut [0; 20]), b"\r\n"]),
        Length::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Length::None | Length::UntilClose => {}
    }
    // RFC 9110, 10.1.4: TE is of one hop, and the next one must not take it for another's.
    match (head.upgrade, has_te) {
        (Some(protocol), false) => {
            put(out, &[b"connection: upgrade\r\nupgrade: ", protocol.as_bytes(), b"\r\n"]);
        }
        (Some(protocol), true) => {
            put(out, &[b"connection: upgrade, TE\r\nupgrade: ", protocol.as_bytes(), b"\r\n"]);
        }
        (None, true) => out.extend_from_slice(b"connection: TE\r\n"),
        (None, false) => {}
    }
    out.extend_from_slice(b"\r\n");
    expects
}

/// Fields that a response's map has room for: hyper uses it again for the connection's next request,
/// to which we add up to five. Growing it twice for them costs 1,000 instructions.
const ROOM: usize = 12;

/// Takes one head off `input`, or `None` while it is incomplete. Without `fields` the head's fields
/// are checked and not kept: nobody reads those of a copy's response.
pub fn read_response(
    input: &mut BytesMut,
    method: &Method,
    fields: bool,
) -> Result<Option<ResponseHead>, NotHttp> {
    let mut space = [const { MaybeUninit::uninit() }; limits::HEAD_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let end = match parser.parse_response_with_uninit_headers(&mut response, input, &mut space) {
        Ok(httparse::Status::Complete(end)) if end <= limits::HEAD_BYTES => end,
        Ok(httparse::Status::Partial) if input.len() < limits::HEAD_BYTES => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(NotHttp::TooLarge),
        Err(_) => return Err(NotHttp::Head),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(NotHttp::Head)?;
    let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut framing = Framing::new(version);
    for field in response.headers.iter() {
        framing.see(field.name.as_bytes(), field.value)?;
    }
    // Values become slices of the received bytes. A copy of the head is one allocation, and lets the
    // read buffer go; slices of the buffer itself would pin it for as long as a field lives.
    let mut headers = HeaderMap::new();
    if fields {
        headers.reserve(response.headers.len().max(ROOM));
        let head = Bytes::copy_from_slice(input.get(..end).unwrap_or_default());
        for field in response.headers.iter() {
            let start = if field.value.is_empty() {
                0
            } else {
                field.value.as_ptr() as usize - input.as_ptr() as usize
            };
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| NotHttp::Head)?;
            let value = HeaderValue::from_maybe_shared(head.slice(start..start + field.value.len()));
            headers.append(name, value.map_err(|_| NotHttp::Head)?);
        }
    }
    input.advance(end);
    let (length, certain) = framing.response(status, method);
    if fields && framing.restates_length() {
        // RFC 9112, 6.3: what goes on must say once, and rightly, how long the body is.
        headers.remove(CONTENT_LENGTH);
        if let (Some(bytes), false) = (framing.length, framing.chunked) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
        }
    }
    Ok(Some(ResponseHead { status, version, headers, length, keep_alive: certain && framing.keep_alive() }))
}

/// What a head's fields say of the body and of the connection.
struct Framing {
    length: Option<u64>,
    lengths: usize,
    chunked: bool,
    close: bool,
    open: bool,
}

impl Framing {
    fn new(version: Version) -> Self {
        Self { length: None, lengths: 0, chunked: false, close: false, open: version == Version::HTTP_11 }
    }

    /// Looks at one field. The length of its name tells most fields apart.
    fn see(&mut self, name: &[u8], value: &[u8]) -> Result<(), NotHttp> {
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                for text in value.split(|byte| *byte == b',') {
                    let number = decimal_number(text.trim_ascii()).ok_or(NotHttp::ContentLength)?;
                    if self.length.is_some_and(|other| other != number) {
                        return Err(NotHttp::ContentLength);
                    }
                    self.length = Some(number);
                    self.lengths += 1;
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(NotHttp::TransferEncoding);
                }
                self.chunked = true;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.open |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// RFC 9112, 6.3, in its order; and whether the framing leaves no doubt about where the next
    /// response begins.
    fn response(&self, status: StatusCode, method: &Method) -> (Length, bool) {
        let bodiless = status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
            || *method == Method::HEAD;
        match (bodiless, self.chunked, self.length) {
            (true, ..) => (Length::None, true),
            (_, true, length) => (Length::Chunked, length.is_none()),
            (_, false, Some(bytes)) => (Length::Exact(bytes), true),
            (_, false, None) => (Length::UntilClose, false),
        }
    }

    /// Whether Content-Length is there more than once, or beside Transfer-Encoding.
    fn restates_length(&self) -> bool {
        self.lengths > 1 || (self.lengths > 0 && self.chunked)
    }

    fn keep_alive(&self) -> bool {
        self.open && !self.close
    }
}

fn decimal_number(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Appends trailer fields and the empty line that ends them.
pub fn write_trailers(out: &mut BytesMut, trailers: &HeaderMap) {
    for (name, value) in trailers {
        put_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Takes trailer fields and the empty line that ends them off `input`, or `None` while incomplete.
pub fn read_trailers(input: &mut BytesMut) -> Result<Option<HeaderMap>, NotHttp> {
    let mut fields = [httparse::EMPTY_HEADER; limits::HEAD_FIELDS];
    match httparse::parse_headers(input, &mut fields) {
        Ok(httparse::Status::Complete((end, fields))) => {
            let mut trailers = HeaderMap::with_capacity(fields.len());
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| NotHttp::Trailers)?;
                let value = HeaderValue::from_bytes(field.value).map_err(|_| NotHttp::Trailers)?;
                trailers.append(name, value);
            }
            input.advance(end);
            Ok(Some(trailers))
        }
        Ok(httparse::Status::Partial) if input.len() < limits::HEAD_BYTES => Ok(None),
        Ok(httparse::Status::Partial) => Err(NotHttp::TooLarge),
        Err(_) => Err(NotHttp::Trailers),
    }
}

/// What is between name and value and behind them is of known length here, so that it is no call.
#[inline]
fn put_field(out: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn put(out: &mut BytesMut, pieces: &[&[u8]]) {
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

/// `number` in decimal, written into the end of `digits`.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
