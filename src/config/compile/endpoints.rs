//! Endpoints and endpoint lists.

use std::path::Path;

use super::Unique;
use crate::config::decode::{List, Report};
use crate::config::error::Problem;
use crate::config::raw;
use crate::discovery::source::{EndpointAddress, EndpointSpec};

/// One endpoint; a socket's relative path is relative to `base`.
pub(in crate::config) fn endpoint(raw: &raw::Endpoint, base: &Path) -> EndpointSpec {
    EndpointSpec {
        address: address(&raw.address.value, base),
        weight: raw.weight.as_ref().map_or(1, |weight| weight.value.0),
        zone: raw.zone.as_ref().map(|zone| zone.value.0.as_str().into()),
    }
}

/// `address`, with a socket's relative path relative to `base`.
pub(super) fn address(address: &EndpointAddress, base: &Path) -> EndpointAddress {
    match address {
        EndpointAddress::Unix(path) => EndpointAddress::Unix(base.join(path).into()),
        tcp @ EndpointAddress::Tcp(_) => tcp.clone(),
    }
}

/// The list in a backend's `endpoints`: stricter than what a file or DNS says, since nobody else
/// than its author could put it right.
pub(super) fn fixed(list: &List<raw::Endpoint>, base: &Path, report: &mut Report<'_>) -> Vec<EndpointSpec> {
    let specs: Vec<EndpointSpec> = list.items.iter().map(|raw| endpoint(raw, base)).collect();
    let mut addresses = Unique::default();
    for (raw, spec) in list.items.iter().zip(&specs) {
        addresses.add(spec.address.to_string(), raw.address.at, "endpoint", report);
    }
    if list.length == 0 {
        report.warn(list.at, Problem::new("a backend without endpoints: its requests are answered 503"));
    } else if specs.len() == list.length && specs.iter().all(|spec| spec.weight == 0) {
        report.error(
            list.at,
            Problem::new("every endpoint has the weight 0").hint("give one a weight above 0"),
        );
    }
    specs
}
