//! What resources mean, case by case.

use super::{Addresses, Settings, read, translate, translated};
use crate::discovery::source::SourceSpec;
use crate::plan::{Fraction, HealthCheck, Protocol, RouteAction};
use crate::routing::matches::HostPattern;

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: g }
spec:
  gatewayClassName: mirrorgate
  listeners: [{ name: http, port: 8080, protocol: HTTP }]
---
apiVersion: v1
kind: Service
metadata: { name: a }
spec: { clusterIP: 10.96.0.1, ports: [{ port: 80, name: http }, { port: 81, name: h2, appProtocol: kubernetes.io/h2c }] }
---
apiVersion: v1
kind: Service
metadata: { name: b }
spec: { ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: out }
spec: { type: ExternalName, externalName: example.com }
";

pub(super) fn with_rules(rules: &str) -> String {
    format!(
        "{GATEWAY}---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: r }}
spec:
  parentRefs: [{{ name: g }}]
  rules:
{rules}"
    )
}

/// A cluster takes no such filter. Here nothing is copied that may not have been meant, the rule is served, and
/// the route says so.
#[test]
fn a_mirror_whose_share_is_not_clear_is_left_out_and_told() {
    for (share, why) in [
        ("percent: 1, fraction: { numerator: 1 }", "it has both percent and fraction; hint: keep one"),
        ("percent: 101", "101 of 100 is no part of the requests"),
        ("percent: -1", "-1 of 100 is no part of the requests"),
        ("fraction: { numerator: 1, denominator: 0 }", "1 of 0 is no part of the requests"),
        ("fraction: { numerator: 3, denominator: 2 }", "3 of 2 is no part of the requests"),
    ] {
        let mirror = |name: &str, share: &str| {
            let backend = format!("backendRef: {{ name: {name}, port: 80 }}");
            format!("{{ type: RequestMirror, requestMirror: {{ {backend}{share} }} }}")
        };
        let (wrong, fine) = (mirror("b", &format!(", {share}")), mirror("a", ""));
        for (of_rule, of_backend) in [(&wrong, &fine), (&fine, &wrong)] {
            let text = with_rules(&format!(
                "  - filters: [{of_rule}]\n    backendRefs: [{{ name: a, port: 80, filters: [{of_backend}] }}]\n"
            ));
            let translation = translated(&read(&text));
            let route = &translation.routes[0];
            let RouteAction::Forward(backends) = &route.action else { panic!("it is served") };
            assert_eq!(&*backends[0].backend, "default/a:80");
            let mirrors: Vec<_> =
                route.mirrors.iter().chain(&backends[0].mirrors).map(|mirror| &*mirror.backend).collect();
            assert_eq!(mirrors, ["default/a:80"]);
            let told: Vec<_> = translation.statuses.complaints().into_iter().collect();
            let told = told.join("\n");
            let condition = "HTTPRoute default/r: PartiallyInvalid=True (UnsupportedValue)";
            assert!(told.starts_with(condition), "{told}");
            assert!(told.contains(&format!("rule 1: the mirror to b is left out: {why}")), "{told}");
        }
    }
}

#[test]
fn a_mirrored_route() {
    let translation = translated(&read(&with_rules(
        "  - backendRefs: [{ name: a, port: 80 }]
    filters:
    - { type: RequestMirror, requestMirror: { backendRef: { name: b, port: 80 }, percent: 20 } }
    - { type: RequestMirror, requestMirror: { backendRef: { name: a, port: 81 }, fraction: { numerator: 1, denominator: 3 } } }
",
    )));
    assert_eq!(translation.listeners.len(), 1);
    assert_eq!(translation.listeners[0].address.to_string(), "0.0.0.0:8080");
    let route = &translation.routes[0];
    assert_eq!(&*route.name, "default/r/rule-1");
    assert_eq!(route.listeners.as_deref().unwrap(), [translation.sections[0].name.clone()]);
    let shares: Vec<_> =
        route.mirrors.iter().map(|mirror| (&*mirror.backend, mirror.share.fraction)).collect();
    let fraction = |numerator, denominator| Fraction { numerator, denominator };
    assert_eq!(shares, [("default/b:80", fraction(20, 100)), ("default/a:81", fraction(1, 3))]);
    let specs: Vec<_> = translation.backends.iter().map(|spec| (&*spec.name, spec.protocol)).collect();
    assert_eq!(
        specs,
        [
            ("default/a:80", Protocol::Http1),
            ("default/a:81", Protocol::H2c),
            ("default/b:80", Protocol::Http1)
        ]
    );
    let kubernetes = |service: &str, port: &str| SourceSpec::Kubernetes {
        namespace: "default".into(),
        service: service.into(),
        port: port.into(),
    };
    assert_eq!(translation.backends[0].source, kubernetes("a", "http"));
    assert_eq!(translation.backends[2].source, kubernetes("b", ""));
}

#[test]
fn a_mirror_that_cannot_be_resolved_leaves_the_route_serving() {
    let translation = translated(&read(&with_rules(
        "  - backendRefs: [{ name: a, port: 80 }]
    filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: missing, port: 80 } } }]
",
    )));
    let RouteAction::Forward(choices) = &translation.routes[0].action else { panic!("not served") };
    assert_eq!(&*choices[0].backend, "default/a:80");
    assert!(translation.routes[0].mirrors.is_empty());
    let text = translation.statuses.to_string();
    assert!(
        text.contains("ResolvedRefs=False (BackendNotFound): there is no Service default/missing"),
        "{text}"
    );
}

#[test]
fn a_backend_that_cannot_be_resolved_takes_its_share() {
    let translation = translated(&read(&with_rules(
        "  - backendRefs: [{ name: a, port: 80, weight: 3 }, { name: missing, port: 80 }, { name: a, port: 82 }]
",
    )));
    let RouteAction::Forward(choices) = &translation.routes[0].action else { panic!("not served") };
    let shares: Vec<_> = choices.iter().map(|choice| (&*choice.backend, choice.weight)).collect();
    assert_eq!(shares, [("default/a:80", 3), ("", 1), ("", 1)]);
}

#[test]
fn filters_of_one_backend_stay_with_it() {
    let translation = translated(&read(&with_rules(
        "  - backendRefs:
    - name: a
      port: 80
      filters:
      - { type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x, value: y }] } }
      - { type: RequestMirror, requestMirror: { backendRef: { name: b, port: 80 } } }
    - { name: b, port: 80 }
",
    )));
    let RouteAction::Forward(choices) = &translation.routes[0].action else { panic!("not served") };
    assert_eq!(choices[0].filters.request_headers.set.len(), 1);
    assert_eq!(&*choices[0].mirrors[0].backend, "default/b:80");
    assert!(choices[1].mirrors.is_empty() && choices[1].filters.request_headers.is_empty());
    assert!(translation.routes[0].mirrors.is_empty());
}

#[test]
fn what_cannot_be_done_is_not_passed_over() {
    let translation = translated(&read(&with_rules(
        "  - backendRefs: [{ name: a, port: 80 }]
    filters: [{ type: ExtensionRef, extensionRef: { group: x, kind: y, name: z } }]
  - backendRefs: [{ name: a, port: 80 }]
    matches: [{ path: { type: RegularExpression, value: '(' } }]
  - backendRefs: [{ name: a, port: 80 }]
",
    )));
    assert_eq!(translation.routes[0].action, RouteAction::Fail);
    assert_eq!(translation.routes[1].action, RouteAction::Fail);
    assert!(!translation.routes[1].matches.is_empty(), "nothing, rather than everything");
    assert!(matches!(translation.routes[2].action, RouteAction::Forward(_)));
    let text = translation.statuses.to_string();
    assert!(
        text.contains("PartiallyInvalid=True (UnsupportedValue): rule 1: the filter ExtensionRef"),
        "{text}"
    );
}

#[test]
fn external_names_and_cluster_addresses() {
    let rules = "  - backendRefs: [{ name: out, port: 8080 }, { name: a, port: 80 }]\n";
    let text = with_rules(rules).replace(
        "metadata: { name: a }",
        "metadata: { name: a, annotations: { mirrorgate.dev/backend-routing: service } }",
    );
    let translation = translated(&read(&text));
    let sources: Vec<_> = translation.backends.iter().map(|spec| (&*spec.name, &spec.source)).collect();
    let SourceSpec::Static(list) = sources[0].1 else { panic!("{sources:?}") };
    assert_eq!(list[0].address.to_string(), "10.96.0.1:80");
    assert_eq!(*sources[1].1, SourceSpec::Dns { host: "example.com".to_owned(), port: 8080 });
}

#[test]
fn endpoints_are_probed_as_their_service_says() {
    let probe = |says: &str| {
        let text = with_rules("  - backendRefs: [{ name: a, port: 80 }]\n").replace(
            "metadata: { name: a }",
            &format!("metadata: {{ name: a, annotations: {{ mirrorgate.dev/health-check: {says} }} }}"),
        );
        translated(&read(&text)).backends[0].policy.health.clone().map(|plan| plan.check)
    };
    assert_eq!(probe("/well?a=b"), Some(HealthCheck::http("/well?a=b".parse().unwrap())));
    assert_eq!(probe("tcp"), Some(HealthCheck::Tcp));
    // Its protocol is HTTP/1.1.
    assert_eq!(probe("grpc"), None);
    assert_eq!(probe("somehow"), None);
}

#[test]
fn listeners_on_one_port_are_one_socket() {
    let text = with_rules("  - backendRefs: [{ name: a, port: 80 }]\n").replace(
        "listeners: [{ name: http, port: 8080, protocol: HTTP }]",
        "listeners: [{ name: all, port: 8080, protocol: HTTP }, { name: one, port: 8080, protocol: HTTP, hostname: a.com }, { name: two, port: 8080, protocol: HTTP, hostname: '*.b.com' }]",
    ).replace("parentRefs: [{ name: g }]", "hostnames: [a.com]\n  parentRefs: [{ name: g }]");
    let translation = translated(&read(&text));
    assert_eq!(translation.listeners.len(), 1);
    let hosts: Vec<_> = translation.sections.iter().map(|section| section.host.clone()).collect();
    let exact = |host: &str| Some(HostPattern::Exact(host.to_owned()));
    assert_eq!(hosts, [None, exact("a.com"), Some(HostPattern::Suffix(".b.com".to_owned()))]);
    let listeners: Vec<_> = translation.routes[0].listeners.iter().flatten().map(|name| &**name).collect();
    assert_eq!(listeners, ["default/g/all", "default/g/one"]);
}

#[test]
fn grpc_is_a_post_over_http2() {
    let text = format!(
        "{GATEWAY}---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{ name: r }}
spec:
  parentRefs: [{{ name: g }}]
  rules:
  - matches: [{{ method: {{ service: s.S, method: M }} }}, {{ method: {{ service: s.S }} }}, {{ method: {{ method: M }} }}]
    filters: [{{ type: RequestMirror, requestMirror: {{ backendRef: {{ name: a, port: 81 }} }} }}]
    backendRefs: [{{ name: b, port: 80 }}]
"
    );
    let translation = translated(&read(&text));
    let specs: Vec<_> = translation.backends.iter().map(|spec| (&*spec.name, spec.protocol)).collect();
    assert_eq!(specs, [("default/a:81", Protocol::H2c), ("default/b:80/h2c", Protocol::H2c)]);
    assert_eq!(translation.routes[0].matches.len(), 3);
    assert_eq!(&*translation.routes[0].mirrors[0].backend, "default/a:81");
}

#[test]
fn gateways_do_not_share_a_port_of_one_address() {
    let other = GATEWAY.split("---").next().unwrap().replace("name: g }", "name: h }");
    let translation = translated(&read(&format!("{GATEWAY}---{other}")));
    assert_eq!(translation.listeners.len(), 1);
    let text = translation.statuses.to_string();
    // The one has all addresses of the machine, the other has none: neither tells any.
    let programmed = "Accepted=True (Accepted)\n  Programmed=";
    assert!(text.contains(&format!("Gateway default/g\n  {programmed}True (Programmed)")), "{text}");
    assert!(text.contains(&format!("Gateway default/h\n  {programmed}False (AddressNotAssigned)")), "{text}");
}

#[test]
fn a_gateway_has_the_address_that_it_names_or_one_of_the_pool() {
    let named = |name: &str, address: &str| {
        let gateway = GATEWAY.split("---").next().unwrap().replace("name: g }", &format!("name: {name} }}"));
        gateway.replacen("spec:\n", &format!("spec:\n  addresses: [{address}]\n"), 1)
    };
    let text =
        [named("a", ""), named("b", "{ value: 192.0.2.7 }"), named("c", "{ value: 10.0.0.1 }")].join("---");
    let mut addresses = Addresses::new(Some("10.0.0.1-10.0.0.2".parse().unwrap()));
    let settings = Settings { any_class: true, ..Settings::default() };
    let translation = translate(&read(&text).resources, &settings, &mut addresses);
    let found: Vec<_> =
        translation.listeners.iter().map(|one| (&*one.name, one.address.to_string())).collect();
    // Of the pool what nobody names; outside of it what somebody names.
    let expected = [("a", "10.0.0.2"), ("b", "192.0.2.7"), ("c", "10.0.0.1")];
    for (name, address) in expected {
        let held = |(listener, at): &(&str, String)| {
            listener.starts_with(&format!("default/{name}")) && at.starts_with(&format!("{address}:"))
        };
        assert!(found.iter().any(held), "{name} at {address}: {found:?}");
    }
}

#[test]
fn what_is_told_of_listener_sets_is_shown_as_a_status_has_it() {
    let gateway =
        GATEWAY.replacen("spec:\n", "spec:\n  allowedListeners: { namespaces: { from: Same } }\n", 1);
    let set = |namespace: &str, port: u16| {
        format!(
            "---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {{ name: s, namespace: {namespace} }}
spec:
  parentRef: {{ name: g, namespace: default }}
  listeners: [{{ name: more, port: {port}, protocol: HTTP }}]
"
        )
    };
    let route = "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: r }
spec:
  parentRefs: [{ kind: ListenerSet, name: s }]
";
    let shown = |text: &str| translated(&read(text)).statuses.to_string();
    let text = shown(&format!("{gateway}{}{}{route}", set("default", 8090), set("elsewhere", 8091)));
    for part in [
        "Gateway default/g\n  1 ListenerSets attached\n  Accepted=True",
        "ListenerSet default/s\n  Accepted=True (Accepted)",
        "  listener more: 1 routes attached of HTTPRoute, GRPCRoute\n",
        "ListenerSet elsewhere/s\n  Accepted=False (NotAllowed)",
        "HTTPRoute default/r\n  parent ListenerSet default/s\n    Accepted=True",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let refused = shown(&format!("{GATEWAY}{}", set("default", 8090)));
    assert!(refused.contains("Gateway default/g\n  0 ListenerSets attached\n"), "{refused}");
    assert!(!shown(GATEWAY).contains("ListenerSets"), "there are none");
}

#[test]
fn a_mirror_policy_adds_what_gateway_api_lacks() {
    let text = with_rules(
        "  - backendRefs: [{ name: a, port: 80 }]
    filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: b, port: 80 } } }]
---
apiVersion: mirrorgate.dev/v1alpha1
kind: MirrorPolicy
metadata: { name: p }
spec:
  targetRef: { kind: HTTPRoute, name: r }
  timeout: 2s
  sampleBy: { type: Header, name: x-user }
  host: shadow.test
  methods: [GET]
  strip: credentials
  headers: { set: { x-env: shadow } }
  budget: { inFlight: 7, lagBytes: 1000 }
",
    );
    let translation = translated(&read(&text));
    let mirror = &translation.routes[0].mirrors[0];
    assert_eq!(mirror.timeouts.total, std::time::Duration::from_secs(2));
    assert_eq!(mirror.methods.as_deref().unwrap(), [http::Method::GET]);
    assert!(mirror.edits.strip_credentials);
    assert_eq!(mirror.edits.host.as_ref().unwrap(), "shadow.test");
    assert_eq!(mirror.sample_by, Some(crate::plan::SampleKey::Header("x-user".parse().unwrap())));
    assert_eq!(mirror.edits.headers.set.len(), 1);
    assert_eq!((mirror.in_flight, mirror.lag), (7, 1000));
}
