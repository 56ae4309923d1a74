//! The index finds what the definition of precedence finds.

use http::{HeaderName, HeaderValue, Method};
use mirrorgate::routing::index::{Found, RequestView, RouteIndex, Rule};
use mirrorgate::routing::matches::{HostPattern, PathMatch, Pattern, RouteMatch, ValueMatch};

use super::choices::Choices;
use definition::{OwnedRequest, OwnedRule, build, scan};

#[path = "../../src/routing/index/tests/definition.rs"]
mod definition;

const HOSTS: [&str; 8] = ["test", "a.test", "b.a.test", "*.test", "*.a.test", "*.b.a.test", "*.c", "c"];
const ASKED: [&str; 9] = ["test", "a.test", "b.a.test", "c.b.a.test", "x.test", ".test", "atest", "c", ""];
const LISTENERS: [usize; 5] = [0, 1, 2, 3, 70];
const METHODS: [Method; 3] = [Method::GET, Method::POST, Method::DELETE];
const NAMES: [&str; 2] = ["x-a", "x-b"];

/// Makes rules and requests out of `bytes`.
pub fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let rules = choices.some(20, rule);
    let index = build(&rules);
    for _ in 0..16 {
        let request = request(&mut choices);
        assert_eq!(index.find(&request.view()), scan(&rules, &request), "{request:?} of {rules:?}");
    }
}

fn rule(choices: &mut Choices<'_>) -> OwnedRule {
    let hosts = choices.some(3, |choices| choices.pick(&HOSTS));
    let matches = choices.some(3, route_match);
    let rule = OwnedRule::new(&hosts, &matches);
    match choices.below(4) {
        0 => rule.on(&choices.some(3, |choices| choices.pick(&LISTENERS))),
        _ => rule,
    }
}

fn route_match(choices: &mut Choices<'_>) -> RouteMatch {
    let path = match choices.below(8) {
        0 => None,
        1 | 2 => Some(PathMatch::Exact(path(choices))),
        3 => Some(PathMatch::Regex(expression(
            choices,
            &["/a/[ab]", "/a/.*", "/(a|b)+", "/[ab]/?.*", ".*", "/a"],
        ))),
        _ => Some(PathMatch::Prefix(path(choices))),
    };
    let method = (choices.below(4) == 0).then(|| METHODS[choices.below(3)].clone());
    // Of conditions on one name only the first counts, and they stand together.
    let first = choices.some(2, |choices| (NAMES[0], value(choices)));
    let second = choices.some(1, |choices| (NAMES[1], value(choices)));
    let headers = first.into_iter().chain(second);
    let headers = headers.map(|(name, value)| (HeaderName::from_static(name), value)).collect();
    let query = choices.some(1, |choices| ("v".to_owned(), value(choices)));
    RouteMatch { path, method, headers, query }
}

fn value(choices: &mut Choices<'_>) -> ValueMatch {
    match choices.below(5) {
        0 => ValueMatch::Present,
        1 => ValueMatch::Regex(expression(choices, &["[12]", "a .*|1"])),
        2 => ValueMatch::Exact("a b".to_owned()),
        _ => ValueMatch::Exact("1".to_owned()),
    }
}

fn expression(choices: &mut Choices<'_>, all: &[&str]) -> Pattern {
    Pattern::new(choices.pick(all)).expect("all of them are expressions")
}

/// Also with empty segments and a slash at the end.
fn path(choices: &mut Choices<'_>) -> String {
    let segments = choices.some(4, |choices| choices.pick(&["a", "b", "ab", ""]));
    format!("/{}", segments.join("/"))
}

fn request(choices: &mut Choices<'_>) -> OwnedRequest {
    let target = if choices.below(12) == 0 { "*".to_owned() } else { path(choices) };
    let query = ["", "=", "=1", "=2", "=a+b", "=a%20b", "=a%20c"];
    let query = choices
        .some(3, |choices| format!("{}{}", choices.pick(&["v", "w", "%76", ""]), choices.pick(&query)));
    let mut request = OwnedRequest {
        listener: choices.pick(&LISTENERS),
        query: (!query.is_empty()).then(|| query.join("&")),
        method: METHODS[choices.below(3)].clone(),
        ..OwnedRequest::get(choices.pick(&ASKED), &target)
    };
    for _ in 0..choices.below(4) {
        let (name, value) = (choices.pick(&NAMES), choices.pick(&["1", "2", "a b", ""]));
        request.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    request
}
