//! Talking to backends.

pub mod backend;
pub mod endpoint;
pub mod endpoint_set;
pub mod pool;
pub mod registry;
