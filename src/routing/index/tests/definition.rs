//! Which rule a request must find, by the definition of precedence and without any structure; and rules
//! and requests that own what they are made of. The tests of the index hold it against this, and so does
//! its fuzz target, which includes this file.

use std::cmp::Reverse;

use http::{HeaderMap, Method};

use super::{Found, HostPattern, PathMatch, RequestView, RouteIndex, RouteMatch, Rule, ValueMatch};

/// A rule that owns what it is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnedRule {
    pub(super) listeners: Option<Vec<usize>>,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) matches: Vec<RouteMatch>,
}

impl OwnedRule {
    pub(super) fn new(hosts: &[&str], matches: &[RouteMatch]) -> Self {
        let hosts = hosts.iter().map(|host| match host.strip_prefix('*') {
            Some(suffix) => HostPattern::Suffix(suffix.to_owned()),
            None => HostPattern::Exact((*host).to_owned()),
        });
        Self { listeners: None, hosts: hosts.collect(), matches: matches.to_vec() }
    }

    pub(super) fn on(mut self, listeners: &[usize]) -> Self {
        self.listeners = Some(listeners.to_vec());
        self
    }
}

pub(super) fn build(rules: &[OwnedRule]) -> RouteIndex {
    let rules: Vec<_> = rules
        .iter()
        .map(|rule| Rule { listeners: rule.listeners.as_deref(), hosts: &rule.hosts, matches: &rule.matches })
        .collect();
    RouteIndex::build(&rules)
}

/// A request that owns what it is made of.
#[derive(Clone, Debug)]
pub(super) struct OwnedRequest {
    pub(super) listener: usize,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
}

impl OwnedRequest {
    pub(super) fn get(host: &str, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Self {
            listener: 0,
            host: host.to_owned(),
            path: path.to_owned(),
            query,
            method: Method::GET,
            headers: HeaderMap::new(),
        }
    }

    pub(super) fn view(&self) -> RequestView<'_> {
        RequestView {
            listener: self.listener,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            method: &self.method,
            headers: &self.headers,
        }
    }
}

/// Greatest wins: host, path, method, header conditions, query conditions, earlier rule.
type Rank = ((u8, usize), (u8, usize), bool, usize, usize, Reverse<usize>);

pub(super) fn scan(rules: &[OwnedRule], request: &OwnedRequest) -> Option<Found> {
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
