//! The thread that takes what workers have queued and writes it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use super::Shared;
use crate::limits;
use crate::telemetry::logging::RateLimitedLog;

/// Where lines are written.
pub(super) enum Sink {
    Stdout,
    File { path: PathBuf, file: File },
}

impl Sink {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self::File { path: path.to_owned(), file })
    }

    /// Whole lines at once: what reads them never sees half of one for long.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
            Self::File { file, .. } => file.write_all(lines),
        }
    }

    /// Opens the file of the same name; on failure the old one goes on.
    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { path, .. } = self {
            *self = Self::open(path)?;
        }
        Ok(())
    }
}

/// Writes until told to stop, and then what is left.
pub(super) fn run(shared: &Shared, mut sink: Sink) {
    loop {
        // Until somebody queues into an empty buffer. A wake-up that comes before is not lost.
        thread::park();
        loop {
            collect(shared);
            let stop = shared.stop.load(Ordering::Acquire);
            let wrote = pass(shared, &mut sink);
            if stop {
                return;
            }
            if !wrote {
                break;
            }
        }
    }
}

/// Lets lines gather for an interval, or until somebody is in a hurry.
fn collect(shared: &Shared) {
    let end = Instant::now() + limits::ACCESS_LOG_INTERVAL;
    while !shared.urgent.swap(false, Ordering::AcqRel) {
        let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
            return;
        };
        thread::park_timeout(left);
    }
}

/// Writes all there is; whether there was anything.
fn pass(shared: &Shared, sink: &mut Sink) -> bool {
    static FAILURES: RateLimitedLog = RateLimitedLog::new();
    let asked = shared.passes.lock().unwrap_or_else(PoisonError::into_inner).asked;
    if shared.reopen.swap(false, Ordering::AcqRel)
        && let Err(error) = sink.reopen()
    {
        tracing::warn!(%error, "cannot reopen the access log, going on with the old file");
    }
    let mut wrote = false;
    for half in shared.queues.iter().flat_map(|queue| &queue.0) {
        // Held while writing: the worker takes the other half.
        let mut lines = half.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.bytes.is_empty() {
            continue;
        }
        wrote = true;
        if let Err(error) = sink.write(&lines.bytes) {
            shared.metrics.gateway.access_log_dropped.fetch_add(lines.records, Ordering::Relaxed);
            if let Some(suppressed) = FAILURES.permit() {
                tracing::warn!(%error, suppressed, "cannot write the access log");
            }
        }
        lines.bytes.clear();
        lines.bytes.shrink_to(2 * limits::ACCESS_LOG_WAKE);
        lines.records = 0;
    }
    shared.passes.lock().unwrap_or_else(PoisonError::into_inner).done = asked;
    shared.passed.notify_all();
    wrote
}
