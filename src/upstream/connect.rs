//! Dialling an endpoint.

use std::io;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::stream::Stream;
use crate::discovery::source::EndpointAddress;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Refused, unreachable, or out of file descriptors.
    #[error("connect: {0}")]
    Io(#[from] io::Error),
    /// No answer in time.
    #[error("connect: no answer within {0:?}")]
    Timeout(Duration),
    /// The endpoint was removed before there was a connection.
    #[error("connect: the endpoint was removed")]
    Removed,
}

/// A connection to `address`, within `patience`. What it may have received before it is read is the
/// kernel's choice, or `holds` bytes.
pub async fn connect(
    address: &EndpointAddress,
    patience: Duration,
    holds: Option<u32>,
) -> Result<Stream, ConnectError> {
    let dial = async {
        match address {
            EndpointAddress::Tcp(address) => {
                let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                if let Some(bytes) = holds {
                    // Before it is connected: the window's scale is agreed upon then.
                    socket.set_recv_buffer_size(bytes)?;
                }
                let stream: TcpStream = socket.connect(*address).await?;
                // A request is written whole; waiting to fill a segment would only delay it.
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(Stream::Tcp(stream))
            }
            EndpointAddress::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        }
    };
    match tokio::time::timeout(patience, dial).await {
        Ok(stream) => Ok(stream?),
        Err(_) => Err(ConnectError::Timeout(patience)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;
    use crate::limits;
    use crate::shard::Lane;

    #[tokio::test]
    async fn what_a_mirror_may_have_sent_unread_is_bounded_and_a_primary_is_left_to_the_kernel() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = EndpointAddress::Tcp(listener.local_addr().unwrap());
        let mut holds = Vec::new();
        for lane in [Lane::Primary, Lane::Mirror] {
            let bytes = limits::RECEIVED_BYTES[lane.index()];
            let stream = connect(&address, limits::CONNECT, bytes).await.unwrap();
            let Stream::Tcp(stream) = stream else { panic!("not TCP") };
            holds.push(socket2::SockRef::from(&stream).recv_buffer_size().unwrap());
        }
        let ours = TcpSocket::new_v4().unwrap();
        ours.set_recv_buffer_size(limits::RECEIVED_BYTES[1].unwrap()).unwrap();
        assert_eq!(holds[1], ours.recv_buffer_size().unwrap() as usize, "the kernel doubles what it is told");
        assert_eq!(holds[0], {
            let untouched = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            socket2::SockRef::from(&untouched).recv_buffer_size().unwrap()
        });
    }
}
