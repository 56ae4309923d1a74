//! Scattered writes as one, where copying costs less than the kernel's walk over the pieces.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncWrite, ReadBuf};

use crate::limits;

/// Writes `pieces`, the small ones of less than [`limits::FLATTEN_WRITE`] in all as one: a response's
/// head and body are two pieces, and `writev` of them costs more than to copy them together.
pub(super) fn poll_write_flattened<W: AsyncWrite>(
    stream: Pin<&mut W>,
    context: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let total: usize = pieces.iter().map(|piece| piece.len()).sum();
    let first = pieces.iter().find(|piece| !piece.is_empty()).map_or(&[][..], |piece| piece);
    if first.len() == total {
        return stream.poll_write(context, first);
    }
    if total >= limits::FLATTEN_WRITE {
        return stream.poll_write_vectored(context, pieces);
    }
    let mut storage = [MaybeUninit::uninit(); limits::FLATTEN_WRITE];
    let mut scratch = ReadBuf::uninit(&mut storage);
    for piece in pieces {
        scratch.put_slice(piece);
    }
    stream.poll_write(context, scratch.filled())
}
