//! What a record says. Fields are named as in Envoy Gateway's default JSON log, so that what reads
//! that reads this; `kind` tells requests from copies.
//!
//! A request and its copies share [`RequestFacts`], taken once when the request comes in: cheap
//! clones of what hyper has parsed, and only when the log is on.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};

use super::json::{Object, name};
use crate::discovery::source::EndpointAddress;
use crate::mirror::outcome::Outcome;
use crate::proxy::sanitize::{FORWARDED_FOR, REQUEST_ID};

/// One line of the log.
pub enum AccessRecord<'a> {
    /// A request and what its client was told.
    Request(RequestRecord<'a>),
    /// A copy of it and what became of that.
    Copy(CopyRecord<'a>),
}

/// What is known of a request when it comes in.
#[derive(Clone, Debug)]
pub struct RequestFacts {
    /// When its head was complete.
    pub start: SystemTime,
    /// Its method.
    pub method: Method,
    /// Its target as the client sent it, before any rewriting.
    pub path: Option<PathAndQuery>,
    /// What the client speaks.
    pub protocol: Version,
    /// Host or `:authority`.
    pub authority: Option<HeaderValue>,
    /// `X-Forwarded-For`.
    pub forwarded_for: Option<HeaderValue>,
    /// `User-Agent`.
    pub user_agent: Option<HeaderValue>,
    /// `X-Request-Id`, by which a request and its copies are found.
    pub request_id: Option<HeaderValue>,
    /// Where the client connected to.
    pub local: SocketAddr,
    /// Where the client connected from.
    pub remote: SocketAddr,
}

/// What is known of a request once its response has ended.
pub struct RequestRecord<'a> {
    /// The request.
    pub facts: &'a RequestFacts,
    /// The status sent; `None` when the client was gone before it.
    pub status: Option<StatusCode>,
    /// What went wrong.
    pub flag: ResponseFlag,
    /// One word or phrase about who decided on the status: `via_upstream`, `route_not_found`.
    pub details: &'a str,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
    /// The status of a gRPC call, if it is one and has ended with one.
    pub grpc_status: Option<u16>,
    /// From head to the response's end.
    pub duration: Duration,
    /// The endpoint that answered.
    pub upstream_host: Option<&'a EndpointAddress>,
    /// The backend's name.
    pub upstream_cluster: Option<&'a str>,
    /// The route's name.
    pub route: Option<&'a str>,
}

/// What is known of a copy once it has ended.
pub struct CopyRecord<'a> {
    /// The request that it copies.
    pub facts: &'a RequestFacts,
    /// The mirror's status, if it answered.
    pub status: Option<StatusCode>,
    /// What became of it.
    pub outcome: Outcome,
    /// From the copy's begin to its end.
    pub duration: Duration,
    /// The backend's name.
    pub mirror: &'a str,
    /// The endpoint that it was sent to.
    pub upstream_host: Option<&'a EndpointAddress>,
    /// The route's name.
    pub route: &'a str,
}

/// What went wrong with a request, in Envoy's letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ResponseFlag {
    /// Nothing.
    #[default]
    None,
    /// The backend has no endpoints.
    NoHealthyUpstream,
    /// No connection could be made.
    UpstreamConnectionFailure,
    /// The endpoint closed or reset the connection.
    UpstreamConnectionTermination,
    /// A deadline passed.
    UpstreamTimeout,
    /// No route matches.
    NoRoute,
    /// The client went away.
    DownstreamConnectionTermination,
    /// The client does not keep to the protocol.
    DownstreamProtocolError,
    /// The process sheds load.
    OverloadManager,
    /// The route takes no more requests now.
    RateLimited,
    /// The backend takes no more requests now.
    Overflow,
}

impl ResponseFlag {
    /// Envoy's letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamConnectionFailure => "UF",
            Self::UpstreamConnectionTermination => "UC",
            Self::UpstreamTimeout => "UT",
            Self::NoRoute => "NR",
            Self::DownstreamConnectionTermination => "DC",
            Self::DownstreamProtocolError => "DPE",
            Self::OverloadManager => "OM",
            Self::RateLimited => "RL",
            Self::Overflow => "UO",
        }
    }
}

impl RequestFacts {
    /// What `headers` and the head's other parts say. Taken after the forwarding headers were set, so
    /// that the log names the same request id as upstream sees, and before any rewriting.
    pub fn of(
        (method, uri, protocol): (&Method, &Uri, Version),
        headers: &HeaderMap,
        (local, remote): (SocketAddr, SocketAddr),
        start: SystemTime,
    ) -> Self {
        let from_target = || uri.authority().and_then(|name| HeaderValue::from_str(name.as_str()).ok());
        Self {
            start,
            method: method.clone(),
            path: uri.path_and_query().cloned(),
            protocol,
            authority: headers.get(header::HOST).cloned().or_else(from_target),
            forwarded_for: headers.get(&FORWARDED_FOR).cloned(),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            request_id: headers.get(&REQUEST_ID).cloned(),
            local,
            remote,
        }
    }
}

impl AccessRecord<'_> {
    /// Appends the line.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Request(record) => record.write(out),
            Self::Copy(record) => record.write(out),
        }
        out.push(b'\n');
    }
}

impl RequestRecord<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let facts = self.facts;
        let mut object = Object::begin(out, "request");
        object.time(name!("start_time"), facts.start);
        object.text(name!("method"), Some(facts.method.as_str().as_bytes()));
        object.text(name!("x-envoy-origin-path"), facts.path.as_ref().map(|path| path.as_str().as_bytes()));
        object.word(name!("protocol"), protocol(facts.protocol));
        // Envoy's way to say that there was none.
        object.number(name!("response_code"), self.status.map_or(0, |status| u64::from(status.as_u16())));
        object.word(name!("response_flags"), self.flag.as_str());
        object.text(name!("response_code_details"), Some(self.details.as_bytes()));
        object.number(name!("bytes_received"), self.bytes_received);
        object.number(name!("bytes_sent"), self.bytes_sent);
        if let Some(status) = self.grpc_status {
            object.number(name!("grpc_status"), u64::from(status));
        }
        object.milliseconds(name!("duration"), self.duration);
        object.text(name!("x-forwarded-for"), bytes(&facts.forwarded_for));
        object.text(name!("user-agent"), bytes(&facts.user_agent));
        object.text(name!("x-request-id"), bytes(&facts.request_id));
        object.text(name!(":authority"), bytes(&facts.authority));
        object.endpoint(name!("upstream_host"), self.upstream_host);
        object.text(name!("upstream_cluster"), self.upstream_cluster.map(str::as_bytes));
        object.address(name!("downstream_local_address"), facts.local);
        object.address(name!("downstream_remote_address"), facts.remote);
        object.text(name!("route_name"), self.route.map(str::as_bytes));
        object.end();
    }
}

impl CopyRecord<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let facts = self.facts;
        let mut object = Object::begin(out, "copy");
        object.time(name!("start_time"), facts.start);
        object.text(name!("method"), Some(facts.method.as_str().as_bytes()));
        object.text(name!("x-envoy-origin-path"), facts.path.as_ref().map(|path| path.as_str().as_bytes()));
        object.number(name!("response_code"), self.status.map_or(0, |status| u64::from(status.as_u16())));
        object.word(name!("outcome"), self.outcome.as_str());
        object.milliseconds(name!("duration"), self.duration);
        object.text(name!("x-request-id"), bytes(&facts.request_id));
        object.text(name!(":authority"), bytes(&facts.authority));
        object.text(name!("mirror"), Some(self.mirror.as_bytes()));
        object.endpoint(name!("upstream_host"), self.upstream_host);
        object.text(name!("route_name"), Some(self.route.as_bytes()));
        object.end();
    }
}

fn bytes(value: &Option<HeaderValue>) -> Option<&[u8]> {
    value.as_ref().map(HeaderValue::as_bytes)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "-",
    }
}
