//! What a route matches, as data.

use http::{HeaderName, Method};
use regex::Regex;

/// A host, or a wildcard for the hosts below one (`*.example.com` matches `a.b.example.com`, and
/// not `example.com`). Lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host.
    Exact(String),
    /// Hosts that end in this suffix, which begins with a dot.
    Suffix(String),
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteMatch {
    /// On the path; `None` is any.
    pub path: Option<PathMatch>,
    /// On the method; `None` is any.
    pub method: Option<Method>,
    /// On header fields.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// On parameters of the query.
    pub query: Vec<(String, ValueMatch)>,
}

/// A condition on the path.
#[derive(Clone, Debug, PartialEq)]
pub enum PathMatch {
    /// The path is this.
    Exact(String),
    /// The path begins with these whole segments.
    Prefix(String),
    /// The whole path matches.
    Regex(Pattern),
}

/// A condition on a header field or a query parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueMatch {
    /// The value is this.
    Exact(String),
    /// The whole value matches.
    Regex(Pattern),
    /// There is one.
    Present,
}

/// A regular expression that must match the whole of a text.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles `expression`, anchored at both ends.
    pub fn new(expression: &str) -> Result<Self, regex::Error> {
        regex::RegexBuilder::new(&format!("^(?:{expression})$")).size_limit(1 << 20).build().map(Self)
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The expression as compiled.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}
