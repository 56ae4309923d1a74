//! By what a gateway knows copies of its own again, whoever stands between.
//!
//! The marker that a copy carries is believed only from trusted hops: else a client could switch
//! mirroring off by sending it. A mirror that leads back here is no trusted hop. So a copy carries a
//! token too, which only this gateway can make and only it understands. Each gateway adds its own, so
//! a circle of gateways ends where it began.
//!
//! A token is the time and a keyed hash of it (SipHash with a random key of this process). Backends
//! see it; whoever takes one from there may switch off mirroring of requests of their own, for
//! [`limits::LOOP_TOKEN_AGE`].

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::limits;

/// The field that tokens stand in, one each.
pub static COPY_TOKEN: HeaderName = HeaderName::from_static("x-mirrorgate-token");

/// Makes tokens and knows them again.
#[derive(Clone, Debug)]
pub struct LoopGuard(Arc<Secret>);

#[derive(Debug)]
struct Secret {
    key: RandomState,
    start: Instant,
}

impl Default for LoopGuard {
    fn default() -> Self {
        Self(Arc::new(Secret { key: RandomState::new(), start: Instant::now() }))
    }
}

impl LoopGuard {
    /// A token of `now`, to be added to a copy.
    pub fn sign(&self, now: Instant) -> HeaderValue {
        // Hexadecimal digits are a header's value.
        HeaderValue::from_bytes(&self.token(self.seconds(now)))
            .unwrap_or_else(|_| HeaderValue::from_static("none"))
    }

    /// Whether one of the tokens is from here and not too old.
    pub fn knows(&self, headers: &HeaderMap) -> bool {
        let tokens = headers.get_all(&COPY_TOKEN).iter().take(limits::MIRROR_HOPS as usize);
        tokens.into_iter().any(|token| self.made(token.as_bytes(), self.seconds(Instant::now())))
    }

    fn made(&self, token: &[u8], now: u64) -> bool {
        let time = token.get(..16).and_then(|digits| std::str::from_utf8(digits).ok());
        let Some(time) = time.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else { return false };
        now.saturating_sub(time) <= limits::LOOP_TOKEN_AGE.as_secs() && token == self.token(time)
    }

    fn token(&self, time: u64) -> [u8; 32] {
        let mut text = [0; 32];
        let (front, back) = text.split_at_mut(16);
        front.copy_from_slice(&hexadecimal(time));
        back.copy_from_slice(&hexadecimal(self.0.key.hash_one(time)));
        text
    }

    /// Seconds since the process began.
    fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.0.start).as_secs()
    }
}

/// `number` in hexadecimal, most significant digit first. Eight digits at a time, each in a byte of one
/// number: every copy has two of these, and a loop over the digits takes three times the instructions.
pub(super) fn hexadecimal(number: u64) -> [u8; 16] {
    let mut text = [0; 16];
    let (front, back) = text.split_at_mut(8);
    front.copy_from_slice(&eight_digits(number >> 32));
    back.copy_from_slice(&eight_digits(number & 0xffff_ffff));
    text
}

fn eight_digits(number: u64) -> [u8; 8] {
    let pairs = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    let digits = (bytes | bytes << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 where the digit is a letter: from 10 on, 6 more reach the next four bits.
    let letters = ((digits + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (digits + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_gateway_knows_its_own_copies_among_others() {
        let (one, other) = (LoopGuard::default(), LoopGuard::default());
        let mut headers = HeaderMap::new();
        assert!(!one.knows(&headers));
        headers.append(&COPY_TOKEN, other.sign(Instant::now()));
        assert!(!one.knows(&headers));
        headers.append(&COPY_TOKEN, one.sign(Instant::now()));
        assert!(one.knows(&headers) && other.knows(&headers));
        assert_eq!(headers.get_all(&COPY_TOKEN).iter().count(), 2);
    }

    #[test]
    fn sixteen_digits() {
        for number in [0, 9, 10, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 1 << 32, u64::MAX] {
            assert_eq!(hexadecimal(number), format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn nobody_else_can_make_one_and_none_lasts() {
        let guard = LoopGuard::default();
        let token = guard.token(5);
        assert!(guard.made(&token, 5) && guard.made(&token, 65));
        assert!(!guard.made(&token, 66), "too old");
        let mut altered = token;
        altered[15] = b'6';
        assert!(!guard.made(&altered, 6), "another time under the same hash");
        for text in ["", "1", "0000000000000005", "zzzzzzzzzzzzzzzz0000000000000000", "+000000000000005"] {
            assert!(!guard.made(text.as_bytes(), 5), "{text}");
        }
    }

    #[test]
    fn more_tokens_than_hops_are_not_looked_at() {
        let guard = LoopGuard::default();
        let mut headers = HeaderMap::new();
        for _ in 0..limits::MIRROR_HOPS {
            headers.append(&COPY_TOKEN, HeaderValue::from_static("x"));
        }
        headers.append(&COPY_TOKEN, guard.sign(Instant::now()));
        assert!(!guard.knows(&headers));
    }
}
