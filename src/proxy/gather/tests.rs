#![allow(clippy::unwrap_used)]
use std::future::poll_fn;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// A stream over which `room` bytes can be on their way, and the client's end.
fn pair(room: usize) -> (Gathered<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(room);
    (Gathered::new(ours), theirs)
}

/// One turn of the connection's task: it reads, and finds nothing.
async fn turn(stream: &mut Gathered<DuplexStream>) {
    poll_fn(|context| {
        let mut storage = [0; 16];
        assert!(Pin::new(&mut *stream).poll_read(context, &mut ReadBuf::new(&mut storage)).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// What has arrived.
async fn arrived(client: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    let read = poll_fn(|context| {
        let mut buffer = ReadBuf::new(&mut bytes);
        let _nothing = Pin::new(&mut *client).poll_read(context, &mut buffer);
        Poll::Ready(buffer.filled().len())
    });
    let read = read.await;
    bytes.truncate(read);
    bytes
}

#[tokio::test]
async fn small_writes_of_one_turn_leave_together_at_the_next() {
    let (mut stream, mut client) = pair(1 << 16);
    for piece in [&b"one "[..], b"two ", b"three"] {
        stream.write_all(piece).await.unwrap();
        stream.flush().await.unwrap();
    }
    assert_eq!(arrived(&mut client).await, b"");
    turn(&mut stream).await;
    assert_eq!(arrived(&mut client).await, b"one two three");
    assert_eq!(stream.held.capacity(), 0);
}

#[tokio::test]
async fn what_is_held_orders_the_next_turn() {
    let (mut stream, mut client) = pair(1 << 16);
    let mut first = true;
    // As hyper does: a turn reads, then writes, then sleeps. Nobody else wakes it.
    let connection = poll_fn(move |context| -> Poll<()> {
        let mut storage = [0; 16];
        let read = Pin::new(&mut stream).poll_read(context, &mut ReadBuf::new(&mut storage));
        assert!(read.is_pending());
        if std::mem::take(&mut first) {
            assert!(Pin::new(&mut stream).poll_write(context, b"held").is_ready());
            assert!(Pin::new(&mut stream).poll_flush(context).is_ready());
        }
        Poll::Pending
    });
    let connection = tokio::spawn(connection);
    let mut bytes = [0; 4];
    client.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"held");
    connection.abort();
}

#[tokio::test]
async fn large_writes_pass_and_keep_their_place() {
    let (mut stream, mut client) = pair(100);
    let body: Vec<u8> = (0..50_000_u32).map(|number| number as u8).collect();
    let sent = body.clone();
    let writer = tokio::spawn(async move {
        stream.write_all(b"head").await.unwrap();
        stream.write_all(&sent).await.unwrap();
        stream.write_all(b"tail").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    writer.await.unwrap();
    assert_eq!(got, [b"head", &body[..], b"tail"].concat());
}

#[tokio::test]
async fn no_more_is_held_than_the_bound() {
    let (mut stream, mut client) = pair(1 << 20);
    let piece = [7; 1000];
    for _ in 0..100 {
        stream.write_all(&piece).await.unwrap();
        assert!(stream.held.len() <= limits::HTTP2_GATHER);
    }
    turn(&mut stream).await;
    assert_eq!(arrived(&mut client).await.len(), 100_000);
}
