//! Counters of the process that belong to no route and no backend. None is touched by a request that
//! is simply forwarded, so they are not sharded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::proxy::deadlines::Expiry;
use crate::proxy::framing::refusal::{Refusal as Framing, RefusalCounts};
use crate::worker::Worker;

/// What belongs to no route.
#[derive(Default)]
pub struct GatewayMetrics {
    /// Client connections open now.
    pub client_connections: AtomicI64,
    /// Client connections accepted.
    pub client_connections_total: AtomicU64,
    /// Errors of `accept`.
    pub accept_errors: AtomicU64,
    /// Trailer sections that could not be passed on.
    pub dropped_trailers: AtomicU64,
    /// Access records that were lost: the writer could not keep up, or could not write.
    pub access_log_dropped: AtomicU64,
    /// Spans that a collector took.
    pub spans_exported: AtomicU64,
    /// Spans that found the queue full, or that no collector took.
    pub spans_dropped: AtomicU64,
    /// Requests refused on their raw bytes.
    pub framing: Arc<RefusalCounts>,
    workers: Mutex<Vec<Arc<Worker>>>,
    /// TLS handshakes with clients that succeeded.
    pub tls_handshakes: AtomicU64,
    /// TLS handshakes with clients that failed, time-outs included.
    pub tls_handshakes_failed: AtomicU64,
    /// By listener and certificate: seconds since 1970.
    certificates: Mutex<BTreeMap<(Arc<str>, String), i64>>,
    refused: [AtomicU64; Refusal::ALL.len()],
    reloads: [AtomicU64; 2],
    /// Seconds since 1970; 0 before the first.
    last_reload: AtomicU64,
}

/// How reading the configuration went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It is in use.
    Succeeded,
    /// The last good one stays.
    Failed,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Why a request, or a connection, was turned away without asking a backend.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal { $($(#[$doc])* $name,)* }

        impl Refusal {
            /// All reasons, in index order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The value of the `reason` label.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

refusals! {
    /// The head is not valid HTTP, or its framing is ambiguous.
    Framing = "framing",
    /// The head has too many bytes or fields.
    HeadTooLarge = "head_too_large",
    /// The head, or a connection's first byte, did not come in time.
    HeadTimeout = "head_timeout",
    /// The target or the Host cannot be used.
    Target = "target",
    /// The method or upgrade is not supported.
    Method = "method",
    /// No route matches.
    NoRoute = "no_route",
    /// The route has no backend that takes traffic.
    NoBackend = "no_backend",
    /// The backend has no endpoints.
    NoEndpoints = "no_endpoints",
    /// The request has come through too many gateways.
    Loop = "loop",
    /// The body is larger than the route takes.
    BodyTooLarge = "body_too_large",
    /// More requests than the route takes in a time.
    Rate = "rate",
    /// The process sheds load.
    Overload = "overload",
    /// The request is for a host of another part of the listener than its TLS was begun for.
    Misdirected = "misdirected",
    /// A connection that was to be routed by its TLS began without.
    TlsHello = "tls_hello",
    /// As many connections as allowed are open.
    ConnectionLimit = "connection_limit",
    /// A connection began without the PROXY protocol header that its listener requires.
    ProxyProtocol = "proxy_protocol",
    /// The process is stopping.
    Draining = "draining",
    /// An HTTP/2 connection was given up since its client made work for nothing.
    Http2Flood = "http2_flood",
    /// An HTTP/2 connection was given up since its client broke the protocol.
    Http2Protocol = "http2_protocol",
}

impl GatewayMetrics {
    /// A request or connection was turned away.
    pub fn refused(&self, reason: Refusal) {
        if let Some(count) = self.refused.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were turned away for `reason`.
    pub fn refused_total(&self, reason: Refusal) -> u64 {
        let counted = self.refused.get(reason as usize).map_or(0, |count| count.load(Ordering::Relaxed));
        let own = |framing: &Framing| match framing {
            Framing::HeadBytes | Framing::HeadFields => Refusal::HeadTooLarge,
            Framing::ControlFrames => Refusal::Http2Flood,
            _ => Refusal::Framing,
        };
        let framing = Framing::ALL.iter().filter(|framing| own(framing) == reason);
        counted
            + framing.map(|framing| self.framing.of(*framing)).sum::<u64>()
            + match reason {
                Refusal::HeadTimeout => {
                    [Expiry::FirstByte, Expiry::Head].map(|expiry| self.expired_total(expiry)).iter().sum()
                }
                _ => 0,
            }
    }

    /// Adds what `worker` counts from now on.
    pub fn watch(&self, worker: Arc<Worker>) {
        self.workers().push(worker);
    }

    /// Client connections that were ended since this deadline passed.
    pub fn expired_total(&self, expiry: Expiry) -> u64 {
        self.workers().iter().map(|worker| worker.deadlines().expired(expiry)).sum()
    }

    /// Interim (1xx) responses of backends that could not be passed on.
    pub fn interim_dropped_total(&self) -> u64 {
        self.workers().iter().map(|worker| worker.interim_dropped()).sum()
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Arc<Worker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `listener` shows clients now, and until when each certificate is valid.
    pub fn certificates(&self, listener: &Arc<str>, expiries: impl Iterator<Item = (String, i64)>) {
        let mut certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        certificates.retain(|(other, _), _| other != listener);
        for (name, not_after) in expiries {
            // Of twins of one name the first to end is the one to tell.
            let entry = certificates.entry((listener.clone(), name)).or_insert(not_after);
            *entry = not_after.min(*entry);
        }
    }

    /// All of them.
    pub fn certificate_expiries(&self) -> BTreeMap<(Arc<str>, String), i64> {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The configuration was read, at start or again.
    pub fn reloaded(&self, result: Reload, now: SystemTime) {
        if let Some(count) = self.reloads.get(result as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if result == Reload::Succeeded {
            let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            self.last_reload.store(seconds, Ordering::Relaxed);
        }
    }

    /// How often reading the configuration went like `result`.
    pub fn reloads_total(&self, result: Reload) -> u64 {
        self.reloads.get(result as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// When the configuration in use was read, in seconds since 1970; `None` before the first.
    pub fn last_reload(&self) -> Option<u64> {
        Some(self.last_reload.load(Ordering::Relaxed)).filter(|seconds| *seconds > 0)
    }
}
