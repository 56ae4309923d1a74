//! Series of routes: what clients got.

use std::fmt;

use super::Exposition;
use crate::telemetry::page::Page;

impl Exposition {
    pub(super) fn routes(&self, page: &mut Page<'_, '_>) -> fmt::Result {
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
}
