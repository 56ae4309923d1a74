//! Listeners become sockets and their parts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config;
use crate::discovery::source::EndpointAddress;
use crate::gateway_api::listeners::{Listener, Owner, ServedGateway, Speaks};
use crate::gateway_api::matches;
use crate::gateway_api::resources::{Key, Resources};
use crate::plan::{ListenerPlan, ListenerTls, SectionMode, SectionPlan};
use crate::tls::{CertificatePlan, PemSource};

/// The name of a listener's part of a socket.
pub(super) fn section(gateway: &ServedGateway, listener: &Listener) -> Arc<str> {
    match &listener.owner {
        Owner::Gateway => format!("{}/{}", gateway.key, listener.name).into(),
        Owner::Set(set) => format!("{}/{set}/{}", gateway.key, listener.name).into(),
    }
}

fn socket(gateway: &ServedGateway, port: u16) -> Arc<str> {
    format!("{}:{port}", gateway.key).into()
}

/// Sockets of all Gateways that have an address, and their parts.
pub(super) fn sockets(
    resources: &Resources,
    gateways: &[ServedGateway],
) -> (Vec<ListenerPlan>, Vec<SectionPlan>) {
    let mut sockets: BTreeMap<Arc<str>, ListenerPlan> = BTreeMap::new();
    let mut sections = Vec::new();
    for gateway in gateways {
        let Ok(address) = gateway.address else { continue };
        for listener in gateway.listeners.iter().filter(|listener| listener.is_programmed()) {
            let name = socket(gateway, listener.port);
            sections.push(SectionPlan {
                name: section(gateway, listener),
                listener: name.clone(),
                host: listener.hostname.as_deref().map(matches::host),
                mode: match listener.speaks {
                    Speaks::TlsTerminate => SectionMode::Terminate,
                    Speaks::TlsPassthrough => SectionMode::Passthrough,
                    Speaks::Http | Speaks::Https | Speaks::Unsupported => SectionMode::Http,
                },
            });
            let plan = sockets.entry(name.clone()).or_insert_with(|| {
                let plan =
                    config::new_listener(EndpointAddress::Tcp(SocketAddr::new(address, listener.port)));
                ListenerPlan { name, ..plan }
            });
            if matches!(listener.speaks, Speaks::Https | Speaks::TlsTerminate) {
                let tls = plan.tls.get_or_insert_with(|| ListenerTls {
                    certificates: Vec::new(),
                    client: None,
                    tls13_only: false,
                });
                tls.client = tls.client.take().or_else(|| listener.clients.clone());
                for certificate in certificates(resources, listener) {
                    if !tls.certificates.contains(&certificate) {
                        tls.certificates.push(certificate);
                    }
                }
            }
        }
    }
    (sockets.into_values().collect(), sections)
}

fn certificates(resources: &Resources, listener: &Listener) -> Vec<CertificatePlan> {
    listener.usable_certificates.iter().filter_map(|key| certificate(resources, key)).collect()
}

pub(super) fn certificate(resources: &Resources, secret: &Key) -> Option<CertificatePlan> {
    let pem = |name| secret_text(resources, secret, name).map(|text| PemSource::Text(text.into()));
    Some(CertificatePlan { cert: pem("tls.crt")?, key: pem("tls.key")? })
}

/// The text of one entry of a Secret.
pub(in crate::gateway_api) fn secret_text(resources: &Resources, key: &Key, name: &str) -> Option<String> {
    let secret = resources.secrets.get(key)?;
    let data = secret.data.as_ref().and_then(|data| data.get(name));
    let text = secret.string_data.as_ref().and_then(|data| data.get(name));
    match (data, text) {
        (Some(data), _) => String::from_utf8(data.0.clone()).ok(),
        (None, text) => text.cloned(),
    }
}
