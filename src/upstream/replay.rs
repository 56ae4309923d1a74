//! A request's body that can be sent again: what went out is kept up to a stated size, copied, so
//! that it pins no read buffer. The source is read once, whoever sends it: copies of the request see
//! nothing of it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::body::{BodyError, Chunk};

type Source = Pin<Box<dyn Body<Data = Chunk, Error = BodyError> + Send>>;

/// A body that can be sent again.
pub(super) struct Replay(Arc<Mutex<Shared>>);

struct Shared {
    source: Source,
    kept: Vec<u8>,
    trailers: Option<HeaderMap>,
    ended: bool,
    most: usize,
    /// Whether all that came is in `kept`.
    whole: bool,
    /// Number of the attempt that has the body.
    attempt: u64,
}

/// The body as one attempt sends it.
struct Attempt {
    shared: Arc<Mutex<Shared>>,
    number: u64,
    /// Bytes of `kept` that it has sent.
    sent: usize,
    trailers_sent: bool,
}

impl Replay {
    /// Keeps up to `most` bytes of `source`.
    pub(super) fn new(source: Source, most: usize) -> Self {
        let shared =
            Shared { source, kept: Vec::new(), trailers: None, ended: false, most, whole: true, attempt: 0 };
        Self(Arc::new(Mutex::new(shared)))
    }

    /// Whether all that was sent can be sent again.
    pub(super) fn is_whole(&self) -> bool {
        lock(&self.0).whole
    }

    /// The body from its beginning. Whoever had it before finds it broken off: an upload that
    /// outlives its attempt must not take what belongs to the next.
    pub(super) fn body(&self) -> Source {
        let mut shared = lock(&self.0);
        shared.attempt += 1;
        let number = shared.attempt;
        Box::pin(Attempt { shared: self.0.clone(), number, sent: 0, trailers_sent: false })
    }
}

impl Shared {
    fn keep(&mut self, bytes: &[u8]) {
        if self.whole && self.kept.len() + bytes.len() <= self.most {
            self.kept.extend_from_slice(bytes);
        } else {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.whole = false;
        self.kept = Vec::new();
    }
}

impl Body for Attempt {
    type Data = Chunk;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        let this = self.get_mut();
        let mut shared = lock(&this.shared);
        if shared.attempt != this.number {
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        if let Some(rest) = shared.kept.get(this.sent..).filter(|rest| !rest.is_empty()) {
            this.sent += rest.len();
            return Poll::Ready(Some(Ok(Frame::data(Chunk::free(Bytes::copy_from_slice(rest))))));
        }
        if shared.ended {
            let trailers = shared.trailers.clone().filter(|_| !this.trailers_sent);
            this.trailers_sent = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        if Arc::strong_count(&this.shared) == 1 {
            // It was answered, and nobody is left who could send it again: an upload may last for hours.
            shared.forget();
            this.sent = 0;
        }
        let Some(frame) = ready!(shared.source.as_mut().poll_frame(context)) else {
            shared.ended = true;
            return Poll::Ready(None);
        };
        let frame = frame?;
        if let Some(chunk) = frame.data_ref() {
            shared.keep(chunk.chunk());
            this.sent = shared.kept.len();
        } else if let Some(trailers) = frame.trailers_ref() {
            shared.trailers = Some(trailers.clone());
            shared.ended = true;
            this.trailers_sent = true;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let shared = lock(&self.shared);
        let all_sent = self.sent == shared.kept.len() && (self.trailers_sent || shared.trailers.is_none());
        all_sent && (shared.ended || shared.source.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let shared = lock(&self.shared);
        let kept = (shared.kept.len() - self.sent.min(shared.kept.len())) as u64;
        let rest = if shared.ended { SizeHint::with_exact(0) } else { shared.source.size_hint() };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(kept));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(kept));
        }
        hint
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// Frames that come one at a time; `None` is a pause.
    struct Scripted(VecDeque<Option<Result<Frame<Chunk>, BodyError>>>);

    impl Body for Scripted {
        type Data = Chunk;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
            match self.0.pop_front() {
                Some(Some(frame)) => Poll::Ready(Some(frame)),
                Some(None) => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    fn data(bytes: &'static str) -> Option<Result<Frame<Chunk>, BodyError>> {
        Some(Ok(Frame::data(Chunk::free(Bytes::from_static(bytes.as_bytes())))))
    }

    fn replay(
        frames: impl IntoIterator<Item = Option<Result<Frame<Chunk>, BodyError>>>,
        most: usize,
    ) -> Replay {
        Replay::new(Box::pin(Scripted(frames.into_iter().collect())), most)
    }

    /// What there is now: the text so far, and how it goes on.
    fn read(body: &mut Source) -> (String, &'static str) {
        let mut text = String::new();
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match body.as_mut().poll_frame(&mut context) {
                Poll::Pending => return (text, "pending"),
                Poll::Ready(None) => return (text, "end"),
                Poll::Ready(Some(Err(_))) => return (text, "error"),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(chunk) => text.push_str(std::str::from_utf8(chunk.bytes()).unwrap()),
                    Err(frame) => text.push_str(&format!("{:?}", frame.into_trailers().unwrap().len())),
                },
            }
        }
    }

    #[test]
    fn what_was_sent_is_sent_again_and_then_the_rest() {
        let mut trailers = HeaderMap::new();
        trailers.insert("a", http::HeaderValue::from_static("b"));
        let frames = [data("one "), data("two "), None, data("three "), Some(Ok(Frame::trailers(trailers)))];
        let replay = replay(frames, 100);
        let mut first = replay.body();
        assert_eq!(read(&mut first), ("one two ".into(), "pending"));
        let mut second = replay.body();
        assert_eq!(read(&mut first), (String::new(), "error"), "the first has nothing more to send");
        assert_eq!(read(&mut second), ("one two three 1".into(), "end"));
        assert_eq!(read(&mut replay.body()), ("one two three 1".into(), "end"));
        assert!(replay.is_whole());
    }

    #[test]
    fn what_is_longer_than_may_be_kept_is_sent_once() {
        let replay = replay([data("123"), data("4"), data("5")], 4);
        let mut body = replay.body();
        assert_eq!(read(&mut body), ("12345".into(), "end"));
        assert!(!replay.is_whole());
    }

    #[test]
    fn nothing_is_kept_once_nobody_can_send_it_again() {
        let replay = replay([data("1"), None, data("2"), None, data("3")], 4);
        let shared = Arc::downgrade(&replay.0);
        let kept = || shared.upgrade().map(|shared| lock(&shared).kept.len());
        let mut body = replay.body();
        assert_eq!((read(&mut body), kept()), (("1".into(), "pending"), Some(1)));
        drop(replay);
        assert_eq!((read(&mut body), kept()), (("2".into(), "pending"), Some(0)));
        assert_eq!(read(&mut body), ("3".into(), "end"));
    }

    #[test]
    fn an_error_of_the_source_is_not_hidden() {
        let mut body = replay([data("1"), Some(Err(BodyError::ClientGone))], 4).body();
        assert_eq!(read(&mut body), ("1".into(), "error"));
    }
}
