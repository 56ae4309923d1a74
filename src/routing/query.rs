//! Parameters of a query string, read where they lie.
//!
//! Names and values mean what a form sends: `%20` and `+` are spaces, and an escape that is none
//! stands for itself. Nothing is collected, so nothing needs a bound. Called by route matching.

use std::borrow::Cow;

/// The first parameter of that name, which is the one that counts when several have it (what Gateway
/// API recommends). `v` without `=` has an empty value.
pub fn first<'a>(query: &'a str, name: &str) -> Option<Value<'a>> {
    query.split('&').filter(|parameter| !parameter.is_empty()).find_map(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        Value(key).is(name.as_bytes()).then_some(Value(value))
    })
}

/// A parameter's value as it stands in the query, still encoded.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a>(&'a str);

impl<'a> Value<'a> {
    /// Whether it decodes to `text`; allocates nothing.
    pub fn is(self, text: &[u8]) -> bool {
        self.bytes().eq(text.iter().copied())
    }

    /// What it decodes to; allocates only if there is something to decode.
    pub fn decoded(self) -> Cow<'a, [u8]> {
        if self.0.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
            Cow::Owned(self.bytes().collect())
        } else {
            Cow::Borrowed(self.0.as_bytes())
        }
    }

    fn bytes(self) -> impl Iterator<Item = u8> + use<'a> {
        let mut rest = self.0.as_bytes();
        std::iter::from_fn(move || {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            match (byte, after) {
                (b'+', _) => Some(b' '),
                (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                    (Some(high), Some(low)) => {
                        rest = after;
                        Some(high << 4 | low)
                    }
                    _ => Some(b'%'),
                },
                _ => Some(byte),
            }
        })
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        for (query, expected) in [
            ("", None),
            ("w=1", None),
            ("v", Some("")),
            ("v=", Some("")),
            ("v=1", Some("1")),
            ("w=1&v=2&v=3", Some("2")),
            ("&&v=2", Some("2")),
            ("v=a=b", Some("a=b")),
            ("vv=1&v=2", Some("2")),
            ("%76=2", Some("2")),
            ("v=a%20b+c", Some("a b c")),
            ("v=%2", Some("%2")),
            ("v=%", Some("%")),
            ("v=%zz%41", Some("%zzA")),
            ("v=%+1", Some("% 1")),
        ] {
            let value = first(query, "v");
            let decoded = value.map(|value| String::from_utf8(value.decoded().into_owned()).unwrap());
            assert_eq!(decoded.as_deref(), expected, "{query:?}");
            if let (Some(value), Some(expected)) = (value, expected) {
                assert!(value.is(expected.as_bytes()), "{query:?}");
                assert!(!value.is(b"else"), "{query:?}");
            }
        }
    }

    #[test]
    fn an_unescaped_value_is_borrowed() {
        assert!(matches!(first("v=plain", "v").unwrap().decoded(), Cow::Borrowed(b"plain")));
    }
}
