//! What happens to a request between a client's connection and a backend.

pub mod deadlines;
pub mod framing;
pub mod sanitize;
