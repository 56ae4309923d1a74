//! Who a client is, as backends are told: Envoy's `X-Forwarded-Client-Cert`.

use http::HeaderValue;
use rustls::pki_types::CertificateDer;

use crate::limits;
use crate::tls::sha256;
use crate::tls::x509::{Facts, hex};

/// The value of the field for the certificate of a verified client: `Hash`, `Subject`, `URI`, `DNS`.
/// One with more names than [`limits::CLIENT_IDENTITY_BYTES`] hold is told by its hash alone.
pub(super) fn identity(certificate: &CertificateDer<'_>) -> Option<HeaderValue> {
    let mut text = format!("Hash={}", hex(&sha256(certificate)));
    let hash = text.len();
    if let Some(facts) = Facts::of(certificate) {
        text.push_str(&format!(";Subject={}", quoted(&facts.subject)));
        for (key, values) in [("URI", &facts.uris), ("DNS", &facts.dns)] {
            for value in values {
                text.push_str(&format!(";{key}={}", plain_or_quoted(value)));
            }
        }
    }
    if text.len() > limits::CLIENT_IDENTITY_BYTES {
        text.truncate(hash);
    }
    HeaderValue::from_str(&text).ok()
}

fn plain_or_quoted(value: &str) -> String {
    let plain = value.bytes().all(|byte| byte.is_ascii_graphic() && !b",;=\"\\".contains(&byte));
    if plain { value.to_owned() } else { quoted(value) }
}

fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        // No control character may come into a head.
        text.push(if c.is_ascii_graphic() || c == ' ' { c } else { '?' });
    }
    text.push('"');
    text
}
