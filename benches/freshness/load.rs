//! Clients at a steady rate, on connections that are kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::{CONNECTIONS, RATE};

/// Clients that send until they are stopped.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    requests: AtomicU64,
    failed: AtomicU64,
}

impl Load {
    /// Begins to send to `address`.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let shared = Arc::<Shared>::default();
        let mut clients = JoinSet::new();
        for _ in 0..CONNECTIONS {
            clients.spawn(client(address, shared.clone()));
        }
        Self { shared, clients }
    }

    /// Stops; tells how many requests there were and how many of them failed.
    pub(crate) async fn stop(mut self) -> (u64, u64) {
        self.shared.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.shared.requests), read(&self.shared.failed))
    }
}

async fn client(address: SocketAddr, shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) * CONNECTIONS as u32 / RATE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut kept = None;
    while !shared.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        shared.requests.fetch_add(1, Ordering::Relaxed);
        // As any client does: one that was closed while it was idle is not used.
        let mut stream = match kept.take().filter(is_open) {
            Some(stream) => stream,
            None => match TcpStream::connect(address).await {
                Ok(stream) => stream,
                Err(_) => {
                    shared.failed.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            },
        };
        let exchanged = tokio::time::timeout(Duration::from_secs(5), exchange(&mut stream)).await;
        match matches!(exchanged, Ok(Ok(true))) {
            true => kept = Some(stream),
            false => {
                shared.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Whether the answer is a 200 with the two bytes that the endpoints send, chunked or not.
async fn exchange(stream: &mut TcpStream) -> std::io::Result<bool> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n").await?;
    let mut read = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(false);
        }
        if read.ends_with(b"\r\n\r\nok") || read.ends_with(b"0\r\n\r\n") {
            return Ok(read.starts_with(b"HTTP/1.1 200"));
        }
    }
}
