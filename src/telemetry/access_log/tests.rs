#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::SystemTime;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use serde_json::{Value, json};

use super::*;
use crate::discovery::source::EndpointAddress;
use crate::mirror::outcome::Outcome;

const PATIENCE: Duration = Duration::from_secs(20);

fn facts() -> RequestFacts {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("shop.example.com"));
    headers.insert("user-agent", HeaderValue::from_bytes(b"caf\xe9 \"x\"").unwrap());
    headers.insert("x-request-id", HeaderValue::from_static("abc-1"));
    headers.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.7"));
    let start = SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_251_199_999);
    let target = PathAndQuery::from_static("/api?q=1");
    let mut facts = RequestFacts::begin(start, &Method::GET, Some(&target), Version::HTTP_11);
    facts.fields(&headers);
    facts
}

fn connection() -> &'static ConnectionFacts {
    static CONNECTION: LazyLock<ConnectionFacts> = LazyLock::new(|| {
        ConnectionFacts::of("127.0.0.1:8080".parse().unwrap(), "192.0.2.7:4242".parse().unwrap())
    });
    &CONNECTION
}

fn request<'a>(facts: &'a RequestFacts, host: &'a EndpointAddress) -> AccessRecord<'a> {
    AccessRecord::Request(RequestRecord {
        facts,
        connection: connection(),
        status: Some(StatusCode::OK),
        flag: ResponseFlag::None,
        details: "via_upstream",
        bytes_received: 5,
        bytes_sent: 12,
        grpc_status: None,
        duration: Duration::from_micros(1234),
        upstream_host: Some(host),
        upstream_cluster: Some("app"),
        route: Some("api"),
    })
}

fn copy(facts: &RequestFacts) -> AccessRecord<'_> {
    AccessRecord::Copy(CopyRecord {
        facts,
        status: None,
        outcome: Outcome::FailedConnect,
        duration: Duration::from_millis(3),
        mirror: "next",
        upstream_host: None,
        route: "api",
    })
}

fn start(path: &Path) -> (AccessLog, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new(2));
    let log = AccessLog::start(&AccessLogPlan::File(path.to_owned()), 2, metrics.clone()).unwrap();
    (log, metrics)
}

fn records(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_request_and_its_copy_are_a_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, metrics) = start(&path);
    let (facts, host) = (facts(), EndpointAddress::Tcp("127.0.0.1:9001".parse().unwrap()));
    log.log(WorkerId(0), &request(&facts, &host));
    log.log(WorkerId(0), &copy(&facts));
    assert!(log.flush(PATIENCE));
    assert_eq!(
        records(&path),
        [
            json!({
                "kind": "request",
                "start_time": "2024-02-29T23:59:59.999Z",
                "method": "GET",
                "x-envoy-origin-path": "/api?q=1",
                "protocol": "HTTP/1.1",
                "response_code": 200,
                "response_flags": "-",
                "response_code_details": "via_upstream",
                "bytes_received": 5,
                "bytes_sent": 12,
                "duration": 1.234,
                "x-forwarded-for": "192.0.2.7",
                "user-agent": "café \"x\"",
                "x-request-id": "abc-1",
                ":authority": "shop.example.com",
                "upstream_host": "127.0.0.1:9001",
                "upstream_cluster": "app",
                "downstream_local_address": "127.0.0.1:8080",
                "downstream_remote_address": "192.0.2.7:4242",
                "route_name": "api",
            }),
            json!({
                "kind": "copy",
                "start_time": "2024-02-29T23:59:59.999Z",
                "method": "GET",
                "x-envoy-origin-path": "/api?q=1",
                "response_code": 0,
                "outcome": "failed_connect",
                "duration": 3.0,
                "x-request-id": "abc-1",
                ":authority": "shop.example.com",
                "mirror": "next",
                "upstream_host": null,
                "route_name": "api",
            }),
        ]
    );
    assert_eq!(metrics.gateway.access_log_dropped.load(Ordering::Relaxed), 0);
}

#[test]
fn after_reopen_a_moved_file_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let (log, _) = start(&path);
    let facts = facts();
    log.log(WorkerId(0), &copy(&facts));
    assert!(log.flush(PATIENCE));
    fs::rename(&path, &moved).unwrap();
    log.reopen();
    assert!(log.flush(PATIENCE));
    log.log(WorkerId(1), &copy(&facts));
    log.log(WorkerId(1), &copy(&facts));
    assert!(log.flush(PATIENCE));
    assert_eq!((records(&moved).len(), records(&path).len()), (1, 2));
}

#[test]
fn a_failed_reopen_keeps_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let (inner, moved) = (folder.path().join("logs"), folder.path().join("moved"));
    fs::create_dir(&inner).unwrap();
    let (log, _) = start(&inner.join("access.log"));
    fs::rename(&inner, &moved).unwrap();
    log.reopen();
    log.log(WorkerId(0), &copy(&facts()));
    assert!(log.flush(PATIENCE));
    assert_eq!(records(&moved.join("access.log")).len(), 1);
}

#[test]
fn many_threads_lose_nothing_that_is_not_counted() {
    const EACH: usize = 5_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, metrics) = start(&path);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let log = log.clone();
            scope.spawn(move || {
                let facts = facts();
                for _ in 0..EACH {
                    log.log(WorkerId(worker), &copy(&facts));
                }
            });
        }
    });
    assert!(log.flush(PATIENCE));
    let dropped = metrics.gateway.access_log_dropped.load(Ordering::Relaxed) as usize;
    assert_eq!(records(&path).len() + dropped, 4 * EACH);
}

/// A writer that is stuck: both halves are held, as while a disk blocks, and then one of them full.
#[test]
fn a_stuck_writer_costs_records_and_never_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, metrics) = start(&path);
    let facts = facts();
    log.log(WorkerId(0), &copy(&facts));
    assert!(log.flush(PATIENCE));
    let dropped = || metrics.gateway.access_log_dropped.load(Ordering::Relaxed);
    {
        let queue = log.0.as_ref().unwrap().shared.queues.of(WorkerId(0));
        let _first = queue.0[0].lock().unwrap();
        let mut second = queue.0[1].lock().unwrap();
        log.log(WorkerId(0), &copy(&facts));
        assert_eq!(dropped(), 1);
        second.bytes = vec![b'\n'; limits::ACCESS_LOG_BYTES_PER_WORKER / 2];
        drop(second);
        log.log(WorkerId(0), &copy(&facts));
        assert_eq!(dropped(), 2);
        // The other worker has room.
        log.log(WorkerId(1), &copy(&facts));
        assert_eq!(dropped(), 2);
    }
}

#[test]
fn what_is_queued_is_written_when_the_last_handle_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, _) = start(&path);
    let shared = Arc::downgrade(&log.0.as_ref().unwrap().shared);
    log.log(WorkerId(0), &copy(&facts()));
    drop(log);
    // The writer lets go of it when it is done.
    while shared.strong_count() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(records(&path).len(), 1);
}

#[test]
fn off_is_off_and_an_impossible_file_is_an_error() {
    let metrics = Arc::new(Metrics::new(1));
    let log = AccessLog::start(&AccessLogPlan::Off, 1, metrics.clone()).unwrap();
    assert!(!log.enabled());
    log.log(WorkerId(0), &copy(&facts()));
    assert!(log.flush(Duration::ZERO));
    let folder = tempfile::tempdir().unwrap();
    let error = AccessLog::start(&AccessLogPlan::File(folder.path().to_owned()), 1, metrics).err().unwrap();
    assert!(error.to_string().contains(folder.path().to_str().unwrap()));
}
