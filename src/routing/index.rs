//! Which rule takes a request: an immutable structure, built once from all rules.
//!
//! Of all matches that hold for a request, over all rules, the one wins that has, in this order (the
//! precedence of Gateway API's HTTPRoute):
//!
//! 1. the most specific host: exact, then the longest wildcard, then none;
//! 2. the most specific path: exact, then a regular expression, then a prefix; the longer expression
//!    or prefix first (Gateway API leaves the place of expressions open; this is Envoy Gateway's);
//! 3. a condition on the method;
//! 4. more conditions on header fields, then more on query parameters;
//! 5. the lower number of its rule.
//!
//! It is a union: a request for which the rules of its most specific host do not hold goes to those
//! of a less specific one. A condition on a header field holds if any field line of that name meets
//! it. Of a query parameter the first occurrence counts, compared as it decodes. Paths are compared
//! as they come: whoever calls has normalized them.
//!
//! The cost of a look-up does not grow with the number of hosts and paths. It grows with the rules
//! that have the very same host and path, and with the regular expressions of one host, which are
//! tried in turn. Nothing is allocated, but for an escaped query value that meets an expression, and
//! by an expression's first uses.

mod candidate;
mod paths;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use foldhash::{HashMap, HashMapExt};
use http::{HeaderMap, Method};

use self::candidate::{Candidate, Conditions, Listeners};
use self::paths::Paths;
use super::matches::{HostPattern, RouteMatch};

/// Finds the rule for a request. See the module's documentation for the order of precedence.
#[derive(Debug)]
pub struct RouteIndex {
    hosts: HashMap<Box<str>, Paths>,
    /// By suffix, which begins with a dot.
    wildcards: HashMap<Box<str>, Paths>,
    /// Lengths of the suffixes, greatest first: only these are looked up, whatever dots a host has.
    wildcard_lengths: Vec<usize>,
    any_host: Paths,
}

/// What a rule takes. Its position among all rules is its number, and decides between equals.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Indexes of the listeners that it serves; `None` is all.
    pub listeners: Option<&'a [usize]>,
    /// Hosts that it serves; empty is any.
    pub hosts: &'a [HostPattern],
    /// Alternatives, one of which must hold; empty is everything.
    pub matches: &'a [RouteMatch],
}

/// What is looked at in a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Index of the listener that it came through.
    pub listener: usize,
    /// Lower case, without a port and without a dot at the end; empty if there is none.
    pub host: &'a str,
    /// Normalized, as it goes upstream.
    pub path: &'a str,
    /// Without its `?`.
    pub query: Option<&'a str>,
    /// Its method.
    pub method: &'a Method,
    /// Its fields.
    pub headers: &'a HeaderMap,
}

/// The rule that takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub rule: usize,
    /// Bytes of the path that a prefix matched, without a slash at the end; 0 for `/` and for other
    /// kinds of match. What a prefix rewrite takes away.
    pub prefix: usize,
}

impl RouteIndex {
    /// Builds the index of `rules`.
    pub fn build(rules: &[Rule<'_>]) -> Self {
        let mut index = Self {
            hosts: HashMap::new(),
            wildcards: HashMap::new(),
            wildcard_lengths: Vec::new(),
            any_host: Paths::new(),
        };
        for (number, rule) in rules.iter().enumerate() {
            index.insert(number, rule);
        }
        for paths in index.hosts.values_mut().chain(index.wildcards.values_mut()) {
            paths.finish();
        }
        index.any_host.finish();
        index.wildcard_lengths = index.wildcards.keys().map(|suffix| suffix.len()).collect();
        index.wildcard_lengths.sort_unstable_by_key(|&length| Reverse(length));
        index.wildcard_lengths.dedup();
        index
    }

    /// The rule that takes `request`, if any does.
    pub fn find(&self, request: &RequestView<'_>) -> Option<Found> {
        self.hosts
            .get(request.host)
            .and_then(|paths| paths.find(request))
            .or_else(|| self.wildcards_of(request.host).find_map(|paths| paths.find(request)))
            .or_else(|| self.any_host.find(request))
    }

    /// From the longest suffix to the shortest. `*.a` does not take `a`, nor the malformed `.a`.
    fn wildcards_of<'s>(&'s self, host: &'s str) -> impl Iterator<Item = &'s Paths> {
        self.wildcard_lengths.iter().filter_map(move |length| {
            let start = host.len().checked_sub(*length).filter(|&start| start > 0)?;
            let suffix = host.get(start..).filter(|suffix| suffix.starts_with('.'))?;
            self.wildcards.get(suffix)
        })
    }

    fn insert(&mut self, number: usize, rule: &Rule<'_>) {
        let everything = [RouteMatch::default()];
        let matches = if rule.matches.is_empty() { &everything } else { rule.matches };
        let listeners = Listeners::new(rule.listeners);
        for one in matches {
            let candidate =
                Candidate { rule: number, listeners: listeners.clone(), conditions: Conditions::new(one) };
            if rule.hosts.is_empty() {
                self.any_host.insert(one.path.as_ref(), candidate.clone());
            }
            for host in rule.hosts {
                let paths = match host {
                    HostPattern::Exact(host) => self.hosts.entry(host.as_str().into()),
                    HostPattern::Suffix(suffix) => self.wildcards.entry(suffix.as_str().into()),
                };
                paths.or_insert_with(Paths::new).insert(one.path.as_ref(), candidate.clone());
            }
        }
    }
}
