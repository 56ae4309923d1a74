//! Certificates on both sides of a Gateway (`spec.tls`): which clients HTTPS listeners take, and who
//! the Gateway is for backends.

use gateway_api::experimental::gateways::Gateway;

use super::convert::{Validation, validation};
use super::validity::certificate;
use super::{Listener, Speaks};
use crate::gateway_api::authorities::Holder;
use crate::gateway_api::grants::{From, permits};
use crate::gateway_api::resources::{Key, Resources};
use crate::gateway_api::status::Condition;
use crate::plan::ClientVerification;
use crate::tls::PemSource;

/// Says which clients the HTTPS listeners among `listeners` take, as the Gateway called `key` has it.
/// One that has no roots to verify them by takes none, and is not served.
pub(super) fn judge(resources: &Resources, key: &Key, gateway: &Gateway, listeners: &mut [Listener]) {
    for listener in listeners.iter_mut().filter(|listener| listener.speaks == Speaks::Https) {
        let Some(validation) = validation(gateway, listener.port, &key.namespace) else { continue };
        let (pem, problem) = authorities(resources, key, &validation);
        if let Some(problem) = problem {
            if pem.is_empty() {
                let message = problem.message.clone();
                listener.refused.get_or_insert(Condition::no("Accepted", "NoValidCACertificate", message));
            }
            listener.unresolved.get_or_insert(problem);
        }
        if !pem.is_empty() {
            listener.clients = Some(ClientVerification {
                ca: PemSource::Text(pem.into()),
                required: !validation.fallback,
                fallback: validation.fallback,
            });
        }
    }
}

/// The roots that are named, one after the other, and what is wrong with those that cannot be used.
fn authorities(resources: &Resources, gateway: &Key, validation: &Validation) -> (String, Option<Condition>) {
    let from = From { kind: "Gateway", namespace: &gateway.namespace };
    let unresolved = |reason, message: String| Condition::no("ResolvedRefs", reason, message);
    let mut text = String::new();
    let mut problem = None;
    for reference in &validation.authorities {
        let key = &reference.key;
        let found = match Holder::of(&reference.group, &reference.kind) {
            None => {
                let message = format!("{} {key} is neither a ConfigMap nor a Secret", reference.kind);
                Err(unresolved("InvalidCACertificateKind", message))
            }
            Some(holder) if !permits(resources, from, "", holder.kind(), key) => {
                let (namespace, kind) = (from.namespace, holder.kind());
                let message = format!("no ReferenceGrant lets Gateways in {namespace} use {kind} {key}");
                Err(unresolved("RefNotPermitted", message))
            }
            Some(holder) => holder
                .certificates(resources, key)
                .map_err(|message| unresolved("InvalidCACertificateRef", message)),
        };
        match found {
            Ok(pem) => {
                text.push_str(&pem);
                text.push('\n');
            }
            Err(condition) => problem = problem.or(Some(condition)),
        }
    }
    (text, problem)
}

/// The Secret that says who `gateway` is for backends, or why it cannot be used; `None` if it names none.
pub(super) fn identity(
    resources: &Resources,
    key: &Key,
    gateway: &Gateway,
) -> Option<Result<Key, Condition>> {
    let reference = gateway.spec.tls.as_ref()?.backend.as_ref()?.client_certificate_ref.as_ref()?;
    let secret = Key::new(reference.namespace.as_deref().unwrap_or(&key.namespace), reference.name.clone());
    let from = From { kind: "Gateway", namespace: &key.namespace };
    let kind = reference.kind.as_deref().unwrap_or("Secret");
    let invalid = |message: String| Condition::no("ResolvedRefs", "InvalidClientCertificateRef", message);
    Some(if !reference.group.as_deref().unwrap_or_default().is_empty() || kind != "Secret" {
        Err(invalid(format!("{kind} {secret} is no Secret")))
    } else if !permits(resources, from, "", "Secret", &secret) {
        let message = format!("no ReferenceGrant lets Gateways in {} use Secret {secret}", key.namespace);
        Err(Condition::no("ResolvedRefs", "RefNotPermitted", message))
    } else {
        certificate(resources, &secret).map(|()| secret).map_err(invalid)
    })
}
