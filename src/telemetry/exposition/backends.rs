//! Series of backends, for each lane: what endpoints answered, and how fresh they are.

use std::fmt;

use super::Exposition;
use crate::shard::Lane;
use crate::telemetry::metrics::Connect;
use crate::telemetry::page::Page;

impl Exposition {
    pub(super) fn backends(&self, page: &mut Page<'_, '_>) -> fmt::Result {
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
                for how in Connect::ALL {
                    let count = backend.connects_total(lane, how);
                    if count > 0 {
                        let labels =
                            [("backend", &**name), ("lane", lane.as_str()), ("result", how.as_str())];
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
                let known = self.now.iter().filter_map(|one| Some((&one.name, one.age?)));
                known
                    .into_iter()
                    .try_for_each(|(name, age)| family.value(&[("backend", name)], age.as_secs_f64()))
            },
        )?;
        page.gauge(
            "mirrorgate_backend_endpoints_left_out",
            "Endpoints of the set in use that take no traffic, since probes or that traffic failed",
            |family| {
                for one in &self.now {
                    for lane in Lane::ALL {
                        let labels = [("backend", &*one.name), ("lane", lane.as_str())];
                        family.value(&labels, one.left_out[lane.index()] as f64)?;
                    }
                }
                Ok(())
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
}
