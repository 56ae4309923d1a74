//! What a record says. Fields are named as in Envoy Gateway's default JSON log, so that what reads
//! that reads this; `kind` tells requests from copies.
//!
//! A request and its copies share [`RequestFacts`]: what the request's head said, written down as JSON
//! while it is at hand, so that nothing of it need be kept, and only when the log is on.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

use super::json::{Members, name};
use crate::discovery::source::EndpointAddress;
use crate::mirror::outcome::Outcome;
use crate::proxy::sanitize::{FORWARDED_FOR, REQUEST_ID};

/// Bytes of most requests' facts, so that writing them down needs one allocation.
const USUAL: usize = 512;

/// One line of the log.
pub enum AccessRecord<'a> {
    /// A request and what its client was told.
    Request(RequestRecord<'a>),
    /// A copy of it and what became of that.
    Copy(CopyRecord<'a>),
}

/// What is known of a request when it comes in, as a record has it.
#[derive(Clone, Debug)]
pub struct RequestFacts {
    /// Members, each with its comma: time, method, target | protocol | `X-Forwarded-For`, `User-Agent` |
    /// `X-Request-Id`, authority.
    members: Vec<u8>,
    /// Where the first, the second and the third group end. A copy's record has the first and the last.
    ends: [usize; 3],
}

/// Members that all records of a connection end with: where its client connected to, and from.
#[derive(Debug)]
pub struct ConnectionFacts(Box<[u8]>);

/// What is known of a request once its response has ended.
pub struct RequestRecord<'a> {
    /// The request.
    pub facts: &'a RequestFacts,
    /// The connection that it came on.
    pub connection: &'a ConnectionFacts,
    /// The status sent; `None` when the client was gone before it.
    pub status: Option<StatusCode>,
    /// What went wrong.
    pub flag: ResponseFlag,
    /// One word or phrase about who decided on the status: `via_upstream`, `route_not_found`.
    pub details: &'static str,
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
    /// Writes down what the head's first line says: its target as the client sent it, before any rewriting.
    pub fn begin(
        start: SystemTime,
        method: &Method,
        target: Option<&PathAndQuery>,
        protocol: Version,
    ) -> Self {
        let mut facts = Self { members: Vec::with_capacity(USUAL), ends: [0; 3] };
        let mut members = Members(&mut facts.members);
        members.time(name!("start_time"), start);
        members.text(name!("method"), Some(method.as_str().as_bytes()));
        members.text(name!("x-envoy-origin-path"), target.map(|target| target.as_str().as_bytes()));
        let line = members.0.len();
        members.word(name!("protocol"), word(protocol));
        facts.ends[..2].copy_from_slice(&[line, facts.members.len()]);
        facts
    }

    /// Writes down what its fields say, after they were sanitised: so the log names the same request id as
    /// upstream sees, and an authority of the target stands in Host.
    pub fn fields(&mut self, headers: &HeaderMap) {
        let value = |name: &HeaderName| headers.get(name).map(HeaderValue::as_bytes);
        let mut members = Members(&mut self.members);
        members.text(name!("x-forwarded-for"), value(&FORWARDED_FOR));
        members.text(name!("user-agent"), value(&header::USER_AGENT));
        self.ends[2] = members.0.len();
        members.text(name!("x-request-id"), value(&REQUEST_ID));
        members.text(name!(":authority"), value(&header::HOST));
    }

    fn between(&self, start: usize, end: usize) -> &[u8] {
        self.members.get(start..end).unwrap_or_default()
    }
}

impl ConnectionFacts {
    /// Of a connection from `remote` to `local`.
    pub fn of(local: SocketAddr, remote: SocketAddr) -> Self {
        let mut text = Vec::new();
        let mut members = Members(&mut text);
        members.address(name!("downstream_local_address"), local);
        members.address(name!("downstream_remote_address"), remote);
        Self(text.into())
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
        let [_, head, _] = self.facts.ends;
        let mut object = Members::begin(out, "request");
        object.members(self.facts.between(0, head));
        // Envoy's way to say that there was none.
        object.number(name!("response_code"), self.status.map_or(0, |status| u64::from(status.as_u16())));
        object.word(name!("response_flags"), self.flag.as_str());
        object.word(name!("response_code_details"), self.details);
        object.number(name!("bytes_received"), self.bytes_received);
        object.number(name!("bytes_sent"), self.bytes_sent);
        if let Some(status) = self.grpc_status {
            object.number(name!("grpc_status"), u64::from(status));
        }
        object.milliseconds(name!("duration"), self.duration);
        object.members(self.facts.between(head, self.facts.members.len()));
        object.endpoint(name!("upstream_host"), self.upstream_host);
        object.text(name!("upstream_cluster"), self.upstream_cluster.map(str::as_bytes));
        object.members(&self.connection.0);
        object.text(name!("route_name"), self.route.map(str::as_bytes));
        object.end();
    }
}

impl CopyRecord<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let [line, _, fields] = self.facts.ends;
        let mut object = Members::begin(out, "copy");
        object.members(self.facts.between(0, line));
        object.number(name!("response_code"), self.status.map_or(0, |status| u64::from(status.as_u16())));
        object.word(name!("outcome"), self.outcome.as_str());
        object.milliseconds(name!("duration"), self.duration);
        object.members(self.facts.between(fields, self.facts.members.len()));
        object.text(name!("mirror"), Some(self.mirror.as_bytes()));
        object.endpoint(name!("upstream_host"), self.upstream_host);
        object.text(name!("route_name"), Some(self.route.as_bytes()));
        object.end();
    }
}

fn word(protocol: Version) -> &'static str {
    match protocol {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "-",
    }
}
