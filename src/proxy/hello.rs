//! The first message of TLS, read ahead: which name a client asks for, before it is decided who ends
//! its TLS. What was read is put back in front of the stream.
//!
//! Only for listeners that have TLS routes; all others leave the message to rustls alone.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::server::Acceptor;
use tokio::io::AsyncReadExt;

use crate::limits;
use crate::upstream::stream::{Replayed, Stream};

/// The name that the client of `stream` asks for, empty if it asks for none, and the stream as it was.
///
/// # Errors
/// What comes is not TLS, is too long, or does not come within `patience`.
pub(super) async fn read(mut stream: Stream, patience: Duration) -> io::Result<(String, Stream)> {
    let reading = async {
        let mut acceptor = Acceptor::default();
        let mut read = BytesMut::new();
        loop {
            let before = read.len();
            if before >= limits::CLIENT_HELLO {
                return Err(invalid("its first message is too long"));
            }
            read.reserve(limits::CLIENT_HELLO.min(4096));
            if stream.read_buf(&mut read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut new = read.get(before..).unwrap_or_default();
            while !new.is_empty() {
                acceptor.read_tls(&mut new)?;
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().unwrap_or_default().to_ascii_lowercase();
                    return Ok((name, read.freeze()));
                }
                Err(_) => return Err(invalid("what comes is not TLS")),
            }
        }
    };
    let (name, read): (String, Bytes) = tokio::time::timeout(patience, reading)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    Ok((name, Stream::Replayed(Box::new(Replayed::new(read, stream)))))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
