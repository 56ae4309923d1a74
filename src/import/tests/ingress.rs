//! Ingresses of ingress-nginx.

use std::path::Path;

use super::{GATEWAY, imported, notes};
use crate::gateway_api::listeners::Addresses;
use crate::gateway_api::manifests::Manifests;
use crate::gateway_api::translate::{Settings, translate};

const INGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  annotations:
    nginx.ingress.kubernetes.io/mirror-target: http://next.test.svc.cluster.local:8080$request_uri
    nginx.ingress.kubernetes.io/proxy-body-size: 8m
spec:
  tls: [{ hosts: [shop.example.com], secretName: shop }]
  rules:
  - host: shop.example.com
    http:
      paths:
      - { path: /api, pathType: Prefix, backend: { service: { name: api, port: { number: 80 } } } }
      - { path: /, pathType: Exact, backend: { service: { name: web, port: { name: http } } } }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { ports: [{ name: http, port: 8000 }] }
---
apiVersion: v1
kind: Service
metadata: { name: api }
spec: { ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: next, namespace: test }
spec: { ports: [{ port: 8080 }] }
";

#[test]
fn an_ingress_becomes_routes_that_are_served() {
    let import = imported("ingress.yaml", INGRESS).unwrap();
    let mut manifests = Manifests::default();
    for text in [INGRESS, GATEWAY, &import.text] {
        manifests.add(Path::new("all.yaml"), text);
    }
    assert_eq!(manifests.problems, [], "{}", import.text);
    let settings = Settings { any_class: true, ..Settings::default() };
    let translation = translate(&manifests.resources, &settings, &mut Addresses::default());
    assert!(!translation.statuses.complain(), "{}", translation.statuses);
    let plan = |index: usize| &translation.routes[index];
    assert_eq!(translation.routes.len(), 2);
    for index in 0..2 {
        assert_eq!(&*plan(index).mirrors[0].backend, "test/next:8080");
        assert_eq!(plan(index).mirrors[0].edits.host.as_ref().unwrap(), "next.test.svc.cluster.local");
    }
    let backends: Vec<_> = translation.backends.iter().map(|spec| &*spec.name).collect();
    assert_eq!(backends, ["default/api:80", "default/web:8000", "test/next:8080"]);
    let notes = notes(&import);
    assert!(notes.contains("proxy-body-size is not carried over") && notes.contains("tls is not"), "{notes}");
}

#[test]
fn a_mirror_outside_of_the_cluster_gets_a_service() {
    let text = INGRESS.replace(
        "http://next.test.svc.cluster.local:8080$request_uri",
        "https://shadow.example.com/fixed\n    nginx.ingress.kubernetes.io/mirror-host: other.example.com\n    nginx.ingress.kubernetes.io/mirror-request-body: 'off'",
    );
    let import = imported("ingress.yaml", &text).unwrap();
    for part in
        ["externalName: shadow.example.com", "wellKnownCACertificates: System", "host: other.example.com"]
    {
        assert!(import.text.contains(part), "{part}: {}", import.text);
    }
    let notes = notes(&import);
    for part in ["\"/fixed\" of mirror-target", "mirror-request-body is not", "here it is verified"] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
}

#[test]
fn what_an_ingress_cannot_pass_on_is_said() {
    let mirror = |name: &str, annotations: &str, path: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  annotations: {{ {annotations} }}\nspec:\n  rules:\n  - host: {name}.example.com\n    http:\n      paths:\n      - {{ path: '{path}', pathType: ImplementationSpecific, backend: {{ service: {{ name: api, port: {{ number: 80 }} }} }} }}\n---\n"
        )
    };
    let nginx = "nginx.ingress.kubernetes.io";
    let text = [
        mirror(
            "address",
            &format!(
                "{nginx}/mirror-target: 'http://192.0.2.7:9000$request_uri', {nginx}/mirror-host: $host"
            ),
            "/a",
        ),
        mirror(
            "variable",
            &format!(
                "{nginx}/mirror-target: 'http://next.test.svc$request_uri', {nginx}/mirror-host: $http_x"
            ),
            "/b/",
        ),
        mirror(
            "regex",
            &format!("{nginx}/use-regex: 'true', {nginx}/mirror-target: 'http://x.y'"),
            "/c(/|$)(.*)",
        ),
        "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: { name: old }\n---\n".to_owned(),
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: { name: broken }\nspec: { rules: 7 }\n"
            .to_owned(),
    ];
    let import = imported("ingress.yaml", &text.concat()).unwrap();
    let mut manifests = Manifests::default();
    for text in [INGRESS, GATEWAY, &import.text] {
        manifests.add(Path::new("all.yaml"), text);
    }
    assert_eq!(manifests.problems, [], "{}", import.text);
    assert_eq!(manifests.resources.http_routes.len(), 2, "{}", import.text);
    assert_eq!(manifests.resources.mirror_policies.len(), 0, "{}", import.text);
    assert!(import.text.contains("- \"192.0.2.7\"") && import.text.contains("addressType: IPv4"));
    let notes = notes(&import);
    for part in [
        "default/address: /a takes whole segments",
        "default/variable: mirror-host $http_x is not",
        "default/regex: the path /c(/|$)(.*) is not",
        "default/old: apiVersion extensions/v1beta1 is not",
        "default/broken: it cannot be read",
    ] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
}
