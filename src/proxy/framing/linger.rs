//! How a connection ends whose client may not be done.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::checker::Position;
use super::{Framed, Mode};
use crate::limits;
use crate::proxy::deadlines::Expiry;

impl<S: AsyncRead + AsyncWrite + Unpin> Framed<S> {
    /// Whether the client may still be sending what nobody is going to read. Closing then would answer
    /// it with a reset, which throws away the response before the client has read it.
    fn may_linger(&self) -> bool {
        let state = self.state();
        let unread = match self.mode {
            Mode::Checked => self.checker.position() != Position::Between,
            // HTTP/2: after an error the client has to be able to read which (RFC 9113, 5.4.1).
            Mode::Unchecked { .. } => self.frames.is_some(),
            Mode::Refused(..) => true,
        };
        unread && !self.ended && !state.is_pass_through() && state.expired().is_none()
    }

    /// Reads and throws away until the client closes, has sent [`limits::DRAIN_REQUEST_BYTES`], or its
    /// time is up.
    pub(super) fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut storage = [MaybeUninit::uninit(); limits::DETECT_BYTES];
        while self.may_linger() {
            let drained = *self.lingered.get_or_insert_with(|| {
                self.registration.state().waits_for(Expiry::Drain);
                0
            });
            let mut buffer = ReadBuf::uninit(&mut storage);
            let poll = Pin::new(&mut self.inner).poll_read(context, &mut buffer);
            if poll.is_pending() {
                self.registration.state().park(&mut self.parked, context);
                return Poll::Pending;
            }
            let drained = drained + buffer.filled().len();
            self.lingered = Some(drained);
            self.ended = buffer.filled().is_empty() || drained >= limits::DRAIN_REQUEST_BYTES;
        }
        Poll::Ready(())
    }
}
