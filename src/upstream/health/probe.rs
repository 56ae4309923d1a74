//! One probe: the same way to an endpoint that requests take, over a connection of its own, so that
//! an endpoint that takes no new ones shows.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, request};
use http_body::Body;

use crate::discovery::source::EndpointAddress;
use crate::limits;
use crate::plan::HealthCheck;
use crate::shard::Lane;
use crate::upstream::body::{RequestBody, ResponseBody, Whole};
use crate::upstream::connect::connect;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::http1::head::Length;
use crate::upstream::message::{Head, Message};
use crate::upstream::pool::Lease;
use crate::upstream::registry::BackendRef;
use crate::upstream::{Policy, Speech, attempt};
use crate::worker::Worker;

/// Whom to ask.
pub(super) struct Target {
    address: EndpointAddress,
    speech: Arc<Speech>,
}

impl Target {
    pub(super) fn new(backend: &BackendRef, address: &EndpointAddress) -> Self {
        Self { address: address.clone(), speech: Arc::new(backend.speech().uncounted()) }
    }
}

#[cfg(test)]
impl Target {
    pub(super) fn to(address: std::net::SocketAddr, protocol: crate::plan::Protocol) -> Self {
        let speech = Speech {
            name: "app".into(),
            protocol,
            host: None,
            transport: Default::default(),
            connector: None,
            counts: None,
        };
        Self { address: EndpointAddress::Tcp(address), speech: Arc::new(speech) }
    }
}

/// Whether the endpoint answers as it should. Whoever calls this bounds its time.
pub(super) async fn probe(worker: &Arc<Worker>, target: &Target, check: &HealthCheck) -> bool {
    match check {
        HealthCheck::Tcp => connect(&target.address, limits::CONNECT, None).await.is_ok(),
        HealthCheck::Http { path, expected } => {
            let mut parts = head(Method::GET, target);
            parts.uri = path.clone().into();
            match ask(worker, target, parts, None, Length::None).await {
                Some(answer) => expected.contains(answer.status),
                None => false,
            }
        }
        HealthCheck::Grpc { service } => {
            let mut parts = head(Method::POST, target);
            parts.uri = http::Uri::from_static("/grpc.health.v1.Health/Check");
            parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            parts.headers.insert(TE, HeaderValue::from_static("trailers"));
            let message = check_request(service);
            let length = Length::Exact(message.len() as u64);
            let body: RequestBody = Some(Box::pin(Whole::new(message)));
            match ask(worker, target, parts, body, length).await {
                Some(answer) => answer.is_serving(),
                None => false,
            }
        }
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
}

async fn ask(
    worker: &Arc<Worker>,
    target: &Target,
    parts: request::Parts,
    body: RequestBody,
    length: Length,
) -> Option<Answer> {
    // Nobody else knows this endpoint: no connection of a request is used, and none is given to one.
    let endpoint = Arc::new(Endpoint::new(target.address.clone(), 1, Instant::now()));
    let lease = Lease::new(worker.clone(), endpoint, Lane::Primary);
    let message = Message::new(&target.speech, &Head::new(&parts, length), body).ok()?;
    let policy = Policy {
        lane: Lane::Primary,
        connect: limits::CONNECT,
        attempt: None,
        attempts: 1,
        fields: true,
        gathers: false,
        key: None,
    };
    let (response, _) = Box::pin(attempt(lease, &target.speech, message, &policy)).await.ok()?;
    let (head, body) = response.into_parts();
    let (body, trailers) = read(body).await?;
    Some(Answer { status: head.status, headers: head.headers, body, trailers })
}

/// Reads an answer to its end, or as much as anybody could want of it.
async fn read(mut body: ResponseBody) -> Option<(Vec<u8>, HeaderMap)> {
    let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        match frame.ok()?.into_data() {
            Ok(bytes) => data.extend_from_slice(&bytes),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
        if data.len() > limits::PROBE_BYTES {
            break;
        }
    }
    Some((data, trailers))
}

fn head(method: Method, target: &Target) -> request::Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    let host = match &target.address {
        EndpointAddress::Tcp(address) => HeaderValue::from_str(&address.to_string()).ok(),
        EndpointAddress::Unix(_) => None,
    };
    parts.headers.insert(HOST, host.unwrap_or(HeaderValue::from_static("localhost")));
    parts.headers.insert(USER_AGENT, HeaderValue::from_static("mirrorgate-health"));
    parts
}

/// A `HealthCheckRequest` in a gRPC frame: field 1, a string.
fn check_request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0A);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7F) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

impl Answer {
    /// Whether it is an OK with a `HealthCheckResponse` whose field 1 is 1 (`SERVING`).
    fn is_serving(&self) -> bool {
        let code = self.trailers.get("grpc-status").or_else(|| self.headers.get("grpc-status"));
        self.status == StatusCode::OK
            && code.is_some_and(|code| code == "0")
            // Uncompressed, and what no proto3 encoder writes in another way.
            && matches!(self.body.as_slice(), [0, 0, 0, 0, 2, 0x08, 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_names_its_service() {
        assert_eq!(check_request("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(check_request("a.B").as_ref(), b"\0\0\0\0\x05\x0A\x03a.B");
        let long = check_request(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0A, 0xAC, 0x02]);
    }
}
