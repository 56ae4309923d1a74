//! Trailers of a response: which of them a client can be sent.
//!
//! HTTP/2 carries all. Over HTTP/1 the client must have said that it takes them (RFC 9110, 6.5.1), and
//! hyper writes those that `Trailer` announced. What cannot be carried is dropped and counted.

use http::header::{TE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};

use crate::proxy::sanitize;

/// Whether a client's side of the connection carries trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// All of them.
    All,
    /// Those that are announced.
    Announced,
    /// None.
    None,
}

/// What becomes of a response's trailers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trailers {
    /// They are passed on.
    Passed,
    /// Those of these names are.
    Announced(Vec<HeaderName>),
    /// They are not.
    Dropped,
}

impl Carried {
    /// By the way that `request` came in.
    pub fn by<B>(request: &Request<B>) -> Self {
        if request.version() >= Version::HTTP_2 {
            return Self::All;
        }
        let takes = request.headers().get_all(TE).iter().any(|value| {
            value.as_bytes().split(|byte| *byte == b',').any(|coding| {
                let name = coding.split(|byte| *byte == b';').next().unwrap_or_default();
                name.trim_ascii().eq_ignore_ascii_case(b"trailers")
            })
        });
        if takes && request.version() == Version::HTTP_11 { Self::Announced } else { Self::None }
    }
}

impl Trailers {
    /// For a response with `headers`.
    pub fn allowed(carried: Carried, headers: &HeaderMap) -> Self {
        match carried {
            Carried::All => Self::Passed,
            Carried::None => Self::Dropped,
            Carried::Announced => Self::Announced(announced(headers)),
        }
    }

    /// Takes out of `trailers` what cannot go on; true when that was anything.
    pub fn restrict(&self, trailers: &mut HeaderMap) -> bool {
        let before = trailers.len();
        sanitize::trailers(trailers);
        match self {
            Self::Passed => {}
            Self::Dropped => trailers.clear(),
            Self::Announced(names) => {
                let unannounced: Vec<_> =
                    trailers.keys().filter(|name| !names.contains(name)).cloned().collect();
                for name in unannounced {
                    trailers.remove(name);
                }
            }
        }
        trailers.len() < before
    }
}

fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers.get_all(TRAILER).iter().map(HeaderValue::as_bytes);
    let names = lists.flat_map(|list| list.split(|byte| *byte == b','));
    names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn left(carried: Carried, announces: &'static str) -> (Vec<String>, bool) {
        let mut headers = HeaderMap::new();
        headers.insert(TRAILER, HeaderValue::from_static(announces));
        let mut trailers = HeaderMap::new();
        for name in ["x-one", "x-two", "content-length"] {
            trailers.insert(name, HeaderValue::from_static("1"));
        }
        let dropped = Trailers::allowed(carried, &headers).restrict(&mut trailers);
        (trailers.keys().map(ToString::to_string).collect(), dropped)
    }

    #[test]
    fn each_client_gets_what_can_be_carried() {
        assert_eq!(left(Carried::All, ""), (vec!["x-one".into(), "x-two".into()], true));
        assert_eq!(left(Carried::Announced, "x-two, X-Three"), (vec!["x-two".into()], true));
        assert_eq!(left(Carried::Announced, "content-length"), (vec![], true));
        assert_eq!(left(Carried::None, "x-one"), (vec![], true));
    }

    #[test]
    fn only_a_client_that_says_so_takes_trailers() {
        let by = |version, te: &'static str| {
            Carried::by(&Request::get("/").version(version).header(TE, te).body(()).unwrap())
        };
        assert_eq!(by(Version::HTTP_11, "gzip;q=0.5, Trailers"), Carried::Announced);
        assert_eq!(by(Version::HTTP_11, "trailers;q=1"), Carried::Announced);
        assert_eq!(by(Version::HTTP_11, "gzip"), Carried::None);
        assert_eq!(by(Version::HTTP_10, "trailers"), Carried::None);
        assert_eq!(by(Version::HTTP_2, "gzip"), Carried::All);
    }
}
