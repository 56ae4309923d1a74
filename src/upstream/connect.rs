//! Dialling an endpoint.

use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};

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

/// A connection to `address`, within `patience`.
pub async fn connect(address: &EndpointAddress, patience: Duration) -> Result<Stream, ConnectError> {
    let dial = async {
        match address {
            EndpointAddress::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
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
