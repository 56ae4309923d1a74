//! Filters as data, and what each does to a head: edits of fields, rewrites and redirects.
//!
//! Owns what a filter means; never decides whether one applies. The request handler applies them, and
//! the configuration's compiler asks `check` what it has to refuse.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, InvalidHeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{InvalidUri, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::limits;

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
    /// Who may ask from other origins.
    pub cors: Option<std::sync::Arc<super::cors::Cors>>,
}

impl Filters {
    /// How long the part of the path is afterwards that was `prefix` bytes before.
    pub fn prefix_after(&self, prefix: usize) -> usize {
        match &self.path {
            None => prefix,
            Some(PathRewrite::Prefix(new)) => new.trim_end_matches('/').len(),
            Some(PathRewrite::Full(new)) => new.len(),
        }
    }
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

impl HeaderEdits {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Edits `headers`.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        // A map refuses its 32,769th field: `limits::HEAD_FIELDS` and `limits::HEADER_EDITS` keep
        // every head far from it, and an edit that would not fit is left out rather than a panic.
        for (name, value) in &self.set {
            let _ = headers.try_insert(name, value.clone());
        }
        for (name, value) in &self.add {
            let _ = headers.try_append(name, value.clone());
        }
    }

    /// What a configuration must not ask for, a sentence each; empty is fine.
    ///
    /// Fields that frame a message or belong to one connection are the proxy's own (RFC 9110
    /// §7.6.1): whoever could edit them could make two servers disagree where a message ends.
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let lists: [(&str, usize, &mut dyn Iterator<Item = &HeaderName>); 3] = [
            ("set", self.set.len(), &mut self.set.iter().map(|(name, _)| name)),
            ("add", self.add.len(), &mut self.add.iter().map(|(name, _)| name)),
            ("remove", self.remove.len(), &mut self.remove.iter()),
        ];
        for (action, length, names) in lists {
            if length > limits::HEADER_EDITS {
                problems.push(format!(
                    "`{action}` has {length} entries; at most {} are allowed",
                    limits::HEADER_EDITS
                ));
            }
            problems.extend(names.filter_map(|name| refusal(action, name)));
        }
        problems
    }
}

fn refusal(action: &str, name: &HeaderName) -> Option<String> {
    let reason = match *name {
        HOST => "use a rewrite of the host instead",
        CONTENT_LENGTH | TRANSFER_ENCODING => "it says where the message ends, which is for the proxy to say",
        CONNECTION | TE | TRAILER | UPGRADE => "it concerns one connection only, which is the proxy's",
        _ if matches!(name.as_str(), "keep-alive" | "proxy-connection") => {
            "it concerns one connection only, which is the proxy's"
        }
        _ => return None,
    };
    Some(format!("`{action}` cannot name `{name}`: {reason}"))
}

/// How a path is changed; the query stays.
#[derive(Clone, Debug, PartialEq)]
pub enum PathRewrite {
    /// The whole path becomes this one.
    Full(String),
    /// The prefix that matched becomes this one. Whole segments: a slash at the end says nothing, and
    /// an empty text is the same as `/`.
    Prefix(String),
}

impl PathRewrite {
    /// The new target of a request; `prefix` is what [`Found::prefix`](super::index::Found) says.
    ///
    /// What is no path (`*`) has no prefix and stays as it is. Fails if the result is longer than a
    /// target can be, or if `check` would have refused this rewrite.
    pub fn apply(&self, target: &PathAndQuery, prefix: usize) -> Result<PathAndQuery, RewriteError> {
        let path = target.path();
        let (head, tail) = match self {
            Self::Full(path) => (path.as_str(), ""),
            Self::Prefix(_) if !path.starts_with('/') => return Ok(target.clone()),
            Self::Prefix(replacement) => {
                // Counted without its last slash the prefix leaves a rest that begins with one, so
                // that neither is one lost nor are there two.
                let matched = path.get(..prefix).unwrap_or(path).trim_end_matches('/');
                (replacement.trim_end_matches('/'), path.get(matched.len()..).unwrap_or(""))
            }
        };
        let query = target.query();
        let mut new =
            String::with_capacity(head.len() + tail.len() + query.map_or(1, |query| query.len() + 2));
        new.push_str(head);
        new.push_str(tail);
        if new.is_empty() {
            new.push('/');
        }
        if let Some(query) = query {
            new.push('?');
            new.push_str(query);
        }
        Ok(PathAndQuery::from_maybe_shared(Bytes::from(new))?)
    }

    /// Why a configuration must not ask for this rewrite, if so.
    pub fn check(&self) -> Option<String> {
        let (path, may_be_empty) = match self {
            Self::Full(path) => (path, false),
            Self::Prefix(path) => (path, true),
        };
        if path.is_empty() && may_be_empty {
            return None;
        }
        if !path.starts_with('/') {
            return Some(format!("the path `{path}` does not begin with `/`"));
        }
        if path.contains(['?', '#']) {
            return Some(format!(
                "the path `{path}` has a query or a fragment; only the path can be replaced"
            ));
        }
        let error = PathAndQuery::try_from(path.as_str()).err()?;
        Some(format!("`{path}` is not a path: {error}"))
    }
}

/// A rewrite that leads to what cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The new path is not one, or is too long.
    #[error("the rewritten path cannot be sent: {0}")]
    Path(#[from] InvalidUri),
    /// The host of the request or of the redirect cannot stand in a header.
    #[error("the location cannot be sent: {0}")]
    Location(#[from] InvalidHeaderValue),
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

impl Redirect {
    /// The `Location` for a request.
    ///
    /// `scheme`, `host` (without a port) and `target` are the request's, `listener_port` is where it
    /// came in, `prefix` is what [`Found::prefix`](super::index::Found) says. A port that the scheme
    /// implies is left out.
    pub fn location(
        &self,
        scheme: &str,
        host: &str,
        listener_port: u16,
        target: &PathAndQuery,
        prefix: usize,
    ) -> Result<HeaderValue, RewriteError> {
        let rewritten = self.path.as_ref().map(|path| path.apply(target, prefix)).transpose()?;
        let target = rewritten.as_ref().unwrap_or(target);
        let usual = |scheme: &str| match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let port = self.port.or_else(|| self.scheme.and_then(usual)).unwrap_or(listener_port);
        let scheme = self.scheme.unwrap_or(scheme);
        let host = self.host.as_deref().unwrap_or(host);
        let port = if usual(scheme) == Some(port) { String::new() } else { format!(":{port}") };
        // `OPTIONS *` concerns the server, not a resource: it is sent to the other server's root.
        let target = if target.path().starts_with('/') { target.as_str() } else { "/" };
        Ok(HeaderValue::try_from(format!("{scheme}://{host}{port}{target}"))?)
    }
}
