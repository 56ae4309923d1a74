//! What it costs to offer a body to copies: no reader (the body alone), one, and three, which keep up.
//!
//! `cargo bench --bench tee` (`--profile fast` builds sooner).
#![allow(clippy::panic)]

use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http_body::{Body, Frame, SizeHint};
use mirrorgate::limits;
use mirrorgate::memory::Account;
use mirrorgate::mirror::tee::{CopyBody, Reader, Tee};
use mirrorgate::upstream::body::{BodyError, Chunk};

const CHUNKS: usize = 64;

/// A body of [`CHUNKS`] equal chunks, all of them there at once.
struct Source {
    chunk: Bytes,
    left: usize,
}

fn tee(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tee");
    for size in [64, 16 * 1024] {
        group.throughput(Throughput::Bytes((CHUNKS * size) as u64));
        for readers in [0, 1, 3] {
            let name = format!("{readers} readers");
            group.bench_function(BenchmarkId::new(name, format!("{CHUNKS} x {size} B")), |bencher| {
                bencher.iter_batched(|| body(size, readers), stream, BatchSize::SmallInput);
            });
        }
    }
    group.finish();
}

fn body(size: usize, readers: usize) -> (Tee<Source>, Vec<CopyBody>) {
    let worker = Account::new(limits::MIRROR_BYTES_PER_WORKER);
    let readers: Vec<Arc<Reader>> = (0..readers)
        .map(|_| Reader::new(Account::within(&worker, limits::MIRROR_LAG), SizeHint::default()))
        .collect();
    let copies = readers.iter().map(Reader::body).collect();
    (Tee::new(Source { chunk: Bytes::from(vec![7; size]), left: CHUNKS }, readers), copies)
}

/// Pulls the body as the primary does, and after each chunk lets every copy take what it has.
fn stream((mut body, mut copies): (Tee<Source>, Vec<CopyBody>)) {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match Pin::new(&mut body).poll_frame(&mut context) {
            Poll::Ready(Some(frame)) => drop(black_box(frame)),
            Poll::Ready(None) => break,
            // The copies have a turn.
            Poll::Pending => {}
        }
        for copy in &mut copies {
            match Pin::new(copy).poll_frame(&mut context) {
                Poll::Ready(Some(Ok(frame))) => drop(black_box(frame)),
                Poll::Pending | Poll::Ready(None) => {}
                Poll::Ready(Some(Err(error))) => panic!("a copy that kept up was cut: {error}"),
            }
        }
    }
}

impl Body for Source {
    type Data = Chunk;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        let Some(left) = self.left.checked_sub(1) else { return Poll::Ready(None) };
        self.left = left;
        Poll::Ready(Some(Ok(Frame::data(Chunk::free(self.chunk.clone())))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}

criterion_group!(benches, tee);
criterion_main!(benches);
