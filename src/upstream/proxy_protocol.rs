//! The PROXY protocol towards endpoints: a header, before all else on a connection, that says who the
//! client is. Pure but for its writing; `super::attempt` writes it right after connecting.
//!
//! A connection that begins with it belongs to that client for good: see [`super::pool`].

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::plan::ProxyVersion;

/// Begins a header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and that a client is named; or that the connection is the gateway's own.
const PROXIED: u8 = 0x21;
const LOCAL: u8 = 0x20;

/// Both ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

/// The header that names `client`; `None` for connections that nobody asked for, probes' say.
pub fn header(version: ProxyVersion, client: Option<&Addresses>) -> Vec<u8> {
    let pair = client.map(|client| same_family(client.source, client.destination));
    match (version, pair) {
        (ProxyVersion::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
        (ProxyVersion::V1, Some((source, destination))) => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
        }
        (ProxyVersion::V2, pair) => binary(pair),
    }
}

fn binary(pair: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    let Some((source, destination)) = pair else {
        out.extend([LOCAL, 0, 0, 0]);
        return out;
    };
    // TCP over IPv4 or IPv6, and the length of what follows.
    out.extend(if source.is_ipv4() { [PROXIED, 0x11, 0, 12] } else { [PROXIED, 0x21, 0, 36] });
    for address in [source, destination] {
        // Writing to memory does not fail.
        let _written = match address.ip() {
            IpAddr::V4(ip) => out.write_all(&ip.octets()),
            IpAddr::V6(ip) => out.write_all(&ip.octets()),
        };
    }
    out.extend(source.port().to_be_bytes());
    out.extend(destination.port().to_be_bytes());
    out
}

/// Both in one family, as the header has them. IPv4 that came by a dual-stack socket is IPv4.
fn same_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (source, destination) = (canonical(source), canonical(destination));
    let any = match source.is_ipv4() {
        _ if source.is_ipv4() == destination.is_ipv4() => return (source, destination),
        true => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        false => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    (source, SocketAddr::new(any, destination.port()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn addresses(source: &str, destination: &str) -> Addresses {
        Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    #[test]
    fn headers_are_as_the_specification_has_them() {
        let v4 = addresses("192.0.2.1:8080", "10.0.0.1:80");
        assert_eq!(header(ProxyVersion::V1, Some(&v4)), b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 80\r\n");
        assert_eq!(header(ProxyVersion::V1, None), b"PROXY UNKNOWN\r\n");
        let mapped = addresses("[::ffff:192.0.2.1]:8080", "[::]:80");
        assert_eq!(header(ProxyVersion::V1, Some(&mapped)), b"PROXY TCP4 192.0.2.1 0.0.0.0 8080 80\r\n");
        assert_eq!(header(ProxyVersion::V2, None), [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat());
        let expected = [&SIGNATURE[..], &[0x21, 0x11, 0, 12, 192, 0, 2, 1, 10, 0, 0, 1, 0x1f, 0x90, 0, 80]];
        assert_eq!(header(ProxyVersion::V2, Some(&v4)), expected.concat());
    }

    #[tokio::test]
    async fn what_is_written_can_be_read() {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            for client in [
                Some(addresses("192.0.2.1:8080", "10.0.0.1:80")),
                Some(addresses("[2001:db8::1]:8080", "10.0.0.1:80")),
                None,
            ] {
                let bytes = [header(version, client.as_ref()), b"GET".to_vec()].concat();
                let mut stream = &bytes[..];
                let read = crate::proxy::proxy_protocol::read(&mut stream, std::time::Duration::from_secs(1))
                    .await
                    .unwrap();
                assert_eq!((read, stream), (client.map(|one| one.source), &b"GET"[..]), "{version:?}");
            }
        }
    }
}
