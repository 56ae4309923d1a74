//! What is counted and written of a transaction, from its head to the last byte of its response.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use http::{HeaderMap, Request, StatusCode, Uri, Version, request};

use super::admission::Admitted;
use super::connection::Context;
use super::deadlines::RequestInFlight;
use super::grpc;
use super::reply::Reason;
use crate::limits;
use crate::mirror::Mirror;
use crate::mirror::copy::Delivery;
use crate::routing::table::Route;
use crate::telemetry::access_log::{AccessRecord, CopyRecord, RequestFacts, RequestRecord, ResponseFlag};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::proxy_protocol::Addresses;

/// One transaction. Whenever it is dropped, it is over, and what is known then is recorded.
pub struct Finish {
    context: Arc<Context>,
    _in_flight: RequestInFlight,
    started: Instant,
    /// `None` until a reply's head was handed over: the client was gone before.
    status: Option<StatusCode>,
    reason: Reason,
    complete: bool,
    route: Option<Arc<Route>>,
    endpoint: Option<Arc<Endpoint>>,
    backend: Option<Arc<str>>,
    received: Option<Arc<AtomicU64>>,
    sent: u64,
    /// `Some` for gRPC: its status, once it is known.
    grpc: Option<Option<u16>>,
    /// Held, not looked at.
    admitted: Option<Admitted>,
    /// Kept only while the access log is on.
    facts: Option<Facts>,
}

struct Facts {
    start: SystemTime,
    uri: Uri,
    version: Version,
    known: Option<Arc<RequestFacts>>,
}

impl Finish {
    /// A transaction begins with `request`.
    pub fn begin<B>(context: &Arc<Context>, request: &Request<B>) -> Self {
        let facts = context.gateway().access_log().enabled().then(|| Facts {
            start: SystemTime::now(),
            uri: request.uri().clone(),
            version: request.version(),
            known: None,
        });
        Self {
            context: context.clone(),
            _in_flight: context.state().request(),
            started: Instant::now(),
            status: None,
            reason: Reason { flag: ResponseFlag::None, details: "client_gone" },
            complete: false,
            route: None,
            endpoint: None,
            backend: None,
            received: None,
            sent: 0,
            grpc: None,
            admitted: None,
            facts,
        }
    }

    /// Its head, with forwarding fields set and before any rewriting.
    pub fn sanitised(&mut self, parts: &request::Parts) {
        let Addresses { source, destination } = *self.context.addresses();
        let addresses = (destination, source);
        if let Some(facts) = &mut self.facts {
            let line = (&parts.method, &facts.uri, facts.version);
            facts.known = Some(Arc::new(RequestFacts::of(line, &parts.headers, addresses, facts.start)));
        }
    }

    /// It is gRPC, whose status stands in the response's last fields.
    pub fn grpc(&mut self) {
        self.grpc = Some(None);
    }

    /// Whether it is.
    pub fn is_grpc(&self) -> bool {
        self.grpc.is_some()
    }

    /// The reply's head or trailers.
    pub fn fields(&mut self, fields: &HeaderMap) {
        if let Some(status) = &mut self.grpc {
            *status = grpc::status(fields).or(*status);
        }
    }

    /// It counts among those in flight.
    pub fn admitted(&mut self, admitted: Option<Admitted>) {
        self.admitted = admitted;
    }

    /// The route that takes it.
    pub fn routed(&mut self, route: &Arc<Route>) {
        self.route = Some(route.clone());
    }

    /// The backend that it is sent to.
    pub fn backend(&mut self, name: &Arc<str>) {
        if self.facts.is_some() {
            self.backend = Some(name.clone());
        }
    }

    /// Where bytes of its body are counted.
    pub fn received(&mut self) -> Arc<AtomicU64> {
        self.received.get_or_insert_default().clone()
    }

    /// An endpoint answered.
    pub fn answered(&mut self, endpoint: Arc<Endpoint>) {
        self.endpoint = Some(endpoint);
    }

    /// Trailers, or some of them, could not be passed on.
    pub fn dropped_trailers(&mut self) {
        let dropped = &self.context.gateway().metrics().gateway.dropped_trailers;
        dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// A reply's head is handed over.
    pub fn replied(&mut self, status: StatusCode, reason: Reason) {
        self.status = Some(status);
        self.reason = reason;
    }

    /// Bytes of the reply's body were handed over.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// The reply was handed over to its last byte.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// The reply broke off, through no fault of the client.
    pub fn broke(&mut self, reason: Reason) {
        self.complete = true;
        self.reason = reason;
    }

    /// What a copy's record needs of the request.
    pub fn facts(&self) -> Option<Arc<RequestFacts>> {
        self.facts.as_ref()?.known.clone()
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        let worker = self.context.worker().id();
        let abandoned = self.status.is_none() && duration < limits::HTTP2_ABANDONED_WITHIN;
        self.context.state().settled(abandoned);
        // 499 as nginx has it: the client did not wait for an answer.
        let counted = self.status.unwrap_or_else(|| StatusCode::from_u16(499).unwrap_or_default());
        match &self.route {
            Some(route) => {
                route.metrics.responded(worker, counted, duration);
                if let Some(status) = self.grpc {
                    route.metrics.grpc(status);
                }
            }
            None => self.context.gateway().unrouted().responded(worker, counted, duration),
        }
        let Some(facts) = self.facts.as_mut().and_then(|facts| facts.known.take()) else { return };
        let flag = match self.complete {
            true => self.reason.flag,
            false => ResponseFlag::DownstreamConnectionTermination,
        };
        let record = RequestRecord {
            facts: &facts,
            status: self.status,
            flag,
            details: self.reason.details,
            bytes_received: self.received.as_ref().map_or(0, |received| received.load(Ordering::Relaxed)),
            bytes_sent: self.sent,
            grpc_status: self.grpc.flatten(),
            duration,
            upstream_host: self.endpoint.as_ref().map(|endpoint| endpoint.address()),
            upstream_cluster: self.backend.as_deref(),
            route: self.route.as_ref().map(|route| &*route.name),
        };
        self.context.gateway().access_log().log(worker, &AccessRecord::Request(record));
    }
}

/// Writes the record of a copy, beside that of its request.
pub fn copied(context: &Context, facts: &RequestFacts, route: &Route, mirror: &Mirror, delivery: &Delivery) {
    let record = CopyRecord {
        facts,
        status: delivery.status,
        outcome: delivery.outcome,
        duration: delivery.started.elapsed(),
        mirror: mirror.backend.name(),
        upstream_host: delivery.endpoint.as_ref().map(|endpoint| endpoint.address()),
        route: &route.name,
    };
    context.gateway().access_log().log(context.worker().id(), &AccessRecord::Copy(record));
}
