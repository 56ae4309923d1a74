//! Answers read into the room that all exchanges of a worker share.

use tokio::net::TcpStream;

use super::*;

const BODY: usize = 200 * 1024;

/// Answers the one request of `stream` with `letter`s, a chunk of `piece` bytes at a time, and lets others
/// run between two writes. No write ends where something of HTTP ends.
async fn answer(mut stream: TcpStream, letter: u8, piece: usize) {
    asked(&mut stream).await;
    tell(stream, letter, piece).await;
}

async fn asked(stream: &mut TcpStream) {
    let mut read = Vec::new();
    while memchr::memmem::find(&read, b"\r\n\r\n").is_none() {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0);
    }
}

async fn tell(mut stream: TcpStream, letter: u8, piece: usize) {
    let mut text = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in vec![letter; BODY].chunks(piece) {
        text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        text.extend_from_slice(chunk);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"0\r\n\r\n");
    for piece in text.chunks(piece + 3) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
}

/// What the answer to one request has in it.
async fn body(upstream: &Upstream) -> Vec<u8> {
    let (parts, ()) = Request::get("/").header("host", "a").body(()).unwrap().into_parts();
    let message = Message::new(upstream.backend.speech(), &Head::new(&parts, Length::None), None).unwrap();
    let policy = primary_policy(None);
    let exchanged = exchange(&upstream.worker, &upstream.backend, message, None, &policy).await.unwrap();
    let (mut body, mut read) = (exchanged.response.into_body(), Vec::new());
    while let Some(frame) = std::future::poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await {
        read.extend(frame.unwrap().into_data().iter().flatten());
    }
    read
}

#[tokio::test]
async fn answers_that_come_in_turns_are_not_mixed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Upstream::new(BackendPolicy::default());
    upstream.publish(&[listener.local_addr().unwrap()]);
    let serving = async {
        let (first, _) = listener.accept().await.unwrap();
        let (second, _) = listener.accept().await.unwrap();
        let (third, _) = listener.accept().await.unwrap();
        tokio::join!(answer(first, b'a', 7), answer(second, b'b', 2_900), answer(third, b'c', 70_000));
    };
    let reading = async { tokio::join!(body(&upstream), body(&upstream), body(&upstream)) };
    let ((), (one, two, three)) = tokio::join!(serving, reading);
    let mut letters = Vec::new();
    for read in [one, two, three] {
        assert_eq!(read.len(), BODY);
        assert!(read.iter().all(|byte| *byte == read[0]), "bytes of another's answer");
        letters.push(read[0]);
    }
    letters.sort_unstable();
    assert_eq!(letters, b"abc");
}

#[tokio::test]
async fn who_waits_for_an_answer_holds_no_room() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Upstream::new(BackendPolicy::default());
    upstream.publish(&[listener.local_addr().unwrap()]);
    let room = || upstream.worker.room().lock().unwrap().capacity();
    let waiting = body(&upstream);
    tokio::pin!(waiting);
    let accepted = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        asked(&mut stream).await;
        stream
    };
    let stream = tokio::select! {
        _ = &mut waiting => panic!("nobody answered"),
        stream = accepted => stream,
    };
    let whole = room();
    assert!(whole >= limits::READ_FIRST, "the room is {whole}: somebody keeps it");
    let ((), read) = tokio::join!(tell(stream, b'x', 1_000), waiting);
    assert_eq!(read, [b'x'; BODY]);
}
