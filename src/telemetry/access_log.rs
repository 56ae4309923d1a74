//! The access log: one JSON object a line for each request and each copy.
//!
//! A worker writes its record straight into a buffer of its own and goes on; it never waits, neither
//! for the writer nor for the disk. One thread takes what has gathered and writes it in batches. What
//! does not fit is dropped and counted (`mirrorgate_access_log_dropped_total`).
//!
//! A record's line is made on the worker: that costs less than moving owned fields to another thread.

mod json;
mod record;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::thread::{Builder, Thread};
use std::time::Duration;

pub use self::record::{
    AccessRecord, ConnectionFacts, CopyRecord, RequestFacts, RequestRecord, ResponseFlag,
};
use crate::limits;
use crate::plan::AccessLogPlan;
use crate::shard::{Sharded, WorkerId};
use crate::telemetry::metrics::Metrics;

/// Where access records go. Clones go to the same place; the writer ends with the last of them.
#[derive(Clone)]
pub struct AccessLog(Option<Arc<Handle>>);

/// Why the log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file cannot be opened.
    #[error("cannot open the access log {path}: {error}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The writer's thread cannot be started.
    #[error("cannot start the writer of the access log: {0}")]
    Thread(std::io::Error),
}

struct Handle {
    shared: Arc<Shared>,
    writer: Thread,
}

/// What workers and writer share.
struct Shared {
    queues: Sharded<Queue>,
    metrics: Arc<Metrics>,
    /// Somebody does not want to wait for the interval's end.
    urgent: AtomicBool,
    reopen: AtomicBool,
    stop: AtomicBool,
    passes: Mutex<Passes>,
    passed: Condvar,
}

/// Lines of one worker. Two halves, so that the worker finds one free while the other is written.
#[derive(Default)]
struct Queue([Mutex<Lines>; 2]);

#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    records: u64,
}

/// How many times everything was asked to be written, and how many of these are done.
#[derive(Default)]
struct Passes {
    asked: u64,
    done: u64,
}

impl AccessLog {
    /// No log: a record costs one branch.
    pub fn off() -> Self {
        Self(None)
    }

    /// Opens what `plan` names and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not be started.
    pub fn start(
        plan: &AccessLogPlan,
        workers: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self, AccessLogError> {
        let sink = match plan {
            AccessLogPlan::Off => return Ok(Self::off()),
            AccessLogPlan::Stdout => writer::Sink::Stdout,
            AccessLogPlan::File(path) => writer::Sink::open(path)
                .map_err(|error| AccessLogError::Open { path: path.clone(), error })?,
        };
        let shared = Arc::new(Shared {
            queues: Sharded::new(workers),
            metrics,
            urgent: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            passes: Mutex::default(),
            passed: Condvar::new(),
        });
        let for_writer = shared.clone();
        let thread = Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer::run(&for_writer, sink))
            .map_err(AccessLogError::Thread)?;
        Ok(Self(Some(Arc::new(Handle { shared, writer: thread.thread().clone() }))))
    }

    /// Whether records go anywhere; when not, nothing need be kept for them.
    #[inline]
    pub fn enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Queues a record. Never waits: what does not fit is dropped and counted.
    #[inline]
    pub fn log(&self, worker: WorkerId, record: &AccessRecord<'_>) {
        if let Some(handle) = &self.0 {
            handle.log(worker, record);
        }
    }

    /// The file was moved away: go on with a new one of its name. Returns before it is done.
    pub fn reopen(&self) {
        if let Some(handle) = &self.0 {
            handle.shared.reopen.store(true, Ordering::Release);
            handle.hurry();
        }
    }

    /// Waits until what was logged before is written, for `patience` at most; whether it is. For the
    /// end of the process; blocks, so never on a worker.
    pub fn flush(&self, patience: Duration) -> bool {
        self.0.as_ref().is_none_or(|handle| handle.flush(patience))
    }
}

impl Handle {
    fn log(&self, worker: WorkerId, record: &AccessRecord<'_>) {
        for half in &self.shared.queues.of(worker).0 {
            // Locked means that the writer is at it: the other half is free then.
            let mut lines = match half.try_lock() {
                Ok(lines) => lines,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            let before = lines.bytes.len();
            if before >= limits::ACCESS_LOG_BYTES_PER_WORKER / 2 {
                continue;
            }
            record.write(&mut lines.bytes);
            lines.records += 1;
            let after = lines.bytes.len();
            drop(lines);
            if before < limits::ACCESS_LOG_WAKE && after >= limits::ACCESS_LOG_WAKE {
                self.hurry();
            } else if before == 0 {
                self.writer.unpark();
            }
            return;
        }
        self.shared.metrics.gateway.access_log_dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn hurry(&self) {
        self.shared.urgent.store(true, Ordering::Release);
        self.writer.unpark();
    }

    fn flush(&self, patience: Duration) -> bool {
        let mut passes = self.shared.passes.lock().unwrap_or_else(PoisonError::into_inner);
        passes.asked += 1;
        let asked = passes.asked;
        self.hurry();
        let (passes, _) = self
            .shared
            .passed
            .wait_timeout_while(passes, patience, |passes| passes.done < asked)
            .unwrap_or_else(PoisonError::into_inner);
        passes.done >= asked
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.hurry();
    }
}

#[cfg(test)]
mod tests;
