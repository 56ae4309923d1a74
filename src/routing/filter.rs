//! Filters as data: edits of heads, rewrites and redirects.

use http::{HeaderName, HeaderValue, StatusCode};

/// What a route changes in requests before they leave, and in responses before they return.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filters {
    /// Edits of the request's head.
    pub request_headers: HeaderEdits,
    /// Edits of the response's head.
    pub response_headers: HeaderEdits,
    /// A new Host.
    pub host: Option<HeaderValue>,
    /// A new path.
    pub path: Option<PathRewrite>,
}

/// Header edits, applied in this order: remove, set, add.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderEdits {
    /// Replaces every field of that name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Added beside those that are there.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Taken away.
    pub remove: Vec<HeaderName>,
}

/// How a path is changed; the query stays.
#[derive(Clone, Debug, PartialEq)]
pub enum PathRewrite {
    /// The whole path becomes this one.
    Full(String),
    /// The prefix that matched becomes this one.
    Prefix(String),
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// `http` or `https`; `None` keeps the request's.
    pub scheme: Option<&'static str>,
    /// `None` keeps the request's.
    pub host: Option<String>,
    /// `None` keeps the listener's, or the scheme's own if `scheme` is given.
    pub port: Option<u16>,
    /// `None` keeps the request's.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

impl HeaderEdits {
    /// Applies them to `headers`.
    pub fn apply(&self, headers: &mut http::HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}
