#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::vec_deque;
use std::future::poll_fn;

use futures_util::stream::{Iter, iter};
use http_body_util::StreamBody;
use proptest::prelude::*;

use super::*;

/// A body of given frames that is never kept waiting.
pub(in crate::mirror) type Source = StreamBody<Iter<vec_deque::IntoIter<Result<Frame<Chunk>, BodyError>>>>;

pub(in crate::mirror) fn source(frames: VecDeque<Result<Frame<Chunk>, BodyError>>) -> Source {
    StreamBody::new(iter(frames))
}

fn frames(sizes: &[usize], end: Ending) -> Source {
    let mut next = 0_u32;
    let mut frame = |size: &usize| {
        let bytes: Vec<u8> = (0..*size)
            .map(|_| {
                next = next.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                (next >> 16) as u8
            })
            .collect();
        Ok(Frame::data(Chunk::free(bytes.into())))
    };
    let mut frames: VecDeque<_> = sizes.iter().map(&mut frame).collect();
    match end {
        Ending::Plain => {}
        Ending::Trailers => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", http::HeaderValue::from_static("7"));
            frames.push_back(Ok(Frame::trailers(trailers)));
        }
        Ending::Broken => frames.push_back(Err(BodyError::ClientGone)),
    }
    source(frames)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Plain,
    Trailers,
    Broken,
}

/// What somebody read of a body.
#[derive(Debug, Default, PartialEq, Clone)]
struct Seen {
    bytes: Vec<u8>,
    trailers: Option<HeaderMap>,
    end: Option<Result<(), BodyError>>,
}

impl Seen {
    /// Takes the next frame of a body whose source always has one; false at the end. It may be held
    /// back for a moment, but not for ever.
    async fn pull(&mut self, body: &mut (impl Body<Data = Chunk, Error = BodyError> + Unpin)) -> bool {
        if self.end.is_some() {
            return false;
        }
        let pulling = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        let frame = tokio::time::timeout(Duration::from_secs(1), pulling).await;
        self.see(frame.expect("the primary would wait for ever"));
        true
    }

    /// Takes one frame; false when there is none to take now, or ever.
    fn poll(&mut self, body: &mut (impl Body<Data = Chunk, Error = BodyError> + Unpin)) -> bool {
        if self.end.is_some() {
            return false;
        }
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => false,
            Poll::Ready(frame) => {
                self.see(frame);
                true
            }
        }
    }

    fn see(&mut self, frame: Option<Result<Frame<Chunk>, BodyError>>) {
        match frame {
            None => self.end = Some(Ok(())),
            Some(Err(error)) => self.end = Some(Err(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(chunk) => self.bytes.extend_from_slice(chunk.bytes()),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            },
        }
    }
}

/// A clock that runs when nobody does anything.
fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

proptest! {
    /// The laws: the primary sees its body as if there were no copies; a copy is the whole, or a
    /// beginning that ends in an error; nothing stays booked.
    #[test]
    fn a_copy_is_the_whole_or_visibly_cut_and_the_primary_never_differs(
        sizes in proptest::collection::vec(prop_oneof![0_usize..4, 0_usize..3000, 2000_usize..20_000], 0..30),
        end in prop_oneof![Just(Ending::Plain), Just(Ending::Trailers), Just(Ending::Broken)],
        lags in proptest::collection::vec(1_usize..60_000, 1..4),
        around in 1_usize..120_000,
        turns in proptest::collection::vec(0_usize..6, 1..40),
        gives_up_after in proptest::option::of(0_usize..20),
    ) {
        let runtime = paused();
        let mut alone = Seen::default();
        let mut plain = frames(&sizes, end);
        while runtime.block_on(alone.pull(&mut plain)) {}

        let worker = Account::new(around);
        let readers: Vec<_> = lags
            .iter()
            .map(|lag| Reader::new(Account::within(&worker, *lag), SizeHint::default()))
            .collect();
        let mut copies: Vec<_> =
            readers.iter().map(|reader| (Some(reader.body()), Seen::default())).collect();
        let mut tee = Tee::new(frames(&sizes, end), readers.clone());
        let (mut primary, mut turn, mut pulled) = (Seen::default(), turns.iter().cycle(), 0);
        // The primary pulls without regard to the copies, which read as they like.
        while runtime.block_on(primary.pull(&mut tee)) {
            pulled += 1;
            for (body, seen) in &mut copies {
                for _ in 0..*turn.next().unwrap() {
                    if let Some(body) = body {
                        seen.poll(body);
                    }
                }
            }
            prop_assert!(worker.used() <= around);
            for (reader, lag) in readers.iter().zip(&lags) {
                prop_assert!(reader.account.used() <= *lag);
            }
            if gives_up_after == Some(pulled) && let Some((body, _)) = copies.first_mut() {
                *body = None;
            }
        }
        prop_assert_eq!(&primary, &alone);
        drop(tee);

        for ((body, seen), reader) in copies.iter_mut().zip(&readers) {
            let Some(body) = body else {
                prop_assert!(matches!(reader.ended(), Some(End::Unread | End::Complete | End::Cut(_))));
                continue;
            };
            while seen.poll(body) {}
            match (seen.end, reader.ended()) {
                (Some(Ok(())), Some(End::Complete)) => prop_assert_eq!(&*seen, &alone),
                (Some(Err(BodyError::Cut)), Some(End::Cut(outcome))) => {
                    prop_assert!(alone.bytes.starts_with(&seen.bytes));
                    let by_lag = matches!(outcome, Outcome::CutLag | Outcome::CutBytes);
                    prop_assert!(by_lag || end == Ending::Broken);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        drop(copies);
        prop_assert_eq!(worker.used(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_within_its_lag_is_never_cut() {
    let worker = Account::new(limits::MIRROR_BYTES_PER_WORKER);
    let reader = Reader::new(Account::within(&worker, limits::MIRROR_LAG), SizeHint::default());
    let mut copy = reader.body();
    let sizes = vec![64 * 1024; 1024];
    let mut tee = Tee::new(frames(&sizes, Ending::Plain), vec![reader.clone()]);
    let (mut primary, mut seen) = (Seen::default(), Seen::default());
    while primary.pull(&mut tee).await {
        // It stays fifteen pieces behind.
        if primary.bytes.len() - seen.bytes.len() > 15 * 64 * 1024 {
            seen.poll(&mut copy);
        }
    }
    while seen.poll(&mut copy) {}
    assert!(seen.bytes == primary.bytes && seen.end == Some(Ok(())));
}

/// Pieces for a copy that takes one each `pace`, as often as the primary is held back: how far it
/// came, and how long the primary was held back.
async fn held_back(pieces: usize, pace: Option<Duration>) -> (Option<End>, Duration) {
    const PIECE: usize = 64 * 1024;
    let worker = Account::new(limits::MIRROR_BYTES_PER_WORKER);
    let reader = Reader::new(Account::within(&worker, limits::MIRROR_LAG), SizeHint::default());
    let mut copy = reader.body();
    let taker = tokio::spawn(async move {
        while let Some(pace) = pace {
            tokio::time::sleep(pace).await;
            match poll_fn(|context| Pin::new(&mut copy).poll_frame(context)).await {
                Some(Ok(_)) => {}
                _ => break,
            }
        }
        std::future::pending::<()>().await;
    });
    let mut tee = Tee::new(frames(&vec![PIECE; pieces], Ending::Plain), vec![reader.clone()]);
    let begun = Instant::now();
    while poll_fn(|context| Pin::new(&mut tee).poll_frame(context)).await.is_some() {}
    taker.abort();
    (reader.ended(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_takes_its_bytes_is_given_a_moment() {
    // Sixteen pieces fit; room for another one is made within the first moment.
    let (ended, held) = held_back(17, Some(Duration::from_millis(1))).await;
    assert_eq!(ended, Some(End::Complete));
    assert!(held > Duration::ZERO && held <= limits::MIRROR_PATIENCE.0);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_takes_nothing_costs_the_first_moment_and_is_cut() {
    let (ended, held) = held_back(1024, None).await;
    assert_eq!(ended, Some(End::Cut(Outcome::CutLag)));
    let millisecond = Duration::from_millis(1);
    assert!(held >= limits::MIRROR_PATIENCE.0 && held <= limits::MIRROR_PATIENCE.0 + millisecond, "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_slow_copy_costs_is_bounded_by_what_it_took() {
    // One piece in a second is hopeless, and known to be after what is allowed for the little it took.
    let (ended, held) = held_back(1024, Some(Duration::from_secs(1))).await;
    assert_eq!(ended, Some(End::Cut(Outcome::CutLag)));
    assert!(held <= limits::MIRROR_PATIENCE.0 + Duration::from_millis(1), "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn small_pieces_pin_no_read_buffer() {
    let worker = Account::new(1 << 20);
    let reader = Reader::new(Account::within(&worker, 1 << 20), SizeHint::default());
    let whole = Bytes::from(vec![b'x'; 64 * 1024]);
    let small: VecDeque<_> =
        (0..1000).map(|at| Ok(Frame::data(Chunk::free(whole.slice(at..at + 1))))).collect();
    let mut tee = Tee::new(source(small), vec![reader.clone()]);
    let mut primary = Seen::default();
    while primary.pull(&mut tee).await {}
    // Copied together: what is booked is what is held, and not a buffer for each byte.
    assert!((1000..10_000).contains(&worker.used()), "{}", worker.used());
    drop(tee);
    assert!(whole.is_unique(), "a piece of the read buffer is still held");
}

#[tokio::test]
async fn a_taker_and_a_watcher_are_woken() {
    let worker = Account::new(1 << 20);
    let reader = Reader::new(Account::within(&worker, 1 << 20), SizeHint::default());
    let mut copy = reader.body();
    let watched = reader.clone();
    let taking = tokio::spawn(async move {
        let mut bytes = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut copy).poll_frame(context)).await {
            bytes.extend_from_slice(frame.unwrap().data_ref().unwrap().bytes());
        }
        bytes
    });
    let watching = tokio::spawn(async move { poll_fn(|context| watched.poll_ended(context)).await });
    tokio::task::yield_now().await;
    let mut tee = Tee::new(frames(&[3000, 10], Ending::Plain), vec![reader]);
    let mut primary = Seen::default();
    while primary.pull(&mut tee).await {
        tokio::task::yield_now().await;
    }
    assert_eq!(taking.await.unwrap(), primary.bytes);
    assert_eq!(watching.await.unwrap(), End::Complete);
}

#[tokio::test(start_paused = true)]
async fn a_tee_that_is_dropped_midway_cuts_its_copies() {
    let worker = Account::new(1 << 20);
    let reader = Reader::new(Account::within(&worker, 1 << 20), SizeHint::default());
    let mut copy = reader.body();
    let mut tee = Tee::new(frames(&[3000, 3000], Ending::Plain), vec![reader.clone()]);
    Seen::default().pull(&mut tee).await;
    drop(tee);
    let mut seen = Seen::default();
    while seen.poll(&mut copy) {}
    assert_eq!(seen.end, Some(Err(BodyError::Cut)));
    assert_eq!(reader.ended(), Some(End::Cut(Outcome::CutClientGone)));
    assert_eq!(worker.used(), 0);
}
