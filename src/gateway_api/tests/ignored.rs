//! Settings that mean nothing: what they are settings of is served, and they are told of.

use super::translation::with_rules;
use super::{read, translated};
use crate::gateway_api::ignored::SETTINGS_IGNORED;
use crate::gateway_api::status::condition;
use crate::plan::RouteAction;

/// The condition that tells of ignored settings, and all that is told of them elsewhere.
fn ignored(text: &str) -> (Option<String>, Vec<String>) {
    let translation = translated(&read(text));
    let mut parents = translation.statuses.routes.values().flat_map(|status| &status.parents);
    let told = parents.find_map(|(_, states)| condition(states, SETTINGS_IGNORED).cloned());
    assert!(told.iter().all(|condition| condition.holds));
    assert!(!translation.statuses.complain());
    assert!(matches!(translation.routes[0].action, RouteAction::Forward(_)), "it is served all the same");
    (told.map(|condition| condition.message), translation.ignored.into_iter().collect())
}

#[test]
fn an_annotation_of_ours_that_means_nothing_is_told() {
    let told = |annotation: &str| {
        let text = with_rules("  - backendRefs: [{ name: a, port: 80 }, { name: b, port: 80 }]\n").replace(
            "metadata: { name: a }",
            &format!("metadata: {{ name: a, annotations: {{ {annotation} }} }}"),
        );
        let (condition, all) = ignored(&text);
        assert_eq!(condition.unwrap_or_default(), all.join("\n"));
        all.join("\n")
    };
    for fine in [
        "mirrorgate.dev/health-check: tcp",
        "mirrorgate.dev/backend-routing: endpoints",
        "example.com/health-check: somehow",
    ] {
        assert_eq!(told(fine), "");
    }
    let service = "Service default/a: the annotation mirrorgate.dev/";
    assert_eq!(
        told("mirrorgate.dev/health-check: somehow"),
        format!(
            "{service}health-check \"somehow\" is ignored; hint: write a path such as /healthz, tcp, or grpc"
        )
    );
    assert!(
        told("mirrorgate.dev/health-check: grpc")
            .contains("\"grpc\" is ignored; hint: grpc needs a backend that speaks HTTP/2")
    );
    assert!(
        told("mirrorgate.dev/health-check: '/a b'")
            .starts_with(&format!("{service}health-check \"/a b\" is"))
    );
    assert_eq!(
        told("mirrorgate.dev/backend-routing: Service"),
        format!("{service}backend-routing \"Service\" is ignored; hint: write service or endpoints")
    );
    assert!(
        told("mirrorgate.dev/healthcheck: tcp")
            .contains("healthcheck \"tcp\" is ignored; hint: the annotations of a Service are")
    );
    let long = told(&format!("mirrorgate.dev/health-check: {}", "x".repeat(10_000)));
    assert!(long.contains("xxx…\" is ignored") && long.len() < 400, "{long}");
    // Of a Service that no route names nothing is used, and nothing is ignored.
    let unused = with_rules("  - backendRefs: [{ name: b, port: 80 }]\n").replace(
        "metadata: { name: a }",
        "metadata: { name: a, annotations: { mirrorgate.dev/health-check: x } }",
    );
    assert_eq!(ignored(&unused), (None, Vec::new()));
}

#[test]
fn fields_of_a_route_that_mean_nothing_are_told() {
    let rule = |more: &str| {
        ignored(&with_rules(&format!("  - backendRefs: [{{ name: a, port: 80 }}]\n    {more}\n"))).1
    };
    assert!(rule("retry: { attempts: 2, codes: [503], backoff: 100ms }").is_empty());
    let of = "HTTPRoute default/r: rule 1: ";
    let session = "sessionPersistence \"…\" is ignored; hint: requests go to any endpoint, leave it out";
    assert_eq!(rule("sessionPersistence: { sessionName: s }"), [format!("{of}{session}")]);
    let backoff = "retry.backoff \"soon\" is ignored; hint: write 100ms, or 1s";
    let attempts = "retry.attempts \"99\" is ignored; hint: write 0 to 10, now 10 are made";
    assert_eq!(
        rule("retry: { attempts: 99, backoff: soon }"),
        [format!("{of}{attempts}"), format!("{of}{backoff}")]
    );
}

#[test]
fn all_that_is_not_served_as_written_can_be_told_in_lines() {
    let rules = "  - backendRefs: [{ name: a, port: 80 }, { name: c, port: 80 }, { name: b, port: 81 }]
    filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: d, port: 80 } } }]
";
    let translation = translated(&read(&with_rules(rules)));
    // Of backends that mean nothing each is named, the mirror's too.
    let missing =
        "Service default/b has no TCP port 81\nthere is no Service default/c\nthere is no Service default/d";
    let told: Vec<_> = translation.statuses.complaints().into_iter().collect();
    assert_eq!(told, [format!("HTTPRoute default/r: ResolvedRefs=False (BackendNotFound): {missing}")]);
    let other = with_rules(rules).split("---").next().unwrap().replace("name: g }", "name: h }");
    let translation =
        translated(&read(&format!("{}---{other}", with_rules("  - backendRefs: [{ name: a, port: 80 }]\n"))));
    let told: Vec<_> = translation.statuses.complaints().into_iter().collect();
    let gateway = "Gateway default/h: Programmed=False (AddressNotAssigned): no address is left";
    let listener = "Gateway default/h: listener http: Programmed=False (Pending): the Gateway has no address";
    assert!(told[0].starts_with(gateway), "{told:?}");
    assert_eq!(&told[1..], [listener.to_owned()]);
    assert_eq!(
        translated(&read(&with_rules("  - backendRefs: [{ name: a, port: 80 }]\n")))
            .statuses
            .complaints()
            .len(),
        0
    );
}

#[test]
fn what_means_nothing_in_a_mirror_policy_is_told_and_the_rest_counts() {
    let route = "  - backendRefs: [{ name: a, port: 80 }]
    filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: b, port: 80 } } }]
";
    let policy = |spec: &str| {
        format!(
            "{}---\napiVersion: mirrorgate.dev/v1alpha1\nkind: MirrorPolicy\nmetadata: {{ name: p }}\nspec: {{ {spec} }}\n",
            with_rules(route)
        )
    };
    let target = "targetRef: { kind: HTTPRoute, name: r }";
    for (spec, said) in [
        ("timeout: 0s", "timeout \"0s\" is ignored; hint: write a time above 0"),
        ("timeout: soon", "timeout \"soon\" is ignored"),
        ("sampleBy: { type: Cookie }", "sampleBy \"Cookie\" is ignored; hint: add the `name`"),
        ("sampleBy: { type: Header, name: 'a b' }", "sampleBy \"Header a b\" is ignored"),
        ("host: 'http://a/'", "host \"http://a/\" is ignored; hint: write a host alone"),
        ("host: ''", "host \"\" is ignored"),
        ("methods: [GET, 'P UT']", "methods \"P UT\" is ignored; hint: write a method"),
        (
            "headers: { set: { 'a b': c } }",
            "headers \"a b\" is ignored; hint: \"a b\" is no name of a header field",
        ),
        (
            "budget: { inFlight: 4294967295 }",
            "budget.inFlight \"4294967295\" is ignored; hint: write no more than 1000000",
        ),
        ("backend: c", "backend \"c\" is ignored; hint: no mirror of HTTPRoute default/r goes there"),
    ] {
        let (condition, all) = ignored(&policy(&format!("{target}, {spec}")));
        assert_eq!(all.len(), 1, "{spec}: {all:?}");
        assert!(all[0].starts_with(&format!("MirrorPolicy default/p: {said}")), "{all:?}");
        assert_eq!(condition.as_ref(), all.first());
    }
    let spec = format!(
        "{target}, timeout: soon, budget: {{ inFlight: 4294967295, lagBytes: 7 }}, methods: [GET, 'P UT']"
    );
    let translation = translated(&read(&policy(&spec)));
    let mirror = &translation.routes[0].mirrors[0];
    let defaults = crate::plan::MirrorPlan::new(mirror.backend.clone());
    assert_eq!(mirror.timeouts, defaults.timeouts);
    assert_eq!((mirror.in_flight, mirror.lag), (defaults.in_flight, 7));
    assert_eq!(mirror.methods.as_deref().unwrap(), [http::Method::GET]);
    // No route that could tell of it.
    let (condition, all) = ignored(&policy("targetRef: { kind: GRPCRoute, name: r }, timeout: 1s"));
    let said =
        "MirrorPolicy default/p: targetRef \"GRPCRoute r\" is ignored; hint: there is no GRPCRoute default/r";
    assert_eq!((condition, &*all), (None, &[said.to_owned()][..]));
    // A route without a mirror.
    let bare = policy(target).replace(
        "    filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: b, port: 80 } } }]\n",
        "",
    );
    assert!(
        ignored(&bare).1[0].contains("targetRef \"HTTPRoute default/r\" is ignored; hint: it has no mirror")
    );
}

#[test]
fn what_a_condition_tells_of_ignored_settings_has_an_end() {
    let lines = (0..1000).map(|number| format!("{number:04}{}", "x".repeat(10_000))).collect();
    let told = super::super::ignored::condition(&lines).unwrap().message;
    assert!(told.ends_with("\nand 984 more"));
    let (lines, longest) = crate::limits::LINES_IN_STATUS;
    assert_eq!(told.lines().count(), lines + 1);
    assert!(told.lines().all(|line| line.chars().count() <= longest));
    assert!(told.chars().count() <= 32_768, "what the API takes");
}
