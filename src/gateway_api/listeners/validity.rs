//! What is wrong with listeners: conflicts with others on the same port, protocols that are not
//! spoken, certificates that cannot be used.
//!
//! Among listeners of one owner all that conflict are refused, so that their order says nothing;
//! between owners the earlier one stays (the Gateway, then the oldest ListenerSet).

use std::collections::HashMap;

use super::{Listener, Owner, Speaks};
use crate::gateway_api::grants::{From, permits};
use crate::gateway_api::resources::{Key, Resources};
use crate::gateway_api::status::Condition;
use crate::gateway_api::translate::secret_text;
use crate::tls::{CertificatePlan, PemSource};

/// Finds what is wrong with `listeners` of one Gateway, which stand in order of precedence.
pub(super) fn judge(resources: &Resources, listeners: &mut [Listener]) {
    for listener in listeners.iter_mut() {
        if listener.speaks == Speaks::Unsupported {
            let message = format!("the protocol {} is not supported", listener.protocol);
            listener.refused = Some(Condition::no("Accepted", "UnsupportedProtocol", message));
        }
    }
    conflicts(listeners);
    for listener in listeners.iter_mut() {
        certificates(resources, listener);
        if listener.invalid_kinds {
            let message = format!("a kind of route that {} listeners do not take", listener.protocol);
            listener.unresolved = Some(Condition::no("ResolvedRefs", "InvalidRouteKinds", message));
        }
    }
}

/// What may share a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Plain,
    Tls,
    Other,
}

fn group(listener: &Listener) -> Group {
    match listener.speaks {
        Speaks::Http => Group::Plain,
        Speaks::Https | Speaks::TlsTerminate | Speaks::TlsPassthrough => Group::Tls,
        Speaks::Unsupported => Group::Other,
    }
}

fn conflicts(listeners: &mut [Listener]) {
    let mut ports: HashMap<u16, Vec<usize>> = HashMap::new();
    for (index, listener) in listeners.iter().enumerate() {
        ports.entry(listener.port).or_default().push(index);
    }
    for indexes in ports.values() {
        // In order of precedence, owner by owner.
        let mut winners: Vec<usize> = Vec::new();
        let mut rest = indexes.as_slice();
        while let Some(first) = rest.first().and_then(|index| listeners.get(*index)) {
            let owner: Owner = first.owner.clone();
            let length = rest.iter().take_while(|index| owns(listeners, **index, &owner)).count();
            let (own, others) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            let found: Vec<_> = own
                .iter()
                .map(|index| {
                    // Peers that cannot be served anyway are in nobody's way.
                    let served = |other: &&usize| {
                        **other != *index && listeners.get(**other).is_some_and(Listener::is_accepted)
                    };
                    let peers = winners.iter().chain(own.iter().filter(served));
                    (*index, reason(listeners, *index, peers))
                })
                .collect();
            for (index, reason) in found {
                match (reason, listeners.get_mut(index)) {
                    (Some(reason), Some(listener)) => refuse(listener, reason),
                    (None, Some(listener)) if listener.is_accepted() => winners.push(index),
                    _ => {}
                }
            }
            rest = others;
        }
    }
}

fn owns(listeners: &[Listener], index: usize, owner: &Owner) -> bool {
    listeners.get(index).is_some_and(|listener| listener.owner == *owner)
}

fn reason<'a>(
    listeners: &[Listener],
    index: usize,
    peers: impl Iterator<Item = &'a usize>,
) -> Option<&'static str> {
    let listener = listeners.get(index)?;
    peers.filter_map(|peer| listeners.get(*peer)).find_map(|peer| {
        if group(peer) != group(listener) {
            Some("ProtocolConflict")
        } else if peer.hostname == listener.hostname {
            Some("HostnameConflict")
        } else {
            None
        }
    })
}

fn refuse(listener: &mut Listener, reason: &'static str) {
    let what = if reason == "HostnameConflict" { "host" } else { "protocol" };
    let message = format!("another listener on port {} has precedence for its {what}", listener.port);
    listener.conflict = Some(Condition { kind: "Conflicted", holds: true, reason, message: message.clone() });
    listener.refused = Some(Condition::no("Accepted", reason, message));
}

fn certificates(resources: &Resources, listener: &mut Listener) {
    if !matches!(listener.speaks, Speaks::Https | Speaks::TlsTerminate) {
        return;
    }
    let kind = match &listener.owner {
        Owner::Gateway => "Gateway",
        Owner::Set(_) => "ListenerSet",
    };
    let from = From { kind, namespace: &listener.namespace };
    let invalid = |message: String| Condition::no("ResolvedRefs", "InvalidCertificateRef", message);
    let mut problem = None;
    for reference in &listener.certificates {
        let key = &reference.key;
        let found = if !reference.group.is_empty() || reference.kind != "Secret" {
            Err(invalid(format!("{} {key} is no Secret", reference.kind)))
        } else if !permits(resources, from, "", "Secret", key) {
            let message = format!("no ReferenceGrant lets {kind}s in {} use Secret {key}", from.namespace);
            Err(Condition::no("ResolvedRefs", "RefNotPermitted", message))
        } else {
            certificate(resources, key).map_err(invalid)
        };
        match found {
            Ok(()) => listener.usable_certificates.push(key.clone()),
            Err(condition) => problem = problem.or(Some(condition)),
        }
    }
    if listener.certificates.is_empty() {
        problem = Some(invalid("the listener names no certificate".to_owned()));
    }
    listener.unresolved = problem;
}

/// Why the Secret called `key` is no certificate with its key, if so.
pub(super) fn certificate(resources: &Resources, key: &Key) -> Result<(), String> {
    if !resources.secrets.contains_key(key) {
        return Err(format!("there is no Secret {key}"));
    }
    let pem = |name| {
        let text = secret_text(resources, key, name).ok_or_else(|| format!("Secret {key} has no {name}"))?;
        Ok::<_, String>(PemSource::Text(text.into()))
    };
    let plan = CertificatePlan { cert: pem("tls.crt")?, key: pem("tls.key")? };
    plan.load().map(|_| ()).map_err(|error| format!("Secret {key}: {error}"))
}
