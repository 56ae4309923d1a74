//! Clients that never rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::{Gateway, eventually, within};

/// Requests of [`Load`] that may be sent again, and some of those that may not.
pub const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
pub const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";

/// Clients that send one request after the other, each of which must be answered with 200.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: JoinSet<()>,
}

impl Load {
    /// One client for each of `requests`, on a connection of its own.
    pub async fn start(gateway: &Gateway, requests: impl IntoIterator<Item = &'static str>) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut clients = JoinSet::new();
        for request in requests {
            let mut wire = gateway.connect().await;
            let (stop, answered) = (stop.clone(), answered.clone());
            clients.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    wire.send(request).await;
                    let response = wire.response().await;
                    assert_eq!(response.status(), 200, "{request:?}: {}", response.text());
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { stop, answered, clients }
    }

    /// Requests answered so far.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Waits for `count` more answers.
    pub async fn goes_on(&mut self, count: usize) {
        let enough = self.answered() + count;
        eventually("answers to clients", || {
            if let Some(ended) = self.clients.try_join_next() {
                ended.unwrap();
            }
            self.answered() >= enough
        })
        .await;
    }

    /// Stops; how many requests were answered. Fails if one was not, or not with 200.
    pub async fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = within("the clients", self.clients.join_next()).await {
            ended.unwrap();
        }
        self.answered()
    }
}
