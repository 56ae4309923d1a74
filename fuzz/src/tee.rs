//! The laws of the tee: the primary sees its body as if there were no copies; a copy is the whole, or a
//! beginning that ends in an error; nothing stays booked.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::stream::iter;
use http_body::{Body, Frame, SizeHint};
use http_body_util::StreamBody;
use mirrorgate::memory::Account;
use mirrorgate::mirror::tee::{End, Reader, Tee};
use mirrorgate::upstream::body::{BodyError, Chunk};

use super::choices::Choices;

/// What somebody read of a body.
#[derive(Debug, Default)]
struct Seen {
    bytes: Vec<u8>,
    end: Option<Result<(), BodyError>>,
}

impl Seen {
    /// Takes one frame; false when there is none now, or ever.
    fn poll(&mut self, body: &mut (impl Body<Data = Chunk, Error = BodyError> + Unpin)) -> bool {
        if self.end.is_some() {
            return false;
        }
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => return false,
            Poll::Ready(frame) => self.see(frame),
        }
        true
    }

    /// Takes the next frame of a body whose source always has one; false at the end. It may be held back
    /// for a moment.
    async fn pull(&mut self, body: &mut (impl Body<Data = Chunk, Error = BodyError> + Unpin)) -> bool {
        if self.end.is_some() {
            return false;
        }
        self.see(poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await);
        true
    }

    fn see(&mut self, frame: Option<Result<Frame<Chunk>, BodyError>>) {
        match frame {
            None => self.end = Some(Ok(())),
            Some(Err(error)) => self.end = Some(Err(error)),
            Some(Ok(frame)) => {
                if let Ok(chunk) = frame.into_data() {
                    self.bytes.extend_from_slice(chunk.bytes());
                }
            }
        }
    }
}

/// Makes a body, copies and their readers' turns out of `bytes`.
pub fn run(bytes: &[u8]) {
    // A clock that runs when nobody does anything.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without IO");
    let mut choices = Choices(bytes);
    let sizes = choices.some(24, |choices| match choices.below(3) {
        0 => choices.below(4),
        1 => choices.below(3000),
        _ => choices.below(20_000),
    });
    let whole: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|at| ((at * 31) >> 3) as u8).collect();
    let broken = choices.below(3) == 0;
    let mut rest = Bytes::from(whole.clone());
    let mut frames: VecDeque<_> =
        sizes.iter().map(|size| Ok(Frame::data(Chunk::free(rest.split_to(*size))))).collect();
    if broken {
        frames.push_back(Err(BodyError::ClientGone));
    }
    let around = choices.below(65_536) * 2 + 1;
    let worker = Account::new(around);
    let lags: Vec<_> = (0..=choices.below(3)).map(|_| choices.below(60_000) + 1).collect();
    let readers: Vec<_> =
        lags.iter().map(|lag| Reader::new(Account::within(&worker, *lag), SizeHint::default())).collect();
    let mut copies: Vec<_> = readers.iter().map(|reader| (Some(reader.body()), Seen::default())).collect();
    let mut tee = Tee::new(StreamBody::new(iter(frames)), readers.clone());
    let mut primary = Seen::default();
    while runtime.block_on(primary.pull(&mut tee)) {
        for (body, seen) in &mut copies {
            for _ in 0..choices.below(5) {
                if let Some(body) = body {
                    seen.poll(body);
                }
            }
        }
        if choices.byte() == 255 {
            copies[0].0 = None;
        }
        assert!(worker.used() <= around);
    }
    assert!(primary.bytes == whole, "the primary's body differs");
    assert_eq!(primary.end, Some(if broken { Err(BodyError::ClientGone) } else { Ok(()) }));
    drop(tee);

    for ((body, seen), reader) in copies.iter_mut().zip(&readers) {
        let Some(body) = body else { continue };
        while seen.poll(body) {}
        match (seen.end, reader.ended()) {
            (Some(Ok(())), Some(End::Complete)) => assert!(!broken && seen.bytes == whole),
            (Some(Err(BodyError::Cut)), Some(End::Cut(_))) => assert!(whole.starts_with(&seen.bytes)),
            other => panic!("a copy ended as {other:?}"),
        }
    }
    drop(copies);
    drop(readers);
    assert_eq!(worker.used(), 0);
}
