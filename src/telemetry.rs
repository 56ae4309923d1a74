//! Telling what happens: metrics, the access log, the log.
//!
//! Nothing here may make a request wait: the data plane writes to its own worker's shard and goes
//! on, and everything that costs time (adding up, formatting, writing) happens on the control side.

pub mod access_log;
pub mod exposition;
pub mod gateway;
pub mod logging;
pub mod metrics;

mod codes;
mod handles;
mod histogram;
mod page;
pub mod process;
pub mod spans;
