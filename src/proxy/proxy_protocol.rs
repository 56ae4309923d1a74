//! The PROXY protocol, versions 1 and 2, as a proxy in front speaks it: a header before all else that
//! says who the client is.
//!
//! Read byte-exactly, so that what follows is untouched. Required where it is switched on: a listener
//! that also took connections without it would let everyone say who they are. Called by
//! [`super::connection`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, with its end.
const LINE: usize = 107;

/// Reads a header, within `patience`. `None` when it says that the proxy itself is the
/// client (a health check), or does not know who is: then the connection's other end is meant.
///
/// # Errors
/// The stream's own, `TimedOut`, or `InvalidData` when there is no such header.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    patience: Duration,
) -> io::Result<Option<SocketAddr>> {
    tokio::time::timeout(patience, header(stream))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    // The shortest line of version 1, `PROXY UNKNOWN` and its end, is longer than this.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return binary(stream).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(wrong("no PROXY protocol header"));
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE {
            return Err(wrong("the PROXY line is too long"));
        }
        // Byte by byte, since what follows the line is not ours; once a connection.
        line.push(stream.read_u8().await?);
    }
    text(&line)
}

fn text(line: &[u8]) -> io::Result<Option<SocketAddr>> {
    let line = std::str::from_utf8(line).map_err(|_| wrong("the PROXY line is not text"))?;
    let mut words = line.trim_end_matches("\r\n").split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(None);
    }
    let (Some(source), Some(destination), Some(port), Some(to_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(wrong("the PROXY line has other than six words"));
    };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            Some("TCP4") => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            Some("TCP6") => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let number =
        |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    match (address(source), address(destination), number(port), number(to_port)) {
        (Some(source), Some(_), Some(port), Some(_)) => Ok(Some(SocketAddr::new(source, port))),
        _ => Err(wrong("the PROXY line has no valid addresses")),
    }
}

async fn binary(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [version_and_command, family, high, low] = fixed;
    // The length is two bytes, which bounds it; beyond the addresses it holds TLVs that nobody reads.
    let length = u64::from(u16::from_be_bytes([high, low]));
    let mut addresses = [0; 36];
    let wanted = length.min(addresses.len() as u64) as usize;
    let addresses = addresses.get_mut(..wanted).unwrap_or_default();
    stream.read_exact(addresses).await?;
    let rest = length - wanted as u64;
    if tokio::io::copy(&mut stream.take(rest), &mut tokio::io::sink()).await? < rest {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match version_and_command {
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(wrong("an unknown PROXY version or command")),
    }
    let port = |at: usize| Some(u16::from_be_bytes([*addresses.get(at)?, *addresses.get(at + 1)?]));
    let client = match family >> 4 {
        1 => {
            let ip = addresses.get(..4).and_then(|ip| <[u8; 4]>::try_from(ip).ok());
            ip.zip(port(8)).map(|(ip, port)| SocketAddr::new(Ipv4Addr::from(ip).into(), port))
        }
        2 => {
            let ip = addresses.get(..16).and_then(|ip| <[u8; 16]>::try_from(ip).ok());
            ip.zip(port(32)).map(|(ip, port)| SocketAddr::new(Ipv6Addr::from(ip).into(), port))
        }
        // Unspecified, or a Unix socket.
        0 | 3 => return Ok(None),
        _ => None,
    };
    client.map(Some).ok_or_else(|| wrong("a PROXY header without valid addresses"))
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What is read of `bytes`, and what is left of them.
    async fn read_of(bytes: &[u8]) -> (Result<Option<String>, io::ErrorKind>, Vec<u8>) {
        let mut stream = bytes;
        let client = read(&mut stream, Duration::from_secs(1)).await;
        (
            client.map(|one| one.map(|address| address.to_string())).map_err(|error| error.kind()),
            stream.to_vec(),
        )
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn headers_say_who_the_client_is_and_leave_the_rest() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];
        let mut v6 = vec![0; 36];
        (v6[15], v6[32], v6[33]) = (1, 0x1f, 0x90);
        for (header, client) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 80\r\n".to_vec(), Some("192.0.2.1:8080")),
            (b"PROXY TCP6 ::1 ::2 8080 80\r\n".to_vec(), Some("[::1]:8080")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 x 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, &v4), Some("192.0.2.1:8080")),
            (v2(0x21, 0x11, &[&v4[..], &[1; 500]].concat()), Some("192.0.2.1:8080")),
            (v2(0x21, 0x21, &v6), Some("[::1]:8080")),
            (v2(0x20, 0x11, &v4), None),
            (v2(0x20, 0, &[]), None),
            (v2(0x21, 0x31, &[0; 216]), None),
        ] {
            let (read, left) = read_of(&[&header[..], b"GET /"].concat()).await;
            assert_eq!(read.unwrap().as_deref(), client);
            assert_eq!(left, b"GET /");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat();
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.1 10.0.0.1 8080\r\n",
            b"PROXY TCP4 ::1 ::2 8080 80\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 +80 80\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 80 99999\r\n",
            b"PROXY TCP5 192.0.2.1 10.0.0.1 80 80\r\n",
            &long,
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x31, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 8]),
            &v2(0x21, 0x51, &[0; 12]),
        ] {
            assert_eq!(read_of(bytes).await.0, Err(io::ErrorKind::InvalidData), "{bytes:?}");
        }
        let whole = v2(0x21, 0x11, &[0; 12]);
        for end in 0..whole.len() {
            assert_eq!(read_of(&whole[..end]).await.0, Err(io::ErrorKind::UnexpectedEof));
        }
    }
}
