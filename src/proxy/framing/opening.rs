//! What a connection begins with, and what each of its requests does: the first bytes are read here and
//! kept, so that it is known what is spoken, and nobody has a buffer before there is something to read.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Framed;
use crate::limits;
use crate::proxy::deadlines::Expiry;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/1.0.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl<S: AsyncRead + AsyncWrite + Unpin> Framed<S> {
    /// Waits for as many bytes as tell HTTP/2 from HTTP/1 and keeps them for hyper. `None` when the
    /// client left without a byte.
    ///
    /// # Errors
    ///
    /// The stream's own, and `TimedOut` when no byte comes, or not the rest of a preface.
    pub async fn detect(&mut self) -> io::Result<Option<Protocol>> {
        loop {
            let seen = self.kept.len().min(PREFACE.len());
            let matches = self.kept.get(..seen) == PREFACE.get(..seen);
            if seen > 0 && !matches {
                return Ok(Some(Protocol::Http1));
            }
            if seen == PREFACE.len() {
                self.http2();
                return Ok(Some(Protocol::Http2));
            }
            if poll_fn(|context| self.poll_keep(context)).await? == 0 {
                self.ended = true;
                return Ok((seen > 0).then_some(Protocol::Http1));
            }
            if seen == 0 {
                self.state().waits_for(Expiry::Head);
            }
        }
    }

    /// Waits for a byte of the next request and keeps it, so that until then nobody need have a buffer
    /// for it. False when the client left.
    ///
    /// # Errors
    ///
    /// The stream's own, and `TimedOut`.
    pub async fn begun(&mut self) -> io::Result<bool> {
        if self.kept.is_empty() && !self.ended {
            self.ended = poll_fn(|context| self.poll_keep(context)).await? == 0;
        }
        self.state().wakes_up();
        Ok(!self.kept.is_empty())
    }

    fn poll_keep(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut storage = [MaybeUninit::uninit(); limits::DETECT_BYTES];
        let mut buffer = ReadBuf::uninit(&mut storage);
        ready!(self.poll_inner(context, &mut buffer))?;
        self.kept.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }
}
