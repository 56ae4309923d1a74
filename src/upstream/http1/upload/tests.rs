#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderName, Request};
use http_body::Body;
use proptest::prelude::*;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::*;
use crate::upstream::http1::body::{Decoder, Piece};

/// A body of given frames, each of which comes after a pending poll.
struct Script {
    frames: VecDeque<Result<Frame<Chunk>, BodyError>>,
    ready: bool,
}

impl Body for Script {
    type Data = Chunk;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        self.ready = !self.ready;
        if self.ready {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.frames.pop_front())
    }
}

fn data(bytes: &[u8]) -> Result<Frame<Chunk>, BodyError> {
    Ok(Frame::data(Chunk::free(Bytes::copy_from_slice(bytes))))
}

/// All that an upload of `frames` writes, and how it ended.
fn upload(frames: Vec<Result<Frame<Chunk>, BodyError>>, length: Length) -> (Vec<u8>, Option<BodyError>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (parts, ()) = Request::post("/").header("host", "x").body(()).unwrap().into_parts();
        let body: RequestBody = Some(Box::pin(Script { frames: frames.into(), ready: false }));
        let mut upload = Upload::new(&Head::new(&parts, length), None, body);
        let (near, mut far) = UnixStream::pair().unwrap();
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        let mut stream = Stream::Unix(near);
        let ended = poll_fn(|context| upload.poll(&mut stream, context)).await;
        // Whatever ended it, it stays ended: asking again writes nothing.
        let again = poll_fn(|context| upload.poll(&mut stream, context)).await;
        assert_eq!(ended.is_ok(), again.is_ok());
        drop(stream);
        let broken = match ended {
            Ok(()) => None,
            Err(UploadError::Body(error)) => Some(error),
            Err(UploadError::Io(error)) => panic!("{error}"),
        };
        (reading.await.unwrap(), broken)
    })
}

/// The body of a written request, and whether it is complete.
fn decoded(written: &[u8], length: Length) -> (Vec<u8>, bool, Option<HeaderMap>) {
    let end = written.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let mut input = BytesMut::from(&written[end..]);
    let mut decoder = Decoder::new(length);
    let mut body = Vec::new();
    loop {
        match decoder.next(&mut input).unwrap() {
            Piece::Data(data) => body.extend_from_slice(&data),
            Piece::More => return (body, false, None),
            Piece::End => return (body, input.is_empty(), None),
            Piece::Trailers(trailers) => return (body, input.is_empty(), Some(trailers)),
        }
    }
}

fn trailers() -> HeaderMap {
    [(HeaderName::from_static("x-sum"), HeaderValue::from_static("7"))].into_iter().collect()
}

#[test]
fn a_body_that_is_not_as_long_as_its_head_says_never_looks_complete() {
    for (body, said) in [("", 1), ("abc", 4), ("abc", 2)] {
        let (written, broken) = upload(vec![data(body.as_bytes())], Length::Exact(said));
        assert_eq!(broken, Some(BodyError::Cut));
        assert!(!decoded(&written, Length::Exact(said)).1, "{body:?} {said}");
    }
}

proptest! {
    /// What is written decodes to the frames, in the framing that the head says.
    #[test]
    fn what_is_uploaded_is_the_body(
        sizes in proptest::collection::vec(prop_oneof![0_usize..5, 0_usize..6000, Just(70_000)], 0..8),
        exact in any::<bool>(),
        with_trailers in any::<bool>(),
    ) {
        let body: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|at| (at % 251) as u8).collect();
        let mut rest = &body[..];
        let mut frames = Vec::new();
        for size in sizes {
            let (frame, left) = rest.split_at(size);
            frames.push(data(frame));
            rest = left;
        }
        let with_trailers = with_trailers && !exact;
        if with_trailers {
            frames.push(Ok(Frame::trailers(trailers())));
        }
        let length = if exact { Length::Exact(body.len() as u64) } else { Length::Chunked };
        let (written, broken) = upload(frames, length);
        prop_assert_eq!(broken, None);
        let (read, complete, read_trailers) = decoded(&written, length);
        prop_assert!(complete);
        prop_assert!(read == body);
        prop_assert_eq!(read_trailers, with_trailers.then(trailers));
    }

    /// A body that breaks off is written as far as it came, and without an end.
    #[test]
    fn a_broken_body_never_looks_complete(
        sizes in proptest::collection::vec(1_usize..9000, 0..5),
        exact in any::<bool>(),
    ) {
        let total: usize = sizes.iter().sum();
        let mut frames: Vec<_> = sizes.iter().map(|size| data(&vec![b'x'; *size])).collect();
        frames.push(Err(BodyError::ClientGone));
        let length = if exact { Length::Exact(total as u64 + 1) } else { Length::Chunked };
        let (written, broken) = upload(frames, length);
        prop_assert_eq!(broken, Some(BodyError::ClientGone));
        let empty = written.is_empty();
        prop_assert!(empty || !decoded(&written, length).1);
    }
}

/// As many as need not wait for others.
fn many_have_written() {
    for _ in 0..limits::WRITES_AT_ONCE {
        let _written = Yield::Due.poll(&Context::from_waker(std::task::Waker::noop()));
    }
}

/// Whoever gathers is woken at once, and writes nothing before.
#[test]
fn a_first_write_that_gathers_lets_others_go_first_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (parts, ()) = Request::get("/").header("host", "x").body(()).unwrap().into_parts();
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut stream = Stream::Unix(near);
        for gathers in [true, false] {
            let mut upload = Upload::new(&Head::new(&parts, Length::None), None, None);
            if gathers {
                many_have_written();
                upload.gather();
            }
            let mut polls = 0;
            poll_fn(|context| {
                polls += 1;
                let polled = upload.poll(&mut stream, context);
                assert_eq!(
                    (polled.is_pending(), upload.lets_others_first()),
                    (!upload.sent(), !upload.sent())
                );
                polled
            })
            .await
            .unwrap();
            assert_eq!(polls, if gathers { 2 } else { 1 });
            let mut head = [0; 64];
            let read = far.read(&mut head).await.unwrap();
            assert!(head.get(..read).unwrap().starts_with(b"GET / HTTP/1.1\r\n"));
        }
    });
}
