//! What is counted and written of a transaction, from its head to the last byte of its response.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, Method, Request, StatusCode, request};

use super::admission::Admitted;
use super::connection::Context;
use super::deadlines::RequestInFlight;
use super::grpc;
use super::reply::Reason;
use crate::limits;
use crate::mirror::Mirror;
use crate::mirror::copy::Delivery;
use crate::mirror::outcome::Outcome;
use crate::routing::table::Route;
use crate::telemetry::access_log::{AccessRecord, CopyRecord, RequestFacts, RequestRecord, ResponseFlag};
use crate::telemetry::spans::{Attribute, Place, Span};
use crate::upstream::endpoint::Endpoint;

/// One transaction. Whenever it is dropped, it is over, and what is known then is recorded.
pub struct Finish {
    context: Arc<Context>,
    _in_flight: RequestInFlight,
    started: Instant,
    /// `None` until a reply's head was handed over: the client was gone before.
    status: Option<StatusCode>,
    reason: Reason,
    complete: bool,
    /// HEAD, whose reply ends with its head.
    head_alone: bool,
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
    /// Kept only of what is traced.
    traced: Option<Box<Traced>>,
}

struct Traced {
    place: Place,
    start: SystemTime,
    method: Method,
    path: String,
}

/// What a copy's record and span need of its request.
#[derive(Clone, Default)]
pub struct Beside {
    facts: Option<Arc<RequestFacts>>,
    place: Option<Place>,
}

/// First of the head's first line alone; nobody is told of a request that gets no further.
enum Facts {
    Begun(RequestFacts),
    Known(Arc<RequestFacts>),
}

impl Finish {
    /// A transaction begins with `request`.
    pub fn begin<B>(context: &Arc<Context>, request: &Request<B>) -> Self {
        let facts = context.gateway().access_log().enabled().then(|| {
            let target = request.uri().path_and_query();
            let now = SystemTime::now();
            Facts::Begun(RequestFacts::begin(now, request.method(), target, request.version()))
        });
        Self {
            context: context.clone(),
            _in_flight: context.state().request(),
            started: Instant::now(),
            status: None,
            reason: Reason { flag: ResponseFlag::None, details: "client_gone" },
            complete: false,
            head_alone: request.method() == Method::HEAD,
            route: None,
            endpoint: None,
            backend: None,
            received: None,
            sent: 0,
            grpc: None,
            admitted: None,
            facts,
            traced: None,
        }
    }

    /// Its head, with forwarding fields set and before any rewriting.
    pub fn sanitised(&mut self, parts: &request::Parts) {
        if let Some(Facts::Begun(mut facts)) = self.facts.take() {
            facts.fields(&parts.headers);
            self.facts = Some(Facts::Known(Arc::new(facts)));
        }
    }

    /// It goes on within our span, if it is traced.
    pub fn traced(&mut self, parts: &mut request::Parts) {
        let (traces, worker) = (self.context.gateway().traces(), self.context.worker());
        self.traced = traces.begin(&mut parts.headers, || worker.random()).map(|place| {
            let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
            Box::new(Traced { place, start: SystemTime::now(), method, path })
        });
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
        self.complete |= self.head_alone;
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

    /// What a copy's record and span need of the request.
    pub fn beside(&self) -> Beside {
        Beside {
            facts: self.facts.as_ref().and_then(Facts::known).cloned(),
            place: self.traced.as_ref().map(|traced| traced.place),
        }
    }

    fn span(&self, traced: Traced, duration: Duration) -> Span {
        let route = self.route.as_ref().map_or("none", |route| &route.name);
        let mut attributes = vec![
            ("http.request.method", Attribute::Text(traced.method.to_string())),
            ("url.path", Attribute::Text(traced.path)),
            ("mirrorgate.route", Attribute::Text(route.to_owned())),
        ];
        if let Some(status) = self.status {
            attributes.push(("http.response.status_code", Attribute::Number(status.as_u16().into())));
        }
        Span {
            place: traced.place,
            is_copy: false,
            name: format!("{} {route}", traced.method),
            start: traced.start,
            duration,
            attributes,
            failed: !self.complete || self.status.is_none_or(|status| status.is_server_error()),
        }
    }
}

impl Facts {
    fn known(&self) -> Option<&Arc<RequestFacts>> {
        match self {
            Self::Known(facts) => Some(facts),
            Self::Begun(..) => None,
        }
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
        if let Some(traced) = self.traced.take() {
            self.context.gateway().traces().export(self.span(*traced, duration));
        }
        let Some(facts) = self.facts.as_ref().and_then(Facts::known) else { return };
        let flag = match self.complete {
            true => self.reason.flag,
            false => ResponseFlag::DownstreamConnectionTermination,
        };
        let record = RequestRecord {
            facts,
            connection: self.context.facts(),
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

/// Writes the record of a copy, beside that of its request, and its span within the request's.
pub fn copied(context: &Context, beside: &Beside, route: &Route, mirror: &Mirror, delivery: &Delivery) {
    if beside.facts.is_none() && beside.place.is_none() {
        return;
    }
    let duration = delivery.started.elapsed();
    if let Some(place) = beside.place {
        let span = copied_span(place.child(delivery.span), route, mirror, delivery, duration);
        context.gateway().traces().export(span);
    }
    let Some(facts) = &beside.facts else { return };
    let record = CopyRecord {
        facts,
        status: delivery.status,
        outcome: delivery.outcome,
        duration,
        mirror: &mirror.name,
        upstream_host: delivery.endpoint.as_ref().map(|endpoint| endpoint.address()),
        route: &route.name,
    };
    context.gateway().access_log().log(context.worker().id(), &AccessRecord::Copy(record));
}

fn copied_span(
    place: Place,
    route: &Route,
    mirror: &Mirror,
    delivery: &Delivery,
    duration: Duration,
) -> Span {
    let mut attributes = vec![
        ("mirrorgate.copy", Attribute::Flag(true)),
        ("mirrorgate.mirror", Attribute::Text(mirror.name.to_string())),
        ("mirrorgate.outcome", Attribute::Text(delivery.outcome.as_str().to_owned())),
    ];
    if let Some(status) = delivery.status {
        attributes.push(("http.response.status_code", Attribute::Number(status.as_u16().into())));
    }
    Span {
        place,
        is_copy: true,
        name: format!("mirror {}", route.name),
        start: SystemTime::now() - duration,
        duration,
        attributes,
        failed: delivery.outcome != Outcome::Delivered,
    }
}
