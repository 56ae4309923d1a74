//! A client of a gateway: one request on a connection of its own, in plain text or under TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::within;

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    /// What the pod says that it was asked; null when no pod answered.
    pub said: Value,
}

/// A connection under TLS to `address` as `name`.
pub async fn tls(
    address: SocketAddr,
    name: &str,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    within("a TLS handshake", TlsConnector::from(config).connect(name, stream)).await
}

/// Sends `request`; the error is for people.
pub async fn ask(
    address: SocketAddr,
    tls_as: Option<(&str, Arc<ClientConfig>)>,
    request: Request<Empty<Bytes>>,
) -> Result<Reply, String> {
    let told = |error: std::io::Error| error.to_string();
    match tls_as {
        None => exchange(TcpStream::connect(address).await.map_err(told)?, request).await,
        Some((name, config)) => exchange(tls(address, name, config).await.map_err(told)?, request).await,
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Reply, String> {
    let told = |error: hyper::Error| error.to_string();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(told)?;
    let connection = tokio::spawn(connection);
    let response = within("a response", sender.send_request(request)).await.map_err(told)?;
    let (parts, body) = response.into_parts();
    let body = within("a response's body", body.collect()).await.map_err(told)?.to_bytes();
    connection.abort();
    Ok(Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        said: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}
