//! One attempt: a request and an endpoint, from the lease to the head of the response, in whichever
//! protocol the backend speaks. It decides nothing about what follows: [`super::exchange`] does.

use http::{Response, StatusCode};
use tokio::io::AsyncWriteExt;

use super::body::ResponseBody;
use super::connect::{ConnectError, connect};
use super::endpoint::Endpoint;
use super::http1::head::NotHttp;
use super::message::{Either, Message};
use super::pool::Lease;
use super::proxy_protocol::{Addresses, header};
use super::stream::Stream;
use super::tls::{Connector, Offer, TlsError};
use super::{ExchangeError, Policy, Speech, http1, http2};
use crate::limits;
use crate::plan::Protocol;

/// One attempt that came to nothing.
pub(super) struct Failed {
    pub(super) error: ExchangeError,
    /// The request, if nothing of it was sent.
    pub(super) unsent: Option<Message>,
    /// The endpoint has said that it did not look at it (RFC 9113, 8.7).
    pub(super) unprocessed: bool,
    /// Whether the connection had served another exchange before.
    pub(super) reused: bool,
}

/// What a connection is for.
#[derive(Clone, Copy)]
enum For<'exchange> {
    /// HTTP/1, and this client where one is to be named.
    Http1(Option<&'exchange Addresses>),
    /// Whatever the endpoint prefers.
    Any,
}

pub(super) type Answer = (Response<ResponseBody>, Option<(Lease, Stream, bytes::Bytes)>);

impl Failed {
    /// Something of it may have been sent.
    pub(super) fn sent(error: ExchangeError) -> Self {
        Self { error, unsent: None, unprocessed: false, reused: false }
    }

    /// Whether its endpoint was removed before anything could be sent to it.
    pub(super) fn is_removed(&self) -> bool {
        matches!(self.error, ExchangeError::Connect(ConnectError::Removed))
    }

    /// Nothing was sent, since there was no connection.
    fn unconnected(error: ExchangeError, message: Message) -> Self {
        Self { error, unsent: Some(message), unprocessed: false, reused: false }
    }
}

pub(super) async fn attempt(
    lease: Lease,
    speech: &Speech,
    message: Message,
    policy: &Policy,
) -> Result<Answer, Failed> {
    match message {
        Message::Http1(exchange) => attempt_http1(lease, speech, exchange, policy).await,
        // Boxed, as all that is rare: a future is as large as its largest branch, and is moved whole.
        Message::Http2(request) => Box::pin(attempt_http2(lease, speech, request, policy)).await,
        Message::Either(forms) => Box::pin(attempt_either(lease, speech, forms, policy)).await,
    }
}

async fn attempt_http1(
    mut lease: Lease,
    speech: &Speech,
    exchange: Box<http1::Exchange>,
    policy: &Policy,
) -> Result<Answer, Failed> {
    if let Some(client) = exchange.client() {
        lease.belongs_to(client.source);
    }
    let idle = lease.take_idle();
    let reused = idle.is_some();
    let stream = match idle {
        Some(stream) => stream,
        None => match Box::pin(dial(&lease, speech, For::Http1(exchange.client()), policy)).await {
            Ok((stream, _)) => stream,
            Err(error) => return Err(Failed::unconnected(error, Message::Http1(exchange))),
        },
    };
    exchange_http1(connected(lease, stream, exchange, policy), reused).await
}

async fn attempt_http2(
    lease: Lease,
    speech: &Speech,
    request: Box<http::Request<http2::body::OutgoingBody>>,
    policy: &Policy,
) -> Result<Answer, Failed> {
    if let Some(connection) = lease.shared() {
        return exchange_http2(lease, connection, request, true).await;
    }
    // The others wait for what the first one brings.
    let endpoint = lease.endpoint().clone();
    let dialling = endpoint.pool(lease.worker().id(), lease.lane()).dialling().await;
    if let Some(connection) = lease.shared() {
        drop(dialling);
        return exchange_http2(lease, connection, request, true).await;
    }
    let opened = match dial(&lease, speech, For::Any, policy).await {
        Ok((stream, true)) => share_http2(&lease, stream).await,
        Ok((_, false)) => Err(ExchangeError::Tls(TlsError::Alpn)),
        Err(error) => Err(error),
    };
    drop(dialling);
    match opened {
        Ok(connection) => exchange_http2(lease, connection, request, false).await,
        Err(error) => Err(Failed::unconnected(error, Message::Http2(request))),
    }
}

/// Over whichever connection there is, else over a new one in the protocol that the endpoint prefers.
async fn attempt_either(
    mut lease: Lease,
    speech: &Speech,
    forms: Box<Either>,
    policy: &Policy,
) -> Result<Answer, Failed> {
    if let Some(connection) = lease.shared() {
        return exchange_http2(lease, connection, forms.http2(), true).await;
    }
    if let Some(stream) = lease.take_idle() {
        return exchange_http1(connected(lease, stream, forms.http1(), policy), true).await;
    }
    let endpoint = lease.endpoint().clone();
    let pool = endpoint.pool(lease.worker().id(), lease.lane());
    let dialling = if pool.speaks_http2() { Some(pool.dialling().await) } else { None };
    if dialling.is_some()
        && let Some(connection) = lease.shared()
    {
        drop(dialling);
        return exchange_http2(lease, connection, forms.http2(), true).await;
    }
    let opened = match dial(&lease, speech, For::Any, policy).await {
        Ok((stream, false)) => {
            drop(dialling);
            return exchange_http1(connected(lease, stream, forms.http1(), policy), false).await;
        }
        Ok((stream, true)) => share_http2(&lease, stream).await,
        Err(error) => Err(error),
    };
    drop(dialling);
    match opened {
        Ok(connection) => exchange_http2(lease, connection, forms.http2(), false).await,
        Err(error) => Err(Failed::unconnected(error, Message::Either(forms))),
    }
}

/// A new connection, and whether it speaks HTTP/2; one for HTTP/1 does not.
async fn dial(
    lease: &Lease,
    speech: &Speech,
    wanted: For<'_>,
    policy: &Policy,
) -> Result<(Stream, bool), ExchangeError> {
    let dialled = dialled(lease.endpoint(), speech, wanted, policy).await;
    if let Some(counts) = &speech.counts {
        counts.connected(lease.worker().id(), policy.lane, &dialled);
    }
    dialled
}

/// A new connection for bytes that are not HTTP, under TLS if the backend speaks it and `tls` allows.
pub(super) async fn bytes(
    lease: &Lease,
    speech: &Speech,
    (tls, client): (bool, &Addresses),
    policy: &Policy,
) -> Result<Stream, ExchangeError> {
    let connector = speech.connector.as_ref().filter(|_| tls).map(|one| (&**one, Offer::Nothing));
    let opened = opened(lease.endpoint(), speech, connector, Some(client), policy).await;
    if let Some(counts) = &speech.counts {
        counts.connected(lease.worker().id(), policy.lane, &opened);
    }
    opened.map(|(stream, _)| stream)
}

async fn dialled(
    endpoint: &Endpoint,
    speech: &Speech,
    wanted: For<'_>,
    policy: &Policy,
) -> Result<(Stream, bool), ExchangeError> {
    let (offer, client) = match wanted {
        For::Http1(client) => (Offer::Http1, client),
        For::Any => (Offer::Usual, None),
    };
    let connector = speech.connector.as_ref().map(|one| (&**one, offer));
    opened(endpoint, speech, connector, client, policy).await
}

/// A new connection, under TLS with a connector, and whether it speaks HTTP/2.
async fn opened(
    endpoint: &Endpoint,
    speech: &Speech,
    connector: Option<(&Connector, Offer)>,
    client: Option<&Addresses>,
    policy: &Policy,
) -> Result<(Stream, bool), ExchangeError> {
    // It may have been removed while others dialled, or while we do: then nothing is sent there.
    let still_there = || match endpoint.retired() {
        Some(_) => Err(ConnectError::Removed),
        None => Ok(()),
    };
    still_there()?;
    let address = endpoint.address();
    let mut stream = connect(address, policy.connect, limits::RECEIVED_BYTES[policy.lane.index()]).await?;
    still_there()?;
    if let Some(version) = speech.transport.proxy_protocol {
        // A new socket takes so few bytes at once.
        stream.write_all(&header(version, client)).await.map_err(ConnectError::Io)?;
    }
    match connector {
        None => Ok((stream, speech.protocol == Protocol::H2c)),
        Some((connector, offer)) => {
            let connected = connector.handshake(stream, address, offer).await.inspect_err(|error| {
                if connector.may_tell() {
                    tracing::warn!(backend = %speech.name, endpoint = %address, "{error}");
                }
            })?;
            still_there()?;
            Ok(connected)
        }
    }
}

async fn share_http2(lease: &Lease, stream: Stream) -> Result<http2::Connection, ExchangeError> {
    let connection = http2::Connection::open(stream, lease).await;
    let connection = connection.map_err(|error| ExchangeError::Protocol(error.to_string()))?;
    lease.share(connection.clone());
    Ok(connection)
}

/// Puts a request onto its connection. Apart from what then waits for the answer, whose future would
/// have room for both.
fn connected(
    mut lease: Lease,
    stream: Stream,
    mut exchange: Box<http1::Exchange>,
    policy: &Policy,
) -> Box<http1::Exchange> {
    lease.connected();
    exchange.connect(lease, stream, policy.fields, policy.gathers);
    exchange
}

async fn exchange_http1(mut exchange: Box<http1::Exchange>, reused: bool) -> Result<Answer, Failed> {
    let head = match exchange.head().await {
        Ok(head) => head,
        Err(failure) => {
            let (error, answered) = match failure {
                http1::Failure::Reset { answered } => (ExchangeError::Reset, answered),
                http1::Failure::Removed => (ExchangeError::Removed, true),
                http1::Failure::Protocol(NotHttp::Head) => {
                    (ExchangeError::Protocol(NotHttp::Head.to_string()), true)
                }
                http1::Failure::Protocol(error) => (ExchangeError::Protocol(error.to_string()), true),
                http1::Failure::Request(error) => (ExchangeError::Request(error), true),
            };
            let unsent = exchange.unsent().map(Message::Http1);
            return Err(Failed { error, unsent, unprocessed: false, reused: reused && !answered });
        }
    };
    let mut response = Response::new(ResponseBody::Empty);
    (*response.status_mut(), *response.version_mut(), *response.headers_mut()) =
        (head.status, head.version, head.headers);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let tunnel = exchange.into_tunnel();
        return Ok((response, tunnel));
    }
    if !exchange.is_end_stream() {
        *response.body_mut() = ResponseBody::Http1(exchange);
    }
    Ok((response, None))
}

async fn exchange_http2(
    lease: Lease,
    mut connection: http2::Connection,
    request: Box<http::Request<http2::body::OutgoingBody>>,
    reused: bool,
) -> Result<Answer, Failed> {
    match connection.exchange(lease, *request).await {
        Ok((response, tunnel)) => {
            let tunnel =
                tunnel.map(|(lease, tunnel)| (lease, Stream::Http2(Box::new(tunnel)), bytes::Bytes::new()));
            Ok((response, tunnel))
        }
        Err(http2::Failure::Removed) => Err(Failed::sent(ExchangeError::Removed)),
        Err(http2::Failure::Request(error)) => Err(Failed::sent(ExchangeError::Request(error))),
        Err(http2::Failure::NoConnect) => Err(Failed::sent(ExchangeError::Protocol(
            "the endpoint does not take other protocols over HTTP/2 (RFC 8441)".to_owned(),
        ))),
        Err(http2::Failure::Stream(error, message)) => Err(Failed {
            error: http2_error(&error),
            unsent: message.map(Message::Http2),
            unprocessed: http2::is_unprocessed(&error),
            reused,
        }),
    }
}

fn http2_error(error: &hyper::Error) -> ExchangeError {
    match error.is_parse() {
        true => ExchangeError::Protocol(error.to_string()),
        false => ExchangeError::Reset,
    }
}
