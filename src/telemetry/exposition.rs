//! The text of `/metrics`: adds up the shards and names the series. Called on the control side only,
//! since adding up ten thousand routes takes milliseconds.
//!
//! Series by code and by outcome appear once they are above 0, `delivered` from the start; counters
//! that are expected to stay 0 appear from the start, so that an alert on them has something to see.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::registry::Registry;

use super::metrics::{Metrics, Refusal, Reload};
use super::page::Page;
use super::process::ProcessFigures;
use crate::mirror::dial::DialState;
use crate::mirror::outcome::Outcome;
use crate::mirror::pair::Agreement;
use crate::proxy::deadlines::Expiry;
use crate::shard::Lane;

/// How the text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4, which every scraper reads.
    Prometheus,
    /// OpenMetrics 1.0, for scrapers that ask for it.
    OpenMetrics,
}

/// A backend and how long ago its source last said that the set in use is right; `None` before the
/// source's first answer.
pub type BackendAge = (Arc<str>, Option<Duration>);

impl Format {
    /// The best that an `Accept` header allows.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Every metric as text. Ages are handed in, since only whoever owns the backends knows them.
///
/// # Errors
/// None that writing to memory can meet; the encoder's signature has one.
pub fn render(metrics: &Arc<Metrics>, ages: Vec<BackendAge>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition { metrics: metrics.clone(), ages, format }));
    let mut text = String::new();
    match format {
        Format::Prometheus => encode_registry(&mut text, &registry)?,
        Format::OpenMetrics => encode(&mut text, &registry)?,
    }
    Ok(text)
}

struct Exposition {
    metrics: Arc<Metrics>,
    ages: Vec<BackendAge>,
    format: Format,
}

impl fmt::Debug for Exposition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exposition").finish_non_exhaustive()
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(&mut encoder, self.format);
        self.routes(&mut page)?;
        self.backends(&mut page)?;
        self.mirrors(&mut page)?;
        self.comparisons(&mut page)?;
        self.dials(&mut page)?;
        self.gateway(&mut page)?;
        process(&mut page, &ProcessFigures::read())
    }
}

impl Exposition {
    fn routes(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let routes = self.metrics.routes();
        page.counter("mirrorgate_requests", "Responses sent to clients", |family| {
            for (name, route) in &routes {
                for (code, count) in route.responses() {
                    family.count(&[("route", name), ("code", &code)], count)?;
                }
            }
            Ok(())
        })?;
        page.counter("mirrorgate_grpc_responses", "Ends of gRPC calls by status", |family| {
            for (name, route) in &routes {
                for (status, count) in route.grpc_statuses() {
                    family.count(&[("route", name), ("grpc_status", &status)], count)?;
                }
            }
            Ok(())
        })?;
        page.counter("mirrorgate_route_forwarded", "Requests sent on to a backend", |family| {
            routes
                .iter()
                .try_for_each(|(name, route)| family.count(&[("route", name)], route.forwarded_total()))
        })?;
        page.histogram(
            "mirrorgate_request_duration_seconds",
            "From a request's head to its response's end",
            |family| {
                for (name, route) in &routes {
                    let durations = route.durations();
                    if durations.count > 0 {
                        family.distribution(&[("route", name)], &durations)?;
                    }
                }
                Ok(())
            },
        )
    }

    fn backends(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let backends = self.metrics.backends();
        let lanes =
            || backends.iter().flat_map(|(name, backend)| Lane::ALL.map(|lane| (name, backend, lane)));
        page.counter("mirrorgate_upstream_requests", "Answers of endpoints, or none", |family| {
            for (name, backend, lane) in lanes() {
                for (code, count) in backend.answers(lane) {
                    family.count(&[("backend", name), ("lane", lane.as_str()), ("code", &code)], count)?;
                }
            }
            Ok(())
        })?;
        page.counter("mirrorgate_upstream_retries", "Attempts that went to another endpoint", |family| {
            lanes().try_for_each(|(name, backend, lane)| {
                family.count(&[("backend", name), ("lane", lane.as_str())], backend.retried_total(lane))
            })
        })?;
        page.counter(
            "mirrorgate_upstream_retries_denied",
            "Attempts that the budget for retries did not allow",
            |family| {
                lanes().try_for_each(|(name, backend, lane)| {
                    let labels = [("backend", &**name), ("lane", lane.as_str())];
                    family.count(&labels, backend.retry_denied_total(lane))
                })
            },
        )?;
        page.counter("mirrorgate_upstream_connects", "Attempts to connect to an endpoint", |family| {
            for (name, backend, lane) in lanes() {
                let (established, failed) = backend.connects_total(lane);
                for (result, count) in [("established", established), ("failed", failed)] {
                    if count > 0 {
                        let labels = [("backend", &**name), ("lane", lane.as_str()), ("result", result)];
                        family.count(&labels, count)?;
                    }
                }
            }
            Ok(())
        })?;
        page.counter(
            "mirrorgate_requests_to_removed_endpoints",
            "Requests sent to an endpoint after it was removed: stays 0",
            |family| {
                lanes().try_for_each(|(name, backend, lane)| {
                    let labels = [("backend", &**name), ("lane", lane.as_str())];
                    family.count(&labels, backend.sent_to_removed_total(lane))
                })
            },
        )?;
        page.gauge("mirrorgate_backend_endpoints", "Endpoints of the set in use", |family| {
            backends
                .iter()
                .try_for_each(|(name, one)| family.value(&[("backend", name)], one.endpoints() as f64))
        })?;
        page.gauge("mirrorgate_backend_generation", "Sets that this backend has had", |family| {
            backends
                .iter()
                .try_for_each(|(name, one)| family.value(&[("backend", name)], one.generation() as f64))
        })?;
        page.gauge(
            "mirrorgate_backend_set_age_seconds",
            "Time since the source last said that the set in use is right",
            |family| {
                let known = self.ages.iter().filter_map(|(name, age)| Some((name, (*age)?)));
                known
                    .into_iter()
                    .try_for_each(|(name, age)| family.value(&[("backend", name)], age.as_secs_f64()))
            },
        )?;
        page.gauge(
            "mirrorgate_backend_source_failing",
            "1 while something is wrong with the source; /backends says what",
            |family| {
                backends.iter().try_for_each(|(name, one)| {
                    family.value(&[("backend", name)], f64::from(u8::from(one.source_failures().1)))
                })
            },
        )?;
        page.counter(
            "mirrorgate_backend_source_failures",
            "Times that the source could not tell",
            |family| {
                backends
                    .iter()
                    .try_for_each(|(name, one)| family.count(&[("backend", name)], one.source_failures().0))
            },
        )?;
        page.histogram(
            "mirrorgate_backend_propagation_seconds",
            "From a source's event to the set in use",
            |family| {
                backends.iter().try_for_each(|(name, backend)| {
                    family.distribution(&[("backend", name)], &backend.propagation())
                })
            },
        )?;
        page.histogram(
            "mirrorgate_backend_first_use_seconds",
            "From a source's event to the first request that went by it",
            |family| {
                backends.iter().try_for_each(|(name, backend)| {
                    family.distribution(&[("backend", name)], &backend.first_use())
                })
            },
        )
    }

    fn mirrors(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let mirrors = self.metrics.mirrors();
        page.counter("mirrorgate_mirror_requests", "What became of the copies", |family| {
            for ((route, mirror), metrics) in &mirrors {
                for outcome in Outcome::ALL {
                    let count = metrics.outcome_total(*outcome);
                    if count > 0 || *outcome == Outcome::Delivered {
                        let labels =
                            [("route", &**route), ("mirror", &**mirror), ("outcome", outcome.as_str())];
                        family.count(&labels, count)?;
                    }
                }
            }
            Ok(())
        })?;
        page.counter(
            "mirrorgate_mirror_offered",
            "Requests that the route forwarded while it had this mirror",
            |family| {
                mirrors.iter().try_for_each(|((route, mirror), metrics)| {
                    family.count(&[("route", route), ("mirror", mirror)], metrics.offered_total())
                })
            },
        )?;
        page.gauge("mirrorgate_mirror_in_flight", "Copies in flight", |family| {
            mirrors.iter().try_for_each(|((route, mirror), metrics)| {
                let flying = metrics.in_flight.load(Ordering::Relaxed);
                family.value(&[("route", route), ("mirror", mirror)], flying as f64)
            })
        })?;
        page.gauge("mirrorgate_mirror_buffered_bytes", "Bytes that copies in flight pin", |family| {
            mirrors.iter().try_for_each(|((route, mirror), metrics)| {
                let bytes = metrics.buffered_bytes();
                family.value(&[("route", route), ("mirror", mirror)], bytes as f64)
            })
        })?;
        page.gauge(
            "mirrorgate_mirror_accounting_error",
            "Outcomes plus copies in flight less requests offered: stays 0",
            |family| {
                mirrors.iter().try_for_each(|((route, mirror), metrics)| {
                    let error = metrics.accounting_error();
                    family.value(&[("route", route), ("mirror", mirror)], error as f64)
                })
            },
        )
    }

    fn comparisons(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let mirrors = self.metrics.mirrors();
        page.counter(
            "mirrorgate_mirror_agreement",
            "Answers of the mirror beside the primary's: the same status, or class, or neither",
            |family| {
                for ((route, mirror), metrics) in &mirrors {
                    for agreement in Agreement::ALL {
                        let labels =
                            [("route", &**route), ("mirror", &**mirror), ("agreement", agreement.as_str())];
                        family.count(&labels, metrics.agreement_total(agreement))?;
                    }
                }
                Ok(())
            },
        )?;
        page.histogram(
            "mirrorgate_mirror_answer_seconds",
            "To the head of the answer, of requests that primary and mirror both answered",
            |family| {
                for ((route, mirror), metrics) in &mirrors {
                    for lane in Lane::ALL {
                        let answers = metrics.answers(lane);
                        if answers.count > 0 {
                            let labels =
                                [("route", &**route), ("mirror", &**mirror), ("lane", lane.as_str())];
                            family.distribution(&labels, &answers)?;
                        }
                    }
                }
                Ok(())
            },
        )?;
        page.counter("mirrorgate_mirror_omitted_bodies", "Copies of a head alone", |family| {
            mirrors.iter().try_for_each(|((route, mirror), metrics)| {
                family.count(&[("route", route), ("mirror", mirror)], metrics.omitted_bodies_total())
            })
        })
    }

    fn dials(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let mirrors = self.metrics.mirrors();
        let dials = || mirrors.iter().filter_map(|(key, metrics)| Some((key, metrics.dial()?)));
        page.gauge("mirrorgate_mirror_percent", "Requests copied while the mirror is active", |family| {
            dials().try_for_each(|((route, mirror), dial)| {
                family.value(&[("route", route), ("mirror", mirror)], dial.fraction.percent())
            })
        })?;
        page.gauge("mirrorgate_mirror_state", "1 for the state that the mirror is in", |family| {
            for ((route, mirror), dial) in dials() {
                for state in DialState::WORDS {
                    let labels = [("route", &**route), ("mirror", &**mirror), ("state", state)];
                    family.value(&labels, f64::from(u8::from(dial.state.as_str() == state)))?;
                }
            }
            Ok(())
        })?;
        page.counter("mirrorgate_mirror_stops", "Times that the mirror was stopped by itself", |family| {
            mirrors.iter().try_for_each(|((route, mirror), metrics)| {
                family.count(&[("route", route), ("mirror", mirror)], metrics.stops_total())
            })
        })
    }

    fn gateway(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let gateway = &self.metrics.gateway;
        page.gauge("mirrorgate_build_info", "1, labelled with the version", |family| {
            family.value(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)
        })?;
        page.gauge(
            "mirrorgate_certificate_expiry_timestamp_seconds",
            "When a listener's certificate ends to be valid",
            |family| {
                gateway.certificate_expiries().iter().try_for_each(|((listener, name), not_after)| {
                    family.value(&[("listener", listener), ("name", name)], *not_after as f64)
                })
            },
        )?;
        page.gauge("mirrorgate_client_connections", "Client connections open", |family| {
            family.value(&[], gateway.client_connections.load(Ordering::Relaxed) as f64)
        })?;
        for (name, help, count) in [
            (
                "mirrorgate_client_connections_accepted",
                "Client connections accepted",
                &gateway.client_connections_total,
            ),
            ("mirrorgate_accept_errors", "Errors of accept", &gateway.accept_errors),
            (
                "mirrorgate_tls_handshakes",
                "TLS handshakes with clients that succeeded",
                &gateway.tls_handshakes,
            ),
            (
                "mirrorgate_tls_handshakes_failed",
                "TLS handshakes with clients that failed",
                &gateway.tls_handshakes_failed,
            ),
            (
                "mirrorgate_trailers_dropped",
                "Trailer sections that could not be passed on",
                &gateway.dropped_trailers,
            ),
            ("mirrorgate_access_log_dropped", "Access records lost", &gateway.access_log_dropped),
            ("mirrorgate_spans_exported", "Spans that a collector took", &gateway.spans_exported),
            ("mirrorgate_spans_dropped", "Spans lost", &gateway.spans_dropped),
        ] {
            page.counter(name, help, |family| family.count(&[], count.load(Ordering::Relaxed)))?;
        }
        page.counter("mirrorgate_refused", "Requests and connections turned away", |family| {
            Refusal::ALL.iter().try_for_each(|reason| {
                family.count(&[("reason", reason.as_str())], gateway.refused_total(*reason))
            })
        })?;
        page.counter(
            "mirrorgate_interim_responses_dropped",
            "Interim responses that could not be passed on",
            |family| family.count(&[], gateway.interim_dropped_total()),
        )?;
        page.counter("mirrorgate_framing_refused", "Requests refused on their raw bytes", |family| {
            let mut seen = gateway.framing.iter().filter(|(_, count)| *count > 0);
            seen.try_for_each(|(reason, count)| family.count(&[("reason", reason)], count))
        })?;
        page.counter("mirrorgate_client_deadlines", "Client connections ended by a deadline", |family| {
            Expiry::ALL.into_iter().try_for_each(|expiry| {
                family.count(&[("deadline", expiry.as_str())], gateway.expired_total(expiry))
            })
        })?;
        page.counter("mirrorgate_config_reloads", "Readings of the configuration", |family| {
            family.count(&[("result", "success")], gateway.reloads_total(Reload::Succeeded))?;
            family.count(&[("result", "failure")], gateway.reloads_total(Reload::Failed))
        })?;
        page.gauge(
            "mirrorgate_config_last_success_timestamp_seconds",
            "When the configuration in use was read",
            |family| gateway.last_reload().map_or(Ok(()), |seconds| family.value(&[], seconds as f64)),
        )
    }
}

/// The names that every Prometheus client library gives these.
fn process(page: &mut Page<'_, '_>, figures: &ProcessFigures) -> fmt::Result {
    if let Some(seconds) = figures.cpu_seconds {
        page.counter("process_cpu_seconds", "User and system CPU time", |family| family.seconds(seconds))?;
    }
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory", figures.resident_bytes),
        ("process_virtual_memory_bytes", "Virtual memory", figures.virtual_bytes),
        ("process_threads", "Threads", figures.threads),
        ("process_open_fds", "File descriptors open", figures.open_files),
        ("process_max_fds", "File descriptors allowed", figures.max_files),
        ("process_start_time_seconds", "Start of the process since 1970", figures.started),
    ] {
        if let Some(value) = value {
            page.gauge(name, help, |family| family.value(&[], value as f64))?;
        }
    }
    Ok(())
}
