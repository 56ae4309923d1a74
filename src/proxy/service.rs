//! The gateway as a `tower::Service`, for programs that take requests themselves: from a server of
//! their own, behind their own layers, or out of nowhere.
//!
//! It answers by the same [`handle`] as a listener's connections: there is no second path. What a
//! connection adds is missing: framing checks and deadlines are the business of whoever serves it.
//! Made by [`crate::app::Handle::service`].

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::Gateway;
use super::accept::Listener;
use super::connection::Context;
use super::deadlines::Registration;
use super::reply::ReplyBody;
use super::request::handle;
use super::sanitize::ClientInfo;
use crate::discovery::source::EndpointAddress;
use crate::shard::WorkerId;
use crate::upstream::proxy_protocol::Addresses;
use crate::worker::Worker;

/// Answers requests of one client as the gateway's listeners do. Cheap to clone.
#[derive(Clone)]
pub struct MirrorService {
    context: Arc<Context>,
    _seat: Arc<Seat>,
}

/// What all services of one gateway share in place of a worker thread: its copies and connections
/// live on the runtime of whoever calls.
pub(crate) struct Seat {
    worker: Arc<Worker>,
    registration: Option<Registration>,
}

impl Seat {
    /// The one beside the threads of `gateway`.
    pub(crate) fn new(gateway: &Gateway) -> Arc<Self> {
        let worker = Worker::new(WorkerId(gateway.seats().len()), fastrand::u64(..));
        worker.copies_within(super::copies_of_one(gateway.seats().len()));
        Arc::new(Self { registration: worker.deadlines().register(), worker })
    }
}

impl MirrorService {
    pub(crate) fn new(
        gateway: &Arc<Gateway>,
        seat: &Arc<Seat>,
        listener: Arc<Listener>,
        client: SocketAddr,
    ) -> Option<Self> {
        let state = seat.registration.as_ref()?.state().clone();
        let info = ClientInfo::new(client, listener.tls.is_some());
        let destination = match listener.address {
            EndpointAddress::Tcp(address) => address,
            EndpointAddress::Unix(_) => client,
        };
        let addresses = Addresses { source: client, destination };
        let context =
            Context::elsewhere(gateway.clone(), seat.worker.clone(), listener, (info, addresses), state);
        Some(Self { context, _seat: seat.clone() })
    }
}

impl<B> Service<Request<B>> for MirrorService
where
    B: Body<Data = Bytes, Error: std::error::Error + 'static> + Send + Unpin + 'static,
{
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    /// Always ready: what cannot be taken is answered with a status.
    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(handle(self.context.clone(), None, request))
    }
}
