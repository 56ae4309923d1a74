//! mirrorgate: a reverse proxy that forwards each request to the primary backend and sends a copy,
//! without ever waiting for it, to mirror backends.
//!
//! Two sentences describe the whole of it.
//!
//! A request: *accept → connection → request → route → (mirror tee) → exchange → balance → pool →
//! connect → respond.* Read [`proxy`] and then [`upstream`].
//!
//! An endpoint: *source → update → resolver → endpoint set → registry → backend.* Read
//! [`discovery`] and then [`upstream::registry`].

// The process: from arguments to a running gateway.
pub mod app;
pub mod cli;
pub mod demo;

// What it is told: text becomes a plan, a plan a routing table.
pub mod config;
pub mod gateway_api;
pub mod import;
pub mod plan;
pub mod routing;

// A request's way.
pub mod mirror;
pub mod proxy;
pub mod upstream;

// An endpoint's way.
pub mod discovery;

// Beside both: who may look, and what is seen.
pub mod admin;
pub mod telemetry;

// What all use.
mod file_watch;
pub mod limits;
pub mod memory;
pub mod shard;
pub mod streams;
mod sync;
pub mod tls;
pub mod worker;
