//! Heads of HTTP/1: a request's written, a response's read. Pure: no IO, no state.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, request};

use crate::limits;

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
    /// It switches to a protocol that nobody asked for.
    #[error("unasked-for upgrade")]
    Upgrade,
    /// Only interim responses came.
    #[error("too many interim responses")]
    Interim,
}

/// Appends the head of a request. Framing fields come from `length` alone, whatever `parts` has, so
/// that what is said of the body is what is written. `upgrade` is the protocol asked for, if any.
pub fn write_request(
    out: &mut BytesMut,
    parts: &request::Parts,
    host: Option<&HeaderValue>,
    length: Length,
    upgrade: Option<&HeaderValue>,
) {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    out.reserve(target.len() + 64 + parts.headers.len() * 48);
    put(out, &[parts.method.as_str().as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\n"]);
    // RFC 9110, 7.2: Host first, so that whoever reads the head can route early.
    match host.or_else(|| parts.headers.get(HOST)) {
        Some(host) => put(out, &[b"host: ", host.as_bytes(), b"\r\n"]),
        None => out.extend_from_slice(b"host: \r\n"),
    }
    for (name, value) in &parts.headers {
        if *name != HOST && *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    match length {
        Length::Exact(bytes) => put(out, &[b"content-length: ", decimal(bytes, &mut [0; 20]), b"\r\n"]),
        Length::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Length::None | Length::UntilClose => {}
    }
    // RFC 9110, 10.1.4: TE is of one hop, and the next one must not take it for another's.
    match (upgrade, parts.headers.contains_key(TE)) {
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
}

/// Takes one head off `input`, or `None` while it is incomplete.
pub fn read_response(input: &mut BytesMut, method: &Method) -> Result<Option<ResponseHead>, NotHttp> {
    let mut fields = [const { MaybeUninit::uninit() }; limits::HEAD_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        input,
        &mut fields,
    );
    let end = match parsed {
        Ok(httparse::Status::Complete(end)) if end <= limits::HEAD_BYTES => end,
        Ok(httparse::Status::Partial) if input.len() < limits::HEAD_BYTES => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(NotHttp::TooLarge),
        Err(_) => return Err(NotHttp::Head),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(NotHttp::Head)?;
    let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    // Values become slices of the received bytes; positions are kept, since freezing ends the borrow.
    let base = input.as_ptr() as usize;
    let mut spans = [(0_u32, 0_u32, 0_u32, 0_u32); limits::HEAD_FIELDS];
    let count = response.headers.len();
    for (span, field) in spans.iter_mut().zip(response.headers.iter()) {
        let name = field.name.as_ptr() as usize - base;
        let value = if field.value.is_empty() { name } else { field.value.as_ptr() as usize - base };
        *span = (name as u32, field.name.len() as u32, value as u32, field.value.len() as u32);
    }
    let head = input.split_to(end).freeze();
    let mut headers = HeaderMap::with_capacity(count);
    for (name, name_length, value, value_length) in spans.into_iter().take(count) {
        let name = slice(&head, name, name_length);
        let name = HeaderName::from_bytes(&name).map_err(|_| NotHttp::Head)?;
        let value = HeaderValue::from_maybe_shared(slice(&head, value, value_length));
        headers.append(name, value.map_err(|_| NotHttp::Head)?);
    }
    let (length, framed) = response_length(&headers, status, method)?;
    if !framed || headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        // RFC 9112, 6.3: what goes on must say once, and rightly, how long the body is.
        state_length(&mut headers, length);
    }
    let keep_alive = framed && stays_open(&headers, version);
    Ok(Some(ResponseHead { status, version, headers, length, keep_alive }))
}

/// RFC 9112, 6.3, in its order; and whether the framing leaves no doubt about where the next
/// response begins.
fn response_length(
    headers: &HeaderMap,
    status: StatusCode,
    method: &Method,
) -> Result<(Length, bool), NotHttp> {
    let declared = content_length(headers)?;
    let coded = headers.contains_key(TRANSFER_ENCODING);
    if status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || *method == Method::HEAD
    {
        return Ok((Length::None, true));
    }
    if coded {
        let mut values = headers.get_all(TRANSFER_ENCODING).iter();
        let only = values.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
        return Ok(match only && values.next().is_none() {
            true => (Length::Chunked, declared.is_none()),
            false => (Length::UntilClose, false),
        });
    }
    Ok(match declared {
        Some(bytes) => (Length::Exact(bytes), true),
        None => (Length::UntilClose, false),
    })
}

fn state_length(headers: &mut HeaderMap, length: Length) {
    let declared = content_length(headers).ok().flatten();
    headers.remove(CONTENT_LENGTH);
    if let (Some(bytes), Length::Exact(_) | Length::None) = (declared, length) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    }
}

/// The one number that all Content-Length fields agree on.
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, NotHttp> {
    let mut agreed = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for text in value.as_bytes().split(|byte| *byte == b',') {
            let text = text.trim_ascii();
            if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
                return Err(NotHttp::ContentLength);
            }
            let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
            let number = number.ok_or(NotHttp::ContentLength)?;
            if agreed.is_some_and(|other| other != number) {
                return Err(NotHttp::ContentLength);
            }
            agreed = Some(number);
        }
    }
    Ok(agreed)
}

fn stays_open(headers: &HeaderMap, version: Version) -> bool {
    let mut open = version == Version::HTTP_11;
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',') {
            let token = token.trim_ascii();
            if token.eq_ignore_ascii_case(b"close") {
                return false;
            }
            open |= token.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    open
}

/// Appends trailer fields and the empty line that ends them.
pub fn write_trailers(out: &mut BytesMut, trailers: &HeaderMap) {
    for (name, value) in trailers {
        put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
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

fn slice(head: &Bytes, start: u32, length: u32) -> Bytes {
    head.slice(start as usize..(start + length) as usize)
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
