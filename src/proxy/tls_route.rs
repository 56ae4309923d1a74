//! Connections that are TLS and nothing that we look into: passed on as they are, or ended here and
//! passed on as bytes. In order: *name → route → balance → connect → splice*.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};

use super::Gateway;
use super::accept::Listener;
use super::accept::socket::local_address;
use super::hello;
use super::tunnel::patient::Patient;
use crate::plan::SectionMode;
use crate::shard::Lane;
use crate::telemetry::gateway::Refusal;
use crate::upstream::backend::Backend;
use crate::upstream::proxy_protocol::Addresses;
use crate::upstream::stream::Stream;
use crate::upstream::{ExchangeError, open_stream};
use crate::worker::Worker;

/// What becomes of a connection.
pub(super) enum Routed {
    /// HTTP inside of TLS, for `name`.
    Http(Stream),
    /// It was served, or refused, and is over.
    Over,
}

/// Serves `stream` to its end if a TLS route has it.
pub(super) async fn route(
    gateway: &Gateway,
    worker: &Arc<Worker>,
    listener: &Listener,
    stream: Stream,
    peer: SocketAddr,
) -> Routed {
    if !gateway.table().splits(listener.id) {
        return Routed::Http(stream);
    }
    let client = Addresses { source: peer, destination: local_address(&stream) };
    let metrics = &gateway.metrics().gateway;
    let patience = gateway.table().limits().tls_handshake;
    let (name, stream) = match hello::read(stream, patience).await {
        Ok(read) => read,
        Err(error) => {
            metrics.refused(Refusal::TlsHello);
            tracing::debug!(listener = %listener.name, %error, "no TLS that could be routed");
            return Routed::Over;
        }
    };
    let table = gateway.table().clone();
    let Some((mode, found)) = table.stream(listener.id, &name) else { return Routed::Http(stream) };
    // Nobody to speak for the name: closing without a word is what a client of TLS understands best.
    let Some(route) = found else {
        metrics.refused(Refusal::NoRoute);
        return Routed::Over;
    };
    let backend = route.backends.pick(worker.random()).and_then(|choice| choice.backend.clone());
    let (route, terminator) = (route.name.clone(), listener.tls.clone());
    let (handshake, stall) = (table.limits().tls_handshake, table.limits().write_stall);
    drop(table);
    let Some(backend) = backend else {
        metrics.refused(Refusal::NoBackend);
        return Routed::Over;
    };
    let spliced = match (mode, terminator) {
        (SectionMode::Passthrough, _) => {
            splice(worker, &backend, Patient::new(stream, stall), (false, &client)).await
        }
        (SectionMode::Terminate, Some(terminator)) => {
            match terminator.accept_bytes(stream, handshake).await {
                Ok(stream) => splice(worker, &backend, Patient::new(stream, stall), (true, &client)).await,
                Err(error) => {
                    tracing::debug!(listener = %listener.name, %error, "TLS handshake failed");
                    Ok(())
                }
            }
        }
        // A part without a certificate is not served: it is never programmed.
        (SectionMode::Terminate, None) | (SectionMode::Http, _) => Ok(()),
    };
    if let Err(error) = spliced {
        if matches!(error, ExchangeError::NoEndpoints) {
            metrics.refused(Refusal::NoEndpoints);
        }
        tracing::debug!(%route, backend = %backend.name(), %error, "a TLS connection had no backend");
    }
    Routed::Over
}

/// Joins `stream`, of `client`, to an endpoint of `backend`, until either side or the endpoint's removal
/// ends it. `ended`: its TLS ended here, so that the backend's own is ours to begin.
async fn splice(
    worker: &Arc<Worker>,
    backend: &Backend,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    (ended, client): (bool, &Addresses),
) -> Result<(), ExchangeError> {
    let (lease, mut endpoint) = open_stream(worker, backend, Lane::Primary, (ended, client)).await?;
    tokio::select! {
        // Either side's end is the other's; a failure has nobody left to be told.
        _ended = copy_bidirectional(&mut stream, &mut endpoint) => {}
        () = lease.expired() => {}
    }
    Ok(())
}
