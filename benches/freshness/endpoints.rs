//! Endpoints that answer every request, and remember when they had their first and their last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::Outcome;

/// One endpoint. It ends with this value, as a process does that is killed.
pub(crate) struct Endpoint {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    serving: JoinHandle<()>,
}

struct Seen {
    start: Instant,
    /// Nanoseconds since `start`; 0 is never. `first` counts from the last [`Endpoint::reset`].
    first: AtomicU64,
    last: AtomicU64,
    open: AtomicUsize,
}

impl Endpoint {
    /// Serves at any port.
    pub(crate) async fn start() -> Outcome<Self> {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Serves at `address`.
    pub(crate) async fn at(address: SocketAddr) -> Outcome<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (first, last) = (AtomicU64::new(0), AtomicU64::new(0));
        let seen = Arc::new(Seen { start: Instant::now(), first, last, open: AtomicUsize::new(0) });
        let told = seen.clone();
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Open::new(&told)));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, seen, serving })
    }

    /// Forgets its first request.
    pub(crate) fn reset(&self) {
        self.seen.first.store(0, Ordering::Relaxed);
    }

    /// When its first request came since it was reset.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.moment(&self.seen.first)
    }

    /// The same, once it has come.
    pub(crate) async fn awaited(&self) -> Outcome<Instant> {
        for _ in 0..60_000 {
            match self.first() {
                Some(first) => return Ok(first),
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
        Err("no request at the new address within a minute".into())
    }

    /// When its last request came.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.moment(&self.seen.last)
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.seen.open.load(Ordering::Relaxed)
    }

    fn moment(&self, nanoseconds: &AtomicU64) -> Option<Instant> {
        match nanoseconds.load(Ordering::Relaxed) {
            0 => None,
            since => Some(self.seen.start + Duration::from_nanos(since)),
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Counts a connection for as long as it is open.
struct Open(Arc<Seen>);

impl Open {
    fn new(seen: &Arc<Seen>) -> Self {
        seen.open.fetch_add(1, Ordering::Relaxed);
        Self(seen.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(mut stream: TcpStream, open: Open) {
    let seen = &open.0;
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
