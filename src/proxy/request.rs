//! One request, start to end: the page to read aloud.

mod direct;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Version, request};
use http_body::Body;

use self::direct::{answered, redirected};
use super::client_body::{ClientBody, Drained};
use super::connection::Context;
use super::grpc;
use super::record::{Beside, Finish};
use super::reply::trailers::{Carried, Trailers};
use super::reply::{Content, Refusal, ReplyBody, VIA_UPSTREAM};
use super::sanitize::{self, Authority, Target, TargetForm};
use super::tunnel;
use crate::mirror::copy::Copy;
use crate::mirror::tee::Tee;
use crate::mirror::{self, Subject};
use crate::routing::cors::Preflight;
use crate::routing::filter::Filters;
use crate::routing::index::RequestView;
use crate::routing::table::{Action, Route, RoutingTable};
use crate::shard::Lane;
use crate::streams::Piece;
use crate::upstream::body::RequestBody;
use crate::upstream::http1::head::Length;
use crate::upstream::message::{Head, Message};
use crate::upstream::retry::Retries;
use crate::upstream::{Again, ExchangeError, Exchanged, Policy, exchange, primary_policy};
use crate::worker::alarms::Alarm;

/// Answers one request of a client. Its body is hyper's, or that of a program around the gateway.
///
/// `piece` is told of the reply's pieces, for HTTP/2, where somebody watches how long they are held.
pub async fn handle<B>(
    context: Arc<Context>,
    piece: Option<Arc<Piece>>,
    request: Request<B>,
) -> Result<Response<ReplyBody>, Infallible>
where
    B: Body<Data = Bytes, Error: std::error::Error + 'static> + Send + Unpin + 'static,
{
    let mut finish = Finish::begin(&context, &request);
    let carried = Carried::by(&request);
    let grpc = grpc::is_asked(request.headers());
    if grpc {
        finish.grpc();
    }
    let mut response = match answer(&context, request, &mut finish).await {
        Ok((parts, content, deadline)) => {
            let trailers = Trailers::allowed(carried, &parts.headers);
            Response::from_parts(parts, ReplyBody::new(content, finish, deadline, trailers).told_to(piece))
        }
        Err(refusal) => {
            let (status, reason, text) = refusal.answer();
            if let Some(reason) = refusal.counted() {
                context.gateway().metrics().gateway.refused(reason);
            }
            let response = match grpc {
                true => grpc::answer(&refusal, status, text),
                false => refusal.response(text, status),
            };
            finish.replied(response.status(), reason);
            finish.fields(response.headers());
            response.map(|bytes| {
                ReplyBody::new(Content::Own(bytes), finish, None, Trailers::Dropped).told_to(piece)
            })
        }
    };
    // HTTP/2 has GOAWAY for it. An upgraded connection has no next request.
    if context.gateway().is_draining()
        && carried != Carried::All
        && response.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

type Deadline = Option<Alarm>;
type Answer = (http::response::Parts, Content, Deadline);

async fn answer<B>(
    context: &Arc<Context>,
    mut request: Request<B>,
    finish: &mut Finish,
) -> Result<Answer, Refusal>
where
    B: Body<Data = Bytes, Error: std::error::Error + 'static> + Send + Unpin + 'static,
{
    let mut upgraded = tunnel::asked_for(&mut request);
    let (mut parts, incoming) = request.into_parts();
    let length = length(&parts, &incoming);
    let table = context.gateway().table().clone();
    let trust = table.trust();
    let target_bytes = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target_bytes > table.limits().target_bytes {
        return Err(Refusal::Malformed(sanitize::Refused::TargetTooLong));
    }
    if sanitize::has_too_many(&parts.headers, table.limits().head_fields) {
        return Err(Refusal::Malformed(sanitize::Refused::TooManyFields));
    }
    let target = sanitize::inbound(&mut parts, context.client(), trust, || context.request_id())?;
    finish.traced(&mut parts);
    finish.sanitised(&parts);
    if let Some(asked) = &mut upgraded {
        asked.prepare(&mut parts.headers, || context.request_id());
    }
    if target.form == TargetForm::Authority {
        return Err(Refusal::MethodNotAllowed);
    }

    if let Some(name) = context.tls_name()
        && table.is_misdirected(context.listener().id, name, host(&target))
    {
        return Err(Refusal::Misdirected);
    }
    let view = view(context, &table, &parts, &target).ok_or(Refusal::NoRoute)?;
    let (route, prefix) =
        table.find(&view).map(|(route, prefix)| (route.clone(), prefix)).ok_or(Refusal::NoRoute)?;
    finish.routed(&route);
    if let Some(rate) = &route.rate {
        rate.admit(target.client, &parts.headers).map_err(Refusal::TooMany)?;
    }
    let most = route.max_body.unwrap_or(u64::MAX);
    if incoming.size_hint().lower() > most {
        return Err(Refusal::TooLarge);
    }
    let admission = context.gateway().admission();
    let (admitted, overloaded) = admission.request(table.limits().in_flight).ok_or(Refusal::Overloaded)?;
    finish.admitted(admitted);

    let backends = match &route.action {
        Action::Redirect(redirect) => return redirected(context, redirect, &parts, prefix, finish),
        Action::Forward(backends) => backends,
        Action::Fail => return Err(Refusal::NoBackend),
    };
    let cross_origin = match &route.filters.cors {
        Some(cors) => match cors.answer(&parts) {
            Preflight::Answer(response) => return Ok(answered(*response, finish)),
            Preflight::Pass(fields) => Some(fields),
        },
        None => None,
    };
    let choice = backends.pick(context.worker().random()).ok_or(Refusal::NoBackend)?;
    let backend = choice.backend.as_ref().ok_or(Refusal::NoBackend)?;
    finish.backend(backend.name());
    if backend.endpoints().is_empty() {
        return Err(Refusal::Exchange(ExchangeError::NoEndpoints));
    }
    rewrite(&route.filters, &mut parts, prefix)?;
    rewrite(&choice.filters, &mut parts, prefix)?;

    let mirrored = !(route.mirrors.is_empty() && choice.mirrors.is_empty());
    let subject = Subject {
        parts: &parts,
        prefix: route.filters.prefix_after(prefix),
        length,
        size: incoming.size_hint(),
        client: target.client,
        connection: context.addresses(),
        draw: if mirrored { context.worker().random() } else { 0 },
        hops: copied(&target, &table, &parts),
        upgrades: upgraded.is_some(),
        draining: context.gateway().is_draining(),
        overloaded,
    };
    let mut copies = mirror::begin(&route.mirrors, &subject, context.worker());
    copies.extend(mirror::begin(&choice.mirrors, &subject, context.worker()));
    route.metrics.forwarded(context.worker().id());
    let source = ClientBody::new(incoming, finish.received(), most);
    let body = body(context, source, (length, &parts), &copies);
    let upgrade = upgraded.as_ref().map(|asked| asked.protocol.clone());
    let (retries, body) = Retries::new(route.retries.as_ref(), body, backend.speech().may_refuse());
    let client = Some(context.addresses());
    let head = Head { client, upgrade: upgrade.as_ref(), ..Head::new(&parts, length) };
    let mut again = Again { head, retries };
    let message = Message::new(backend.speech(), &again.head, body).map_err(Refusal::Exchange)?;
    let key = backend.key(&parts, Some(target.client));
    let policy = Policy { key, ..primary_policy(again.retries.patience(route.timeouts.backend)) };
    let patience = match finish.is_grpc() {
        true => route.timeouts.request.into_iter().chain(grpc::timeout(&parts.headers)).min(),
        false => route.timeouts.request,
    };
    let deadline = patience.map(|time| context.worker().alarm(time));
    let pairs: Vec<_> = copies.iter().map(|copy| copy.pair().clone()).collect();
    // Boxed: the request's future is moved whole, more than once, before it first runs.
    let mut exchange = Box::pin(exchange(context.worker(), backend, message, Some(&mut again), &policy));
    let (exchanged, deadline) =
        race(exchange.as_mut(), (copies, &route, finish.beside()), context, deadline).await?;
    let Exchanged { response, endpoint, tunnel } = exchanged;
    finish.answered(endpoint);
    for pair in pairs {
        pair.answered(Lane::Primary, response.status(), context.worker().id());
    }

    let (mut parts, body) = response.into_parts();
    sanitize::outbound(&mut parts, trust);
    // What an endpoint speaks is its hop's: an answer of HTTP/1.0 must not end the client's connection.
    parts.version = Version::HTTP_11;
    choice.filters.response_headers.apply(&mut parts.headers);
    route.filters.response_headers.apply(&mut parts.headers);
    if let Some(fields) = cross_origin {
        fields.apply(&mut parts.headers);
    }
    match (upgraded, tunnel) {
        (Some(asked), Some(through)) if asked.answer(&mut parts, &through.1) => {
            asked.splice(context, through);
            // What follows the head is no part of the reply.
            finish.complete();
        }
        (Some(asked), None) if !asked.is_misled_by(parts.status) => {}
        (None, None) => {}
        _ => {
            let error = "the endpoint did not switch protocols as it was asked to".to_owned();
            return Err(Refusal::Exchange(ExchangeError::Protocol(error)));
        }
    }
    finish.replied(parts.status, VIA_UPSTREAM);
    finish.fields(&parts.headers);
    Ok((parts, Content::Upstream(body), deadline))
}

/// How many gateways have copied the request: by the word of trusted hops, or because it is a copy of
/// our own that came back.
fn copied(target: &Target, table: &RoutingTable, parts: &request::Parts) -> Option<u32> {
    let returned = || (target.copy_token && table.guard().knows(&parts.headers)).then_some(1);
    target.copy_hops.or_else(returned)
}

/// How the body ends, as the client's head says: what is said of it upstream is the same.
fn length(parts: &request::Parts, incoming: &impl Body) -> Length {
    let declared = parts.headers.contains_key(http::header::CONTENT_LENGTH);
    match incoming.size_hint().exact() {
        Some(0) if parts.headers.contains_key(TRANSFER_ENCODING) => Length::Chunked,
        Some(0) if incoming.is_end_stream() && !declared => Length::None,
        Some(bytes) => Length::Exact(bytes),
        None => Length::Chunked,
    }
}

fn host(target: &Target) -> &str {
    target.authority.as_ref().map_or("", Authority::host)
}

/// `None` when no part of the listener takes requests for that host.
fn view<'request>(
    context: &Context,
    table: &RoutingTable,
    parts: &'request request::Parts,
    target: &'request Target,
) -> Option<RequestView<'request>> {
    let host = host(target);
    Some(RequestView {
        listener: table.section(context.listener().id, host)?.0,
        host,
        path: parts.uri.path(),
        query: parts.uri.query(),
        method: &parts.method,
        headers: &parts.headers,
    })
}

/// Applies the route's edits to what goes upstream.
fn rewrite(filters: &Filters, parts: &mut request::Parts, prefix: usize) -> Result<(), Refusal> {
    filters.request_headers.apply(&mut parts.headers);
    if let Some(host) = &filters.host {
        parts.headers.insert(HOST, host.clone());
    }
    if let Some(path) = &filters.path {
        let target = target_of(parts);
        let target = path.apply(&target, prefix).map_err(|_| Refusal::Rewrite)?;
        parts.uri = http::Uri::from(target);
    }
    Ok(())
}

fn target_of(parts: &request::Parts) -> PathAndQuery {
    parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// The body as the primary pulls it, and through it the copies.
fn body<B>(
    context: &Context,
    source: ClientBody<B>,
    (length, parts): (Length, &request::Parts),
    copies: &[Copy],
) -> RequestBody
where
    B: Body<Data = Bytes, Error: std::error::Error + 'static> + Send + Unpin + 'static,
{
    if matches!(length, Length::None | Length::Exact(0)) {
        return None;
    }
    let readers: Vec<_> = copies.iter().filter_map(|copy| copy.reader().cloned()).collect();
    let (worker, expected) = (context.worker().clone(), parts.headers.contains_key(EXPECT));
    Some(match readers.is_empty() {
        true => Box::pin(Drained::new(source, worker, expected)),
        false => Box::pin(Drained::new(Tee::new(source, readers), worker, expected)),
    })
}

/// Runs the exchange, and starts the copies once the primary had its first turn: what it costs to
/// start them is spent while the primary is on its way.
async fn race(
    mut exchange: Pin<&mut impl Future<Output = Result<Exchanged, ExchangeError>>>,
    (copies, route, beside): (Vec<Copy>, &Arc<Route>, Beside),
    context: &Arc<Context>,
    mut deadline: Deadline,
) -> Result<(Exchanged, Deadline), Refusal> {
    let mut copies = Some(copies);
    let exchanged = poll_fn(|task| {
        let polled = exchange.as_mut().poll(task).map_err(Refusal::Exchange);
        for copy in copies.take().into_iter().flatten() {
            context.start(copy, route, beside.clone());
        }
        match &mut deadline {
            Some(deadline) if polled.is_pending() => {
                Pin::new(deadline).poll(task).map(|()| Err(Refusal::RequestTimeout))
            }
            _ => polled,
        }
    })
    .await?;
    Ok((exchanged, deadline))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output<A, B, R>(_: impl Fn(A, B) -> R) -> usize {
        size_of::<R>()
    }

    fn answer_of<A, B, C, R>(_: impl Fn(A, B, C) -> R) -> usize {
        size_of::<R>()
    }

    /// Futures are moved whole when they are made and spawned: each kilobyte costs about 30 ns.
    #[test]
    fn futures_stay_small() {
        let request = answer_of(handle::<hyper::body::Incoming>);
        let copy = output::<Copy, &'static Arc<crate::worker::Worker>, _>(Copy::deliver);
        assert!(request <= 3072, "a request's future takes {request} bytes");
        assert!(copy <= 1696, "a copy's future takes {copy} bytes");
    }
}
