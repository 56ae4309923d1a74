//! Who may change something. Reading is free for whoever reaches the listener.
//!
//! On loopback, every page that a browser on this machine shows could send a request here, under a
//! name of its own that it points at 127.0.0.1 (DNS rebinding), so a change must name this listener
//! as its Host and come from no other origin. Anywhere else a change needs the token.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use http::uri::Authority;
use http::{HeaderMap, HeaderName, header};
use tokio::io::AsyncReadExt;

use crate::limits;

/// The rules for one listener.
pub(super) struct Access {
    address: SocketAddr,
    token_file: Option<PathBuf>,
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// No token is configured, so nothing may be changed from beyond loopback.
    ReadOnly,
    /// The token is missing or wrong.
    Token,
    /// The configured token cannot be read now.
    Unreadable,
    /// The request was made for another host, or by a page of another origin.
    Foreign(HeaderName),
}

impl Access {
    pub(super) fn new(address: SocketAddr, token_file: Option<PathBuf>) -> Self {
        Self { address, token_file }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The token as it is in the file now, so that it can be replaced while the process runs; `None`
    /// when none is configured.
    pub(super) async fn token(&self) -> io::Result<Option<String>> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let mut text = String::new();
        let file = tokio::fs::File::open(path).await?;
        file.take(limits::ADMIN_TOKEN_BYTES + 1).read_to_string(&mut text).await?;
        let too_long = text.len() as u64 > limits::ADMIN_TOKEN_BYTES;
        let token = text.trim();
        if token.is_empty() || too_long {
            let problem = if too_long { "the file is too long" } else { "the file is empty" };
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(Some(token.to_owned()))
    }

    /// Whether a request with these headers may change something. A configured token is asked for
    /// on loopback too.
    pub(super) async fn allows_change(&self, headers: &HeaderMap) -> Result<(), Denial> {
        let loopback = self.address.ip().to_canonical().is_loopback();
        if loopback {
            self.same_origin(headers)?;
        }
        match self.token().await {
            Ok(Some(token)) if carries(headers, &token) => Ok(()),
            Ok(Some(_)) => Err(Denial::Token),
            Ok(None) if loopback => Ok(()),
            Ok(None) => Err(Denial::ReadOnly),
            Err(error) => {
                tracing::warn!(%error, "cannot read the admin token");
                Err(Denial::Unreadable)
            }
        }
    }

    fn same_origin(&self, headers: &HeaderMap) -> Result<(), Denial> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok());
        if hosts.next().is_some() || !host.is_some_and(|host| self.is_own(host)) {
            return Err(Denial::Foreign(header::HOST));
        }
        // A browser says where a page comes from on every request that changes something.
        let own = |origin: &str| origin.strip_prefix("http://").is_some_and(|host| self.is_own(host));
        let mut origins = headers.get_all(header::ORIGIN).iter();
        if !origins.all(|origin| origin.to_str().is_ok_and(own)) {
            return Err(Denial::Foreign(header::ORIGIN));
        }
        Ok(())
    }

    /// Whether `authority` names this listener: its port, at localhost or an address of loopback.
    fn is_own(&self, authority: &str) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        let own_port = authority.port_u16().unwrap_or(80) == self.address.port();
        own_port && (host.eq_ignore_ascii_case("localhost") || is_loopback)
    }
}

fn carries(headers: &HeaderMap, token: &str) -> bool {
    let credentials = headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    let given = credentials.and_then(|text| text.split_at_checked("Bearer ".len()));
    given.is_some_and(|(scheme, given)| {
        scheme.eq_ignore_ascii_case(b"Bearer ") && equal(given.trim_ascii(), token.as_bytes())
    })
}

/// In a time that tells the length at most, never how many bytes are right.
fn equal(given: &[u8], wanted: &[u8]) -> bool {
    let difference =
        given.iter().zip(wanted).fold(0, |sum, (one, other)| std::hint::black_box(sum | (one ^ other)));
    given.len() == wanted.len() && difference == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::io::Write;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    async fn check(address: &str, pairs: &[(&'static str, &str)]) -> Result<(), Denial> {
        Access::new(address.parse().unwrap(), None).allows_change(&headers(pairs)).await
    }

    #[tokio::test]
    async fn on_loopback_only_its_own_names_may() {
        for host in ["127.0.0.1:9901", "localhost:9901", "LocalHost:9901", "[::1]:9901", "127.0.0.2:9901"] {
            assert_eq!(check("127.0.0.1:9901", &[("host", host)]).await, Ok(()), "{host}");
        }
        for host in
            ["evil.example:9901", "127.0.0.1:80", "127.0.0.1", "localhost.evil.example:9901", "10.0.0.1:9901"]
        {
            let denied = Err(Denial::Foreign(header::HOST));
            assert_eq!(check("127.0.0.1:9901", &[("host", host)]).await, denied, "{host}");
        }
        assert_eq!(check("127.0.0.1:80", &[("host", "localhost")]).await, Ok(()));
        assert_eq!(check("[::1]:9901", &[("host", "[::1]:9901")]).await, Ok(()));
        assert_eq!(check("127.0.0.1:9901", &[]).await, Err(Denial::Foreign(header::HOST)));
        let twice = [("host", "localhost:9901"), ("host", "evil.example")];
        assert_eq!(check("127.0.0.1:9901", &twice).await, Err(Denial::Foreign(header::HOST)));
    }

    #[tokio::test]
    async fn on_loopback_no_foreign_page_may() {
        let with = |origin: &'static str| [("host", "localhost:9901"), ("origin", origin)];
        assert_eq!(check("127.0.0.1:9901", &with("http://localhost:9901")).await, Ok(()));
        for origin in ["http://evil.example", "null", "https://localhost:9901", "http://localhost:3000", ""] {
            let denied = Err(Denial::Foreign(header::ORIGIN));
            assert_eq!(check("127.0.0.1:9901", &with(origin)).await, denied, "{origin}");
        }
    }

    #[tokio::test]
    async fn elsewhere_only_the_token_may() {
        assert_eq!(check("0.0.0.0:9901", &[("host", "localhost:9901")]).await, Err(Denial::ReadOnly));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"s3cret\n").unwrap();
        let access = Access::new("0.0.0.0:9901".parse().unwrap(), Some(file.path().to_owned()));
        for wrong in
            ["Bearer s3creT", "Bearer s3cre", "Bearer s3crets", "Basic s3cret", "Bearer ", "Bearer", "s3cret"]
        {
            let denied = Err(Denial::Token);
            assert_eq!(access.allows_change(&headers(&[("authorization", wrong)])).await, denied, "{wrong}");
        }
        assert_eq!(access.allows_change(&headers(&[])).await, Err(Denial::Token));
        assert_eq!(access.allows_change(&headers(&[("authorization", "bearer s3cret")])).await, Ok(()));
        // Replaced while running, and then gone.
        std::fs::write(file.path(), "other").unwrap();
        assert_eq!(access.allows_change(&headers(&[("authorization", "Bearer other")])).await, Ok(()));
        std::fs::write(file.path(), " \n").unwrap();
        assert_eq!(
            access.allows_change(&headers(&[("authorization", "Bearer ")])).await,
            Err(Denial::Unreadable)
        );
    }

    #[tokio::test]
    async fn a_token_is_asked_for_on_loopback_too() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"s3cret").unwrap();
        let access = Access::new("127.0.0.1:9901".parse().unwrap(), Some(file.path().to_owned()));
        let host = ("host", "localhost:9901");
        assert_eq!(access.allows_change(&headers(&[host])).await, Err(Denial::Token));
        let right = [host, ("authorization", "Bearer s3cret")];
        assert_eq!(access.allows_change(&headers(&right)).await, Ok(()));
    }
}
