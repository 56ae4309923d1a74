//! Connections for bytes that are not HTTP: the same *balance → connect* as an exchange, and then nothing
//! that could be tried again.

use std::sync::Arc;

use super::backend::Backend;
use super::endpoint::Endpoint;
use super::pool::Lease;
use super::proxy_protocol::Addresses;
use super::retry::Failure;
use super::stream::Stream;
use super::{ExchangeError, Policy, Seeking, attempt, primary_policy};
use crate::shard::Lane;
use crate::worker::Worker;

/// A new connection to an endpoint of `backend`, for bytes that are not HTTP, of `client`; with `tls`
/// under TLS where the backend speaks it. An endpoint that cannot be connected to makes way for another.
///
/// # Errors
/// When no endpoint could be connected to.
pub async fn open_stream(
    worker: &Arc<Worker>,
    backend: &Backend,
    lane: Lane,
    (tls, client): (bool, &Addresses),
) -> Result<(Lease, Stream), ExchangeError> {
    let policy = Policy { lane, ..primary_policy(None) };
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    loop {
        let (lease, _) = Seeking::new(worker, backend, &policy).lease(&tried)?;
        let error = match attempt::bytes(&lease, backend.speech(), (tls, client), &policy).await {
            Ok(stream) => return Ok((lease, stream)),
            Err(error) => error,
        };
        if let Some(failure) = Failure::of(&error) {
            backend.met(lease.endpoint(), lane, failure, None);
        }
        tried.push(lease.endpoint().clone());
        let enough = tried.len() as u32 >= policy.attempts;
        if enough || !Seeking::new(worker, backend, &policy).is_somebody_left(&tried) {
            return Err(error);
        }
    }
}
