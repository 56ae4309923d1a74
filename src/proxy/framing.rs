//! The wrapper around a client's stream: what hyper would hide is checked here, on the raw bytes,
//! before hyper sees them, and what the connection waits for is told to its deadlines.
//!
//! hyper's HTTP/1 server drops a Content-Length beside Transfer-Encoding, merges equal lengths, and
//! takes lines that end with LF alone; none of it is visible to a service. So a request that breaks a
//! rule is cut out of the stream: in a head, a poison takes its place, which makes hyper answer 400
//! (after the responses to all good requests before it) and close; in a body, reading fails. Of HTTP/2
//! there is less to see, in `http2`.
//!
//! Built by the connection task, driven by hyper. It never parses a head for anyone and never writes,
//! but for a 408 to a client that does not complete a head.

pub mod checker;
mod control;
mod flatten;
mod http2;
mod lexis;
mod linger;
mod opening;
pub mod refusal;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::checker::{Checker, Position, Violation};
use self::flatten::poll_write_flattened;
use self::http2::{Frames, Seen};
pub use self::opening::Protocol;
use self::refusal::{Refusal, RefusalCounts};
use crate::proxy::deadlines::{ConnectionState, Expiry, Registration};
use crate::worker::yielding::Yield;

/// A client's stream under check.
#[derive(Debug)]
pub struct Framed<S> {
    inner: S,
    registration: Registration,
    refusals: Arc<RefusalCounts>,
    mode: Mode,
    checker: Checker,
    /// Of HTTP/2, whose heads nobody else looks at.
    frames: Option<Box<Frames>>,
    strict: bool,
    /// Where the checker stood when the deadlines were last told, and after how many heads.
    told: (Position, u32),
    /// Read already, not yet delivered.
    kept: Vec<u8>,
    delivered: usize,
    /// Whom the deadlines wake, as last told.
    parked: Option<Waker>,
    pending: Option<Pending>,
    /// Of what is written for what was read last.
    yields: Yield,
    ended: bool,
    lingered: Option<usize>,
}

/// What the client is being waited for with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pending {
    Write,
    Flush,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// HTTP/1 heads are checked.
    Checked,
    /// Bytes pass as they are, before and after the first of them.
    Unchecked { begun: bool },
    /// A request was refused, at this place; nothing more is read.
    Refused(Refusal, Position),
}

/// What stands in for a head that was refused, wherever hyper is in it. No parser takes a NUL, and the
/// empty line makes hyper look: it parses a head that came in parts only once it seems complete.
const POISON: &[u8] = b"\0\r\n\r\n";

const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

impl<S: AsyncRead + AsyncWrite + Unpin> Framed<S> {
    /// Checks HTTP/1 heads when `strict`; else bytes pass as they are, and of the deadlines of reading
    /// only first byte and idle are known.
    pub fn new(inner: S, registration: Registration, refusals: Arc<RefusalCounts>, strict: bool) -> Self {
        Self {
            inner,
            registration,
            refusals,
            mode: if strict { Mode::Checked } else { Mode::Unchecked { begun: false } },
            checker: Checker::new(),
            frames: None,
            strict,
            told: (Position::Between, 0),
            kept: Vec::new(),
            delivered: 0,
            parked: None,
            pending: None,
            yields: Yield::default(),
            ended: false,
            lingered: None,
        }
    }

    /// Heads may have so many bytes and fields instead of [`HEAD_BYTES`](crate::limits::HEAD_BYTES) and
    /// [`HEAD_FIELDS`](crate::limits::HEAD_FIELDS). To be called before the first byte.
    pub fn heads_within(&mut self, bytes: usize, fields: usize) {
        self.checker = Checker::within(bytes, fields);
    }

    /// The part that requests and upgrades are told to.
    pub fn state(&self) -> &Arc<ConnectionState> {
        self.registration.state()
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// From ALPN, say: the client speaks HTTP/2, which has its own framing.
    pub fn http2(&mut self) {
        self.mode = Mode::Unchecked { begun: false };
        self.frames = self.strict.then(|| Box::new(Frames::new()));
    }

    fn poll_inner(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.state().expired().is_some() {
            return Poll::Ready(Err(self.timed_out(context)));
        }
        let poll = Pin::new(&mut self.inner).poll_read(context, buffer);
        if poll.is_pending() {
            self.registration.state().park(&mut self.parked, context);
        }
        poll
    }

    /// The end of a connection whose deadline has passed.
    fn timed_out(&mut self, context: &mut Context<'_>) -> io::Error {
        let state = self.registration.state();
        // Nothing is in flight when a head expires, unless a response is stuck on its way: then the
        // client could not tell the 408 from its rest.
        let may_answer = state.expired() == Some(Expiry::Head)
            && self.mode == Mode::Checked
            && self.checker.position() == Position::Head
            && self.pending.is_none();
        if may_answer && !std::mem::replace(&mut self.ended, true) {
            // As much as goes in one piece; a client that takes none of it gets none.
            let _ = Pin::new(&mut self.inner).poll_write(context, REQUEST_TIMEOUT);
        }
        io::ErrorKind::TimedOut.into()
    }

    /// Looks at what `buffer` got beyond its first `start` bytes, and takes back what must not go on.
    fn inspect(&mut self, buffer: &mut ReadBuf<'_>, start: usize) {
        let fresh = buffer.filled().get(start..).unwrap_or_default();
        if fresh.is_empty() {
            self.ended = true;
            return;
        }
        if self.frames.is_some() {
            self.follow(buffer, start);
        }
        let fresh = buffer.filled().get(start..).unwrap_or_default();
        let state = self.registration.state();
        match &mut self.mode {
            Mode::Checked if !state.is_pass_through() => {}
            Mode::Unchecked { begun } => {
                let within = self.frames.as_ref().is_some_and(|frames| frames.is_within_head());
                let now = if within { Position::Head } else { Position::Between };
                if !std::mem::replace(begun, true) || now != self.told.0 {
                    self.told.0 = now;
                    state.waits_for(if within { Expiry::Head } else { Expiry::Idle });
                }
                return;
            }
            _ => return,
        }
        match self.checker.advance(fresh) {
            Ok(()) => {
                self.yields.due();
                self.tell_position();
            }
            Err(violation) => self.refuse(violation, buffer, start),
        }
    }

    /// Lets h2 see what it would hide, or fails where it is too late for that.
    fn follow(&mut self, buffer: &mut ReadBuf<'_>, start: usize) {
        let fresh = buffer.filled_mut().get_mut(start..).unwrap_or_default();
        let seen = self.frames.as_mut().map_or(Seen::Nothing, |frames| frames.advance(fresh));
        let refusal = match seen {
            Seen::Nothing => return,
            Seen::Marked | Seen::Late => Refusal::PseudoTrailer,
            Seen::Flood => Refusal::ControlFrames,
        };
        self.refusals.record(refusal);
        if seen != Seen::Marked {
            self.mode = Mode::Refused(refusal, Position::Body);
            buffer.set_filled(start);
        }
    }

    fn tell_position(&mut self) {
        let now = (self.checker.position(), self.checker.heads());
        if now != self.told {
            self.told = now;
            let expiry = if now.0 == Position::Head { Expiry::Head } else { Expiry::Idle };
            self.registration.state().between(now.0 == Position::Between);
            self.registration.state().waits_for(expiry);
        }
    }

    fn refuse(&mut self, violation: Violation, buffer: &mut ReadBuf<'_>, start: usize) {
        self.refusals.record(violation.refusal);
        self.registration.state().refuse();
        self.mode = Mode::Refused(violation.refusal, violation.position);
        self.registration.state().between(false);
        self.registration.state().waits_for(Expiry::Idle);
        buffer.set_filled(start + violation.deliver);
        self.kept = Vec::new();
        self.delivered = 0;
        // A head that is too long needs no poison: hyper has counted its bytes and answers 431.
        if violation.position == Position::Head && violation.refusal != Refusal::HeadBytes {
            self.kept.extend_from_slice(POISON);
            self.deliver_kept(buffer);
        }
    }

    /// False when there was nothing to deliver.
    fn deliver_kept(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let Some(left) = self.kept.get(self.delivered..).filter(|left| !left.is_empty()) else {
            return false;
        };
        let length = left.len().min(buffer.remaining());
        buffer.put_slice(left.get(..length).unwrap_or_default());
        self.delivered += length;
        if self.delivered == self.kept.len() {
            self.kept = Vec::new();
            self.delivered = 0;
        }
        true
    }

    fn wrote(&mut self, poll: &Poll<io::Result<usize>>) {
        if let (Some(frames), Poll::Ready(Ok(bytes))) = (&mut self.frames, poll) {
            frames.wrote(*bytes);
        }
    }

    /// Once a deadline has passed, a write may still succeed, but nothing is waited for.
    fn write_result<T>(
        &mut self,
        context: &Context<'_>,
        step: Pending,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let state = self.registration.state();
        if poll.is_pending() {
            if state.expired().is_some() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            // A write that waits is not made good by flushing what went before it.
            self.pending = Some(self.pending.map_or(step, |pending| pending.min(step)));
            state.write_pending();
            state.park(&mut self.parked, context);
        } else if self.pending.is_some_and(|pending| step <= pending) {
            self.pending = None;
            state.write_progressed();
        }
        poll
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Framed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buffer.filled().len();
        if let Mode::Refused(refusal, position) = this.mode {
            let delivered = this.deliver_kept(buffer);
            return Poll::Ready(match position {
                Position::Body if !delivered => Err(io::Error::new(io::ErrorKind::InvalidData, refusal)),
                _ => Ok(()),
            });
        }
        if !this.deliver_kept(buffer) {
            ready!(this.poll_inner(context, buffer))?;
        }
        this.inspect(buffer, start);
        if buffer.filled().len() == start
            && let Mode::Refused(refusal, Position::Body) = this.mode
        {
            // Not a byte may go on, and none at all would look like an end.
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.yields.poll(context));
        let poll = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.wrote(&poll);
        this.write_result(context, Pending::Write, poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.yields.poll(context));
        let poll = poll_write_flattened(Pin::new(&mut this.inner), context, pieces);
        this.wrote(&poll);
        this.write_result(context, Pending::Write, poll)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_flush(context);
        this.write_result(context, Pending::Flush, poll)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingered.is_none() {
            let poll = Pin::new(&mut this.inner).poll_shutdown(context);
            ready!(this.write_result(context, Pending::Write, poll))?;
        }
        this.poll_linger(context).map(Ok)
    }
}

#[cfg(test)]
mod tests;
