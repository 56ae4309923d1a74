//! The index against the definition of precedence, written down without any structure.

use std::cmp::Reverse;

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

/// Greatest wins: host, path, method, header conditions, query conditions, earlier rule.
type Rank = ((u8, usize), (u8, usize), bool, usize, usize, Reverse<usize>);

fn scan(rules: &[OwnedRule], request: &OwnedRequest) -> Option<Found> {
    let mut best: Option<(Rank, Found)> = None;
    for (number, rule) in rules.iter().enumerate() {
        if rule.listeners.as_ref().is_some_and(|listeners| !listeners.contains(&request.listener)) {
            continue;
        }
        let hosts: Vec<_> = if rule.hosts.is_empty() {
            vec![(0, 0)]
        } else {
            rule.hosts.iter().filter_map(|host| host_rank(host, &request.host)).collect()
        };
        let matches =
            if rule.matches.is_empty() { vec![RouteMatch::default()] } else { rule.matches.clone() };
        for host in hosts {
            for one in &matches {
                let Some((path, prefix)) = path_rank(one.path.as_ref(), &request.path) else { continue };
                if !conditions_hold(one, request) {
                    continue;
                }
                let rank = (
                    host,
                    path,
                    one.method.is_some(),
                    names(&one.headers).len(),
                    names(&one.query).len(),
                    Reverse(number),
                );
                if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                    best = Some((rank, Found { rule: number, prefix }));
                }
            }
        }
    }
    best.map(|(_, found)| found)
}

fn host_rank(pattern: &HostPattern, host: &str) -> Option<(u8, usize)> {
    match pattern {
        HostPattern::Exact(exact) => (exact == host).then_some((2, 0)),
        HostPattern::Suffix(suffix) => {
            (host.len() > suffix.len() && host.ends_with(suffix.as_str())).then_some((1, suffix.len()))
        }
    }
}

fn path_rank(pattern: Option<&PathMatch>, path: &str) -> Option<((u8, usize), usize)> {
    match pattern {
        None => Some(((0, 0), 0)),
        Some(PathMatch::Exact(exact)) => (exact == path).then_some(((2, 0), 0)),
        Some(PathMatch::Regex(pattern)) => pattern.matches(path).then_some(((1, pattern.as_str().len()), 0)),
        Some(PathMatch::Prefix(prefix)) => {
            let bare = prefix.trim_end_matches('/');
            let takes = bare.is_empty() || path == bare || path.starts_with(&format!("{bare}/"));
            takes.then_some(((0, bare.len()), bare.len()))
        }
    }
}

fn conditions_hold(one: &RouteMatch, request: &OwnedRequest) -> bool {
    if one.method.as_ref().is_some_and(|method| method != request.method) {
        return false;
    }
    for name in names(&one.headers) {
        let (_, condition) = one.headers.iter().find(|(other, _)| *other == name).unwrap();
        if !request.headers.get_all(&name).iter().any(|value| condition.holds(value.as_bytes())) {
            return false;
        }
    }
    for name in names(&one.query) {
        let (_, condition) = one.query.iter().find(|(other, _)| *other == name).unwrap();
        let parameters: Vec<(String, String)> = request
            .query
            .as_deref()
            .unwrap_or("")
            .split('&')
            .filter(|parameter| !parameter.is_empty())
            .map(|parameter| {
                let mut halves = parameter.splitn(2, '=');
                (decode(halves.next().unwrap()), decode(halves.next().unwrap_or("")))
            })
            .collect();
        let Some((_, value)) = parameters.iter().find(|(other, _)| *other == name) else { return false };
        if !condition.holds(value.as_bytes()) {
            return false;
        }
    }
    true
}

fn names<N: PartialEq + Clone>(conditions: &[(N, ValueMatch)]) -> Vec<N> {
    let mut names: Vec<N> = conditions.iter().map(|(name, _)| name.clone()).collect();
    names.dedup();
    names
}

/// All escapes that the generators make.
fn decode(text: &str) -> String {
    text.replace('+', " ").replace("%20", " ").replace("%76", "v")
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
