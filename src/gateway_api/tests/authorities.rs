//! Certificate authorities from ConfigMaps and Secrets.

use super::translation::with_rules;
use super::{read, translated};
use crate::plan::ClientVerification;
use crate::tls::PemSource;

fn certificate() -> String {
    rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap().cert.pem()
}

/// An object of `kind` called `roots` in `namespace`, of a type if it has one, with `pem` as its authorities.
fn roots(kind: &str, namespace: &str, of_type: &str, pem: &str) -> String {
    let data = if kind == "Secret" { "stringData" } else { "data" };
    let text = pem.trim_end().replace('\n', "\n    ");
    format!(
        "---\napiVersion: v1\nkind: {kind}\nmetadata: {{ name: roots, namespace: {namespace} }}\n{of_type}{data}:\n  ca.crt: |\n    {text}\n"
    )
}

const TLS: &str = "type: kubernetes.io/tls\n";

#[test]
fn a_policy_trusts_what_a_secret_of_certificates_holds() {
    let pem = certificate();
    let policy = |kind: &str| {
        format!(
            "{}---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{ name: p }}
spec:
  targetRefs: [{{ group: '', kind: Service, name: b }}]
  validation: {{ hostname: b.example, caCertificateRefs: [{{ group: '', kind: {kind}, name: roots }}] }}
",
            with_rules("  - backendRefs: [{ name: b, port: 80 }]\n")
        )
    };
    for (kind, of_type) in [("ConfigMap", ""), ("Secret", TLS)] {
        let translation =
            translated(&read(&format!("{}{}", policy(kind), roots(kind, "default", of_type, &pem))));
        assert!(!translation.statuses.complain(), "{}", translation.statuses);
        let tls = translation.backends[0].transport.tls.as_ref().unwrap();
        let Some(PemSource::Text(ca)) = &tls.ca else { panic!("{tls:?}") };
        assert_eq!(ca.trim_end(), pem.trim_end());
    }
    let complaints = |text: &str| {
        let told = translated(&read(text)).statuses.complaints();
        told.into_iter().collect::<Vec<_>>().join("\n")
    };
    // In a cluster nothing is known of other Secrets.
    for of_type in ["", "type: Opaque\n"] {
        let told = complaints(&format!("{}{}", policy("Secret"), roots("Secret", "default", of_type, &pem)));
        assert!(told.contains("Accepted=False (NoValidCACertificate)"), "{told}");
        assert!(told.contains("ResolvedRefs=False (InvalidCACertificateRef)"), "{told}");
        assert!(told.contains("Secret default/roots is not of type kubernetes.io/tls"), "{told}");
    }
    let told = complaints(&policy("Service"));
    assert!(told.contains("ResolvedRefs=False (InvalidKind)"), "{told}");
}

#[test]
fn clients_are_verified_by_a_secret_of_another_namespace_that_grants_it() {
    let pem = certificate();
    let key = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let indent = |text: &str| text.trim_end().replace('\n', "\n    ");
    let gateway = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ name: g }}
spec:
  gatewayClassName: mirrorgate
  listeners: [{{ name: https, port: 8443, protocol: HTTPS, tls: {{ certificateRefs: [{{ name: own }}] }} }}]
  tls: {{ frontend: {{ default: {{ validation: {{ caCertificateRefs: [{{ group: '', kind: Secret, name: roots, namespace: other }}] }} }} }} }}
---
apiVersion: v1
kind: Secret
metadata: {{ name: own }}
{TLS}stringData:
  tls.crt: |
    {}
  tls.key: |
    {}
{}",
        indent(&key.cert.pem()),
        indent(&key.signing_key.serialize_pem()),
        roots("Secret", "other", TLS, &pem)
    );
    let grant = |kind: &str| {
        format!(
            "---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{ name: grant, namespace: other }}
spec:
  from: [{{ group: gateway.networking.k8s.io, kind: Gateway, namespace: default }}]
  to: [{{ group: '', kind: {kind} }}]
"
        )
    };
    let clients = |text: &str| {
        let translation = translated(&read(text));
        let clients = translation.listeners.first().and_then(|one| one.tls.as_ref()?.client.clone());
        (clients, translation.statuses.to_string())
    };
    for refused in [gateway.clone(), format!("{gateway}{}", grant("ConfigMap"))] {
        let (clients, told) = clients(&refused);
        assert_eq!(clients, None);
        assert!(told.contains("ResolvedRefs=False (RefNotPermitted): no ReferenceGrant lets Gateways in default use Secret other/roots"), "{told}");
    }
    let (clients, told) = clients(&format!("{gateway}{}", grant("Secret")));
    let Some(ClientVerification { ca: PemSource::Text(ca), required: true, .. }) = clients else {
        panic!("{told}")
    };
    assert_eq!(ca.trim_end(), pem.trim_end());
}
