//! What is left of a request whose response is complete: it is sent on for as long as the endpoint reads, beside
//! whatever comes next.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use super::upload::Upload;
use crate::limits;
use crate::upstream::stream::Stream;

/// A request that goes on after its response.
pub(super) struct Rest {
    pub(super) upload: Upload,
    pub(super) stream: Stream,
}

impl Rest {
    /// Sends the rest for as long as the endpoint reads; true when all was sent.
    pub(super) async fn send(&mut self) -> bool {
        loop {
            let step = poll_fn(|context| match self.upload.poll(&mut self.stream, context) {
                Poll::Pending if self.upload.is_blocked() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
                Poll::Ready(result) => Poll::Ready(Some(result.is_ok())),
            });
            if let Some(complete) = step.await {
                return complete;
            }
            let writable = poll_fn(|context| match self.upload.poll(&mut self.stream, context) {
                Poll::Pending if self.upload.is_blocked() => Poll::Pending,
                _ => Poll::Ready(()),
            });
            if tokio::time::timeout(limits::DRAIN_REQUEST_TIME, pin!(writable)).await.is_err() {
                return false;
            }
        }
    }
}
