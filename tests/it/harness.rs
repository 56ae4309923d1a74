//! What the tests are made of: a gateway in this process, upstreams that do exactly what a script
//! says, and a client that writes raw bytes. Nothing here knows how the gateway works inside; what a
//! test waits for is an event on a socket, or a metric.

mod authority;
pub mod frames;
mod gateway;
mod http2;
mod load;
pub mod names;
mod upstream;
mod wire;

use std::path::Path;
use std::time::Duration;

pub use self::authority::Authority;
pub use self::gateway::{Gateway, gateway, mirroring};
pub use self::http2::{H2Client, H2Upstream};
pub use self::load::{GET, Load, POST};
pub use self::upstream::{Served, Upstream};
pub use self::wire::{End, Message, Wire};

/// How long anything may take before the test is lost. Only ever waited out by a failing test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Puts `text` at `path`, in place of what is there, as a whole.
pub fn replace_file(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, path).unwrap();
}

/// Waits until `holds`.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waited).await.is_ok(), "still not so: {what}");
}

/// Waits for `event`, but not for ever.
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen: {what}"),
    }
}

/// Bytes without a pattern that a shift or a repetition would leave unnoticed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// `body` in chunks of `size`, with `trailers` and the end.
pub fn chunked(body: &[u8], size: usize, trailers: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + body.len() / size * 12 + 64);
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers.as_bytes());
    out.extend_from_slice(b"\r\n");
    out
}
