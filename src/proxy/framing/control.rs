//! How many frames a client of HTTP/2 may send that ask for no work: PING, SETTINGS, WINDOW_UPDATE,
//! PRIORITY and those that nobody knows (CVE-2019-9512, 9513, 9515). h2 takes as many as come, for 0.1 to
//! 0.2 µs each, so that a client without a request could keep a worker busy for as long as it likes.
//!
//! Most have a reason: a download is made room for, gRPC measures its way by a PING for what it received,
//! an upload's client told how it weighs its streams. So what was written to the client earns them, and so
//! does each frame of a request. Answers to control frames do not: they are paid for beforehand.

use tokio::time::Instant;

use super::http2::{ACK, CONTINUATION, DATA, HEAD, HEADERS, PING, RST_STREAM, SETTINGS};
use crate::limits;

/// What one connection has left, in bytes written to it.
#[derive(Debug)]
pub(super) struct ControlFrames {
    left: usize,
    since: Instant,
}

const MOST: usize = limits::HTTP2_CONTROL_FRAMES * limits::HTTP2_CONTROL_EARNED_BY;

impl ControlFrames {
    /// Of a connection of which nothing was read.
    pub(super) fn new() -> Self {
        Self { left: MOST, since: Instant::now() }
    }

    /// Bytes went to the client.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(bytes).min(MOST);
    }

    /// A frame with a payload of `length` begins; false when it is one too many.
    pub(super) fn take(&mut self, kind: u8, flags: u8, length: usize) -> bool {
        let answer = match kind {
            HEADERS | DATA if length > 0 => {
                self.wrote(limits::HTTP2_CONTROL_EARNED_BY);
                return true;
            }
            // What h2 bounds by itself: heads in pieces, DATA without a byte, resets.
            HEADERS | DATA | CONTINUATION | RST_STREAM => return true,
            PING if flags & ACK == 0 => HEAD + length,
            SETTINGS if flags & ACK == 0 => HEAD,
            _ => 0,
        };
        let cost = limits::HTTP2_CONTROL_EARNED_BY + answer;
        if self.left < cost {
            // Who needed so long for them is no flood. The clock is asked once in ten thousand frames.
            let now = Instant::now();
            if now.duration_since(self.since) < limits::HTTP2_CONTROL_WITHIN {
                return false;
            }
            *self = Self { left: MOST, since: now };
        }
        self.left -= cost;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_UPDATE: u8 = 8;

    /// How many of a frame are taken, of 1,000,000.
    fn taken(frames: &mut ControlFrames, kind: u8, length: usize) -> usize {
        (0..1_000_000).take_while(|_| frames.take(kind, 0, length)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn what_asks_for_nothing_is_bounded_and_comes_back_with_time() {
        for (kind, length, answer) in
            [(2, 5, 0), (SETTINGS, 0, 9), (PING, 8, 17), (WINDOW_UPDATE, 4, 0), (99, 0, 0)]
        {
            let mut frames = ControlFrames::new();
            let mut all = 0;
            for _ in 0..20 {
                let some = taken(&mut frames, kind, length);
                // What answers them earns no further ones.
                frames.wrote(some * answer);
                all += some;
            }
            assert!(all.abs_diff(limits::HTTP2_CONTROL_FRAMES) <= 2, "{kind}: {all}");
            tokio::time::advance(limits::HTTP2_CONTROL_WITHIN).await;
            assert!(taken(&mut frames, kind, length) > 0, "{kind}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_answers_work_is_never_too_much() {
        let mut frames = ControlFrames::new();
        for _ in 0..100_000 {
            // A download whose client makes room for each 4 KiB, twice, and asks how long its way is.
            frames.wrote(4096);
            for (kind, length) in [(WINDOW_UPDATE, 4), (WINDOW_UPDATE, 4), (PING, 8)] {
                assert!(frames.take(kind, 0, length));
            }
        }
        for _ in 0..100_000 {
            // Messages of a few bytes in both directions, each with a PING and room made for it.
            assert!(frames.take(DATA, 0, 6));
            frames.wrote(9 + 6 + 17);
            assert!(frames.take(PING, 0, 8));
        }
    }
}
