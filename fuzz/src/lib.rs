//! What the fuzz targets do with their bytes: each a plain function that panics when a law is broken.
//! The gateway's own tests include this file and run it over the committed corpora and random bytes.

pub mod choices;
pub mod config;
pub mod http1;
pub mod routing;
pub mod sanitize;
pub mod tee;

/// A target's name, and what it does with its bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 5] = [
    ("config", config::run),
    ("http1", http1::run),
    ("routing", routing::run),
    ("sanitize", sanitize::run),
    ("tee", tee::run),
];
