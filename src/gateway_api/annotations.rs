//! What Services say with annotations of ours, and which of them mean nothing. Pure.

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use super::backends::Routing;
use super::ignored::Ignored;
use super::resources::Key;
use crate::plan::{HealthCheck, HealthPlan, Protocol};

/// What all of them begin with.
const OURS: &str = "mirrorgate.dev/";

/// Chooses the [`Routing`]: `service` or `endpoints`.
const ROUTING: &str = "mirrorgate.dev/backend-routing";

/// Has endpoints probed: a path that is asked for, `tcp`, or `grpc`.
const HEALTH_CHECK: &str = "mirrorgate.dev/health-check";

/// Where requests for `service` go, if it says so.
pub(super) fn routing(service: &Service) -> Option<Routing> {
    service.annotations().get(ROUTING).and_then(|text| read_routing(text).ok())
}

/// How endpoints are probed, beyond what a cluster does by itself, if `service` says so.
pub(super) fn health(service: &Service, protocol: Protocol) -> Option<HealthPlan> {
    service.annotations().get(HEALTH_CHECK).and_then(|text| read_health(text, protocol).ok())
}

/// Annotations of ours that mean nothing where `service` is spoken to by `protocol`, a line for each.
pub(super) fn ignored(service: &Service, protocol: Protocol) -> Vec<String> {
    let object = format!("Service {}", Key::of(service));
    let ours = service.annotations().iter().filter(|(name, _)| name.starts_with(OURS));
    let wrong = ours.filter_map(|(name, value)| {
        let hint = match name.as_str() {
            ROUTING => read_routing(value).err()?,
            HEALTH_CHECK => read_health(value, protocol).err()?,
            _ => "the annotations of a Service are mirrorgate.dev/backend-routing and mirrorgate.dev/health-check",
        };
        Some(Ignored::new(format!("the annotation {name}"), value, hint).of(&object))
    });
    wrong.collect()
}

/// The error says what would mean something.
fn read_routing(text: &str) -> Result<Routing, &'static str> {
    match text {
        "service" => Ok(Routing::Service),
        "endpoints" => Ok(Routing::Endpoints),
        _ => Err("write service or endpoints"),
    }
}

fn read_health(text: &str, protocol: Protocol) -> Result<HealthPlan, &'static str> {
    let check = match text {
        "tcp" => HealthCheck::Tcp,
        "grpc" if protocol == Protocol::Http1 => {
            return Err(
                "grpc needs a backend that speaks HTTP/2, such as a port with `appProtocol: kubernetes.io/h2c`",
            );
        }
        "grpc" => HealthCheck::Grpc { service: String::new() },
        path if path.starts_with('/') => {
            HealthCheck::http(path.parse().map_err(|_| "this is no path that can be asked for")?)
        }
        _ => return Err("write a path such as /healthz, tcp, or grpc"),
    };
    Ok(HealthPlan::of(check))
}
