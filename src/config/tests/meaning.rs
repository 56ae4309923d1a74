//! What valid configurations mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{from_flags, parse};
use crate::discovery::source::{EndpointSpec, SourceSpec};
use crate::limits;
use crate::plan::{
    AccessLogPlan, BackendPolicy, BackendSpec, CopyTimeouts, Fraction, MirrorPlan, Oversize, Plan, Protocol,
    RouteAction, SampleKey, SharePlan, StopPlan, Timeouts, WeightedBackend,
};
use crate::routing::filter::PathRewrite;
use crate::routing::matches::{HostPattern, PathMatch, ValueMatch};

fn plan(text: &str) -> Plan {
    parse(text, Path::new("/etc/gate")).unwrap_or_else(|errors| panic!("{errors}")).plan
}

fn dns(url: &str, host: &str, port: u16) -> BackendSpec {
    let source = SourceSpec::Dns { host: host.into(), port };
    BackendSpec {
        name: url.into(),
        source,
        protocol: Protocol::Http1,
        host: None,
        transport: Default::default(),
        policy: BackendPolicy::default(),
    }
}

fn mirror(backend: &str, fraction: Fraction) -> MirrorPlan {
    let share = SharePlan { fraction, ..SharePlan::default() };
    MirrorPlan { share, ..MirrorPlan::new(backend.into()) }
}

#[test]
fn the_smallest_one_has_every_default() {
    let plan = plan(include_str!("../../../config/minimal.yaml"));
    assert_eq!(plan.listeners.len(), 1);
    let listener = &plan.listeners[0];
    assert_eq!(
        (&*listener.name, listener.half_close, listener.strict_framing),
        ("0.0.0.0:8080", false, true)
    );
    let admin = plan.admin.unwrap();
    assert_eq!((admin.address.to_string().as_str(), admin.token_file), ("127.0.0.1:9901", None));
    assert_eq!(plan.access_log, AccessLogPlan::Off);
    assert_eq!((plan.trusted_hops, plan.via, plan.workers), (0, None, None));
    assert_eq!(plan.backends, [dns("http://a.svc", "a.svc", 80), dns("http://b.svc", "b.svc", 80)]);
    let [route] = plan.routes.as_slice() else { panic!("{:?}", plan.routes) };
    assert_eq!(&*route.name, "route-1");
    assert_eq!((&route.listeners, route.hosts.len(), route.matches.len()), (&None, 0, 0));
    let forward = WeightedBackend::new("http://a.svc".into(), 1);
    assert_eq!(route.action, RouteAction::Forward(vec![forward]));
    assert_eq!(route.timeouts, Timeouts { request: None, backend: Some(limits::BACKEND_TIMEOUT) });
    assert_eq!(route.mirrors, [mirror("http://b.svc", Fraction { numerator: 10, denominator: 100 })]);
}

#[test]
fn the_complete_one_means_what_its_comments_say() {
    let plan = plan(include_str!("../../../config/complete.yaml"));
    assert_eq!(plan.admin.unwrap().token_file, Some(PathBuf::from("/etc/gate/admin-token")));
    assert_eq!((plan.trusted_hops, plan.via.as_deref(), plan.workers), (1, Some("gateway"), Some(4)));
    let names: Vec<&str> = plan.backends.iter().map(|spec| &*spec.name).collect();
    let urls = [
        "http://127.0.0.1:9004",
        "http://127.0.0.1:9005",
        "h2c://next.internal:8080",
        "http://127.0.0.1:4318",
    ];
    assert_eq!(names, [["app", "app-v2", "app-v3", "app-next"].as_slice(), &urls].concat());
    assert_eq!(plan.backends[1].protocol, Protocol::H2c);
    assert_eq!(plan.backends[1].host.as_ref().unwrap(), "app-v2.internal:8080");
    assert_eq!(plan.backends[2].source, SourceSpec::Srv("_http._tcp.app.internal".into()));
    assert_eq!(plan.backends[3].source, SourceSpec::File("/etc/gate/endpoints/app-next.yaml".into()));
    assert_eq!(plan.backends[6].protocol, Protocol::H2c);

    let [api, old, last] = plan.routes.as_slice() else { panic!("{:?}", plan.routes) };
    assert_eq!(api.listeners.as_deref(), Some(["internal".into()].as_slice()));
    let wildcard = HostPattern::Suffix(".example.com".into());
    assert_eq!(api.hosts, [HostPattern::Exact("shop.example.com".into()), wildcard]);
    assert_eq!(api.matches[0].path, Some(PathMatch::Prefix("/api".into())));
    assert_eq!(api.matches[0].headers[2], (http::HeaderName::from_static("x-trace"), ValueMatch::Present));
    assert_eq!(api.matches[0].query, [("v".to_owned(), ValueMatch::Exact("2".into()))]);
    let seconds = Duration::from_secs;
    assert_eq!(api.timeouts, Timeouts { request: Some(seconds(30)), backend: Some(seconds(5)) });
    assert_eq!(api.mirrors[0].share.fraction, Fraction { numerator: 25, denominator: 1000 });
    assert_eq!(api.mirrors[0].methods.as_deref(), Some([http::Method::GET, http::Method::HEAD].as_slice()));
    assert_eq!(api.mirrors[0].edits.headers.remove, ["x-secret"]);
    assert_eq!(api.mirrors[1].share.fraction, Fraction { numerator: 1, denominator: 1000 });
    let RouteAction::Redirect(redirect) = &old.action else { panic!("{:?}", old.action) };
    assert_eq!((redirect.scheme, redirect.port, redirect.status.as_u16()), (Some("https"), Some(443), 301));
    assert_eq!(&*last.name, "route-3");
    assert_eq!(last.mirrors, [mirror("h2c://next.internal:8080", Fraction::ALL)]);
}

#[test]
fn a_mirror_has_all_that_it_is_given() {
    let plan = plan(include_str!("../../../config/complete.yaml"));
    let [first, _, third] = plan.routes[0].mirrors.as_slice() else { panic!() };
    let seconds = Duration::from_secs;
    assert_eq!(first.sample_by, Some(SampleKey::Header(http::HeaderName::from_static("x-user"))));
    assert_eq!(first.matches[0].headers[0].1, ValueMatch::Exact("test".into()));
    assert_eq!(first.edits.host.as_ref().unwrap(), "next.internal");
    assert_eq!(first.edits.path, Some(PathRewrite::Prefix("/next".into())));
    assert!(first.edits.strip_credentials);
    let timeouts = CopyTimeouts { connect: seconds(1), first_byte: Some(seconds(2)), total: seconds(5) };
    assert_eq!(first.timeouts, timeouts);
    assert_eq!((first.max_body, first.on_oversize), (Some(10 << 20), Oversize::HeadersOnly));
    assert_eq!((first.in_flight, first.lag, first.rate), (1024, 1 << 20, Some(500)));
    let stop = StopPlan { error_rate: 0.2, drop_rate: 0.9, window: seconds(30), minimum: 200 };
    assert_eq!(first.share.stop, Some(stop));
    let ramp = third.share.ramp.as_ref().unwrap();
    assert_eq!((ramp.steps.len(), ramp.every), (4, seconds(600)));
    assert_eq!(third.share.fraction, Fraction { numerator: 1, denominator: 100 });
}

#[test]
fn a_bound_on_bodies_skips_unless_told_otherwise() {
    let plan = plan(
        "listeners: [127.0.0.1:0]\nroutes:\n- backend: http://a\n  mirrors:\n\
         \x20 - { backend: 'http://b', max_body: 1KiB, sample_by: client }\n  - { backend: 'http://c', sample_by: { query: id } }\n",
    );
    let [bounded, free] = plan.routes[0].mirrors.as_slice() else { panic!() };
    assert_eq!((bounded.on_oversize, &bounded.sample_by), (Oversize::Skip, &Some(SampleKey::Client)));
    assert_eq!((free.on_oversize, &free.sample_by), (Oversize::Stream, &Some(SampleKey::Query("id".into()))));
}

#[test]
fn one_url_in_two_spellings_and_both_lanes_is_one_backend() {
    let plan = plan(
        "listeners: [127.0.0.1:0]\nroutes:\n- backend: http://A.svc:80\n  mirrors: [http://a.svc/]\n\
         - backends: [HTTP://a.SVC, http://a.svc:81]\n",
    );
    assert_eq!(plan.backends, [dns("http://a.svc", "a.svc", 80), dns("http://a.svc:81", "a.svc", 81)]);
    assert_eq!(&*plan.routes[0].mirrors[0].backend, "http://a.svc");
}

#[test]
fn words_and_zeros_switch_off() {
    let plan = plan(
        "listeners: [127.0.0.1:8080]\nadmin: off\naccess_log: { file: log/access }\nroutes:\n\
         - { backend: 'http://a', timeouts: { request: 0s, backend: 0s }, mirrors: [{ backend: 'http://b', percent: 0 }] }\n",
    );
    assert_eq!(plan.admin, None);
    assert_eq!(plan.access_log, AccessLogPlan::File("/etc/gate/log/access".into()));
    assert_eq!(plan.routes[0].timeouts, Timeouts { request: None, backend: None });
    assert_eq!(plan.routes[0].mirrors[0].share.fraction.threshold(), Some(0));
}

#[test]
fn texts_need_no_quotes_whatever_they_look_like() {
    let plan = plan(
        "listeners: [{ name: off, address: '127.0.0.1:8080' }]\nroutes:\n- name: 1.0\n  listeners: [off]\n  backend: no\n\
         \x20 matches: [{ headers: { x-a: yes }, query: { v: 2.50 } }]\nbackends: { no: { endpoints: [10.0.0.1:80] } }\n",
    );
    let route = &plan.routes[0];
    assert_eq!(&*route.name, "1.0");
    assert_eq!(route.matches[0].headers[0].1, ValueMatch::Exact("yes".into()));
    assert_eq!(route.matches[0].query[0].1, ValueMatch::Exact("2.50".into()));
    assert_eq!(&*plan.backends[0].name, "no");
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let text = "listeners: [127.0.0.1:8080]\nroutes:\n- backend: a\n  mirrors: [b, b]\n\
                backends:\n  a: { endpoints: [] }\n  b: { dns: b:80 }\n  c: { dns: c:80 }\n";
    let configuration = parse(text, Path::new("")).unwrap();
    let told: Vec<String> = configuration.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "4:16 routes[0].mirrors[1]: the route has two mirrors to \"b\"; hint: their numbers are added up in metrics",
            "6:19 backends.a.endpoints: a backend without endpoints: its requests are answered 503",
            "8:3 backends.c: no route refers to this backend",
        ]
    );
}

#[test]
fn the_document_is_kept_as_it_was_written() {
    let text =
        "listeners: [127.0.0.1:8080]\nadmin: off\nworkers: 2\nroutes: [{ name: '1', backend: http://a }]\n";
    let expected = serde_json::json!({
        "listeners": ["127.0.0.1:8080"], "admin": "off", "workers": 2,
        "routes": [{ "name": "1", "backend": "http://a" }],
    });
    assert_eq!(parse(text, Path::new("")).unwrap().document, expected);
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn flags_make_one_route_with_one_pool() {
    let plan = from_flags(
        &texts(&["127.0.0.1:8080"]),
        &texts(&["http://127.0.0.1:9001", "http://127.0.0.1:9002"]),
        &texts(&["http://127.0.0.1:9003", "http://b.svc"]),
        Some(2.5),
        Some("off"),
    )
    .unwrap()
    .plan;
    assert_eq!(plan.admin, None);
    let endpoints = ["127.0.0.1:9001", "127.0.0.1:9002"].map(|text| EndpointSpec::new(text.parse().unwrap()));
    assert_eq!(plan.backends[0].source, SourceSpec::Static(endpoints.into()));
    assert_eq!(plan.backends.len(), 3);
    let forward = WeightedBackend::new(plan.backends[0].name.clone(), 1);
    assert_eq!(plan.routes[0].action, RouteAction::Forward(vec![forward]));
    let share = Fraction { numerator: 25, denominator: 1000 };
    assert_eq!(
        plan.routes[0].mirrors,
        [mirror("http://127.0.0.1:9003", share), mirror("http://b.svc", share)]
    );
}

#[test]
fn flags_with_names_share_by_weight() {
    let backends = texts(&["http://a.svc", "http://127.0.0.1:9001", "http://a.svc:80"]);
    let plan =
        from_flags(&texts(&["127.0.0.1:0"]), &backends, &texts(&["http://a.svc"]), None, None).unwrap().plan;
    let RouteAction::Forward(forward) = &plan.routes[0].action else { panic!() };
    let names: Vec<&str> = forward.iter().map(|backend| &*backend.backend).collect();
    assert_eq!(names, ["http://a.svc", "http://127.0.0.1:9001"]);
    assert_eq!(plan.backends.len(), 2, "the mirror is the same backend");
    assert_eq!(plan.routes[0].mirrors, [mirror("http://a.svc", Fraction::ALL)]);
}

#[test]
fn wrong_flags_are_all_told() {
    let errors =
        from_flags(&texts(&["8080"]), &[], &texts(&["b"]), Some(101.0), Some("localhost:9901")).unwrap_err();
    let expected = "--listen: \"8080\" is not an address to listen at; hint: write 0.0.0.0:8080\n\
        --backend: is missing; hint: write --backend http://127.0.0.1:9001\n\
        --admin: \"localhost:9901\" is not an address to listen at; hint: write 127.0.0.1:9901\n\
        --mirror-percent: 101 is not between 0 and 100\n\
        --mirror: \"b\" is not the URL of a backend; hint: write http://host, http://host:port, https://host or h2c://host:port";
    assert_eq!(errors.to_string(), expected);
    assert!(from_flags(&texts(&["127.0.0.1:80"]), &texts(&["http://a"]), &[], Some(f64::NAN), None).is_err());
}
