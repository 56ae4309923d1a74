//! Endpoints that answer every request, and remember when they had their first and their last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::Outcome;

/// One endpoint.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
}

struct Seen {
    start: Instant,
    /// Nanoseconds since `start`; 0 is never. `first` counts from the last [`Endpoint::reset`].
    first: AtomicU64,
    last: AtomicU64,
}

impl Endpoint {
    /// Serves until the runtime ends.
    pub(crate) async fn start() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen =
            Arc::new(Seen { start: Instant::now(), first: AtomicU64::new(0), last: AtomicU64::new(0) });
        let told = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, told.clone()));
            }
        });
        Ok(Self { address, seen })
    }

    /// Forgets its first request.
    pub(crate) fn reset(&self) {
        self.seen.first.store(0, Ordering::Relaxed);
    }

    /// When its first request came since it was reset.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.at(&self.seen.first)
    }

    /// When its last request came.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.at(&self.seen.last)
    }

    fn at(&self, nanoseconds: &AtomicU64) -> Option<Instant> {
        match nanoseconds.load(Ordering::Relaxed) {
            0 => None,
            since => Some(self.seen.start + Duration::from_nanos(since)),
        }
    }
}

async fn serve(mut stream: tokio::net::TcpStream, seen: Arc<Seen>) {
    let _ = stream.set_nodelay(true);
    let mut read = Vec::with_capacity(4096);
    loop {
        match stream.read_buf(&mut read).await {
            Ok(count) if count > 0 => {}
            _ => return,
        }
        // No request here has a body, and none is sent before the last is answered.
        if !read.ends_with(b"\r\n\r\n") {
            continue;
        }
        read.clear();
        let now = seen.start.elapsed().as_nanos() as u64;
        let _ = seen.first.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        seen.last.fetch_max(now, Ordering::Relaxed);
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}
