//! One line of a head or of trailers, without its end: whether it is one, and what it says of the
//! message's framing.

use crate::limits;
use crate::proxy::framing::lexis::{has_control, is_target, token_length, trim};
use crate::proxy::framing::refusal::Refusal;

/// What the head has said of its framing so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) http_10: bool,
    pub(super) host: bool,
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
}

impl Facts {
    /// Only three names say anything about framing, told apart by their length first.
    #[inline]
    pub(super) fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let repeated = std::mem::replace(&mut self.host, true);
                return if repeated { Err(Refusal::RepeatedHost) } else { Ok(()) };
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Refusal::RepeatedLength);
                }
                if self.chunked {
                    return Err(Refusal::LengthWithEncoding);
                }
                self.length = Some(content_length(trim(value))?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked {
                    return Err(Refusal::RepeatedEncoding);
                }
                if self.length.is_some() {
                    return Err(Refusal::LengthWithEncoding);
                }
                if self.http_10 {
                    return Err(Refusal::EncodingInHttp10);
                }
                if !trim(value).eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::TransferEncoding);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }
}

/// RFC 9112 3, without the lenience of its section 2.2: single spaces, nothing around them.
pub(super) fn request_line_is_http_10(line: &[u8]) -> Result<bool, Refusal> {
    let method = token_length(line);
    let (Some((b' ', rest)), Some(version)) =
        (line.get(method..).and_then(<[u8]>::split_first), line.last_chunk::<8>())
    else {
        return Err(unfit(line, Refusal::RequestLine));
    };
    let Some((b' ', target)) = rest.len().checked_sub(8).and_then(|end| rest.get(..end)?.split_last()) else {
        return Err(unfit(line, Refusal::RequestLine));
    };
    if method == 0 || !is_target(target) {
        return Err(unfit(line, Refusal::RequestLine));
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err(unfit(line, Refusal::Version)),
    }
}

/// A field line's name and value, white space around the value included.
#[inline]
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let (name, rest) = line.split_at_checked(token_length(line)).unwrap_or_default();
    match rest.split_first() {
        Some((b':', value)) if !name.is_empty() => {
            if has_control(value) {
                return Err(unfit(line, Refusal::ControlByte));
            }
            Ok((name, value))
        }
        Some((b' ' | b'\t', _)) if name.is_empty() => Err(Refusal::Folded),
        Some((b' ' | b'\t', _)) => Err(Refusal::SpaceBeforeColon),
        _ => Err(unfit(line, Refusal::FieldName)),
    }
}

/// Which rule a line that is refused anyway has broken, so that the counter tells smuggling from
/// mistakes.
#[cold]
fn unfit(line: &[u8], otherwise: Refusal) -> Refusal {
    if line.contains(&b'\r') {
        Refusal::BareReturn
    } else if has_control(line) {
        Refusal::ControlByte
    } else {
        otherwise
    }
}

fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() {
        return Err(Refusal::MalformedLength);
    }
    let mut length = 0_u64;
    for &byte in value {
        if byte == b',' {
            return Err(Refusal::RepeatedLength);
        }
        let digit = byte.wrapping_sub(b'0');
        length = length
            .checked_mul(10)
            .and_then(|length| length.checked_add(u64::from(digit)))
            .filter(|&length| digit < 10 && length <= limits::BODY_LENGTH)
            .ok_or(Refusal::MalformedLength)?;
    }
    Ok(length)
}
