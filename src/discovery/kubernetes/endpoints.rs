//! What the EndpointSlices of a Service say about one of its ports: a pure function.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::discovery::source::{EndpointAddress, EndpointSpec};

/// The endpoints of the port called `port` (empty if the Service's only port has no name): those that
/// are ready, or, when none is, those that still serve while they terminate. Sorted, each once,
/// over all slices and both families of addresses.
///
/// The zone of an endpoint is the one that it is meant for, as its hint says. When one of them has no
/// hint, none counts: the cluster has not spread the endpoints over the zones.
pub fn endpoints<'a>(slices: impl Iterator<Item = &'a EndpointSlice>, port: &str) -> Vec<EndpointSpec> {
    let mut ready = Vec::new();
    let mut serving = Vec::new();
    for slice in slices {
        // FQDN slices are deprecated and name no address.
        if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
            continue;
        }
        // A slice without ports says nothing of where to connect to.
        let number = slice
            .ports
            .iter()
            .flatten()
            .filter(|one| one.protocol.as_deref().unwrap_or("TCP") == "TCP")
            .find(|one| one.name.as_deref().unwrap_or("") == port)
            .and_then(|one| one.port.and_then(|number| u16::try_from(number).ok()));
        let Some(number) = number else { continue };
        for endpoint in &slice.endpoints {
            let into = match state(endpoint) {
                Some(State::Ready) => &mut ready,
                Some(State::Serving) => &mut serving,
                None => continue,
            };
            // All addresses of one endpoint are the same pod: the first stands for it, as the API has it.
            let address = endpoint.addresses.first().and_then(|address| address.parse::<IpAddr>().ok());
            into.extend(address.map(|address| EndpointSpec {
                address: EndpointAddress::Tcp(SocketAddr::new(address, number)),
                weight: 1,
                zone: hint(endpoint),
            }));
        }
    }
    let mut found = if ready.is_empty() { serving } else { ready };
    found.sort_by(|one, other| (&one.address, &one.zone).cmp(&(&other.address, &other.zone)));
    found.dedup_by(|one, other| one.address == other.address);
    if found.iter().any(|endpoint| endpoint.zone.is_none()) {
        found.iter_mut().for_each(|endpoint| endpoint.zone = None);
    }
    found
}

fn hint(endpoint: &Endpoint) -> Option<Arc<str>> {
    let zones = endpoint.hints.as_ref()?.for_zones.as_ref()?;
    zones.first().map(|zone| Arc::from(zone.name.as_str()))
}

enum State {
    Ready,
    Serving,
}

/// `None` for an endpoint that takes no traffic. What is not said about readiness is a yes.
fn state(endpoint: &Endpoint) -> Option<State> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
    match (ready, serving && terminating) {
        (true, _) => Some(State::Ready),
        (false, true) => Some(State::Serving),
        (false, false) => None,
    }
}
