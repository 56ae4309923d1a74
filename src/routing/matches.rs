//! What a route matches, as data.
//!
//! Owns the vocabulary of conditions and what each single one means; which of several routes wins is
//! `index`'s business. The configuration's compiler and the Gateway API translation build these.

use http::{HeaderName, Method, request};
use regex::bytes::{Regex, RegexBuilder};

use super::query;
use crate::limits;

/// A host, or a wildcard for the hosts below one (`*.example.com` matches `a.b.example.com`, and
/// not `example.com`). Lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host.
    Exact(String),
    /// Hosts that end in this suffix, which begins with a dot.
    Suffix(String),
}

impl HostPattern {
    /// Whether `host`, in lower case, is one of its hosts.
    pub fn takes(&self, host: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == host,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }
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
    /// The path is this, byte for byte.
    Exact(String),
    /// The path begins with these whole segments: `/api` takes `/api`, `/api/` and `/api/x`, and not
    /// `/apix`. A `/` at the end says nothing; `/` takes every path.
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

impl RouteMatch {
    /// Whether all of it holds for a request. Routes are found by their index; this is for single
    /// conditions, and means the same.
    pub fn holds(&self, request: &request::Parts) -> bool {
        self.path.as_ref().is_none_or(|path| path.holds(request.uri.path()))
            && self.method.as_ref().is_none_or(|method| *method == request.method)
            && self.headers.iter().all(|(name, value)| {
                request.headers.get_all(name).iter().any(|field| value.holds(field.as_bytes()))
            })
            && self.query.iter().all(|(name, value)| {
                let found = request.uri.query().and_then(|query| query::first(query, name));
                found.is_some_and(|found| value.holds(&found.decoded()))
            })
    }
}

impl PathMatch {
    fn holds(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Regex(pattern) => pattern.matches(path),
        }
    }
}

impl ValueMatch {
    /// Whether a value that is there meets the condition.
    pub fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(expected) => value == expected.as_bytes(),
            Self::Regex(pattern) => pattern.matches_bytes(value),
            Self::Present => true,
        }
    }
}

/// A regular expression that must match the whole of a text.
///
/// It works on bytes, since paths and header values are bytes: `.` is one byte, and `\d`, `\w` and
/// `(?i)` know ASCII only. The time to match is linear in the text, whatever the expression.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles `expression`, anchored at both ends.
    ///
    /// Fails when it is not a regular expression or needs more than
    /// [`limits::PATTERN_BYTES`] compiled.
    pub fn new(expression: &str) -> Result<Self, regex::Error> {
        // By itself first: `a)|(b` is no expression, yet would close the group below and so escape
        // the anchors. The error then also shows what the user wrote.
        compile(expression)?;
        compile(&format!("^(?:{expression})$")).map(Self)
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        self.matches_bytes(text.as_bytes())
    }

    /// Whether the whole of `text`, which need not be UTF-8, matches.
    pub fn matches_bytes(&self, text: &[u8]) -> bool {
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

/// Without Unicode, whose tables are not built in: with it `\d` would not even compile.
fn compile(expression: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(expression).unicode(false).size_limit(limits::PATTERN_BYTES).build()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn patterns_match_the_whole_text() {
        for (expression, text, expected) in [
            ("/a|/b", "/a", true),
            ("/a|/b", "/ab", false),
            ("/a|/b", "x/b", false),
            (r"/users/\d+", "/users/17", true),
            (r"/users/\d+", "/users/17/x", false),
            ("(?i)/abc", "/ABC", true),
            ("(?m)a", "a\nb", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Pattern::new(expression).unwrap().matches(text), expected, "{expression} on {text:?}");
        }
        assert!(Pattern::new(r"\xff.").unwrap().matches_bytes(b"\xff\xfe"), "bytes beyond UTF-8");
    }

    #[test]
    fn single_conditions_hold_as_those_of_routes_do() {
        let request = |target: &str| http::Request::get(target).header("x-a", "1").header("x-a", "2");
        let parts = |target: &str| request(target).body(()).unwrap().into_parts().0;
        let path = |path| RouteMatch { path: Some(path), ..RouteMatch::default() };
        for (condition, target, expected) in [
            (path(PathMatch::Prefix("/a".into())), "/a", true),
            (path(PathMatch::Prefix("/a/".into())), "/a/b", true),
            (path(PathMatch::Prefix("/a".into())), "/ab", false),
            (path(PathMatch::Prefix("/".into())), "/x", true),
            (path(PathMatch::Exact("/a".into())), "/a?v=1", true),
            (path(PathMatch::Exact("/a".into())), "/a/", false),
            (path(PathMatch::Regex(Pattern::new("/[0-9]+").unwrap())), "/12", true),
            (path(PathMatch::Regex(Pattern::new("/[0-9]+").unwrap())), "/12x", false),
        ] {
            assert_eq!(condition.holds(&parts(target)), expected, "{condition:?} on {target}");
        }
        let all = RouteMatch {
            path: None,
            method: Some(Method::GET),
            headers: vec![(HeaderName::from_static("x-a"), ValueMatch::Exact("2".into()))],
            query: vec![("v".into(), ValueMatch::Exact("a b".into()))],
        };
        assert!(all.holds(&parts("/?v=a+b")));
        assert!(!all.holds(&parts("/?v=a")) && !all.holds(&parts("/")));
        let other = RouteMatch { method: Some(Method::POST), ..RouteMatch::default() };
        assert!(!other.holds(&parts("/")));
    }

    #[test]
    fn an_expression_cannot_escape_its_anchors() {
        assert!(Pattern::new("/a)|(/b").is_err());
        assert!(Pattern::new("(").is_err());
    }

    #[test]
    fn an_expression_too_large_is_refused() {
        assert!(Pattern::new("[a-z]{1000}{1000}").is_err());
    }
}
