//! mirrorgate: a reverse proxy that forwards each request to the primary backend and sends a copy,
//! without ever waiting for it, to mirror backends.
//!
//! Two sentences describe the whole of it.
//!
//! A request: *accept → connection → request → route → (mirror tee) → exchange → balance → pool →
//! connect → respond.* Read `proxy` and then `upstream`.
//!
//! An endpoint: *source → update → resolver → endpoint set → registry → backend.* Read
//! [`discovery`] and then `upstream::registry`.

pub mod app;
pub mod cli;
pub mod config;
pub mod demo;
pub mod limits;
pub mod memory;
pub mod shard;
pub mod worker;

pub mod proxy;

pub mod config;
pub mod plan;
pub mod routing;

pub mod mirror;

pub mod upstream;

pub mod discovery;

pub mod telemetry;

pub mod admin;
