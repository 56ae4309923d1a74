//! Telling what happens: metrics, the access log, process figures.

pub mod metrics;
