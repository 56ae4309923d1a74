//! A byte stream to an endpoint or from a client, whatever it runs over.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use super::http2::Tunnel;

/// A byte stream.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// Under TLS; what is inside is one of the others.
    Tls(Box<TlsStream<Stream>>),
    /// Over a stream of HTTP/2, which carries another protocol.
    Http2(Box<Tunnel>),
    /// One of the others, of which something was read ahead.
    Replayed(Box<Replayed>),
}

/// A stream with what was read of it put back in front.
#[derive(Debug)]
pub struct Replayed {
    read: Bytes,
    stream: Stream,
}

impl Replayed {
    /// `stream` as it was before `read` was read of it.
    pub fn new(read: Bytes, stream: Stream) -> Self {
        Self { read, stream }
    }
}

impl Stream {
    /// Whether the peer neither closed it nor said anything: only then may an idle connection be
    /// used. Costs no system call while the kernel has reported nothing, since readiness is cached.
    pub fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(self).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_pending()
    }
}

macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
            Stream::Tls(boxed) => {
                let $inner = &mut **boxed;
                $call
            }
            Stream::Http2(tunnel) => {
                let $inner = &mut tunnel.upgraded;
                $call
            }
            Stream::Replayed(boxed) => {
                let $inner = &mut boxed.stream;
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if let Self::Replayed(replayed) = stream
            && !replayed.read.is_empty()
        {
            let next = replayed.read.split_to(replayed.read.len().min(buffer.remaining()));
            buffer.put_slice(&next);
            return Poll::Ready(Ok(()));
        }
        let stream = Pin::new(stream);
        each!(stream, inner => Pin::new(inner).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_shutdown(context))
    }
}
