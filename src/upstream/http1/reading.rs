//! Reading what an endpoint sends, and for how long it is waited for.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use super::Exchange;
use crate::limits;
use crate::upstream::stream::Stream;

impl Exchange {
    /// Into room that is shared with others ([`Worker::room`]), unless there is more to come than that.
    ///
    /// [`Worker::room`]: crate::worker::Worker::room
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        size: usize,
    ) -> Poll<std::io::Result<usize>> {
        let Some((lease, stream)) = &mut self.connection else { return Poll::Ready(Ok(0)) };
        // Never waits: whoever finds it in use makes room of its own.
        if self.read.capacity() == 0
            && !self.filled
            && let Ok(mut room) = lease.worker().room().try_lock()
        {
            let read = poll_into(stream, &mut room, context, size.min(limits::READ_FIRST));
            if !room.is_empty() {
                self.filled = room.len() == room.capacity();
                self.read = room.split();
            }
            return read;
        }
        let read = poll_into(stream, &mut self.read, context, size);
        if read.is_ready() {
            self.filled = self.read.len() == self.read.capacity();
        }
        read
    }

    /// Reads on, unless the endpoint was removed and has had its time.
    pub(super) fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let read = self.poll_read(context, self.decoder.appetite());
        if read.is_pending() && self.poll_expired(context).is_ready() {
            return Poll::Ready(Err(std::io::Error::other("the endpoint was removed")));
        }
        read
    }

    pub(super) fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &self.connection {
            Some((lease, _)) => lease.poll_expired(&mut self.expiry, context),
            None => Poll::Pending,
        }
    }
}

fn poll_into(
    stream: &mut Stream,
    room: &mut BytesMut,
    context: &mut Context<'_>,
    size: usize,
) -> Poll<std::io::Result<usize>> {
    if room.capacity() - room.len() < size.min(limits::READ_FIRST / 2) {
        room.reserve(size);
    }
    pin!(stream.read_buf(room)).poll(context)
}
