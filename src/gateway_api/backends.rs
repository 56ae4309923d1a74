//! What a reference to a backend means: a Service's port becomes a backend, or it is said why not.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};

use super::annotations;
use super::grants::{From, permits};
use super::model::{Reference, RouteKind};
use super::resources::Resources;
use super::status::Condition;
use super::translate::Settings;
use crate::discovery::source::{EndpointSpec, SourceSpec};
use crate::plan::{BackendPolicy, BackendSpec, Protocol, Transport};

/// Where requests for a Service go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// To its endpoints, chosen here.
    #[default]
    Endpoints,
    /// To its cluster IP, for the cluster to choose.
    Service,
}

/// The backend that `reference` means in a route of `kind` in `namespace`, or why it means none, as
/// the condition `ResolvedRefs`. A Service without endpoints is one that is empty.
pub fn resolve(
    resources: &Resources,
    settings: &Settings,
    (kind, namespace): (RouteKind, &str),
    reference: &Reference,
) -> Result<BackendSpec, Condition> {
    let unresolved = |reason, message: String| Condition::no("ResolvedRefs", reason, message);
    let key = reference.key(namespace);
    if !matches!(reference.group.as_str(), "" | "core") || reference.kind != "Service" {
        let message = format!("{}/{} {key} is no Service", reference.group, reference.kind);
        return Err(unresolved("InvalidKind", message));
    }
    let from = From { kind: kind.name(), namespace };
    if !permits(resources, from, "", "Service", &key) {
        let message = format!("no ReferenceGrant lets {kind}s in {namespace} refer to Service {key}");
        return Err(unresolved("RefNotPermitted", message));
    }
    let Some(service) = resources.services.get(&key) else {
        return Err(unresolved("BackendNotFound", format!("there is no Service {key}")));
    };
    let Some(number) = reference.port else {
        return Err(unresolved("BackendNotFound", format!("no port of Service {key} is named")));
    };
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let found = ports
        .into_iter()
        .flatten()
        .find(|port| port.port == number && port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let external = is_external(service);
    // An ExternalName Service need not have ports.
    let Some(port) =
        found.cloned().or_else(|| external.then(|| ServicePort { port: number, ..ServicePort::default() }))
    else {
        return Err(unresolved("BackendNotFound", format!("Service {key} has no TCP port {number}")));
    };
    let source = source(service, &port, settings)
        .ok_or_else(|| unresolved("BackendNotFound", format!("Service {key} has no usable address")))?;
    let tls = super::tls_policies::backend_tls(resources, &key, &port)
        .map_err(|why| unresolved("BackendNotFound", format!("Service {key}: {why}")))?;
    let (protocol, suffix) = match (port.app_protocol.as_deref(), kind, &tls) {
        (Some("kubernetes.io/h2c" | "grpc"), _, None) => (Protocol::H2c, ""),
        (Some("kubernetes.io/h2c" | "grpc"), _, Some(_)) => (Protocol::H2, ""),
        (
            Some(secure @ ("kubernetes.io/wss" | "https" | "HTTPS")),
            RouteKind::Http | RouteKind::Grpc,
            None,
        ) => {
            let message = format!("Service {key} says {secure}, and no BackendTLSPolicy says how");
            return Err(unresolved("UnsupportedProtocol", message));
        }
        // The same port may serve HTTP/1.1 to others.
        (_, RouteKind::Grpc, None) => (Protocol::H2c, "/h2c"),
        (_, RouteKind::Grpc, Some(_)) => (Protocol::H2, "/h2"),
        (_, RouteKind::Http | RouteKind::Tls, _) => (Protocol::Http1, ""),
    };
    let name = format!("{key}:{number}{suffix}").into();
    Ok(BackendSpec {
        name,
        source,
        protocol,
        host: None,
        transport: Transport { tls, proxy_protocol: None },
        policy: BackendPolicy { health: annotations::health(service, protocol), ..BackendPolicy::default() },
    })
}

fn is_external(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

fn source(service: &Service, port: &ServicePort, settings: &Settings) -> Option<SourceSpec> {
    let spec = service.spec.as_ref()?;
    let number = u16::try_from(port.port).ok()?;
    if is_external(service) {
        return Some(SourceSpec::Dns { host: spec.external_name.clone()?, port: number });
    }
    let routing = annotations::routing(service).unwrap_or(settings.routing);
    // A headless Service has no address of its own.
    let address = spec.cluster_ip.as_deref().and_then(|address| address.parse().ok());
    if let (Routing::Service, Some(address)) = (routing, address) {
        let endpoint = EndpointSpec::new(std::net::SocketAddr::new(address, number));
        return Some(SourceSpec::Static(vec![endpoint]));
    }
    Some(SourceSpec::Kubernetes {
        namespace: Arc::from(service.metadata.namespace.as_deref().unwrap_or_default()),
        service: Arc::from(service.metadata.name.as_deref().unwrap_or_default()),
        port: Arc::from(port.name.as_deref().unwrap_or_default()),
    })
}
