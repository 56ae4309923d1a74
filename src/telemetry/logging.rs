//! The log on standard error, for people: what the process does, not what requests do.
//!
//! A failure that traffic can repeat is told through a [`RateLimitedLog`], so that a dead endpoint
//! does not write a line for each request.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt as format};

use crate::limits;

/// What is logged when nobody says anything.
pub const DEFAULT_LEVEL: &str = "info";

/// Left out of `info` and `warn`, unless they are named. h2 and hyper warn of what the other end sends, a
/// line for each frame of a flood, which would fill a disk. What fails at a cluster is told by what watches
/// it, once.
const QUIET: &str = "h2=error,hyper=error,kube_client=off,kube_runtime=error";

/// Changes what is logged while the process runs.
#[derive(Clone)]
pub struct LogLevel(Arc<Handle<EnvFilter, Registry>>);

/// Why a level cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogLevelError {
    /// It is neither a level nor a list of `target=level`.
    #[error("{0:?} is not a log level: error, warn, info, debug, trace, off, or a list of target=level")]
    Invalid(String),
    /// The process logs elsewhere.
    #[error("the log cannot be set up: {0}")]
    Unavailable(String),
}

/// Starts logging: at `level` if given, else as `RUST_LOG` says, else at [`DEFAULT_LEVEL`].
///
/// # Errors
/// When the level is invalid, or somebody in this process has set up a log already.
pub fn start(level: Option<&str>) -> Result<LogLevel, LogLevelError> {
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let level = level.map(str::to_owned).or(from_environment);
    let filter = parse(level.as_deref().unwrap_or(DEFAULT_LEVEL))?;
    let (filter, handle) = reload::Layer::new(filter);
    tracing_subscriber::registry()
        .with(filter)
        .with(format::layer().compact().with_writer(std::io::stderr))
        .try_init()
        .map_err(|error| LogLevelError::Unavailable(error.to_string()))?;
    Ok(LogLevel(Arc::new(handle)))
}

impl LogLevel {
    /// Logs at `level` from now on: a level, or a list of `target=level`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn set(&self, level: &str) -> Result<(), LogLevelError> {
        let filter = parse(level)?;
        self.0.reload(filter).map_err(|error| LogLevelError::Unavailable(error.to_string()))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.with_current(EnvFilter::to_string) {
            Ok(filter) => formatter.write_str(&filter),
            Err(_) => formatter.write_str("off"),
        }
    }
}

/// A bare word that is no level would be taken for a target, all of which is logged: a misspelt
/// level would silence everything else.
fn parse(text: &str) -> Result<EnvFilter, LogLevelError> {
    let invalid = || LogLevelError::Invalid(text.to_owned());
    let known = |part: &str| {
        part.contains('=')
            || ["off", "error", "warn", "info", "debug", "trace"]
                .contains(&part.to_ascii_lowercase().as_str())
    };
    if !text.split(',').all(|part| known(part.trim())) {
        return Err(invalid());
    }
    let is_quiet = text.split(',').any(|part| ["info", "warn"].contains(&&*part.trim().to_ascii_lowercase()));
    let text = if is_quiet { format!("{QUIET},{text}") } else { text.to_owned() };
    EnvFilter::builder().parse(&text).map_err(|_| LogLevelError::Invalid(text))
}

/// Lets one line pass in each [`limits::FAILURE_LOG_INTERVAL`] and counts the others. One for each
/// kind of failure, as a `static` beside what logs it:
///
/// ```
/// use mirrorgate::telemetry::logging::RateLimitedLog;
/// static FAILURES: RateLimitedLog = RateLimitedLog::new();
/// if let Some(suppressed) = FAILURES.permit() {
///     tracing::warn!(suppressed, "cannot connect");
/// }
/// ```
pub struct RateLimitedLog {
    /// When the next line may pass, in nanoseconds since the first use of any of these.
    next: AtomicU64,
    suppressed: AtomicU64,
}

impl Default for RateLimitedLog {
    fn default() -> Self {
        Self::new()
    }
}

impl RateLimitedLog {
    /// Lets the first line pass.
    pub const fn new() -> Self {
        Self { next: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Whether to log now, and how many lines were left out since the last.
    pub fn permit(&self) -> Option<u64> {
        static START: OnceLock<Instant> = OnceLock::new();
        let now = START.get_or_init(Instant::now).elapsed();
        self.permit_at(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
    }

    fn permit_at(&self, now: u64) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        let after = now.saturating_add(limits::FAILURE_LOG_INTERVAL.as_nanos() as u64);
        let passes = now >= next
            && self.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if passes {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn one_line_an_interval_with_the_number_of_the_others() {
        let interval = limits::FAILURE_LOG_INTERVAL.as_nanos() as u64;
        let log = RateLimitedLog::new();
        assert_eq!(log.permit_at(5), Some(0));
        assert_eq!(log.permit_at(6), None);
        assert_eq!(log.permit_at(4 + interval), None);
        assert_eq!(log.permit_at(5 + interval), Some(2));
        assert_eq!(log.permit_at(6 + interval), None);
        assert_eq!(log.permit_at(10 * interval), Some(1));
    }

    #[test]
    fn a_misspelt_level_is_refused() {
        for good in ["info", "DEBUG", "warn,mirrorgate::admin=trace", "off"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["inof", "", "mirrorgate", "mirrorgate=loud", "info,"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    /// The only test that sets up a log: a process has one.
    #[test]
    fn the_level_changes_while_running() {
        let level = start(Some("warn")).unwrap();
        assert!(level.to_string().ends_with(",warn"), "{level}");
        assert!(!tracing::enabled!(tracing::Level::DEBUG));
        assert!(tracing::enabled!(tracing::Level::WARN));
        // What clients send is no reason to write.
        assert!(!tracing::enabled!(target: "h2::proto::ping_pong", tracing::Level::WARN));
        assert!(tracing::enabled!(target: "h2::proto::ping_pong", tracing::Level::ERROR));
        level.set("warn,h2=warn").unwrap();
        assert!(tracing::enabled!(target: "h2::proto::ping_pong", tracing::Level::WARN));
        level.set("debug").unwrap();
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        assert!(matches!(level.set("loud"), Err(LogLevelError::Invalid(_))));
        assert_eq!(level.to_string(), "debug");
        assert!(matches!(start(None), Err(LogLevelError::Unavailable(_))));
    }
}
