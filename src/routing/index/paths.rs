//! The paths of one host: a tree of segments for exact paths and prefixes, a list of expressions.
//!
//! A look-up goes down the tree once, hashing each segment of the path at most once and none below
//! the longest stored path, and then up again from the longest prefix to the shortest. So neither the
//! number of routes nor a path made of slashes makes it slow; only expressions are tried in turn.

use std::cmp::Reverse;

use foldhash::{HashMap, HashMapExt};

use super::candidate::Candidate;
use super::{Found, RequestView};
use crate::routing::matches::{PathMatch, Pattern};

const ROOT: usize = 0;

#[derive(Debug)]
pub(super) struct Paths {
    /// The node at [`ROOT`] stands for the prefix `/`. A parent comes before its children.
    nodes: Vec<Node>,
    /// Longest expression first, then in the order of candidates.
    patterns: Vec<(Pattern, Candidate)>,
}

#[derive(Debug)]
struct Node {
    /// By segment, without slashes.
    children: HashMap<Box<str>, usize>,
    /// The root is its own.
    parent: usize,
    /// Bytes of the path down to here, without a slash at the end.
    length: usize,
    exact: Vec<Candidate>,
    prefix: Vec<Candidate>,
}

impl Paths {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::new(ROOT, 0)], patterns: Vec::new() }
    }

    /// Adds a candidate; [`Self::finish`] must follow the last one. A path that does not begin with
    /// `/` can match no request and is left out.
    pub(super) fn insert(&mut self, path: Option<&PathMatch>, candidate: Candidate) {
        match path {
            None => self.nodes[ROOT].prefix.push(candidate),
            Some(PathMatch::Regex(pattern)) => self.patterns.push((pattern.clone(), candidate)),
            Some(PathMatch::Exact(path)) => {
                if let Some(segments) = path.strip_prefix('/') {
                    let node = self.grow(segments);
                    self.nodes[node].exact.push(candidate);
                }
            }
            Some(PathMatch::Prefix(path)) => match path.trim_end_matches('/').strip_prefix('/') {
                Some(segments) => {
                    let node = self.grow(segments);
                    self.nodes[node].prefix.push(candidate);
                }
                None if path.is_empty() || path.starts_with('/') => self.nodes[ROOT].prefix.push(candidate),
                None => {}
            },
        }
    }

    /// Puts everything into the order in which it is tried.
    pub(super) fn finish(&mut self) {
        for node in &mut self.nodes {
            node.exact.sort_by_key(Candidate::order);
            node.prefix.sort_by_key(Candidate::order);
        }
        self.patterns.sort_by_key(|(pattern, candidate)| {
            (Reverse(pattern.as_str().chars().count()), candidate.order())
        });
    }

    /// The candidate that holds and comes first: exact path, then expressions, then prefixes from the
    /// longest to the shortest.
    pub(super) fn find(&self, request: &RequestView<'_>) -> Option<Found> {
        let first = |candidates: &[Candidate], prefix| {
            let candidate = candidates.iter().find(|candidate| candidate.holds(request))?;
            Some(Found { rule: candidate.rule, prefix })
        };
        let (mut at, whole) = self.descend(request.path);
        if whole && let Some(found) = first(&self.nodes[at].exact, 0) {
            return Some(found);
        }
        let by_pattern = self
            .patterns
            .iter()
            .find(|(pattern, candidate)| candidate.holds(request) && pattern.matches(request.path));
        if let Some((_, candidate)) = by_pattern {
            return Some(Found { rule: candidate.rule, prefix: 0 });
        }
        loop {
            let node = &self.nodes[at];
            if let Some(found) = first(&node.prefix, node.length) {
                return Some(found);
            }
            if at == ROOT {
                return None;
            }
            at = node.parent;
        }
    }

    /// The deepest node on the way of `path`, and whether the whole path led there.
    fn descend(&self, path: &str) -> (usize, bool) {
        // `*` and the target of CONNECT are no paths: only the root's prefix takes them.
        let mut rest = path.strip_prefix('/');
        let mut at = ROOT;
        while let Some(segments) = rest {
            let children = &self.nodes[at].children;
            // Before the segment is measured: below the last node no more of the path is read.
            if children.is_empty() {
                return (at, false);
            }
            let (segment, after) = match segments.split_once('/') {
                Some((segment, after)) => (segment, Some(after)),
                None => (segments, None),
            };
            match children.get(segment) {
                Some(&child) => (at, rest) = (child, after),
                None => return (at, false),
            }
        }
        (at, path.starts_with('/'))
    }

    /// The node of a path given without its first slash, made if it is not there.
    fn grow(&mut self, segments: &str) -> usize {
        let mut at = ROOT;
        for segment in segments.split('/') {
            at = match self.nodes[at].children.get(segment) {
                Some(&child) => child,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node::new(at, self.nodes[at].length + 1 + segment.len()));
                    self.nodes[at].children.insert(segment.into(), child);
                    child
                }
            };
        }
        at
    }
}

impl Node {
    fn new(parent: usize, length: usize) -> Self {
        Self { children: HashMap::new(), parent, length, exact: Vec::new(), prefix: Vec::new() }
    }
}
