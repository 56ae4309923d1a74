//! One body, several readers: the primary pulls, and what it pulled is offered to the copies.
//!
//! The primary never buffers for a reader, and a reader that falls behind its bound is cut: its queue
//! goes, and its connection is visibly broken off. Before that, one that does take what it is offered
//! is given a moment, bounded for the whole request (see `Patience`): two mirrors as fast as the
//! primary differ by more than a millisecond now and then, and at hundreds of megabytes a second that
//! is more than the bound.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::outcome::Outcome;
use crate::limits;
use crate::memory::{Account, Charge, Exceeded};
use crate::upstream::body::{BodyError, Chunk};

/// A body on its way to the primary that copies are made of.
pub struct Tee<B> {
    source: B,
    readers: Vec<Arc<Reader>>,
    ended: bool,
    /// Bytes pulled since the copies had a turn.
    burst: usize,
    /// Bytes pulled in all, and the largest piece among them.
    pulled: u64,
    largest: usize,
    patience: Patience,
}

/// What the primary may still be held back, in all, for the copies of one request.
///
/// It grows with the bytes that the slowest copy took, so a mirror that takes none costs the first
/// moment at most, and a steady upload is slowed by a fixed share of its own pace at the worst.
#[derive(Default)]
struct Patience {
    used: Duration,
    /// Since when the primary is held back, and until when it may be.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// One copy's view of a body: what was offered and not yet taken.
pub struct Reader {
    queue: Mutex<Queue>,
    account: Arc<Account>,
    size: SizeHint,
}

/// The body of a copy's request.
pub struct CopyBody(Arc<Reader>);

#[derive(Default)]
struct Queue {
    frames: VecDeque<Frame<Chunk>>,
    /// Small chunks, gathered in memory of our own.
    small: BytesMut,
    small_charge: Option<Charge>,
    /// Bytes that were taken.
    taken: u64,
    end: Option<End>,
    taker: Option<Waker>,
    watcher: Option<Waker>,
    /// Whoever waits for room.
    giver: Option<Waker>,
}

/// How a body ended for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last byte.
    Complete,
    /// Broken off.
    Cut(Outcome),
    /// Its taker went away: nothing more is kept.
    Unread,
}

impl<B> Tee<B>
where
    B: Body<Data = Chunk, Error = BodyError> + Unpin,
{
    /// Offers what is pulled from `source` to `readers`.
    pub fn new(source: B, readers: Vec<Arc<Reader>>) -> Self {
        Self { source, readers, ended: false, burst: 0, pulled: 0, largest: 0, patience: Patience::default() }
    }

    /// Pending while a reader that would be cut by the next piece may still be waited for.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Self { readers, largest, pulled, patience, .. } = self;
        for reader in readers.iter() {
            if reader.poll_room(*largest, context).is_pending() {
                let taken = pulled.saturating_sub(reader.account.used() as u64);
                ready!(patience.poll_spent(taken, context));
            }
        }
        patience.rest();
        Poll::Ready(())
    }

    fn end(&mut self, end: End) {
        if !std::mem::replace(&mut self.ended, true) {
            self.readers.iter().for_each(|reader| reader.end(end));
        }
    }
}

impl<B> Body for Tee<B>
where
    B: Body<Data = Chunk, Error = BodyError> + Unpin,
{
    type Data = Chunk;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        let tee = self.get_mut();
        if tee.burst >= limits::MIRROR_BURST {
            tee.burst = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(tee.poll_room(context));
        let frame = ready!(Pin::new(&mut tee.source).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                let size = frame.data_ref().map_or(0, |chunk| chunk.bytes().len());
                tee.burst += size;
                tee.pulled += size as u64;
                tee.largest = tee.largest.max(size);
                tee.readers.iter().for_each(|reader| reader.offer(frame));
            }
            Some(Err(_)) => tee.end(End::Cut(Outcome::CutClientGone)),
            None => {}
        }
        if frame.is_none() || tee.source.is_end_stream() {
            tee.end(End::Complete);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl<B> Drop for Tee<B> {
    /// Nobody will pull the rest: what the copies have is not the whole.
    fn drop(&mut self) {
        if !self.ended {
            self.readers.iter().for_each(|reader| reader.end(End::Cut(Outcome::CutClientGone)));
        }
    }
}

impl Patience {
    /// Ready when none is left for copies of which the slowest took `taken` bytes.
    fn poll_spent(&mut self, taken: u64, context: &mut Context<'_>) -> Poll<()> {
        let (first, for_each_mib) = limits::MIRROR_PATIENCE;
        let whole = first + for_each_mib * u32::try_from(taken >> 20).unwrap_or(u32::MAX);
        let left = whole.saturating_sub(self.used);
        if self.waiting.is_none() && left.is_zero() {
            return Poll::Ready(());
        }
        let (_, alarm) = self.waiting.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(tokio::time::sleep_until(now + left)))
        });
        alarm.as_mut().poll(context)
    }

    /// Nobody is waited for any more.
    fn rest(&mut self) {
        if let Some((since, _)) = self.waiting.take() {
            self.used += since.elapsed();
        }
    }
}

impl Reader {
    /// A reader of a body of `size`, which may have `account`'s limit offered and not yet written.
    pub fn new(account: Arc<Account>, size: SizeHint) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), account, size })
    }

    /// The body of the copy's request. There is one taker.
    pub fn body(self: &Arc<Self>) -> CopyBody {
        CopyBody(self.clone())
    }

    /// How the body ended, if it did.
    pub fn ended(&self) -> Option<End> {
        self.queue().end
    }

    /// Bytes of the body that its taker took.
    pub fn taken(&self) -> u64 {
        self.queue().taken
    }

    /// Whether nothing of it is held any more, neither here nor by whoever takes it.
    pub fn is_written(&self) -> bool {
        self.account.used() == 0
    }

    /// Ready when the request is complete or broken off.
    pub fn poll_ended(&self, context: &mut Context<'_>) -> Poll<End> {
        let mut queue = self.queue();
        match queue.end {
            Some(end) => Poll::Ready(end),
            None => {
                queue.watcher = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Pending while it holds so much that a piece of `bytes` would cut it.
    fn poll_room(&self, bytes: usize, context: &mut Context<'_>) -> Poll<()> {
        // Of what it does not hold nothing can be taken to make room.
        let has_room = || self.account.used() == 0 || self.account.fits(bytes);
        if has_room() {
            return Poll::Ready(());
        }
        let mut queue = self.queue();
        // Looked at again under the lock that whoever takes needs too: no taking goes unnoticed.
        if queue.end.is_some() || has_room() {
            return Poll::Ready(());
        }
        queue.giver = Some(context.waker().clone());
        Poll::Pending
    }

    fn offer(&self, frame: &Frame<Chunk>) {
        let mut queue = self.queue();
        if queue.end.is_some() {
            return;
        }
        let offered = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(chunk), _) => queue.push(&self.account, chunk.bytes()),
            (_, Some(trailers)) => queue.push_trailers(&self.account, trailers),
            _ => Ok(()),
        };
        match offered {
            Ok(()) => queue.taker.take().into_iter().for_each(Waker::wake),
            Err(Exceeded::Own) => queue.end(End::Cut(Outcome::CutLag)),
            Err(Exceeded::Around) => queue.end(End::Cut(Outcome::CutBytes)),
        }
    }

    fn end(&self, end: End) {
        self.queue().end(end);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, account: &Arc<Account>, bytes: &Bytes) -> Result<(), Exceeded> {
        if bytes.len() >= limits::MIRROR_COPY_BELOW {
            self.seal();
            let charge = account.charge(bytes.len())?;
            self.frames.push_back(Frame::data(Chunk::charged(bytes.clone(), charge)));
            return Ok(());
        }
        if self.small.capacity() - self.small.len() < bytes.len() {
            // The first small chunk is most often the whole body; what follows comes in a stream.
            let room = if self.small.capacity() == 0 { 256 } else { 2 * limits::MIRROR_COPY_BELOW };
            let room = room.max(bytes.len());
            self.seal();
            self.small_charge = Some(account.charge(room)?);
            self.small = BytesMut::with_capacity(room);
        }
        self.small.extend_from_slice(bytes);
        Ok(())
    }

    fn push_trailers(&mut self, account: &Arc<Account>, trailers: &HeaderMap) -> Result<(), Exceeded> {
        self.seal();
        // Trailers end a body: they are held for as long as the queue and need no charge of their
        // own, only a check that they fit.
        let size = trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        drop(account.charge(size)?);
        self.frames.push_back(Frame::trailers(trailers.clone()));
        Ok(())
    }

    fn seal(&mut self) {
        if let Some(frame) = self.take_small() {
            self.frames.push_back(frame);
        }
    }

    fn take_small(&mut self) -> Option<Frame<Chunk>> {
        let charge = self.small_charge.take()?;
        Some(Frame::data(Chunk::charged(std::mem::take(&mut self.small).freeze(), charge)))
    }

    fn take(&mut self) -> Option<Frame<Chunk>> {
        let frame = self.frames.pop_front().or_else(|| self.take_small())?;
        self.taken += frame.data_ref().map_or(0, |chunk| chunk.bytes().len() as u64);
        Some(frame)
    }

    fn end(&mut self, end: End) {
        if self.end.is_none() {
            self.end = Some(end);
        }
        if end != End::Complete {
            self.frames = VecDeque::new();
            self.small = BytesMut::new();
            self.small_charge = None;
        }
        self.taker.take().into_iter().for_each(Waker::wake);
        self.watcher.take().into_iter().for_each(Waker::wake);
        self.giver.take().into_iter().for_each(Waker::wake);
    }
}

impl Body for CopyBody {
    type Data = Chunk;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        let mut queue = self.0.queue();
        // Whoever asks for more has written what it took before.
        queue.giver.take().into_iter().for_each(Waker::wake);
        if matches!(queue.end, Some(End::Cut(_))) {
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        if let Some(frame) = queue.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if queue.end.is_some() {
            return Poll::Ready(None);
        }
        queue.taker = Some(context.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let queue = self.0.queue();
        queue.end == Some(End::Complete) && queue.frames.is_empty() && queue.small_charge.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size
    }
}

impl Drop for CopyBody {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        // After a complete body the end stays what it is; the queue is empty or not wanted.
        let end = if queue.end == Some(End::Complete) { End::Complete } else { End::Unread };
        queue.end(end);
        queue.frames = VecDeque::new();
        queue.small_charge = None;
    }
}

#[cfg(test)]
pub(super) mod tests;
