//! The atomics of those few parts that threads share and race for. `tests/loom` includes their files
//! with loom's atomics in the place of these, and tries every order of events.

pub(crate) use std::sync::atomic;
