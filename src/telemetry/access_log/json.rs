//! JSON of one flat object, appended to a buffer. By hand, since what clients send need not be UTF-8,
//! which no serialiser of strings takes, and since this runs on the worker.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::discovery::source::EndpointAddress;
use crate::limits;

/// Members of an object that is being written. Their names are given with what surrounds them, as [`name`]
/// makes it, so that each is one copy.
pub(super) struct Members<'a>(pub(super) &'a mut Vec<u8>);

/// `,"…":` of a member's name, which needs no escaping.
macro_rules! name {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}
pub(super) use name;

impl<'a> Members<'a> {
    /// Begins an object with one member, a word of ours.
    pub(super) fn begin(out: &'a mut Vec<u8>, kind: &'static str) -> Self {
        out.extend_from_slice(b"{\"kind\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.push(b'"');
        Self(out)
    }

    pub(super) fn end(self) {
        self.0.push(b'}');
    }

    /// Members that were written before.
    pub(super) fn members(&mut self, written: &[u8]) {
        self.0.extend_from_slice(written);
    }

    /// A word of ours, which needs no escaping.
    pub(super) fn word(&mut self, name: &'static str, value: &'static str) {
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    /// Bytes from outside, or `null`. What is not UTF-8 is read as Latin-1, so that no byte is lost.
    pub(super) fn text(&mut self, name: &'static str, value: Option<&[u8]>) {
        self.name(name);
        match value {
            Some(value) => self.quoted(value),
            None => self.0.extend_from_slice(b"null"),
        }
    }

    pub(super) fn number(&mut self, name: &'static str, value: u64) {
        self.name(name);
        decimal(self.0, value);
    }

    /// Milliseconds, as Envoy has them, with three decimals: a fast mirror is not `0`.
    pub(super) fn milliseconds(&mut self, name: &'static str, value: Duration) {
        self.name(name);
        let microseconds = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        decimal(self.0, microseconds / 1000);
        let rest = microseconds % 1000;
        self.0.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
    }

    /// RFC 3339 in UTC with milliseconds.
    pub(super) fn time(&mut self, name: &'static str, value: SystemTime) {
        self.name(name);
        let since = value.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second, millisecond) =
            (since.as_secs() / 86_400, since.as_secs() % 86_400, u64::from(since.subsec_millis()));
        let (year, month, day) = civil(days);
        let (hour, minute) = (second / 3600, second / 60);
        // One piece of known length, without a loop: a third of what seven numbers cost.
        let text = [
            b'"',
            digit(year / 1000),
            digit(year / 100),
            digit(year / 10),
            digit(year),
            b'-',
            digit(month / 10),
            digit(month),
            b'-',
            digit(day / 10),
            digit(day),
            b'T',
            digit(hour / 10),
            digit(hour),
            b':',
            digit(minute % 60 / 10),
            digit(minute % 60),
            b':',
            digit(second % 60 / 10),
            digit(second % 60),
            b'.',
            digit(millisecond / 100),
            digit(millisecond / 10),
            digit(millisecond),
            b'Z',
            b'"',
        ];
        self.0.extend_from_slice(&text);
    }

    pub(super) fn address(&mut self, name: &'static str, value: SocketAddr) {
        self.name(name);
        self.socket_address(value);
    }

    pub(super) fn endpoint(&mut self, name: &'static str, value: Option<&EndpointAddress>) {
        self.name(name);
        match value {
            None => self.0.extend_from_slice(b"null"),
            Some(EndpointAddress::Tcp(address)) => self.socket_address(*address),
            Some(unix @ EndpointAddress::Unix(_)) => self.quoted(unix.to_string().as_bytes()),
        }
    }

    fn name(&mut self, name: &'static str) {
        self.0.extend_from_slice(name.as_bytes());
    }

    fn socket_address(&mut self, address: SocketAddr) {
        self.0.push(b'"');
        match address {
            // Three of these are in every record: `Display` would be a quarter of its cost.
            SocketAddr::V4(address) => {
                let [first, rest @ ..] = address.ip().octets();
                decimal(self.0, u64::from(first));
                for octet in rest {
                    self.0.push(b'.');
                    decimal(self.0, u64::from(octet));
                }
                self.0.push(b':');
                decimal(self.0, u64::from(address.port()));
            }
            // Writing to a vector cannot fail.
            SocketAddr::V6(address) => drop(write!(self.0, "{address}")),
        }
        self.0.push(b'"');
    }

    fn quoted(&mut self, value: &[u8]) {
        let value = shortened(value);
        self.0.push(b'"');
        // Without an early end: sixteen bytes at a time instead of one.
        if value.iter().fold(true, |plain, byte| plain & is_plain(*byte)) {
            self.0.extend_from_slice(value);
        } else {
            for chunk in value.utf8_chunks() {
                chunk.valid().chars().for_each(|character| self.character(character));
                chunk.invalid().iter().for_each(|byte| self.escape(u32::from(*byte)));
            }
        }
        self.0.push(b'"');
    }

    fn character(&mut self, character: char) {
        match character {
            '"' | '\\' => self.0.extend_from_slice(&[b'\\', character as u8]),
            // Control characters, also those that terminals obey (C1, DEL).
            _ if character.is_control() => self.escape(u32::from(character)),
            _ => self.0.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }

    fn escape(&mut self, code: u32) {
        // Writing to a vector cannot fail.
        drop(write!(self.0, "\\u{code:04x}"));
    }
}

fn is_plain(byte: u8) -> bool {
    (b' '..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\')
}

/// At most [`limits::ACCESS_LOG_TEXT`] bytes of `value`, without half a character at the end.
fn shortened(value: &[u8]) -> &[u8] {
    let Some(head) = value.get(..limits::ACCESS_LOG_TEXT).filter(|head| head.len() < value.len()) else {
        return value;
    };
    match std::str::from_utf8(head) {
        Err(error) if error.error_len().is_none() => head.get(..error.valid_up_to()).unwrap_or(head),
        _ => head,
    }
}

/// The last digit of `value`.
fn digit(value: u64) -> u8 {
    b'0' + (value % 10) as u8
}

fn decimal(out: &mut Vec<u8>, mut value: u64) {
    if value < 10 {
        return out.push(digit(value));
    }
    let mut text = [0; 20];
    let mut start = text.len();
    for place in text.iter_mut().rev() {
        *place = digit(value);
        value /= 10;
        start -= 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(text.get(start..).unwrap_or(&[]));
}

/// Year, month and day of a day counted from 1970-01-01, by eras of 400 years that begin in March,
/// so that the leap day is the last of its year (Hinnant, `chrono`-Compatible Low-Level Date
/// Algorithms).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn object(write: impl FnOnce(&mut Members<'_>)) -> String {
        let mut out = Vec::new();
        let mut object = Members::begin(&mut out, "x");
        write(&mut object);
        object.end();
        let text = String::from_utf8(out).unwrap();
        text.replacen(r#""kind":"x","#, "", 1)
    }

    fn quoted(value: &[u8]) -> String {
        object(|object| object.text(name!("t"), Some(value)))
    }

    #[test]
    fn what_clients_send_is_escaped() {
        assert_eq!(quoted(b"plain /path?x=1"), r#"{"t":"plain /path?x=1"}"#);
        assert_eq!(quoted(b"a\"b\\c"), r#"{"t":"a\"b\\c"}"#);
        assert_eq!(quoted(b"tab\t\x1b[0m\x7f"), r#"{"t":"tab\u0009\u001b[0m\u007f"}"#);
        assert_eq!(quoted("zwölf €".as_bytes()), r#"{"t":"zwölf €"}"#);
        assert_eq!(quoted(b"latin \xe9\xff"), r#"{"t":"latin \u00e9\u00ff"}"#);
        assert_eq!(quoted("\u{85}".as_bytes()), r#"{"t":"\u0085"}"#);
        assert_eq!(object(|object| object.text(name!("t"), None)), r#"{"t":null}"#);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let mut long = vec![b'x'; limits::ACCESS_LOG_TEXT - 1];
        long.extend_from_slice("€".as_bytes());
        let parsed: serde_json::Value = serde_json::from_str(&quoted(&long)).unwrap();
        assert_eq!(parsed["t"].as_str().unwrap(), "x".repeat(limits::ACCESS_LOG_TEXT - 1));
        assert_eq!(shortened(&[0xff; limits::ACCESS_LOG_TEXT + 1]).len(), limits::ACCESS_LOG_TEXT);
    }

    #[test]
    fn numbers_times_and_addresses() {
        assert_eq!(
            object(|object| {
                object.number(name!("zero"), 0);
                object.number(name!("max"), u64::MAX);
                object.milliseconds(name!("short"), Duration::from_micros(42));
                object.milliseconds(name!("long"), Duration::from_micros(1_234_567));
                object.address(name!("v4"), "10.0.255.1:80".parse().unwrap());
                object.address(name!("longest"), "255.255.255.255:65535".parse().unwrap());
                object.address(name!("shortest"), "0.0.0.0:0".parse().unwrap());
                object.address(name!("v6"), "[::1]:8080".parse().unwrap());
                object.endpoint(name!("none"), None);
                object.endpoint(
                    name!("unix"),
                    Some(&EndpointAddress::Unix(std::path::Path::new("/a\"b").into())),
                );
            }),
            concat!(
                r#"{"zero":0,"max":18446744073709551615,"short":0.042,"long":1234.567,"#,
                r#""v4":"10.0.255.1:80","longest":"255.255.255.255:65535","shortest":"0.0.0.0:0","v6":"[::1]:8080","none":null,"unix":"unix:/a\"b"}"#
            )
        );
    }

    #[test]
    fn dates() {
        for (milliseconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_798_761_599_050, "2026-12-31T23:59:59.050Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_millis(milliseconds);
            assert_eq!(object(|object| object.time(name!("t"), time)), format!(r#"{{"t":"{expected}"}}"#));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_make_one_line_of_json(value in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = quoted(&value);
            prop_assert!(!text.contains('\n'));
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            if let Ok(valid) = std::str::from_utf8(&value) {
                prop_assert_eq!(parsed["t"].as_str().unwrap(), valid);
            }
        }
    }
}
