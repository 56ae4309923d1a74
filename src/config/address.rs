//! Scalars that say where something is: addresses to listen at, endpoints, names to look up, and
//! references to backends.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::decode::Scalar;
use super::error::Problem;
use crate::discovery::source::{EndpointAddress, EndpointSpec, SourceSpec};
use crate::plan::{BackendTls, Protocol, Transport};

/// An address to listen at; port 0 lets the system choose.
impl Scalar for SocketAddr {
    const EXPECTED: &'static str = "an address to listen at";

    fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = || Problem::new(format!("{text:?} is not an address to listen at"));
        let address: Self = text.parse().map_err(|_| match split_port(text) {
            _ if text.parse::<u16>().is_ok() => wrong().hint(format!("write 0.0.0.0:{text}")),
            Some(("" | "*", port)) => wrong().hint(format!("write 0.0.0.0:{port}")),
            Some(("localhost", port)) => wrong().hint(format!("write 127.0.0.1:{port}")),
            _ => wrong().hint("write an IP address and a port, as 0.0.0.0:8080 or [::]:8080"),
        })?;
        let broadcast = matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast());
        if broadcast || address.ip().is_multicast() {
            return Err(Problem::new(format!(
                "nothing can listen at {text}: it is no single host's address"
            )));
        }
        Ok(address)
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": r"^(\[[0-9A-Fa-f:.%a-z]+\]|[0-9.]+):[0-9]{1,5}$",
            "examples": ["0.0.0.0:8080"] })
    }
}

/// Where clients connect: an address to listen at, or `unix:/run/gateway.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListenAddress(pub(super) EndpointAddress);

impl Scalar for ListenAddress {
    const EXPECTED: &'static str = SocketAddr::EXPECTED;

    fn parse(text: &str) -> Result<Self, Problem> {
        match text.starts_with("unix:") {
            true => EndpointAddress::parse(text).map(Self),
            false => SocketAddr::parse(text).map(|address| Self(EndpointAddress::Tcp(address))),
        }
    }

    fn schema() -> Value {
        EndpointAddress::schema()
    }
}

/// Where an endpoint listens: `127.0.0.1:9001` or `unix:/run/app.sock`.
impl Scalar for EndpointAddress {
    const EXPECTED: &'static str = "an endpoint's address";

    fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = || Problem::new(format!("{text:?} is not an endpoint's address"));
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains('\0') {
                return Err(wrong().hint("write unix:/run/app.sock"));
            }
            return Ok(Self::Unix(Path::new(path).into()));
        }
        let address: SocketAddr = text.parse().map_err(|_| {
            if text.contains("://") {
                return wrong().hint("leave the scheme out; `protocol` of the backend says what is spoken");
            }
            match split_port(text) {
                Some((host, _)) if domain_name(host).is_ok() => {
                    wrong().hint(format!("a name is looked up by `dns: {text}` instead of `endpoints`"))
                }
                None if text.parse::<IpAddr>().is_ok() => wrong().hint("add the port"),
                _ => wrong().hint("write an IP address and a port, as 127.0.0.1:9001 or [::1]:9001"),
            }
        })?;
        connectable(address, text).map(Self::Tcp)
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": r"^(unix:.+|(\[[0-9A-Fa-f:.%a-z]+\]|[0-9.]+):[0-9]{1,5})$",
            "examples": ["127.0.0.1:9001", "unix:/run/app.sock"] })
    }
}

fn connectable(address: SocketAddr, text: &str) -> Result<SocketAddr, Problem> {
    if address.port() == 0 {
        return Err(Problem::new(format!("nothing can be reached at {text}: port 0")));
    }
    if address.ip().is_unspecified() {
        let problem = Problem::new(format!("nothing can be reached at {text}: it names no host"));
        return Err(problem.hint("for this host write 127.0.0.1 or [::1]"));
    }
    Ok(address)
}

/// A name with a port, looked up by DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPort {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Scalar for HostPort {
    const EXPECTED: &'static str = "a name with a port";

    fn parse(text: &str) -> Result<Self, Problem> {
        let Some((host, port)) = split_port(text) else {
            let problem = Problem::new(format!("{text:?} has no port"));
            return Err(problem.hint(format!("write {text}:80")));
        };
        if text.parse::<SocketAddr>().is_ok() {
            return Err(Problem::new(format!("{text} is an address, not a name"))
                .hint(format!("write `endpoints: [{text:?}]`")));
        }
        Ok(Self { host: domain_name(host)?, port: port_number(port)? })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": r"^[A-Za-z0-9_.-]+:[0-9]{1,5}$",
            "examples": ["app.internal:8080"] })
    }
}

/// A name whose SRV records name the endpoints: `_http._tcp.app.internal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceName(pub(super) String);

impl ServiceName {
    /// The domain, without the service and the protocol.
    pub(super) fn domain(&self) -> &str {
        self.0.splitn(3, '.').last().unwrap_or_default().trim_end_matches('.')
    }
}

impl Scalar for ServiceName {
    const EXPECTED: &'static str = "an SRV name";

    fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = |problem: Problem| problem.hint("write it as _http._tcp.app.internal");
        let name = domain_name(text).map_err(wrong)?;
        let mut labels = name.splitn(3, '.');
        let underscored = |label: Option<&str>| label.is_some_and(|label| label.starts_with('_'));
        if underscored(labels.next())
            && underscored(labels.next())
            && labels.next().is_some_and(|l| !l.is_empty())
        {
            return Ok(Self(name));
        }
        Err(wrong(Problem::new(format!("{text:?} is not the name of a service"))))
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": r"^_[^.]+\._[^.]+\..+$", "examples": ["_http._tcp.app.internal"] })
    }
}

/// What a route says when it names a backend, as primary or as mirror alike.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reference {
    /// The name of an entry in `backends`.
    Name(String),
    /// A backend of its own.
    Url(Url),
}

/// `http://host[:port]`, `https://host[:port]` or `h2c://host[:port]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Url {
    /// The URL in its one spelling: lower case, without the scheme's own port.
    pub(super) name: Arc<str>,
    pub(super) protocol: Protocol,
    pub(super) source: SourceSpec,
    pub(super) transport: Transport,
}

impl Scalar for Reference {
    const EXPECTED: &'static str = "a backend";

    fn parse(text: &str) -> Result<Self, Problem> {
        if text.contains("://") {
            return Url::parse(text).map(Self::Url);
        }
        if text.parse::<SocketAddr>().is_ok() {
            let problem = Problem::new(format!("{text:?} has no scheme"));
            return Err(problem.hint(format!("write http://{text}")));
        }
        Ok(Self::Name(text.to_owned()))
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1, "examples": ["http://app.internal:8080", "app"],
            "description": "The name of an entry in `backends`, or http://host[:port], https://host[:port], h2c://host[:port], or http://unix:/path." })
    }
}

impl Url {
    /// Reads `scheme://host[:port]`.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = || Problem::new(format!("{text:?} is not the URL of a backend"));
        let example = "write http://host, http://host:port, https://host or h2c://host:port";
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong().hint(example));
        };
        let scheme = scheme.to_ascii_lowercase();
        let (protocol, own_port) = match scheme.as_str() {
            "http" => (Protocol::Http1, 80),
            "h2c" => (Protocol::H2c, 80),
            "https" => (Protocol::Http1, 443),
            _ => return Err(wrong().hint("the schemes are http://, https:// and h2c://")),
        };
        if let Some(path) = rest.strip_prefix("unix:") {
            if scheme == "https" {
                let problem = Problem::new("a Unix socket has no name that could be verified");
                return Err(problem.hint("declare it in `backends`, with `tls: { server_name: … }`"));
            }
            let address = EndpointAddress::parse(rest)?;
            if !path.starts_with('/') {
                return Err(wrong().hint(format!("write a whole path: {scheme}://unix:/run/app.sock")));
            }
            return Ok(Self {
                name: format!("{scheme}://{address}").into(),
                protocol,
                source: SourceSpec::Static(vec![EndpointSpec { address, weight: 1, zone: None }]),
                transport: Transport::default(),
            });
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(wrong().hint("a backend has no path: use `filters: { path: … }` on the route"));
        }
        if authority.contains('@') {
            // Not shown: it may hold a password.
            return Err(Problem::new("the URL of a backend has no user")
                .hint("set the `authorization` header by `filters` on the route"));
        }
        let (host, port) = match split_port(authority) {
            Some((host, port)) => (host, port_number(port)?),
            None => (authority, own_port),
        };
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let (host, source) = match literal.parse::<IpAddr>() {
            Ok(ip) if ip.is_ipv6() != host.starts_with('[') => {
                return Err(
                    wrong().hint(format!("write an IPv6 address in brackets: {scheme}://[{literal}]"))
                );
            }
            Ok(ip) => {
                let address = connectable(SocketAddr::new(ip, port), authority)?;
                let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
                (host, SourceSpec::Static(vec![EndpointSpec::new(address)]))
            }
            Err(_) => {
                let host = domain_name(host).map_err(|_| wrong().hint(example))?;
                (host.clone(), SourceSpec::Dns { host, port })
            }
        };
        let suffix = if port == own_port { String::new() } else { format!(":{port}") };
        let transport = Transport {
            tls: (scheme == "https").then(|| BackendTls {
                // An address is verified as itself.
                server_name: literal.parse::<IpAddr>().is_err().then(|| host.trim_end_matches('.').into()),
                ..BackendTls::default()
            }),
            proxy_protocol: None,
        };
        Ok(Self { name: format!("{scheme}://{host}{suffix}").into(), protocol, source, transport })
    }
}

/// `host:port` → host and port; `None` without a port. Brackets belong to the host.
fn split_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    let whole = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    (whole && !port.contains(']')).then_some((host, port))
}

fn port_number(text: &str) -> Result<u16, Problem> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && !text.starts_with('+') => Ok(port),
        _ => Err(Problem::new(format!("{text:?} is not a port: it must be between 1 and 65535"))),
    }
}

/// A name as DNS takes it, in lower case; a dot at the end makes it absolute.
fn domain_name(text: &str) -> Result<String, Problem> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let relative = text.strip_suffix('.').unwrap_or(text);
    if relative.len() > 253 || !relative.split('.').all(label) {
        return Err(Problem::new(format!("{text:?} is not a domain name")));
    }
    if relative.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        // What looks like an address and is none must not become a question to a name server.
        return Err(Problem::new(format!("{text:?} is neither an address nor a domain name")));
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_have_one_spelling() {
        for (text, name) in [
            ("http://A.svc", "http://a.svc"),
            ("HTTP://a.svc:80/", "http://a.svc"),
            ("http://a.svc:8080", "http://a.svc:8080"),
            ("http://[0:0::1]:80", "http://[::1]"),
            ("https://A.svc:443", "https://a.svc"),
            ("https://a.svc:80", "https://a.svc:80"),
            ("h2c://10.0.0.1:9000", "h2c://10.0.0.1:9000"),
            ("http://unix:/run/app.sock", "http://unix:/run/app.sock"),
            ("h2c://unix:///run/app.sock", "h2c://unix:/run/app.sock"),
        ] {
            assert_eq!(&*Url::parse(text).unwrap().name, name);
        }
    }

    #[test]
    fn urls_with_names_are_looked_up_and_addresses_are_static() {
        let dns = SourceSpec::Dns { host: "a.svc".into(), port: 80 };
        assert_eq!(Url::parse("http://a.svc").unwrap().source, dns);
        let fixed = SourceSpec::Static(vec![EndpointSpec::new("10.0.0.1:9000".parse().unwrap())]);
        assert_eq!(Url::parse("h2c://10.0.0.1:9000").unwrap().source, fixed);
    }

    #[test]
    fn urls_that_say_more_than_a_place_are_refused() {
        for text in [
            "http://a/b",
            "http://a?b",
            "http://a#b",
            "http://u@a",
            "http://",
            "http://:80",
            "http://a:",
            "://a",
            "http://a:0",
            "http://a:65536",
            "http://a:+80",
            "http://::1",
            "http://[a]",
            "http://[10.0.0.1]",
            "http://1.2.3",
            "http://a..b",
            "http://-a",
            "ftp://a",
            "http://0.0.0.0",
            "http://ä.de",
            "http://a b",
            "http://[::1",
            "http://a:80:80",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn endpoints_are_addresses_or_sockets() {
        let unix = EndpointAddress::Unix(Path::new("/run/app.sock").into());
        assert_eq!(EndpointAddress::parse("unix:/run/app.sock"), Ok(unix));
        assert_eq!(EndpointAddress::parse("[::1]:80"), Ok(EndpointAddress::Tcp("[::1]:80".parse().unwrap())));
        for text in
            ["", "a:80", "127.0.0.1", "127.0.0.1:0", "0.0.0.0:80", "unix:", "127.0.0.1:90000", "::1:80"]
        {
            assert!(EndpointAddress::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn service_names_have_a_service_and_a_protocol() {
        assert_eq!(ServiceName::parse("_http._tcp.App.internal").unwrap().domain(), "app.internal");
        for text in ["app.internal", "_http.app.internal", "_http._tcp", "_http._tcp.", "_http._tcp.a:80"] {
            assert!(ServiceName::parse(text).is_err(), "{text}");
        }
    }
}
