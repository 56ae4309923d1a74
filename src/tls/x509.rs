//! The few things that are asked of a certificate: until when it is valid, for which names, and whose
//! it is. Whether it can be trusted is up to rustls; nothing here decides anything.

use std::fmt::Write;

/// What a certificate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// When it ends to be valid, in seconds since 1970.
    pub not_after: i64,
    /// Its subject as RFC 4514 writes it.
    pub subject: String,
    /// DNS names, as they stand in it; `*.` in front of a wildcard.
    pub dns: Vec<String>,
    /// URIs, such as a SPIFFE id.
    pub uris: Vec<String>,
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const OCTETS: u8 = 0x04;
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

impl Facts {
    /// Reads the certificate in `der`; `None` when it is none.
    pub fn of(der: &[u8]) -> Option<Self> {
        let mut outer = Der(der);
        let mut certificate = Der(outer.expect(SEQUENCE)?);
        let mut body = Der(certificate.expect(SEQUENCE)?);
        let mut field = body.next()?;
        if field.0 == 0xa0 {
            // The version, which is not there in version 1.
            field = body.next()?;
        }
        let (_serial, _algorithm, _issuer) = (field, body.next()?, body.next()?);
        let mut validity = Der(body.expect(SEQUENCE)?);
        let _not_before = validity.next()?;
        let mut facts = Self { not_after: time(validity.next()?)?, ..Self::default() };
        facts.subject = name(body.expect(SEQUENCE)?)?;
        while let Some((tag, content)) = body.next() {
            if tag == 0xa3 {
                facts.extensions(Der(content).expect(SEQUENCE)?)?;
            }
        }
        Some(facts)
    }

    fn extensions(&mut self, content: &[u8]) -> Option<()> {
        let mut extensions = Der(content);
        while let Some((SEQUENCE, extension)) = extensions.next() {
            let mut extension = Der(extension);
            if extension.expect(OID)? != SUBJECT_ALT_NAME {
                continue;
            }
            let mut value = extension.next()?;
            if value.0 != OCTETS {
                // `critical` stood in front of it.
                value = extension.next()?;
            }
            let mut names = Der(Der(value.1).expect(SEQUENCE)?);
            while let Some((tag, name)) = names.next() {
                let text = std::str::from_utf8(name).ok().filter(|text| text.is_ascii());
                match (tag, text) {
                    (0x82, Some(text)) => self.dns.push(text.to_ascii_lowercase()),
                    (0x86, Some(text)) => self.uris.push(text.to_owned()),
                    _ => {}
                }
            }
        }
        Some(())
    }
}

/// What is left of a piece of DER.
struct Der<'der>(&'der [u8]);

impl<'der> Der<'der> {
    /// The next tag with its content; `None` at the end, and where it is no DER.
    fn next(&mut self) -> Option<(u8, &'der [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (length.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'der [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 4.1.2.5).
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let days = days_since_1970(year, part(0)?, part(2)?);
    Some(((days * 24 + part(4)?) * 60 + part(6)?) * 60 + part(8)?)
}

/// Howard Hinnant's `days_from_civil`: years begin in March, so that the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// A distinguished name in the order and with the escapes of RFC 4514.
fn name(content: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    let mut sets = Der(content);
    while let Some((SET, set)) = sets.next() {
        let mut attributes = Der(set);
        let mut joined = Vec::new();
        while let Some((SEQUENCE, attribute)) = attributes.next() {
            let mut attribute = Der(attribute);
            let kind = attribute.expect(OID)?;
            let (_, value) = attribute.next()?;
            joined.push(format!("{}={}", attribute_name(kind), escaped(value)));
        }
        parts.push(joined.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute_name(oid: &[u8]) -> String {
    let known = match oid {
        [0x55, 0x04, 0x03] => "CN",
        [0x55, 0x04, 0x05] => "serialNumber",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x0a] => "O",
        [0x55, 0x04, 0x0b] => "OU",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01] => "emailAddress",
        _ => return hex(oid),
    };
    known.to_owned()
}

fn escaped(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, &byte) in value.iter().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' | b'=' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'#' | b' ' if at == 0 => {
                text.push('\\');
                text.push(char::from(byte));
            }
            0x20..=0x7e => text.push(char::from(byte)),
            _ => {
                // Also what is not ASCII: it goes into a header field.
                let _infallible = write!(text, "\\{byte:02X}");
            }
        }
    }
    text
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_certificate_says_its_names_and_its_end() {
        let mut params = rcgen::CertificateParams::new(["a.example".into(), "*.B.example".into()]).unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI("spiffe://x/y".try_into().unwrap()));
        params.not_after = rcgen::date_time_ymd(2049, 12, 31);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "A, \"B\"");
        params.distinguished_name.push(rcgen::DnType::CommonName, "x\ny");
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap();
        let facts = Facts::of(der.der()).unwrap();
        assert_eq!(facts.not_after, 2_524_521_600);
        assert_eq!(facts.subject, r#"CN=x\0Ay,O=A\, \"B\""#);
        assert_eq!(facts.dns, ["a.example", "*.b.example"]);
        assert_eq!(facts.uris, ["spiffe://x/y"]);
        // Cut anywhere, it is none, and nothing breaks.
        for end in 0..der.der().len() {
            assert_eq!(Facts::of(der.der().get(..end).unwrap()), None);
        }
    }

    #[test]
    fn times_are_seconds_since_1970() {
        assert_eq!(time((UTC_TIME, b"700101000000Z")), Some(0));
        assert_eq!(time((UTC_TIME, b"000229120000Z")), Some(951_825_600));
        assert_eq!(time((GENERALIZED_TIME, b"20500101000000Z")), Some(2_524_608_000));
        assert_eq!(time((GENERALIZED_TIME, b"2050010100Z")), None);
        assert_eq!(time((UTC_TIME, b"7001010000")), None);
    }
}
