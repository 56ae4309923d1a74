//! One match of one rule, without its host and path: what remains to be checked once those are found.

use std::cmp::Reverse;
use std::sync::Arc;

use http::{HeaderName, Method};

use super::RequestView;
use crate::routing::matches::{RouteMatch, ValueMatch};
use crate::routing::query;

/// A rule that takes a request if its listener and its conditions hold.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) rule: usize,
    pub(super) listeners: Listeners,
    /// `None` holds always: the common case costs one comparison.
    pub(super) conditions: Option<Arc<Conditions>>,
}

impl Candidate {
    pub(super) fn holds(&self, request: &RequestView<'_>) -> bool {
        self.listeners.contain(request.listener)
            && self.conditions.as_ref().is_none_or(|conditions| conditions.hold(request))
    }

    /// Sorts what is tried first to the front, among candidates of equal host and path.
    pub(super) fn order(&self) -> impl Ord + use<> {
        let conditions = self.conditions.as_deref();
        Reverse((
            conditions.is_some_and(|conditions| conditions.method.is_some()),
            conditions.map_or(0, |conditions| conditions.headers.len()),
            conditions.map_or(0, |conditions| conditions.query.len()),
            Reverse(self.rule),
        ))
    }
}

/// Conditions beyond host and path, all of which must hold.
#[derive(Debug)]
pub(super) struct Conditions {
    method: Option<Method>,
    headers: Vec<(HeaderName, ValueMatch)>,
    query: Vec<(String, ValueMatch)>,
}

impl Conditions {
    /// `None` if there are none. Of several on one name the first counts, as Gateway API has it.
    pub(super) fn new(of: &RouteMatch) -> Option<Arc<Self>> {
        let conditions = Self {
            method: of.method.clone(),
            headers: first_of_each(&of.headers),
            query: first_of_each(&of.query),
        };
        let some =
            conditions.method.is_some() || !conditions.headers.is_empty() || !conditions.query.is_empty();
        some.then(|| Arc::new(conditions))
    }

    fn hold(&self, request: &RequestView<'_>) -> bool {
        self.method.as_ref().is_none_or(|method| method == request.method)
            && self.headers.iter().all(|(name, value)| {
                request.headers.get_all(name).iter().any(|field| value.holds(field.as_bytes()))
            })
            && self.query.iter().all(|(name, value)| {
                request.query.and_then(|query| query::first(query, name)).is_some_and(|found| match value {
                    ValueMatch::Exact(expected) => found.is(expected.as_bytes()),
                    ValueMatch::Regex(pattern) => pattern.matches_bytes(&found.decoded()),
                    ValueMatch::Present => true,
                })
            })
    }
}

fn first_of_each<N: PartialEq + Clone>(all: &[(N, ValueMatch)]) -> Vec<(N, ValueMatch)> {
    let mut kept: Vec<(N, ValueMatch)> = Vec::with_capacity(all.len());
    for (name, value) in all {
        if !kept.iter().any(|(other, _)| other == name) {
            kept.push((name.clone(), value.clone()));
        }
    }
    kept
}

/// The listeners that a rule serves.
#[derive(Clone, Debug)]
pub(super) enum Listeners {
    All,
    /// Bit `n` is listener `n`: nearly every process has fewer than 64.
    Few(u64),
    /// Sorted.
    Many(Arc<[usize]>),
}

impl Listeners {
    pub(super) fn new(indexes: Option<&[usize]>) -> Self {
        let Some(indexes) = indexes else { return Self::All };
        if indexes.iter().all(|&index| index < 64) {
            return Self::Few(indexes.iter().fold(0, |bits, index| bits | 1 << index));
        }
        let mut sorted = indexes.to_vec();
        sorted.sort_unstable();
        Self::Many(sorted.into())
    }

    fn contain(&self, listener: usize) -> bool {
        match self {
            Self::All => true,
            Self::Few(bits) => listener < 64 && bits & (1 << listener) != 0,
            Self::Many(sorted) => sorted.binary_search(&listener).is_ok(),
        }
    }
}
