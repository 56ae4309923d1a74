//! The gateway over real sockets, against upstreams that misbehave on purpose.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// A test binary: nothing in it is reachable from outside.
#![allow(unreachable_pub)]

mod harness;

mod addresses;
mod cancellation;
mod conformance;
mod connections;
mod copies;
mod differential;
mod endpoints;
mod errors;
mod forwarding;
mod freshness;
mod fuzz;
mod gateway_api;
mod grpc;
mod hostile;
mod hostile_http1;
mod hostile_http2;
mod http2;
mod known_bugs;
mod kubernetes;
mod limits;
mod mirrors;
mod process;
mod signals;
mod spans;
mod tls;
mod tunnels;
mod uploads;
mod websocket;
