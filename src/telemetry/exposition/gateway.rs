//! Series of the gateway as a whole: connections, refusals, reloads, certificates.

use std::fmt;
use std::sync::atomic::Ordering;

use super::Exposition;
use crate::proxy::deadlines::Expiry;
use crate::telemetry::metrics::{Refusal, Reload};
use crate::telemetry::page::Page;

impl Exposition {
    pub(super) fn gateway(&self, page: &mut Page<'_, '_>) -> fmt::Result {
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
