//! Where clients reach Gateways that listen on all addresses of the machine: those of the Service in
//! front of them, or given ones. Told in their statuses and used for nothing else. Pure.

use std::net::IpAddr;
use std::str::FromStr;

use k8s_openapi::api::core::v1::Service;

use super::resources::{Key, Resources};
use crate::limits;

/// What such a Gateway tells as its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reachable {
    /// Nothing: where the machine is reached is not known here.
    #[default]
    Unknown,
    /// At these.
    At(Vec<StatusAddress>),
    /// Where this Service is.
    Behind(Key),
}

/// An IP address, or a host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusAddress {
    /// An IP address.
    Ip(IpAddr),
    /// A host name, as some load balancers have.
    Host(String),
}

impl FromStr for StatusAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let host = text.to_ascii_lowercase();
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| letter(byte) || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        match host.len() <= 253 && host.split('.').all(label) {
            true => Ok(Self::Host(host)),
            false => Err(format!("{text:?} is neither an IP address nor a host name")),
        }
    }
}

impl std::fmt::Display for StatusAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(formatter),
            Self::Host(host) => formatter.write_str(host),
        }
    }
}

impl Reachable {
    /// The addresses, or why there are none yet. [`Self::Unknown`] has none and lacks none.
    pub(super) fn addresses(&self, resources: &Resources) -> Result<Vec<StatusAddress>, String> {
        let mut found = match self {
            Self::Unknown => return Ok(Vec::new()),
            Self::At(addresses) => addresses.clone(),
            Self::Behind(key) => {
                let service = resources.services.get(key);
                of_service(service.ok_or_else(|| format!("there is no Service {key}"))?)
            }
        };
        if let (true, Self::Behind(key)) = (found.is_empty(), self) {
            return Err(format!("Service {key} has no address"));
        }
        found.truncate(limits::STATUS_ADDRESSES);
        Ok(found)
    }
}

/// What its load balancer says, and addresses that are led to it from outside; where there are none, its
/// cluster IPs, by which it is reached from within.
fn of_service(service: &Service) -> Vec<StatusAddress> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let balanced = status
        .and_then(|balancer| balancer.ingress.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|ingress| ingress.ip.as_ref().or(ingress.hostname.as_ref()));
    let spec = service.spec.as_ref();
    let led = spec.and_then(|spec| spec.external_ips.as_ref()).into_iter().flatten();
    let outside = distinct(balanced.chain(led));
    if !outside.is_empty() {
        return outside;
    }
    let first = spec.and_then(|spec| spec.cluster_ip.as_ref());
    let all = spec.and_then(|spec| spec.cluster_ips.as_ref()).into_iter().flatten();
    // A headless Service's is "None".
    distinct(first.into_iter().chain(all).filter(|address| address.parse::<IpAddr>().is_ok()))
}

fn distinct<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<StatusAddress> {
    let mut found = Vec::new();
    for address in texts.filter_map(|text| text.parse().ok()) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn of(spec: Value, status: Value) -> Result<Vec<String>, String> {
        let service =
            json!({ "metadata": { "namespace": "one", "name": "front" }, "spec": spec, "status": status });
        let mut resources = Resources::default();
        let key = Key::new("one", "front");
        resources.services.insert(key.clone(), Arc::new(serde_json::from_value(service).unwrap()));
        let found = Reachable::Behind(key).addresses(&resources)?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_service_is_reached_from_outside_where_it_can_be() {
        let own = json!({ "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"] });
        let balanced =
            json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }, { "hostname": "LB.example" }] } });
        assert_eq!(of(own.clone(), balanced.clone()).unwrap(), ["192.0.2.1", "lb.example"]);
        // No load balancer has taken it on yet, or none ever will.
        assert_eq!(of(own.clone(), json!({ "loadBalancer": {} })).unwrap(), ["10.96.0.1", "fd00::1"]);
        assert_eq!(of(own.clone(), json!({})).unwrap(), ["10.96.0.1", "fd00::1"]);
        let mut led = own;
        led["externalIPs"] = json!(["192.0.2.7", "192.0.2.1"]);
        assert_eq!(of(led.clone(), json!({})).unwrap(), ["192.0.2.7", "192.0.2.1"]);
        assert_eq!(of(led, balanced).unwrap(), ["192.0.2.1", "lb.example", "192.0.2.7"]);
        let headless = of(json!({ "clusterIP": "None", "clusterIPs": ["None"] }), json!({}));
        assert_eq!(headless.unwrap_err(), "Service one/front has no address");
    }

    #[test]
    fn addresses_and_host_names_are_told_apart() {
        assert_eq!("::1".parse(), Ok(StatusAddress::Ip("::1".parse().unwrap())));
        assert_eq!("Front.Example".parse(), Ok(StatusAddress::Host("front.example".to_owned())));
        for wrong in ["", "a..b", "-a.example", "http://a", "10.0.0.1:80", "*.example"] {
            assert!(wrong.parse::<StatusAddress>().is_err(), "{wrong}");
        }
        let many = Reachable::At(vec![StatusAddress::Host("a".to_owned()); limits::STATUS_ADDRESSES + 1]);
        assert_eq!(many.addresses(&Resources::default()).unwrap().len(), limits::STATUS_ADDRESSES);
        assert_eq!(Reachable::Unknown.addresses(&Resources::default()), Ok(Vec::new()));
    }
}
