//! An upstream that does with each connection what its script says, and remembers what it got.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::eventually;
use super::wire::{Message, Wire};

/// A scripted server. Closes with everything it has when dropped.
pub struct Upstream {
    pub address: SocketAddr,
    log: Arc<Log>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    requests: Mutex<Vec<Message>>,
    connections: AtomicUsize,
    open: AtomicUsize,
}

/// One connection, as a script has it.
pub struct Served {
    pub wire: Wire,
    /// Counts the connections of this upstream, from 0.
    pub number: usize,
    log: Arc<Log>,
    alive: tokio::sync::watch::Receiver<bool>,
}

impl Upstream {
    /// Runs `script` for each connection.
    pub async fn script<F>(script: impl Fn(Served) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::script_at(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    /// The same for connections that come to `listener`.
    fn script_at<F>(listener: TcpListener, script: impl Fn(Served) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let shared = log.clone();
        let accepting = tokio::spawn(async move {
            let (_living, alive) = tokio::sync::watch::channel(true);
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                shared.open.fetch_add(1, Ordering::SeqCst);
                let served =
                    Served { wire: Wire::new(stream), number, log: shared.clone(), alive: alive.clone() };
                tasks.spawn(script(served));
            }
        });
        Self { address, log, accepting }
    }

    /// Answers each request with what `answer` makes of it, for as long as the connection lasts.
    pub async fn answering(answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::script(move |mut served| {
            let answer = answer.clone();
            async move {
                while let Some(request) = served.request().await {
                    if !served.wire.send(answer(&request)).await {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// Answers each request with 200 and `text`.
    pub async fn saying(text: &'static str) -> Self {
        Self::answering(move |request| {
            let length = text.len();
            let text = if request.line.starts_with("HEAD ") { "" } else { text };
            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}")
        })
        .await
    }

    /// Answers each request at `listener` with 200 and `text`.
    pub fn answering_at(listener: TcpListener, text: &'static str) -> Self {
        Self::script_at(listener, move |mut served| async move {
            let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            while served.request().await.is_some() && served.wire.send(&response).await {}
        })
    }

    /// Takes a request on each connection, and never answers.
    pub async fn silent() -> Self {
        Self::script(|mut served| async move {
            served.request().await;
            served.hang().await;
        })
        .await
    }

    /// Takes a request on each connection, and resets it.
    pub async fn resetting() -> Self {
        Self::script(|mut served| async move {
            served.request().await;
            served.reset();
        })
        .await
    }

    /// An address at which nobody listens.
    pub async fn nobody() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    }

    /// Requests received so far, in the order of their ends.
    pub fn requests(&self) -> Vec<Message> {
        self.log.requests.lock().unwrap().clone()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.log.requests.lock().unwrap().len()
    }

    /// Waits for the first `count` requests.
    pub async fn received(&self, count: usize) -> Vec<Message> {
        eventually(&format!("{count} requests received"), || self.count() >= count).await;
        self.requests()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }

    /// Connections that neither side has closed, as far as the script has noticed.
    pub fn open(&self) -> usize {
        self.log.open.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Served {
    /// The next request, remembered; `None` when no other comes.
    pub async fn request(&mut self) -> Option<Message> {
        let request = self.wire.request().await?;
        self.remember(&request);
        Some(request)
    }

    /// Puts `request` among those received.
    pub fn remember(&self, request: &Message) {
        self.log.requests.lock().unwrap().push(request.clone());
    }

    /// Does nothing until the upstream is dropped.
    pub async fn hang(mut self) {
        let _ended = self.alive.changed().await;
    }

    /// Closes so that the other side sees a reset.
    pub fn reset(self) {
        self.wire.linger_zero();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.log.open.fetch_sub(1, Ordering::SeqCst);
    }
}
