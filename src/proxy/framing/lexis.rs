//! Which bytes may stand where in an HTTP/1 head (RFC 9110 5.6.2, RFC 9112 3 and 5).

/// Bytes of a method or of a field's name.
const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");
/// Bytes of a request target: visible ones, and those above ASCII, which clients do send raw as UTF-8.
/// `#` is not among them: a fragment never goes on the wire, and `http::Uri` would silently cut
/// the target there, so that a backend would see another one than the client sent.
const TARGET: [bool; 256] = {
    let mut map = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        map[byte] = byte > 0x20 && byte != 0x7f && byte != b'#' as usize;
        byte += 1;
    }
    map
};

const fn table(punctuation: &[u8]) -> [bool; 256] {
    let mut map = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        map[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < punctuation.len() {
        map[punctuation[at] as usize] = true;
        at += 1;
    }
    map
}

/// Length of the token that `bytes` begin with; 0 when they begin with none.
#[inline]
pub(super) fn token_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| !TOKEN[usize::from(byte)]).unwrap_or(bytes.len())
}

/// Whether `bytes` can be a request target.
#[inline]
pub(super) fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|&byte| TARGET[usize::from(byte)])
        && (bytes.is_ascii() || std::str::from_utf8(bytes).is_ok())
}

/// Whether `value` holds a byte that no field value may hold: a control byte other than HTAB.
#[inline]
pub(super) fn has_control(value: &[u8]) -> bool {
    let (words, _) = value.as_chunks::<8>();
    let Some(last) = value.last_chunk::<8>() else {
        return value.iter().any(|&byte| is_control(byte));
    };
    // The last word overlaps the one before it, so that no tail is left for a byte-wise loop.
    let mut suspect = word_has_control(*last);
    for word in words {
        suspect |= word_has_control(*word);
    }
    suspect && value.iter().any(|&byte| is_control(byte))
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// Whether one of eight bytes is below 0x20 (HTAB included) or is DEL. The borrow of a subtraction
/// can only run on from a byte that is a hit itself, so the answer for the word is exact.
#[inline]
fn word_has_control(word: [u8; 8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    let word = u64::from_le_bytes(word);
    let below = word.wrapping_sub(ONES * 0x20) & !word;
    let delete = word ^ (ONES * 0x7f);
    let delete = delete.wrapping_sub(ONES) & !delete;
    (below | delete) & HIGH != 0
}

/// `value` without the optional white space around it.
#[inline]
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_bytes_are_found_at_every_place() {
        for length in 1..40 {
            for at in 0..length {
                for byte in 0..=255_u8 {
                    let mut value = vec![b'a'; length];
                    value[at] = byte;
                    assert_eq!(has_control(&value), is_control(byte), "{byte:#x} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn white_space_is_trimmed_on_both_sides_only() {
        for (value, trimmed) in [(" \ta b\t ", "a b"), ("", ""), ("  ", ""), ("a", "a")] {
            assert_eq!(trim(value.as_bytes()), trimmed.as_bytes());
        }
    }
}
