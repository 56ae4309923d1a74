//! A copy's answer beside the primary's: which of the two comes second compares them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;

use super::Mirror;
use super::meeting::Meeting;
use crate::shard::{Lane, WorkerId};

/// One copy and the request that it is a copy of.
pub struct Pair {
    mirror: Arc<Mirror>,
    started: Instant,
    /// Of answers, by [`said`].
    meeting: Meeting,
}

/// How two answers agree, from like to unlike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// The same status.
    Status,
    /// Another status of the same class.
    Class,
    /// Another class.
    Neither,
    /// Another class: the copy was answered 5xx and the primary was not.
    MirrorFailed,
}

impl Agreement {
    /// All of them, in index order.
    pub const ALL: [Self; 4] = [Self::Status, Self::Class, Self::Neither, Self::MirrorFailed];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Class => "class",
            Self::Neither => "neither",
            Self::MirrorFailed => "mirror_failed",
        }
    }

    /// Position in per-agreement arrays.
    pub fn index(self) -> usize {
        self as usize
    }

    fn of(primary: u16, copy: u16) -> Self {
        match (primary / 100, copy / 100) {
            _ if primary == copy => Self::Status,
            (one, other) if one == other => Self::Class,
            (_, 5) => Self::MirrorFailed,
            _ => Self::Neither,
        }
    }
}

impl Pair {
    pub(super) fn new(mirror: Arc<Mirror>, started: Instant) -> Arc<Self> {
        Arc::new(Self { mirror, started, meeting: Meeting::default() })
    }

    /// Whom the copy goes to.
    pub fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    /// The head of the answer in `lane` has come. Each lane says so once.
    pub fn answered(&self, lane: Lane, status: StatusCode, worker: WorkerId) {
        let answer = said(status, self.started.elapsed());
        let Some(first) = self.meeting.say(answer) else { return };
        let (primary, copy) = if lane == Lane::Mirror { (first, answer) } else { (answer, first) };
        let times = [primary, copy].map(|answer| Duration::from_micros(answer >> STATUS_BITS & MICROSECONDS));
        let agreement = Agreement::of((primary & STATUS) as u16, (copy & STATUS) as u16);
        self.mirror.budget.metrics().compared(worker, agreement, times);
    }
}

const STATUS_BITS: u32 = 16;
const STATUS: u64 = (1 << STATUS_BITS) - 1;
/// Ten days.
const MICROSECONDS: u64 = (1 << 40) - 1;

/// A status is at least 100, so that no answer is 0.
fn said(status: StatusCode, time: Duration) -> u64 {
    let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(MICROSECONDS);
    time << STATUS_BITS | u64::from(status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_agree_by_status_or_class() {
        for (primary, copy, agreement) in [
            (200, 200, Agreement::Status),
            (500, 500, Agreement::Status),
            (200, 204, Agreement::Class),
            (500, 503, Agreement::Class),
            (404, 200, Agreement::Neither),
            (500, 200, Agreement::Neither),
            (200, 503, Agreement::MirrorFailed),
        ] {
            assert_eq!(Agreement::of(primary, copy), agreement, "{primary} {copy}");
        }
    }
}
