#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod definition;
mod oracle;

use http::{HeaderName, HeaderValue, Method};

use self::definition::{OwnedRequest, OwnedRule, build, scan};
use super::*;
use crate::routing::matches::{PathMatch, Pattern, ValueMatch};

impl OwnedRequest {
    fn with(mut self, name: &'static str, value: &[u8]) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        self
    }
}

fn path(path: PathMatch) -> RouteMatch {
    RouteMatch { path: Some(path), ..RouteMatch::default() }
}

fn exact(text: &str) -> RouteMatch {
    path(PathMatch::Exact(text.to_owned()))
}

fn prefix(text: &str) -> RouteMatch {
    path(PathMatch::Prefix(text.to_owned()))
}

fn regex(text: &str) -> RouteMatch {
    path(PathMatch::Regex(Pattern::new(text).unwrap()))
}

fn header(name: &'static str, value: ValueMatch) -> RouteMatch {
    RouteMatch { headers: vec![(HeaderName::from_static(name), value)], ..RouteMatch::default() }
}

fn parameter(name: &str, value: ValueMatch) -> RouteMatch {
    RouteMatch { query: vec![(name.to_owned(), value)], ..RouteMatch::default() }
}

fn text(text: &str) -> ValueMatch {
    ValueMatch::Exact(text.to_owned())
}

fn expression(text: &str) -> ValueMatch {
    ValueMatch::Regex(Pattern::new(text).unwrap())
}

/// The rule and the prefix that each request must find.
fn expect(rules: &[OwnedRule], cases: &[(OwnedRequest, Option<(usize, usize)>)]) {
    let index = build(rules);
    for (request, expected) in cases {
        let found = index.find(&request.view()).map(|found| (found.rule, found.prefix));
        assert_eq!(found, *expected, "{request:?}");
    }
}

#[test]
fn without_rules_nothing_is_found() {
    expect(&[], &[(OwnedRequest::get("a.test", "/"), None)]);
}

#[test]
fn a_rule_without_conditions_takes_everything() {
    let get = OwnedRequest::get;
    let cases = ["/", "/a/b", "*", ""].map(|target| (get("a.test", target), Some((0, 0))));
    expect(&[OwnedRule::default()], &cases);
    expect(&[OwnedRule::new(&[], &[prefix("/")])], &cases);
    expect(&[OwnedRule::default()], &[(get("", "/"), Some((0, 0)))]);
}

#[test]
fn the_most_specific_host_wins_and_the_others_take_what_it_leaves() {
    let rules = [
        OwnedRule::new(&[], &[]),
        OwnedRule::new(&["*.test"], &[prefix("/api/long"), prefix("/w")]),
        OwnedRule::new(&["*.a.test"], &[prefix("/api"), prefix("/a")]),
        OwnedRule::new(&["b.a.test"], &[prefix("/a")]),
    ];
    let get = OwnedRequest::get;
    expect(
        &rules,
        &[
            (get("b.a.test", "/a/x"), Some((3, 2))),
            (get("b.a.test", "/api/long"), Some((2, 4))),
            (get("b.a.test", "/w"), Some((1, 2))),
            (get("b.a.test", "/else"), Some((0, 0))),
            (get("c.b.a.test", "/a"), Some((2, 2))),
            (get("a.test", "/a"), Some((0, 0))),
            (get("a.test", "/w"), Some((1, 2))),
            (get("test", "/w"), Some((0, 0))),
            (get(".test", "/w"), Some((0, 0))),
            (get("xa.test", "/a"), Some((0, 0))),
            (get("ä.a.test", "/a"), Some((2, 2))),
            (get("[::1]", "/a"), Some((0, 0))),
        ],
    );
}

#[test]
fn exact_paths_come_first_then_expressions_then_prefixes_longer_ones_first() {
    let rules = [
        OwnedRule::new(&[], &[prefix("/a")]),
        OwnedRule::new(&[], &[prefix("/a/b/")]),
        OwnedRule::new(&[], &[regex("/a/b/[cd]")]),
        OwnedRule::new(&[], &[regex("/a/b/[cde]+")]),
        OwnedRule::new(&[], &[exact("/a/b/c")]),
        OwnedRule::new(&[], &[exact("/a/")]),
    ];
    let get = OwnedRequest::get;
    expect(
        &rules,
        &[
            (get("h", "/a/b/c"), Some((4, 0))),
            (get("h", "/a/b/d"), Some((3, 0))),
            (get("h", "/a/b/c/"), Some((1, 4))),
            (get("h", "/a/b"), Some((1, 4))),
            (get("h", "/a/bb"), Some((0, 2))),
            (get("h", "/a//b/c"), Some((0, 2))),
            (get("h", "/a"), Some((0, 2))),
            (get("h", "/a/"), Some((5, 0))),
            (get("h", "/A"), None),
            (get("h", "/"), None),
            (get("h", "a"), None),
        ],
    );
}

#[test]
fn paths_that_begin_with_no_slash_match_nothing() {
    let rules = [OwnedRule::new(&[], &[prefix("a"), exact("a"), exact("")])];
    expect(&rules, &["a", "/a", ""].map(|target| (OwnedRequest::get("h", target), None)));
}

#[test]
fn among_equal_paths_method_then_headers_then_query_then_order_decide() {
    let post = RouteMatch { method: Some(Method::GET), ..RouteMatch::default() };
    let two_headers = RouteMatch {
        headers: vec![
            (HeaderName::from_static("x-a"), ValueMatch::Present),
            (HeaderName::from_static("x-b"), ValueMatch::Present),
        ],
        ..RouteMatch::default()
    };
    let rules = [
        OwnedRule::new(&[], &[]),
        OwnedRule::new(&[], &[]),
        OwnedRule::new(&[], &[parameter("q", ValueMatch::Present)]),
        OwnedRule::new(&[], &[header("x-a", ValueMatch::Present)]),
        OwnedRule::new(&[], &[two_headers]),
        OwnedRule::new(&[], &[post]),
    ];
    let put = |target| OwnedRequest { method: Method::PUT, ..OwnedRequest::get("h", target) };
    expect(
        &rules,
        &[
            (OwnedRequest::get("h", "/?q").with("x-a", b"").with("x-b", b""), Some((5, 0))),
            (put("/?q").with("x-a", b"").with("x-b", b""), Some((4, 0))),
            (put("/?q").with("x-a", b""), Some((3, 0))),
            (put("/?q"), Some((2, 0))),
            (put("/"), Some((0, 0))),
        ],
    );
}

#[test]
fn a_header_condition_holds_if_one_field_line_meets_it() {
    let rules = [
        OwnedRule::new(&[], &[header("x-a", text("one"))]),
        OwnedRule::new(&[], &[header("x-a", expression("t.*"))]),
        OwnedRule::new(&[], &[header("x-a", ValueMatch::Present)]),
    ];
    let get = || OwnedRequest::get("h", "/");
    expect(
        &rules,
        &[
            (get(), None),
            (get().with("x-a", b"one"), Some((0, 0))),
            (get().with("x-a", b"other").with("x-a", b"one"), Some((0, 0))),
            (get().with("x-a", b"One"), Some((2, 0))),
            (get().with("x-a", b"two"), Some((1, 0))),
            (get().with("x-a", b"t\xff"), Some((1, 0))),
            (get().with("x-a", b"at"), Some((2, 0))),
            (get().with("x-b", b"one"), None),
        ],
    );
}

#[test]
fn a_query_condition_is_on_the_first_parameter_as_it_decodes() {
    let rules = [
        OwnedRule::new(&[], &[parameter("v", text("a b"))]),
        OwnedRule::new(&[], &[parameter("v", expression("a.c"))]),
        OwnedRule::new(&[], &[parameter("v", ValueMatch::Present)]),
    ];
    let get = |target| OwnedRequest::get("h", target);
    expect(
        &rules,
        &[
            (get("/"), None),
            (get("/?"), None),
            (get("/?w=a+b"), None),
            (get("/?v=a+b"), Some((0, 0))),
            (get("/?w&v=a%20b"), Some((0, 0))),
            (get("/?%76=a%20b"), Some((0, 0))),
            (get("/?v=a%20c"), Some((1, 0))),
            (get("/?v=abc"), Some((1, 0))),
            (get("/?v=x&v=a+b"), Some((2, 0))),
            (get("/?v"), Some((2, 0))),
        ],
    );
}

#[test]
fn of_conditions_on_one_name_only_the_first_counts() {
    let twice = RouteMatch {
        headers: vec![
            (HeaderName::from_static("x-a"), text("1")),
            (HeaderName::from_static("x-a"), text("2")),
        ],
        query: vec![("q".to_owned(), text("1")), ("q".to_owned(), text("2"))],
        ..RouteMatch::default()
    };
    let request = OwnedRequest::get("h", "/?q=1").with("x-a", b"1");
    expect(&[OwnedRule::new(&[], &[twice])], &[(request, Some((0, 0)))]);
}

#[test]
fn a_rule_serves_its_listeners_only() {
    let rules = [
        OwnedRule::new(&[], &[exact("/")]).on(&[1, 63]),
        OwnedRule::new(&[], &[exact("/")]).on(&[200, 64, 2]),
        OwnedRule::new(&[], &[exact("/")]).on(&[]),
        OwnedRule::new(&[], &[prefix("/")]),
    ];
    let on = |listener| OwnedRequest { listener, ..OwnedRequest::get("h", "/") };
    expect(
        &rules,
        &[
            (on(0), Some((3, 0))),
            (on(1), Some((0, 0))),
            (on(2), Some((1, 0))),
            (on(63), Some((0, 0))),
            (on(64), Some((1, 0))),
            (on(65), Some((3, 0))),
            (on(200), Some((1, 0))),
        ],
    );
}
