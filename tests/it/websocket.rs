//! WebSocket by tungstenite on both sides, through HTTP/1's upgrade.

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};

use crate::harness::{Upstream, gateway, noise, within};

/// Sends every message back until it is told to close.
async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_pass_both_ways_and_are_not_mirrored() {
    let mirror = Upstream::saying("m").await;
    let gateway = gateway(&format!(
        "routes: [{{ backend: 'http://{}', mirrors: ['http://{}'] }}]",
        echo().await,
        mirror.address
    ))
    .await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut socket, response) = client_async("ws://shop.test/chat", stream).await.unwrap();
    assert_eq!(response.status(), 101);

    let sent: Vec<_> = (0..50_u64)
        .map(|number| match number % 3 {
            0 => Message::text(format!("text {number}")),
            1 => Message::binary(noise(number, 300_000)),
            _ => Message::binary(Vec::new()),
        })
        .collect();
    for message in &sent {
        within("a message sent", socket.send(message.clone())).await.unwrap();
        let echoed = within("a message back", socket.next()).await.unwrap().unwrap();
        assert!(echoed == *message, "another message came back");
    }
    socket.send(Message::Ping(b"well?".to_vec().into())).await.unwrap();
    let pong = within("a pong", socket.next()).await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong(b"well?".to_vec().into()));

    within("closing", socket.close(None)).await.unwrap();
    let closed = within("the close answered", socket.next()).await;
    assert!(matches!(closed, Some(Ok(Message::Close(_)))), "{closed:?}");

    drop(socket);
    gateway.outcome("skipped_upgrade", 1).await;
    gateway.settled().await;
    assert_eq!(mirror.count(), 0);
    gateway.counts("mirrorgate_client_connections", &[], 0.0).await;
}
