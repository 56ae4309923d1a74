//! Which endpoint takes the next exchange: of two drawn by weight, the one with less to do.
//!
//! Power of two choices: nearly as even as looking at all, at the cost of looking at two
//! (Mitzenmacher 2001). Pure: the draws are arguments.

use std::sync::Arc;

use super::endpoint::Endpoint;
use super::endpoint_set::{EndpointSet, Entry};

/// An endpoint of `set` that is not among `tried`, or `None` when there is none left. `load` tells
/// how many exchanges an endpoint has in flight; `draws` are uniform over 64 bits.
pub fn pick<'set>(
    set: &'set EndpointSet,
    tried: &[Arc<Endpoint>],
    draws: [u64; 2],
    load: impl Fn(&Endpoint) -> usize,
) -> Option<&'set Arc<Endpoint>> {
    let one = set.draw(draws[0])?;
    if set.len() == 1 {
        return untried(one, tried).then_some(&one.endpoint);
    }
    let other = set.draw(draws[1]).unwrap_or(one);
    match (untried(one, tried), untried(other, tried)) {
        (true, true) => Some(lighter(one, other, load)),
        (true, false) => Some(&one.endpoint),
        (false, true) => Some(&other.endpoint),
        // Only a request that failed before comes here.
        (false, false) => {
            set.entries().iter().find(|entry| untried(entry, tried)).map(|entry| &entry.endpoint)
        }
    }
}

fn untried(entry: &Entry, tried: &[Arc<Endpoint>]) -> bool {
    !tried.iter().any(|other| Arc::ptr_eq(other, &entry.endpoint))
}

/// The one with less to do for its weight, after it took this exchange.
fn lighter<'set>(
    one: &'set Entry,
    other: &'set Entry,
    load: impl Fn(&Endpoint) -> usize,
) -> &'set Arc<Endpoint> {
    let cost = |entry: &Entry, against: &Entry| {
        (load(&entry.endpoint) as u64 + 1).saturating_mul(u64::from(against.weight))
    };
    if cost(one, other) <= cost(other, one) { &one.endpoint } else { &other.endpoint }
}
