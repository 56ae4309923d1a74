//! Any text is read or refused, and what is refused is refused with places that exist.

use std::path::Path;

use mirrorgate::config::{parse, parse_endpoints};

/// Reads `bytes` as a configuration and as an endpoint file.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines = text.lines().count() + 1;
    let read = [parse(text, Path::new("")).err(), parse_endpoints(text, Path::new("")).err()];
    for errors in read.into_iter().flatten() {
        assert!(errors.total() > 0, "refused without a reason");
        for error in errors.iter() {
            assert!((1..=lines).contains(&error.line), "{error} of {lines} lines");
        }
    }
}
