//! The index against the definition of precedence, written down without any structure.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_index_finds_what_a_scan_of_all_rules_finds(
        rules in vec(rule(), 0..24),
        requests in vec(request(), 1..48),
    ) {
        let index = build(&rules);
        for request in &requests {
            prop_assert_eq!(index.find(&request.view()), scan(&rules, request), "{:?}", request);
        }
    }
}

// ---- few words, so that rules and requests meet often --------------------------------------------

fn rule() -> impl Strategy<Value = OwnedRule> {
    let host = select(vec!["test", "a.test", "b.a.test", "*.test", "*.a.test", "*.b.a.test", "*.c", "c"]);
    let listeners = option::weighted(0.3, subsequence(vec![0_usize, 1, 2, 70], 0..=4));
    (listeners, vec(host, 0..4), vec(route_match(), 0..4)).prop_map(|(listeners, hosts, matches)| {
        let mut rule = OwnedRule::new(&hosts, &matches);
        rule.listeners = listeners;
        rule
    })
}

fn route_match() -> impl Strategy<Value = RouteMatch> {
    let value =
        select(vec![text("1"), text("a b"), expression("[12]"), expression("a .*|1"), ValueMatch::Present]);
    // Conditions on one name stand together, as `names` above needs.
    let headers = vec((select(vec!["x-a", "x-b"]), value.clone()), 0..3);
    let query = vec((select(vec!["v", "w"]), value), 0..3);
    let sorted = |mut conditions: Vec<(&'static str, ValueMatch)>| {
        conditions.sort_by_key(|(name, _)| *name);
        conditions
    };
    (option::weighted(0.9, path_match()), option::weighted(0.2, method()), headers, query, 0..3_u8).prop_map(
        move |(path, method, headers, query, kept)| RouteMatch {
            path,
            method,
            headers: sorted(headers)
                .into_iter()
                .filter(|_| kept != 0)
                .map(|(name, value)| (HeaderName::from_static(name), value))
                .collect(),
            query: sorted(query)
                .into_iter()
                .filter(|_| kept != 1)
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        },
    )
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    let expressions = ["/a/[ab]", "/a/.*", "/(a|b)+", "/[ab]/?.*", ".*", "/a"];
    prop_oneof![
        2 => path_text().prop_map(PathMatch::Exact),
        4 => path_text().prop_map(PathMatch::Prefix),
        1 => select(expressions.to_vec())
            .prop_map(|expression| PathMatch::Regex(Pattern::new(expression).unwrap())),
    ]
}

/// Also with empty segments and a slash at the end.
fn path_text() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "a", "b", "ab", ""]), 1..5).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn method() -> impl Strategy<Value = Method> {
    select(vec![Method::GET, Method::POST])
}

fn request() -> impl Strategy<Value = OwnedRequest> {
    let host = select(vec!["test", "a.test", "b.a.test", "c.b.a.test", "x.test", ".test", "atest", "c", ""]);
    let target = prop_oneof![9 => path_text(), 1 => Just("*".to_owned())];
    let value = select(vec!["1", "2", "a b", ""]);
    let parameter =
        (select(vec!["v", "w", "%76", ""]), select(vec!["", "=", "=1", "=2", "=a+b", "=a%20b", "=a%20c"]))
            .prop_map(|(name, value)| format!("{name}{value}"));
    let query = option::of(vec(parameter, 0..4).prop_map(|parameters| parameters.join("&")));
    let headers = vec((select(vec!["x-a", "x-b"]), value), 0..4);
    (select(vec![0_usize, 1, 2, 3, 70]), host, target, query, method(), headers).prop_map(
        |(listener, host, path, query, method, headers)| {
            let request = OwnedRequest { listener, query, method, ..OwnedRequest::get(host, &path) };
            headers.into_iter().fold(request, |request, (name, value)| request.with(name, value.as_bytes()))
        },
    )
}
