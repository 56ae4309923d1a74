//! The one walk over what names a backend. Translation, ReferenceGrants, conditions and watches all
//! ask here, so that none of them can see a reference that another one forgot: to see only the rules'
//! backends and not their mirrors is the mistake that this program answers to.

use super::model::{Filter, Reference, Route};
use crate::shard::Lane;

/// Where in a route a backend is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which rule, from 0.
    pub rule: usize,
    /// What for.
    pub lane: Lane,
}

/// Calls `visit` with every backend that `route` names and what for: backends of rules, mirrors of
/// rules, mirrors of single backends.
pub fn for_each_backend<'route>(route: &'route Route, mut visit: impl FnMut(&'route Reference, Place)) {
    for (rule, parts) in route.rules.iter().enumerate() {
        for backend in &parts.backends {
            visit(&backend.reference, Place { rule, lane: Lane::Primary });
        }
        let filters = parts.filters.iter();
        for filter in filters.chain(parts.backends.iter().flat_map(|backend| &backend.filters)) {
            if let Some((reference, lane)) = named(filter) {
                visit(reference, Place { rule, lane });
            }
        }
    }
}

/// The backend that a filter names. No wildcard: a new kind of filter has to answer here.
fn named(filter: &Filter) -> Option<(&Reference, Lane)> {
    match filter {
        Filter::Mirror(mirror) => Some((&mirror.backend, Lane::Mirror)),
        Filter::Unsupported { backend, .. } => backend.as_ref().map(|backend| (backend, Lane::Primary)),
        Filter::RequestHeaders(_)
        | Filter::ResponseHeaders(_)
        | Filter::Redirect(_)
        | Filter::Rewrite(_)
        | Filter::Cors(_) => None,
    }
}
