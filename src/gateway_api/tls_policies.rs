//! BackendTLSPolicy: how the endpoints of a Service are spoken to by TLS.
//!
//! A policy that is wrong makes its backend unusable: what was to be sent under TLS is never sent
//! without. Of several for one port the one that names the port wins, then the oldest.

use std::collections::BTreeMap;

use gateway_api::backendtlspolicies::{
    BackendTlsPolicy, BackendTlsPolicyTargetRefs, BackendTlsPolicyValidationSubjectAltNames,
    BackendTlsPolicyValidationSubjectAltNamesType as NameType,
};
use k8s_openapi::api::core::v1::ServicePort;

use super::authorities::Holder;
use super::listeners::ServedGateway;
use super::model;
use super::refs::for_each_backend;
use super::resources::{Key, Resources, seniority};
use super::status::{Condition, PolicyStatus};
use crate::plan::{BackendTls, SubjectName};
use crate::tls::PemSource;

/// What is wrong with a policy: the conditions `Accepted` and `ResolvedRefs`.
struct Wrong {
    accepted: Condition,
    resolved: Option<Condition>,
}

/// TLS to a Service's port, if a policy asks for it; the error is for people.
pub fn backend_tls(
    resources: &Resources,
    service: &Key,
    port: &ServicePort,
) -> Result<Option<BackendTls>, String> {
    let Some((key, policy, _)) =
        policies(resources, service).into_iter().find(|(_, _, target)| concerns(target, port))
    else {
        return Ok(None);
    };
    read(resources, key, policy)
        .map(Some)
        .map_err(|wrong| format!("BackendTLSPolicy {key}: {}", wrong.accepted.message))
}

fn concerns(target: &BackendTlsPolicyTargetRefs, port: &ServicePort) -> bool {
    target.section_name.as_ref().is_none_or(|section| Some(section) == port.name.as_ref())
}

/// Policies for `service`, the first of those that concern a port wins.
fn policies<'a>(
    resources: &'a Resources,
    service: &Key,
) -> Vec<(&'a Key, &'a BackendTlsPolicy, &'a BackendTlsPolicyTargetRefs)> {
    let mut found: Vec<_> = resources
        .tls_policies
        .iter()
        .filter(|(key, _)| key.namespace == service.namespace)
        .flat_map(|(key, policy)| policy.spec.target_refs.iter().map(move |target| (key, &**policy, target)))
        .filter(|(_, _, target)| {
            target.group.is_empty() && target.kind == "Service" && target.name == service.name
        })
        .collect();
    found.sort_by_cached_key(|(_, policy, target)| {
        (target.section_name.is_none(), seniority(&policy.metadata))
    });
    found
}

fn read(resources: &Resources, key: &Key, policy: &BackendTlsPolicy) -> Result<BackendTls, Box<Wrong>> {
    let validation = &policy.spec.validation;
    let invalid = |message: &str| {
        Box::new(Wrong { accepted: Condition::no("Accepted", "Invalid", message), resolved: None })
    };
    let subject_names: Option<Vec<_>> = validation.subject_alt_names.iter().flatten().map(name).collect();
    let subject_names = subject_names.ok_or_else(|| invalid("one of subjectAltNames has no name"))?;
    let references: Vec<_> = validation.ca_certificate_refs.iter().flatten().collect();
    let ca = match (references.as_slice(), validation.well_known_ca_certificates.as_deref()) {
        ([], Some("System")) => None,
        ([], _) => return Err(invalid("it names no roots that are known here")),
        (references, _) => Some(authorities(resources, key, references)?),
    };
    let server_name = Some(validation.hostname.as_str().into());
    Ok(BackendTls { ca, server_name, certificate: None, subject_names })
}

fn name(raw: &BackendTlsPolicyValidationSubjectAltNames) -> Option<SubjectName> {
    match raw.r#type {
        NameType::Hostname => raw.hostname.clone().map(SubjectName::Dns),
        NameType::Uri => raw.uri.clone().map(SubjectName::Uri),
    }
}

/// The roots that are named, one after the other; those that cannot be used are left out if one can.
fn authorities(
    resources: &Resources,
    key: &Key,
    references: &[&gateway_api::backendtlspolicies::BackendTlsPolicyValidationCaCertificateRefs],
) -> Result<PemSource, Box<Wrong>> {
    let mut text = String::new();
    let mut problem: Option<Condition> = None;
    for reference in references {
        let name = Key::new(key.namespace.clone(), reference.name.clone());
        let found = match Holder::of(&reference.group, &reference.kind) {
            None => {
                let message = format!("{} {name} is neither a ConfigMap nor a Secret", reference.kind);
                Err(Condition::no("ResolvedRefs", "InvalidKind", message))
            }
            Some(holder) => holder
                .certificates(resources, &name)
                .map_err(|message| Condition::no("ResolvedRefs", "InvalidCACertificateRef", message)),
        };
        match found {
            Ok(pem) => {
                text.push_str(&pem);
                text.push('\n');
            }
            Err(condition) => problem = problem.or(Some(condition)),
        }
    }
    match problem {
        Some(resolved) if text.is_empty() => Err(Box::new(Wrong {
            accepted: Condition::no("Accepted", "NoValidCACertificate", resolved.message.clone()),
            resolved: Some(resolved),
        })),
        _ => Ok(PemSource::Text(text.into())),
    }
}

/// What became of every policy whose Service a route of `gateways` may refer to.
pub(super) fn statuses(resources: &Resources, gateways: &[ServedGateway]) -> BTreeMap<Key, PolicyStatus> {
    // Through which Gateways a Service is reached.
    let mut reached: BTreeMap<Key, Vec<Key>> = BTreeMap::new();
    for route in model::routes(resources) {
        let parents: Vec<_> = gateways
            .iter()
            .filter(|gateway| {
                route.parents.iter().any(|parent| {
                    let key = parent.key(&route.key.namespace);
                    (parent.is("Gateway") && key == gateway.key)
                        || (parent.is("ListenerSet") && gateway.sets.iter().any(|set| set.key == key))
                })
            })
            .map(|gateway| gateway.key.clone())
            .collect();
        for_each_backend(&route, |reference, _| {
            let through = reached.entry(reference.key(&route.key.namespace)).or_default();
            for parent in &parents {
                if !through.contains(parent) {
                    through.push(parent.clone());
                }
            }
        });
    }
    let mut statuses = BTreeMap::new();
    for (key, policy) in &resources.tls_policies {
        let services: Vec<_> = policy
            .spec
            .target_refs
            .iter()
            .map(|target| Key::new(key.namespace.clone(), target.name.clone()))
            .collect();
        let mut through: Vec<_> =
            services.iter().filter_map(|service| reached.get(service)).flatten().collect();
        through.sort();
        through.dedup();
        if through.is_empty() {
            continue;
        }
        let conditions = conditions(resources, key, policy);
        let ancestors = through.into_iter().map(|gateway| (gateway.clone(), conditions.clone())).collect();
        let generation = policy.metadata.generation.unwrap_or(0);
        statuses.insert(key.clone(), PolicyStatus { generation, ancestors });
    }
    statuses
}

fn conditions(resources: &Resources, key: &Key, policy: &BackendTlsPolicy) -> Vec<Condition> {
    // A policy all of whose targets another one has before it does nothing.
    let beaten = policy.spec.target_refs.iter().all(|target| {
        let service = Key::new(key.namespace.clone(), target.name.clone());
        let winner = policies(resources, &service)
            .into_iter()
            .find(|(_, _, other)| other.section_name == target.section_name)
            .map(|(key, _, _)| key);
        winner.is_some_and(|winner| winner != key)
    });
    if beaten {
        let message = "an older policy has the same targets";
        return vec![Condition::no("Accepted", "Conflicted", message)];
    }
    match read(resources, key, policy) {
        Ok(_) => vec![Condition::yes("Accepted", "Accepted"), Condition::yes("ResolvedRefs", "ResolvedRefs")],
        Err(wrong) => std::iter::once(wrong.accepted).chain(wrong.resolved).collect(),
    }
}
