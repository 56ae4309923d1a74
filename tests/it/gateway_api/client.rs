//! A client of a gateway: one request on a connection of its own, in plain text or under TLS, by HTTP/1.1
//! or HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
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

/// Sends `request` by HTTP/1.1; the error is for people.
pub async fn ask(
    address: SocketAddr,
    tls_as: Option<(&str, Arc<ClientConfig>)>,
    request: Request<Empty<Bytes>>,
) -> Result<Reply, String> {
    let told = |error: std::io::Error| error.to_string();
    match tls_as {
        None => by_http1(TcpStream::connect(address).await.map_err(told)?, request).await,
        Some((name, config)) => by_http1(tls(address, name, config).await.map_err(told)?, request).await,
    }
}

/// Sends `request` by HTTP/2: without TLS as one who knows that it is spoken.
pub async fn ask_http2(
    address: SocketAddr,
    tls_as: Option<(&str, Arc<ClientConfig>)>,
    request: Request<Empty<Bytes>>,
) -> Result<Reply, String> {
    let told = |error: std::io::Error| error.to_string();
    let Some((name, config)) = tls_as else {
        let stream = TcpStream::connect(address).await.map_err(told)?;
        return by_http2(stream, "http", request).await;
    };
    let mut config = ClientConfig::clone(&config);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tls(address, name, config.into()).await.map_err(told)?;
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => by_http2(stream, "https", request).await,
        other => Err(format!("HTTP/2 is not spoken: {other:?}")),
    }
}

async fn by_http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Reply, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(told)?;
    let connection = tokio::spawn(connection);
    let reply = reply(within("a response", sender.send_request(request)).await).await;
    connection.abort();
    reply
}

async fn by_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    scheme: &str,
    mut request: Request<Empty<Bytes>>,
) -> Result<Reply, String> {
    // The host is a part of the target there.
    let host = request.headers_mut().remove("host").unwrap();
    let target = format!("{scheme}://{}{}", host.to_str().unwrap(), request.uri());
    *request.uri_mut() = target.parse().unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(told)?;
    let connection = tokio::spawn(connection);
    let reply = reply(within("a response", sender.send_request(request)).await).await;
    connection.abort();
    reply
}

fn told(error: hyper::Error) -> String {
    error.to_string()
}

async fn reply(response: hyper::Result<Response<Incoming>>) -> Result<Reply, String> {
    let (parts, body) = response.map_err(told)?.into_parts();
    let body = within("a response's body", body.collect()).await.map_err(told)?.to_bytes();
    Ok(Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        said: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}
