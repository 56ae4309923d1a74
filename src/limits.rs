//! Every bound in the process, with its default and the reason for it.
//!
//! A queue, map, buffer, retry or spawn that is not bounded by a number on this page is a bug.
//! Values that users may set are defaults here and live in the configuration afterwards.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// ---- clients ------------------------------------------------------------------------------------

/// Connections that one process accepts at once; above it new ones are closed at once and counted.
/// Each idle one costs about 5.3 KiB, 14 KiB with TLS, so this is 0.5 to 1.4 GiB when none of them is in use.
pub const CLIENT_CONNECTIONS: usize = 100_000;
/// Keys of one rate limit that are remembered; newcomers beyond them share one schedule.
pub const RATE_KEYS: usize = 65_536;
/// Load, as a share of its bound, from which on copies are skipped: numerator, denominator.
pub const SHED_COPIES: (usize, usize) = (4, 5);
/// How often the memory of the process is looked at, when it is bounded.
pub const MEMORY_TICK: Duration = Duration::from_millis(250);
/// Bytes of a request head. nginx allows 32 KiB, Envoy 60 KiB.
pub const HEAD_BYTES: usize = 64 * KIB;
/// Fields of a request or response head (hyper's own default).
pub const HEAD_FIELDS: usize = 100;
/// Bytes of a request's target, path and query; above it 414. nginx and Envoy allow about as much.
pub const TARGET_BYTES: usize = 16 * KIB;
/// Bytes of an `X-Request-Id` that is kept; a longer one is replaced.
pub const REQUEST_ID_BYTES: usize = 128;
/// Empty lines that are skipped before a request line (RFC 9112 2.2: at least one should be).
pub const LEADING_EMPTY_LINES: u32 = 2;
/// Greatest Content-Length or chunk size that is believed: backends hold lengths in signed 64 bits.
pub const BODY_LENGTH: u64 = i64::MAX as u64;
/// Bytes read at first, to tell HTTP/2 from HTTP/1: a common request head fits, so that no read more
/// than without the question is made.
pub const DETECT_BYTES: usize = 2 * KIB;
/// Scattered writes below this are copied together and written at once: one `write` of a few
/// kilobytes costs less than the kernel's walk over the pieces of a `writev`.
pub const FLATTEN_WRITE: usize = 4 * KIB;
/// From accepting a connection to its first byte.
pub const FIRST_BYTE: Duration = Duration::from_secs(10);
/// From the first byte of a head to its last.
pub const HEAD_TIME: Duration = Duration::from_secs(10);
/// A keep-alive connection without a request.
pub const CLIENT_IDLE: Duration = Duration::from_secs(300);
/// A write to a client that makes no progress, on a connection or on one HTTP/2 stream; and the rest of a
/// request whose endpoint has begun to answer and does not read.
pub const WRITE_STALL: Duration = Duration::from_secs(30);
/// How often deadlines of connections are looked at: coarse, since a timer per request costs 6 %.
pub const DEADLINE_TICK: Duration = Duration::from_millis(250);
/// Connections or exchanges whose deadlines are looked at before the sweeper lets others run.
pub const DEADLINE_SLICE: usize = 4096;
/// From this on an exchange's time is looked at in ticks, too, which cost half of a timer (300
/// instructions); a shorter one would be late by too large a part of itself.
pub const ALARM_COARSE: Duration = Duration::from_secs(4);
/// Exchanges of one worker whose time is looked at in ticks; more have a timer each. Each is 32 bytes.
pub const ALARMS: usize = 64 * KIB;
/// After how long a keep-alive connection without a request keeps no buffers: they are 20 KiB, and
/// making them anew costs the next request about a tenth.
pub const REST_AFTER: Duration = Duration::from_millis(500);
/// Connections that are told so in one sweep: each takes some 2 µs that requests wait for.
pub const RESTS_AT_ONCE: usize = 1024;
/// Streams that one HTTP/2 connection may have open.
pub const HTTP2_STREAMS: u32 = 128;
/// Bytes that one HTTP/2 stream may have on its way to us before we read. A connection may have as
/// much for each of its streams, so that no number of streams whose bytes nobody takes holds up
/// another one.
pub const HTTP2_STREAM_WINDOW: u32 = 256 * KIB as u32;
/// The greatest window of a connection, however many streams it is allowed.
pub const HTTP2_CONNECTION_WINDOW: u32 = 256 * MIB as u32;
/// Uploads of one HTTP/2 connection whose trailers are looked at, the last ones begun: twice as many as
/// may be open.
pub const HTTP2_UPLOADS_FOLLOWED: usize = 2 * HTTP2_STREAMS as usize;
/// Bytes of a response that a client of HTTP/2 must make room for within [`WRITE_STALL`]: a frame of
/// the size that every client takes.
pub const HTTP2_PIECE: usize = 16 * KIB;
/// Bytes that hyper may hold for one HTTP/2 stream whose other end does not read.
pub const HTTP2_SEND_BUFFER: usize = 64 * KIB;
/// Bytes that are held for one HTTP/2 connection until its task's next turn, so that what several
/// streams have to say leaves in one write.
pub const HTTP2_GATHER: usize = 16 * KIB;
/// How often a client whose requests are in flight is asked by HTTP/2 PING whether it is still there.
pub const HTTP2_CLIENT_PING: Duration = Duration::from_secs(60);
/// The same for endpoints. gRPC servers take it for abuse if it comes more often than each 5 minutes.
pub const HTTP2_ENDPOINT_PING: Duration = Duration::from_secs(330);
/// To answer a PING.
pub const HTTP2_PING_PATIENCE: Duration = Duration::from_secs(20);
/// Streams that a client may open and reset before they are accepted (rapid reset, CVE-2023-44487).
pub const HTTP2_PENDING_RESETS: usize = 20;
/// Streams that we may have had to reset for a client's errors (`MadeYouReset`, CVE-2025-8671).
pub const HTTP2_LOCAL_ERROR_RESETS: usize = 256;
/// Requests that a client of HTTP/2 may give up within [`HTTP2_ABANDONED_WITHIN`], beyond those that it
/// let be answered, before its connection ends (Envoy: 500).
pub const HTTP2_ABANDONED: u32 = 500;
/// See [`HTTP2_ABANDONED`]: a client that has waited for longer had a reason.
pub const HTTP2_ABANDONED_WITHIN: Duration = Duration::from_secs(1);
/// Frames that ask for no work (PING, SETTINGS, WINDOW_UPDATE, PRIORITY, unknown ones) which a client of
/// HTTP/2 may send within [`HTTP2_CONTROL_WITHIN`] beyond those that it has earned. At 0.1 to 0.2 µs each
/// they are 2 ms of a worker.
pub const HTTP2_CONTROL_FRAMES: usize = 10_000;
/// See [`HTTP2_CONTROL_FRAMES`]. An idle client that asks ten times a second whether we live is welcome.
pub const HTTP2_CONTROL_WITHIN: Duration = Duration::from_secs(10);
/// Bytes written to a client that earn it one more such frame; so does each frame of a request. The
/// smallest message of gRPC is 14 bytes, and clients may answer it with a PING.
pub const HTTP2_CONTROL_EARNED_BY: usize = 16;
/// Bytes that hyper may buffer for one connection in each direction, and so the pieces in which a large
/// body is read: an upload of 1 MiB costs a third more in pieces of 64 KiB (docs/performance.md).
pub const CONNECTION_BUFFER: usize = 192 * KIB + HEAD_BYTES;
/// After an early response: how much of the rest of the request is read and thrown away, and for how
/// long, so that the client sees the response instead of a reset.
pub const DRAIN_REQUEST_BYTES: usize = MIB;
/// See [`DRAIN_REQUEST_BYTES`].
pub const DRAIN_REQUEST_TIME: Duration = Duration::from_secs(2);
/// Pending connections in the kernel's accept queue.
pub const LISTEN_BACKLOG: i32 = 4096;
/// Connections handed to a worker and not yet taken by it.
pub const HANDOVER_QUEUE: usize = 1024;

/// Events that a worker takes from the kernel at once: what comes in of them is read before anything is
/// written for it, so that writes leave together and wake their readers once. Of 16 to 1024, 64 costs the
/// least CPU a request, and the first of them waits for less than a millisecond.
pub const EVENTS_AT_ONCE: usize = 64;
/// Requests, responses and copies of one turn that are written as soon as they can be; those after them let
/// each other go first. At a third of what a worker can do a turn has one to three events, and to wait
/// for others would cost a request 5 % of its latency.
pub const WRITES_AT_ONCE: usize = 4;
/// Turns of tasks after which a worker asks the kernel again although there is more to run: so many that
/// each of [`EVENTS_AT_ONCE`] can have two, and its copy as well. With tokio's 61 the writes of a turn
/// were torn apart, at 7 % more CPU for a request with a copy.
pub const TASKS_AT_ONCE: u32 = 4 * EVENTS_AT_ONCE as u32;

// ---- upstream -----------------------------------------------------------------------------------

/// To establish a connection to an endpoint.
pub const CONNECT: Duration = Duration::from_secs(3);
/// A TLS handshake, on either side.
pub const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes of a file with certificates or a key; the roots of a whole system are a quarter of it.
pub const PEM_BYTES: u64 = MIB as u64;
/// Endpoints whose TLS sessions one backend remembers.
pub const TLS_CLIENT_SESSIONS: usize = 256;
/// Bytes of `X-Forwarded-Client-Cert`.
pub const CLIENT_IDENTITY_BYTES: usize = 4 * KIB;
/// One attempt, up to the head of the response.
pub const BACKEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Idle connections kept for one endpoint by one worker and lane.
pub const IDLE_PER_ENDPOINT: usize = 64;
/// Idle connections above [`IDLE_PER_ENDPOINT`], in all, and for how long each: a load that gave them
/// back wants them again in a moment, or never.
pub const IDLE_BURST: (usize, Duration) = (1024, Duration::from_secs(1));
/// Age at which an idle connection is closed, a shared one of HTTP/2 up to twice [`REAP`] later.
pub const IDLE_AGE: Duration = Duration::from_secs(60);
/// Different endpoints tried for one request before the client is told 502.
pub const ATTEMPTS: u32 = 3;
/// Times that a request may be sent again where a route says so.
pub const RETRIES_MOST: u32 = 10;
/// Bytes of a client's first message of TLS, where it is read ahead for the name that it asks for. One
/// with every extension that is in use has less than 4 KiB.
pub const CLIENT_HELLO: usize = 32 * KIB;
/// Longest pause that a route may ask for between two attempts: the client waits for all of them.
pub const RETRY_BACKOFF: Duration = Duration::from_secs(10);
/// Bytes of a body that are kept to be sent again, by default and at most. The first also without
/// `retries`, where an endpoint of HTTP/2 may say that it did not look at a request: a GOAWAY costs none
/// then whose body is a usual one.
pub const RETRY_BODY: (usize, usize) = (64 * KIB, 16 * MIB);
/// Retries beyond those that are always safe, in percent of the requests of one worker, lane and
/// backend: a backend that fails all of them gets a fifth more to do and not several times as much.
pub const RETRY_PERCENT: u32 = 20;
/// Retries a second that are allowed however few requests there are: as many as Gateway API's retry
/// budgets have when nothing else is said.
pub const RETRIES_PER_SECOND: u32 = 10;
/// Retries that may be saved up.
pub const RETRIES_SAVED: u32 = 100;
/// Times that a request goes on to another endpoint because the one that it was about to be sent to
/// was removed. Each takes a new set, so only a source that never rests gets there.
pub const REMOVED_UNDERWAY: u8 = 16;
/// Removed endpoints of one backend that are remembered until what they have in flight is broken off.
/// Only a source that never rests gets there.
pub const LEAVING: usize = 20_000;
/// Times that a request is sent again because its endpoint said that it did not look at it: a connection
/// that is being left (GOAWAY) is met by all that are on their way to it, and the next one may be, too.
pub const UNPROCESSED: u8 = 8;
/// Failures in a row after which an endpoint is left out.
pub const EJECTION_FAILURES: u32 = 5;
/// How long an endpoint is left out, at first and at most.
pub const EJECTION_TIME: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// Part of a set that may be left out at once, in percent.
pub const EJECTION_PERCENT: u32 = 50;
/// Time between two probes of an endpoint, and for one probe.
pub const PROBE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(2));
/// Probes in a row that make an endpoint healthy, and unhealthy.
pub const PROBE_THRESHOLDS: (u32, u32) = (2, 3);
/// Probes of one backend that run at once.
pub const PROBES: usize = 64;
/// Bytes of a probe's response that are read.
pub const PROBE_BYTES: usize = 64 * KIB;
/// Steps of a slow start.
pub const SLOW_START_STEPS: u32 = 20;
/// Time between two steps of a slow start, at least: each builds the set's tables anew.
pub const SLOW_START_TICK: Duration = Duration::from_millis(100);
/// Share of an endpoint, in thousandths, with which a slow start begins.
pub const SLOW_START_LEAST: u64 = 100;
/// Entries of a weighted rotation; weights that need more are rounded.
pub const ROTATION: usize = 1 << 16;
/// Keys looked at, other than the first, when the endpoint of a consistent choice cannot be used.
pub const REHASHES: u64 = 32;
/// Draws made, other than the first two, when both endpoints drawn were tried before.
pub const REDRAWS: usize = 4;
/// Bytes read from an endpoint at once.
pub const READ_CHUNK: usize = 64 * KIB;
/// First read of a response: the head and a small body.
pub const READ_FIRST: usize = 8 * KIB;
/// Interim (1xx) responses accepted before a final one.
pub const INTERIM_RESPONSES: usize = 8;
/// Bytes of a chunk-size line, extensions included.
pub const CHUNK_LINE: usize = 4 * KIB;
/// HTTP/2 connections that one worker opens to one endpoint in one lane.
pub const HTTP2_CONNECTIONS_PER_ENDPOINT: usize = 8;
/// For an endpoint to say whether it takes extended CONNECT, once it is connected to; it comes with the
/// first bytes of HTTP/2, right behind the TLS handshake.
pub const HTTP2_SETTINGS: Duration = Duration::from_secs(1);
/// How often it is looked whether it has.
pub const HTTP2_SETTINGS_LOOK: Duration = Duration::from_millis(2);
/// Requests given up in a row, with nothing answered in between, after which an HTTP/2 connection to an
/// endpoint is replaced.
pub const HTTP2_UNANSWERED: usize = 3;
/// Backends that one process can hold.
pub const BACKENDS: usize = 100_000;
/// Endpoints of one backend; what a source names beyond it is dropped and said in `last_error`.
pub const ENDPOINTS: usize = 50_000;

// ---- routing -----------------------------------------------------------------------------------

/// Bytes of one compiled regular expression.
pub const PATTERN_BYTES: usize = MIB;
/// Edits in each list of a header filter. Far below what a `HeaderMap` can hold (32,768), so that no
/// edit of a bounded head can fail.
pub const HEADER_EDITS: usize = 1024;

// ---- mirrors ------------------------------------------------------------------------------------

/// Copies in flight for one mirror.
pub const MIRROR_IN_FLIGHT: usize = 1024;
/// How far one copy may lag behind the primary's body.
pub const MIRROR_LAG: usize = MIB;
/// Bytes that the primary may pull before the copies' tasks have a turn at their sockets. They share
/// a thread: without it one turn of the primary could be longer than a copy's lag, and a mirror that
/// keeps up would be cut for it. Nobody is waited for: the primary goes on in the same round.
pub const MIRROR_BURST: usize = 128 * KIB;
/// What the primary's body may be held back, for all copies of one request together, before a copy is
/// cut for its lag: at first, and more for each MiB that the copy took. A mirror that takes nothing costs
/// the first part once, and one that takes R MiB a second at most R/2000 of the time. Of 76 uploads of
/// 64 MiB and 1 GiB at 1 GB/s to equal servers on two cores, 16 to 21 copies were cut without it, one or
/// two with half of the second part, none in three runs with this.
pub const MIRROR_PATIENCE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_micros(500));
/// Bytes that all copies of one worker may pin.
pub const MIRROR_BYTES_PER_WORKER: usize = 64 * MIB;
/// From the end of the request to the end of its copy.
pub const MIRROR_TIMEOUT: Duration = Duration::from_secs(5);
/// Body chunks below this are copied into the lag queue: a shared slice of one byte pins the whole
/// read buffer that it came from.
pub const MIRROR_COPY_BELOW: usize = 2 * KIB;
/// Bytes of a copy's response that are read so that its connection can be used again, beside those that
/// echo what it took of the request: about as much work as a new connection is. With more, mirrors that
/// answer at length would take the processor from the primary.
pub const UNWANTED_BYTES: u64 = 256 * KIB as u64;
/// How often that is halved at most, for answers that do not say how long they are: down to 16 KiB of
/// a mirror none of whose answers has an end, since whatever is read of these is in vain.
pub const UNWANTED_HALVED_MOST: u64 = 4;
/// Bytes that an endpoint may have sent before they are read, by lane; none is what the kernel finds
/// best. Nobody waits for a copy's answer, and one without an end would fill what the kernel gives: 2 MiB
/// were written by a mirror for each [`UNWANTED_BYTES`] that were read of it.
pub const RECEIVED_BYTES: [Option<u32>; 2] = [None, Some(64 * KIB as u32)];
/// How often it is looked whether a copy over HTTP/2 was written whose answer is not read any more.
pub const MIRROR_WRITTEN_LOOK: Duration = Duration::from_millis(2);
/// Part of the process' file descriptors that copies may have at once, numerator and denominator: so
/// that clients and primaries never run out of them on account of mirrors that hold their connections.
pub const MIRROR_DESCRIPTORS: (usize, usize) = (1, 4);
/// Nanoseconds from one new connection for copies to the next, for each worker and backend, on average:
/// 2,000 a second. A connection is ten times the work of a copy on one that was kept, and a mirror that
/// closes each would take the processor from the primary: at 27,000 requests a second, 30 % of what a
/// worker can do, the median went from 0.16 to 3.7 ms.
pub const CONNECT_INTERVAL: u64 = 500_000;
/// New connections that copies may be ahead of that, so that a burst finds what it needs: as many as a
/// mirror may have in flight by default.
pub const CONNECTS_BURST: u64 = 1024;
/// Connections that an answer counts as, beside its own, of which nothing was read since it says that it is
/// longer than [`UNWANTED_BYTES`]: what the kernel took of it meanwhile.
pub const LEFT_CONNECTS: u64 = 2;
/// The same for one that was read until it was too long: else a mirror whose answers never end could have
/// hundreds of megabytes read each second.
pub const OVERRUN_CONNECTS: u64 = 18;
/// Connect failures in a row that open a mirror's breaker.
pub const BREAKER_FAILURES: u32 = 5;
/// Copies in a row that a mirror resets, or answers with what is not HTTP, after which its breaker opens
/// too. Many, since each of them tells something about a version that is being tried; but not all, since
/// each costs a new connection: without it such a mirror took the worker, and with it the primary's
/// latency (p50 11 to 23 times as long at 27,600 requests a second).
pub const BREAKER_FRUITLESS: u32 = 100;
/// Time between two probes of an open breaker.
pub const BREAKER_PROBE: Duration = Duration::from_secs(1);
/// Hops after which a copy is not copied again, whatever else allows it.
pub const MIRROR_HOPS: u32 = 8;
/// Time for which the token that a copy carries is known again: a loop comes round in milliseconds,
/// and a token that somebody has seen is of no use for longer.
pub const LOOP_TOKEN_AGE: Duration = Duration::from_secs(60);
/// How much of an unused rate of copies may be made up for at once.
pub const RATE_BURST: Duration = Duration::from_millis(100);
/// Copies per second that a mirror may be bounded to.
pub const MIRROR_RATE_MOST: u32 = 10_000_000;
/// Share of errors, and of copies dropped by a budget, at which a mirror is stopped.
pub const STOP_RATE: f64 = 0.5;
/// Over how long these shares are taken.
pub const STOP_WINDOW: Duration = Duration::from_secs(10);
/// Requests to be copied in that time, below which nothing is concluded.
pub const STOP_MINIMUM: u64 = 100;
/// How often mirrors that stop or ramp by themselves are looked at.
pub const MIRROR_LOOK: Duration = Duration::from_millis(500);
/// Readings kept of one such mirror: a window is divided into about as many parts.
pub const MIRROR_READINGS: usize = 20;
/// Steps of a ramp.
pub const RAMP_STEPS: usize = 32;
/// Members of a `tracestate` that go on (W3C Trace Context, 3.3.1.1).
pub const TRACE_STATE_MEMBERS: usize = 32;
/// Mirrors of one route.
pub const MIRRORS_PER_ROUTE: usize = 16;

// ---- control ------------------------------------------------------------------------------------

/// Least and greatest time for which a DNS answer is believed.
pub const DNS_TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How soon a name without addresses is looked up again, whatever time its answer allows: it may
/// be about to be filled.
pub const DNS_EMPTY: Duration = Duration::from_secs(5);
/// One query to one name server. Retrying is the resolver's business, on its own schedule.
pub const DNS_QUERY: Duration = Duration::from_secs(2);
/// One look-up: the search list and the targets of a service included.
pub const DNS_LOOKUP: Duration = Duration::from_secs(10);
/// Names looked up at once; each takes two sockets.
pub const DNS_LOOKUPS: usize = 256;
/// Targets of one SRV answer; what it names beyond them is dropped, and said.
pub const DNS_TARGETS: usize = 1024;
/// Targets of one SRV answer that are looked up at once.
pub const DNS_TARGETS_AT_ONCE: usize = 16;
/// How often `/etc/resolv.conf` and `/etc/hosts` are checked for changes, at most.
pub const DNS_CONFIG_RESYNC: Duration = Duration::from_secs(1);
/// How often the registry is compared with what is kept fresh, whatever was announced.
pub const RECONCILE: Duration = Duration::from_secs(5);
/// First and greatest pause after a failed look-up.
pub const SOURCE_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often a watched file is looked at again, whatever the watcher said: heals lost events.
pub const FILE_RESYNC: Duration = Duration::from_secs(5);
/// How long a write to a watched file that is not a rename is given to be completed.
pub const FILE_SETTLE: Duration = Duration::from_millis(50);
/// How long one that is written in place is waited for to be closed, before it is read as it is. Half
/// a list can be a valid list.
pub const FILE_WRITING: Duration = Duration::from_secs(2);
/// How often a backend fed by EndpointSlices looks at the store, whatever was announced.
pub const SLICES_RESYNC: Duration = Duration::from_secs(5);
/// How long changes of Kubernetes resources are collected before routes are compiled again.
pub const RESOURCES_SETTLE: Duration = Duration::from_millis(50);
/// Files below a folder of manifests, or of an nginx configuration that is imported.
pub const MANIFEST_FILES: usize = 10_000;
/// Bytes of a configuration or endpoint file.
pub const FILE_BYTES: u64 = 64 * MIB as u64;
/// Depth to which a configuration may be nested.
pub const CONFIG_DEPTH: usize = 32;
/// Values, keys included, of a configuration or endpoint file: 100,000 backends with their routes fit,
/// at some 100 bytes each.
pub const CONFIG_NODES: usize = 4_000_000;
/// Data-plane threads that may be asked for.
pub const WORKERS: usize = 1024;
/// Copies in flight that a mirror may be allowed.
pub const MIRROR_IN_FLIGHT_MOST: usize = 1_000_000;
/// Configuration errors told at once.
pub const CONFIG_ERRORS: usize = 100;
/// Time for in-flight requests to finish when the process is told to stop.
pub const DRAIN: Duration = Duration::from_secs(30);
/// Time for copies in flight to finish when the process is told to stop.
pub const DRAIN_COPIES: Duration = Duration::from_secs(5);
/// Time after which the process is ready although a source has not answered yet.
pub const READY_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of access records that wait for the writer, per worker; what does not fit is dropped and
/// counted. A tenth of a second at 50,000 requests a second.
pub const ACCESS_LOG_BYTES_PER_WORKER: usize = 4 * MIB;
/// Bytes that wait when the writer is woken before its interval is over.
pub const ACCESS_LOG_WAKE: usize = 64 * KIB;
/// How long records are collected before they are written together.
pub const ACCESS_LOG_INTERVAL: Duration = Duration::from_millis(50);
/// Bytes of one text in an access record; the rest of a longer one is left out.
pub const ACCESS_LOG_TEXT: usize = 2 * KIB;
/// Spans that wait to be sent; what does not fit is dropped and counted. About 2 MiB.
pub const SPANS_QUEUE: usize = 4096;
/// Spans sent at once.
pub const SPANS_BATCH: usize = 512;
/// How long spans are collected before they are sent together.
pub const SPANS_INTERVAL: Duration = Duration::from_secs(1);
/// For a collector to take what it is sent.
pub const SPANS_PATIENCE: Duration = Duration::from_secs(10);
/// Time between two lines of the log that tell the same kind of failure.
pub const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Times that a mirror's counts are read before they are said not to add up.
pub const ACCOUNTING_READS: u32 = 8;
/// How often idle connections are looked through for old ones.
pub const REAP: Duration = Duration::from_secs(5);
/// How often a worker gives back memory that a burst left: twice as long is what it takes, since pages
/// are first marked and then returned.
pub const GIVE_BACK: Duration = Duration::from_secs(5);
/// Blocks that it asks its allocator for to that end; mimalloc looks through its heap after as many.
pub const GIVE_BACK_BLOCKS: usize = 10_000;
/// How long start-up and a reload wait for the first answers of new sources, by lane: a mirror is as
/// fresh as a primary where its source answers, and where it does not clients wait for it less.
pub const FIRST_ANSWERS: [Duration; 2] = [Duration::from_secs(2), Duration::from_millis(500)];
/// Connections to the admin listener.
pub const ADMIN_CONNECTIONS: usize = 64;
/// Bytes of a request head to the admin listener.
pub const ADMIN_HEAD_BYTES: usize = 16 * KIB;
/// A connection to the admin listener without a complete request.
pub const ADMIN_IDLE: Duration = Duration::from_secs(120);
/// How often a watcher's view of the backends is compared with what is in use, whatever was told.
pub const ADMIN_WATCH_RESYNC: Duration = Duration::from_secs(1);
/// How often the time that a watcher needed for looking it then waits, [`ADMIN_WATCH_RESYNC`] at most:
/// watching thousands of backends that change all the time takes a twentieth of a core, and of a few it
/// is told at once.
pub const ADMIN_WATCH_PAUSE: u32 = 19;
/// Bytes of a form sent to the admin listener.
pub const ADMIN_FORM_BYTES: usize = 4 * KIB;
/// Bytes of the file with the admin token.
pub const ADMIN_TOKEN_BYTES: u64 = 4 * KIB as u64;
/// Pause after an error of the admin listener's `accept`.
pub const ADMIN_ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// ---- demo ---------------------------------------------------------------------------------------

/// Clients, each with one connection and one request at a time.
pub const DEMO_CLIENTS: u64 = 16;
/// Requests a second that they send together.
pub const DEMO_REQUESTS_PER_SECOND: u32 = 400;
/// Requests whose copies are still waited for, to compare the two.
pub const DEMO_LEDGER: usize = 16 * 1024;
/// Connections to one endpoint of an embedded service.
pub const DEMO_CONNECTIONS: usize = 1024;
/// How long one watch of the API server's lasts before it is begun again from where it was; a connection that
/// went silent although somebody in between answers the [`API_PROBES`] is noticed a little later.
pub const WATCH_TIME: Duration = Duration::from_secs(60);
/// First and greatest pause before a watch that failed begins anew.
pub const WATCH_BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// How long connecting to the API server may take, and after which time a request that got no answer is made
/// anew when others get theirs: the connection leads to a server that is gone.
pub const API_SILENCE: Duration = Duration::from_secs(5);
/// After which silence of the API server's the kernel asks whether it is there, how long it waits for each
/// answer, and how often it asks: one that is gone without a word is noticed after 25 s, by a watch as by a
/// request, and one that lives survives two lost packets.
pub const API_PROBES: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(5), 3);
/// Within which time those who wait try again once one of them reaches the API server, which was away; each
/// does so at most once in the longest pause.
pub const RECOVERY_SPREAD: Duration = Duration::from_secs(1);
/// How long a watch that did not hold the last time has to before its kind is told as up to date: it is refused
/// within a round trip.
pub const WATCH_HOLDS: Duration = Duration::from_secs(2);
/// How long a kind has to be refused before it is gone on without: an API server that begins refuses what
/// it will grant once it has read its roles, and does not know what it will once it has read its definitions.
pub const REFUSAL_HOLDS: Duration = Duration::from_secs(3);
/// Objects of one kind that `/ready` names because they cannot be read, and characters of why, for that may
/// quote the object: a broken client breaks many in the same way.
pub const UNREADABLE_TOLD: (usize, usize) = (16, 1024);
/// How long start-up waits for the first lists of a cluster's resources.
pub const FIRST_LISTS: Duration = Duration::from_secs(10);
/// How long readiness and statuses wait for kinds that cannot be listed while others can.
pub const LISTS_PATIENCE: Duration = Duration::from_secs(60);
/// How long a Gateway's Lease for writing its status lasts without being renewed.
pub const LEASE_TIME: Duration = Duration::from_secs(15);
/// How often it is renewed.
pub const LEASE_RENEW: Duration = Duration::from_secs(5);
/// How long a turn of taking or renewing Leases waits for answers. A turn for new ones may stand before that
/// for the others, and both in time for who held one to stop before it runs out: renewing and twice this
/// is less than it lasts.
pub const LEASE_ANSWER: Duration = Duration::from_secs(4);
/// How long a Lease is kept after its Gateway is not served any more, so that what was said about it can be
/// taken back: at least, and at most while that is not done. It is not renewed then: with a turn's time it is
/// less than it lasts.
pub const LEASE_LEFT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// Leases that one process holds or tries to: each costs the API server two requests a turn.
pub const LEASES: usize = 1024;
/// How long news about statuses are collected before they are compared and written.
pub const STATUS_SETTLE: Duration = Duration::from_millis(50);
/// How long the writing of one status waits for its answer: the others stand behind it.
pub const STATUS_ANSWER: Duration = Duration::from_secs(10);
/// How often statuses are compared although nothing was heard: what could not be written is tried again.
pub const STATUS_RESYNC: Duration = Duration::from_secs(10);
/// Addresses that a Gateway tells: as many as the API takes.
pub const STATUS_ADDRESSES: usize = 16;
/// Problems that one condition of a route names, and characters of each: the API takes 32 Ki of a message.
pub const LINES_IN_STATUS: (usize, usize) = (16, 1024);
/// Characters that are shown of a value that is ignored.
pub const IGNORED_VALUE: usize = 100;
/// How long a process that ends tries to give Leases up; after that they run out by themselves.
pub const LEASE_RELEASE: Duration = Duration::from_secs(2);
/// Statuses, or Leases, that are written at the same time, so that the API server is not flooded.
pub const STATUS_WRITES: usize = 8;
