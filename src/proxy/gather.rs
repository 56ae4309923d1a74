//! What HTTP/2 writes in one turn leaves in one piece.
//!
//! `h2` writes each DATA frame by itself. With several streams on one connection that is a system
//! call, and often a wake-up of the client, for each response. Here small writes are held until the
//! connection's task has its next turn, which is ordered at once: what other streams have to say
//! meanwhile leaves with them. Put between hyper and the stream of a client that speaks HTTP/2; it
//! never holds anything back while its task sleeps.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits;

/// A stream whose small writes leave together.
#[derive(Debug)]
pub struct Gathered<S> {
    inner: S,
    held: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Gathered<S> {
    /// Gathers what is written to `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, held: BytesMut::new() }
    }

    /// Takes `pieces` to be written at the task's next turn.
    fn hold(&mut self, context: &Context<'_>, pieces: &[IoSlice<'_>]) {
        if self.held.is_empty() {
            // A buffer for each turn: a connection that has nothing to say has none.
            self.held = BytesMut::with_capacity(limits::HTTP2_GATHER);
            context.waker().wake_by_ref();
        }
        pieces.iter().for_each(|piece| self.held.extend_from_slice(piece));
    }

    fn poll_write_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.held.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_write(context, &self.held))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.held.advance(written),
            }
        }
        self.held = BytesMut::new();
        Pin::new(&mut self.inner).poll_flush(context)
    }

    /// Writes what is held and, behind it, as much of `pieces` as goes.
    fn poll_write_through(
        &mut self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        while !self.held.is_empty() {
            let mut all = [IoSlice::new(&[]); 8];
            let (first, rest) = all.split_at_mut(1);
            first.fill(IoSlice::new(&self.held));
            rest.iter_mut().zip(pieces).for_each(|(slot, piece)| *slot = IoSlice::new(piece));
            let count = 1 + pieces.len().min(rest.len());
            let all = all.get(..count).unwrap_or_default();
            match ready!(Pin::new(&mut self.inner).poll_write_vectored(context, all))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written if written > self.held.len() => {
                    let beyond = written - self.held.len();
                    self.held = BytesMut::new();
                    return Poll::Ready(Ok(beyond));
                }
                written => self.held.advance(written),
            }
        }
        Pin::new(&mut self.inner).poll_write_vectored(context, pieces)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<S> {
    /// Each turn of the task begins with reading, so that what was held in the last one leaves here.
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(Err(error)) = this.poll_write_held(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut this.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        if total >= limits::FLATTEN_WRITE || this.held.len() + total > limits::HTTP2_GATHER {
            return this.poll_write_through(context, pieces);
        }
        this.hold(context, pieces);
        Poll::Ready(Ok(total))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.held.is_empty() {
            true => Pin::new(&mut this.inner).poll_flush(context),
            // Left for the next turn, which is ordered.
            false => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_held(context))?;
        Pin::new(&mut this.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
