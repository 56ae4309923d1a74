//! Scalars that occur in HTTP: hosts, paths, methods, header values, expressions; and plain texts.

use std::net::Ipv6Addr;

use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use super::decode::Scalar;
use super::error::Problem;
use crate::routing::matches::{HostPattern, Pattern};

/// A text as it is written; numbers and the like need no quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl Scalar for Text {
    const EXPECTED: &'static str = "a text";

    fn parse(text: &str) -> Result<Self, Problem> {
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Value {
        json!({ "type": ["string", "number", "boolean"] })
    }
}

/// A name for people, labels and URLs of the admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(pub(super) String);

impl Scalar for Name {
    const EXPECTED: &'static str = "a name";

    fn parse(text: &str) -> Result<Self, Problem> {
        let bad =
            text.is_empty() || text.len() > 253 || text.contains("://") || text.contains(is_unprintable);
        if bad {
            let problem = Problem::new(format!("{text:?} cannot be a name"));
            return Err(problem.hint("a name has 1 to 253 printable characters and no ://"));
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Value {
        json!({ "type": ["string", "number", "boolean"], "minLength": 1, "maxLength": 253 })
    }
}

fn is_unprintable(c: char) -> bool {
    c.is_control() || c.is_whitespace()
}

/// A path in the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilePath(pub(super) String);

impl Scalar for FilePath {
    const EXPECTED: &'static str = "a file's path";

    fn parse(text: &str) -> Result<Self, Problem> {
        if text.is_empty() || text.contains('\0') {
            return Err(Problem::new(format!("{text:?} is not a file's path")));
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// A host of a route; `None` is any.
impl Scalar for Option<HostPattern> {
    const EXPECTED: &'static str = "a host";

    fn parse(text: &str) -> Result<Self, Problem> {
        if text == "*" {
            return Ok(None);
        }
        match text.strip_prefix("*.") {
            Some(suffix) => Ok(Some(HostPattern::Suffix(format!(".{}", host_name(suffix, text)?)))),
            None => Ok(Some(HostPattern::Exact(host_name(text, text)?))),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1, "examples": ["shop.example.com", "*.example.com"] })
    }
}

/// A host to send or to redirect to, without a wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostName(pub(super) String);

impl Scalar for HostName {
    const EXPECTED: &'static str = "a host";

    fn parse(text: &str) -> Result<Self, Problem> {
        host_name(text, text).map(Self)
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1, "examples": ["shop.example.com"] })
    }
}

/// `host` in lower case; `whole` is what was written.
fn host_name(host: &str, whole: &str) -> Result<String, Problem> {
    let wrong = || Problem::new(format!("{whole:?} is not a host"));
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
        return address
            .map(|address| format!("[{address}]"))
            .ok_or_else(|| wrong().hint("write an IPv6 address in brackets and without a port"));
    }
    if !host.is_ascii() {
        return Err(wrong().hint("write international names as clients send them: xn--…"));
    }
    if host.contains("://") || host.contains('/') {
        return Err(wrong().hint("write the name alone, without scheme and path"));
    }
    if host.contains(':') {
        return Err(wrong().hint("leave the port out: hosts match on any port"));
    }
    if host.contains('*') {
        return Err(
            wrong().hint("`*` stands for the first labels only, as *.example.com, or alone for any host")
        );
    }
    if host.ends_with('.') {
        return Err(wrong().hint("leave the dot at the end out"));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(wrong());
    }
    Ok(host.to_ascii_lowercase())
}

/// A method; they are case-sensitive.
impl Scalar for Method {
    const EXPECTED: &'static str = "a method";

    fn parse(text: &str) -> Result<Self, Problem> {
        let upper = text.to_ascii_uppercase();
        let wrong = || Problem::new(format!("{text:?} is not a method"));
        if text != upper {
            return Err(wrong().hint(format!("methods are case-sensitive: write {upper}")));
        }
        Self::from_bytes(text.as_bytes()).map_err(|_| wrong())
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Z-]+$", "examples": ["GET", "POST"] })
    }
}

/// A value of a header field.
impl Scalar for HeaderValue {
    const EXPECTED: &'static str = "a header value";

    fn parse(text: &str) -> Result<Self, Problem> {
        Self::from_str(text).map_err(|_| {
            Problem::new(format!("{text:?} is not a header value: only visible ASCII, spaces and tabs are"))
        })
    }

    fn schema() -> Value {
        json!({ "type": ["string", "number", "boolean"] })
    }
}

/// The name of a header field, in any case.
impl Scalar for HeaderName {
    const EXPECTED: &'static str = "a header name";

    fn parse(text: &str) -> Result<Self, Problem> {
        Self::from_bytes(text.as_bytes()).map_err(|_| Problem::new(format!("{text:?} is not a header name")))
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", "examples": ["x-env"] })
    }
}

/// The path of a URL, without a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UrlPath(pub(super) String);

impl Scalar for UrlPath {
    const EXPECTED: &'static str = "a path";

    fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = || Problem::new(format!("{text:?} is not a path"));
        if !text.starts_with('/') {
            return Err(wrong().hint(format!("a path begins with a slash: write /{text}")));
        }
        if text.contains(['?', '#']) {
            return Err(wrong().hint("leave the query out; `query` in `matches` is for it"));
        }
        match text.find(|c: char| !c.is_ascii_graphic() || "\"<>\\^`{|}".contains(c)) {
            Some(_) => Err(wrong().hint("write other characters than those of URLs percent-encoded, as %20")),
            None => Ok(Self(text.to_owned())),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^/[^?#\\s]*$" })
    }
}

/// A service of gRPC with its package, or a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GrpcName(pub(super) String);

impl Scalar for GrpcName {
    const EXPECTED: &'static str = "a name of gRPC";

    fn parse(text: &str) -> Result<Self, Problem> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
        if text.is_empty() || !text.bytes().all(fits) {
            let problem = Problem::new(format!("{text:?} is not a name of gRPC"));
            return Err(
                problem.hint("write a service as shop.v1.Orders and a method as Get, without slashes")
            );
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9_.]+$", "examples": ["shop.v1.Orders"] })
    }
}

/// A regular expression.
impl Scalar for Pattern {
    const EXPECTED: &'static str = "a regular expression";

    fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = |error: regex::Error| {
            // Its message draws the place over several lines; the last one says what is wrong.
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default().trim();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            Problem::new(format!("{text:?} is not a regular expression: {reason}"))
        };
        // By itself first: `a)|(b` is wrong, however well it goes with the brackets that anchor it.
        regex::RegexBuilder::new(text).size_limit(1 << 20).build().map_err(wrong)?;
        Self::new(text).map_err(wrong)
    }

    fn schema() -> Value {
        json!({ "type": "string", "format": "regex" })
    }
}

/// The name that `Via` is written with (RFC 9110, 7.6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pseudonym(pub(super) String);

impl Scalar for Pseudonym {
    const EXPECTED: &'static str = "a pseudonym";

    fn parse(text: &str) -> Result<Self, Problem> {
        // The characters of a header name are those of a token, of which a pseudonym is one.
        match HeaderName::from_bytes(text.as_bytes()) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => {
                Err(Problem::new(format!("{text:?} cannot stand in Via")).hint("write one word: gateway"))
            }
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" })
    }
}

/// Declares a scalar that is one of a few words.
macro_rules! words {
    ($(#[$attribute:meta])* pub(super) enum $Name:ident: $expected:literal, $allowed:literal { $($Variant:ident = $word:literal,)+ }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $Name { $($Variant,)+ }

        impl Scalar for $Name {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Result<Self, Problem> {
                match text {
                    $($word => Ok(Self::$Variant),)+
                    _ => Err(Problem::new(format!("{text:?} is not {}", $expected))
                        .hint(concat!("allowed here: ", $allowed))),
                }
            }

            fn schema() -> Value {
                json!({ "enum": [$($word),+] })
            }
        }
    };
}

words! {
    /// What is spoken to endpoints.
    pub(super) enum ProtocolWord: "a protocol", "http1, h2c, h2, auto" { Http1 = "http1", H2c = "h2c", H2 = "h2", Auto = "auto", }
}

words! {
    /// A version of the PROXY protocol.
    pub(super) enum ProxyWord: "a version of the PROXY protocol", "v1, v2" { V1 = "v1", V2 = "v2", }
}

words! {
    /// Whether clients must have a certificate.
    pub(super) enum ClientModeWord: "a mode", "require, optional" { Require = "require", Optional = "optional", }
}

words! {
    /// By what requests are counted together, but for header fields.
    pub(super) enum RateWord: "a key", "client, { header: x-user }" { Client = "client", }
}

words! {
    /// A version of TLS.
    pub(super) enum TlsVersionWord: "a version of TLS", "TLSv1.2, TLSv1.3" { V12 = "TLSv1.2", V13 = "TLSv1.3", }
}

words! {
    /// Which Host endpoints are sent.
    pub(super) enum HostWord: "a choice of host", "client, upstream" { Client = "client", Upstream = "upstream", }
}

words! {
    /// The scheme that a redirect leads to.
    pub(super) enum SchemeWord: "a scheme", "http, https" { Http = "http", Https = "https", }
}

words! {
    /// By what requests are sampled, if not by something with a name.
    pub(super) enum SampleWord: "a key to sample by", "path, client, { header: name }, { cookie: name }, { query: name }" {
        Path = "path",
        Client = "client",
    }
}

words! {
    /// What a copy goes without.
    pub(super) enum StripWord: "something to strip", "credentials" { Credentials = "credentials", }
}

words! {
    /// What happens to a request whose body is too large to be copied.
    pub(super) enum OversizeWord: "a way to treat large bodies", "stream, skip, headers_only" {
        Stream = "stream",
        Skip = "skip",
        HeadersOnly = "headers_only",
    }
}

words! {
    /// Where access records go, if not to a file.
    pub(super) enum LogWord: "a place for access records", "off, stdout, { file: path }" { Off = "off", Stdout = "stdout", }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_leading_wildcards() {
        let parse = |text| <Option<HostPattern> as Scalar>::parse(text);
        assert_eq!(parse("Shop.Example.com"), Ok(Some(HostPattern::Exact("shop.example.com".into()))));
        assert_eq!(parse("*.Example.com"), Ok(Some(HostPattern::Suffix(".example.com".into()))));
        assert_eq!(parse("*"), Ok(None));
        assert_eq!(parse("[0::1]"), Ok(Some(HostPattern::Exact("[::1]".into()))));
        for text in [
            "", "*.", "a.*.b", "*a", "a:80", "http://a", "a/b", "ä.de", "a.", ".a", "a..b", "[::1]:80", "a b",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn expressions_stand_by_themselves() {
        assert!(Pattern::parse("/v[0-9]+/.*").is_ok());
        for text in ["a)|(b", "(", "[", "a{100000}{100000}"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
