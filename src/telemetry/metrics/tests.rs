#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::*;
use crate::memory::Account;
use crate::mirror::outcome::Outcome;
use crate::mirror::pair::Agreement;
use crate::shard::{Lane, WorkerId};
use crate::telemetry::exposition::{BackendNow, Format, render};

fn name(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn lines(metrics: &Arc<Metrics>, format: Format) -> Vec<String> {
    let now = vec![
        BackendNow { name: name("app"), age: Some(Duration::from_millis(1500)), left_out: [1, 2] },
        BackendNow { name: name("new"), age: None, left_out: [0, 0] },
    ];
    render(metrics, now, format).unwrap().lines().map(str::to_owned).collect()
}

#[track_caller]
fn assert_has(lines: &[String], wanted: &str) {
    assert!(lines.iter().any(|line| line == wanted), "no line {wanted:?} in\n{}", lines.join("\n"));
}

#[test]
fn names_and_labels_are_those_of_the_interface() {
    let metrics = Arc::new(Metrics::new(2));
    let route = metrics.route(&name("api"));
    let backend = metrics.backend(&name("app"));
    let mirror = metrics.mirror(&name("api"), &name("next"));
    for worker in [WorkerId(0), WorkerId(1)] {
        route.responded(worker, StatusCode::OK, Duration::from_millis(2));
        route.forwarded(worker);
        backend.answered(worker, Lane::Primary, Some(StatusCode::OK));
        mirror.offered(worker);
    }
    backend.answered(WorkerId(0), Lane::Mirror, None);
    backend.retried(WorkerId(0), Lane::Primary);
    backend.connected(WorkerId(1), Lane::Primary, Connect::Established);
    backend.connected(WorkerId(1), Lane::Primary, Connect::Failed);
    backend.connected(WorkerId(0), Lane::Primary, Connect::Removed);
    backend.published(3, 5, Duration::from_millis(1));
    mirror.ended(WorkerId(0), Outcome::SkippedBreaker);
    mirror.in_flight.fetch_add(1, Ordering::Relaxed);
    let worker = Account::new(1 << 20);
    let _pinned = mirror.account(WorkerId(1), &worker).charge(4096).unwrap();
    mirror.compared(WorkerId(0), Agreement::Class, [Duration::from_millis(2), Duration::from_millis(9)]);
    mirror.stopped();
    metrics.gateway.refused(Refusal::NoRoute);
    metrics.gateway.reloaded(Reload::Succeeded, SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
    metrics.gateway.reloaded(Reload::Failed, SystemTime::UNIX_EPOCH + Duration::from_secs(2000));
    metrics.gateway.access_log_dropped.fetch_add(7, Ordering::Relaxed);

    let samples = [
        r#"mirrorgate_requests_total{route="api",code="200"} 2"#,
        r#"mirrorgate_route_forwarded_total{route="api"} 2"#,
        r#"mirrorgate_request_duration_seconds_count{route="api"} 2"#,
        r#"mirrorgate_request_duration_seconds_sum{route="api"} 0.004"#,
        r#"mirrorgate_request_duration_seconds_bucket{le="0.001",route="api"} 0"#,
        r#"mirrorgate_request_duration_seconds_bucket{le="0.0025",route="api"} 2"#,
        r#"mirrorgate_request_duration_seconds_bucket{le="+Inf",route="api"} 2"#,
        r#"mirrorgate_upstream_requests_total{backend="app",lane="primary",code="200"} 2"#,
        r#"mirrorgate_upstream_requests_total{backend="app",lane="mirror",code="none"} 1"#,
        r#"mirrorgate_upstream_retries_total{backend="app",lane="primary"} 1"#,
        r#"mirrorgate_upstream_connects_total{backend="app",lane="primary",result="established"} 1"#,
        r#"mirrorgate_upstream_connects_total{backend="app",lane="primary",result="failed"} 1"#,
        r#"mirrorgate_upstream_connects_total{backend="app",lane="primary",result="removed"} 1"#,
        r#"mirrorgate_requests_to_removed_endpoints_total{backend="app",lane="primary"} 0"#,
        r#"mirrorgate_requests_to_removed_endpoints_total{backend="app",lane="mirror"} 0"#,
        r#"mirrorgate_backend_endpoints{backend="app"} 5"#,
        r#"mirrorgate_backend_generation{backend="app"} 3"#,
        r#"mirrorgate_backend_set_age_seconds{backend="app"} 1.5"#,
        r#"mirrorgate_backend_endpoints_left_out{backend="app",lane="primary"} 1"#,
        r#"mirrorgate_backend_endpoints_left_out{backend="app",lane="mirror"} 2"#,
        r#"mirrorgate_backend_endpoints_left_out{backend="new",lane="mirror"} 0"#,
        r#"mirrorgate_backend_propagation_seconds_count{backend="app"} 1"#,
        r#"mirrorgate_mirror_requests_total{route="api",mirror="next",outcome="delivered"} 0"#,
        r#"mirrorgate_mirror_requests_total{route="api",mirror="next",outcome="skipped_breaker"} 1"#,
        r#"mirrorgate_mirror_offered_total{route="api",mirror="next"} 2"#,
        r#"mirrorgate_mirror_in_flight{route="api",mirror="next"} 1"#,
        r#"mirrorgate_mirror_buffered_bytes{route="api",mirror="next"} 4096"#,
        r#"mirrorgate_mirror_accounting_error{route="api",mirror="next"} 0"#,
        r#"mirrorgate_refused_total{reason="no_route"} 1"#,
        r#"mirrorgate_config_reloads_total{result="success"} 1"#,
        r#"mirrorgate_config_reloads_total{result="failure"} 1"#,
        "mirrorgate_config_last_success_timestamp_seconds 1000",
        "mirrorgate_access_log_dropped_total 7",
        "mirrorgate_client_connections 0",
        "mirrorgate_client_connections_accepted_total 0",
        "mirrorgate_accept_errors_total 0",
        "mirrorgate_interim_responses_dropped_total 0",
        "mirrorgate_trailers_dropped_total 0",
        concat!("mirrorgate_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ];
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let page = lines(&metrics, format);
        for sample in samples {
            assert_has(&page, sample);
        }
        assert!(!page.iter().any(|line| line.contains(r#"set_age_seconds{backend="new"}"#)));
    }
    assert_has(&lines(&metrics, Format::Prometheus), "# TYPE mirrorgate_requests_total counter");
    let page = lines(&metrics, Format::OpenMetrics);
    assert_has(&page, "# TYPE mirrorgate_requests counter");
    assert_eq!(page.last().unwrap(), "# EOF");
}

#[test]
fn labels_are_escaped() {
    let metrics = Arc::new(Metrics::new(1));
    let route = metrics.route(&name("a\"b\\c\nd"));
    route.forwarded(WorkerId(0));
    let wanted = r#"mirrorgate_route_forwarded_total{route="a\"b\\c\nd"} 1"#;
    assert_has(&lines(&metrics, Format::Prometheus), wanted);
}

#[test]
fn a_series_lives_as_long_as_its_last_handle() {
    let metrics = Arc::new(Metrics::new(1));
    let old_table = metrics.route(&name("api"));
    old_table.forwarded(WorkerId(0));
    let new_table = metrics.route(&name("api"));
    drop(old_table);
    new_table.forwarded(WorkerId(0));
    assert_eq!(new_table.forwarded_total(), 2);
    drop(new_table);
    assert!(metrics.routes().is_empty());
    assert_eq!(metrics.route(&name("api")).forwarded_total(), 0);
}

#[test]
fn accounting_tells_a_lost_copy_and_one_counted_twice() {
    let metrics = Metrics::new(2);
    let mirror = metrics.mirror(&name("api"), &name("next"));
    for (number, outcome) in Outcome::ALL.iter().enumerate() {
        mirror.offered(WorkerId(number % 2));
        mirror.ended(WorkerId(1), *outcome);
        assert_eq!(mirror.outcome_total(*outcome), 1);
    }
    assert_eq!(mirror.accounting_error(), 0);
    mirror.offered(WorkerId(0));
    assert_eq!(mirror.accounting_error(), -1);
    mirror.in_flight.fetch_add(1, Ordering::Relaxed);
    assert_eq!(mirror.accounting_error(), 0);
    mirror.ended(WorkerId(0), Outcome::Delivered);
    assert_eq!(mirror.accounting_error(), 1);
    mirror.in_flight.fetch_sub(1, Ordering::Relaxed);
    assert_eq!(mirror.accounting_error(), 0);
}

#[test]
fn counts_of_many_threads_add_up() {
    let metrics = Metrics::new(4);
    let route = metrics.route(&name("api"));
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let route = &route;
            scope.spawn(move || {
                for _ in 0..1000 {
                    route.responded(WorkerId(worker), StatusCode::OK, Duration::from_micros(300));
                    route.responded(WorkerId(worker), StatusCode::IM_A_TEAPOT, Duration::ZERO);
                }
            });
        }
    });
    assert_eq!(route.responses(), [("200".to_owned(), 8000), ("418".to_owned(), 8000)]);
    assert_eq!(route.durations().count, 16_000);
}
