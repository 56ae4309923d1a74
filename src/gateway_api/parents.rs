//! Which listeners a route attaches to, by one of its parents.

use super::listeners::{Listener, Owner, ServedGateway};
use super::model::{ParentRef, Route, RouteKind};
use super::resources::Resources;
use super::status::Condition;

/// A listener: which Gateway, and which of its listeners.
pub type ListenerIndex = (usize, usize);

/// What came of one parent that this process serves.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Listeners that take the route.
    pub listeners: Vec<ListenerIndex>,
    /// `Accepted`.
    pub accepted: Condition,
}

/// Attaches `route` to `parent`; `None` if the parent is not served by this process.
pub fn attach(
    resources: &Resources,
    gateways: &[ServedGateway],
    route: &Route,
    parent: &ParentRef,
) -> Option<Attachment> {
    let (gateway, owner) = owner(gateways, route, parent)?;
    let listeners = gateways.get(gateway).map(|gateway| gateway.listeners.as_slice()).unwrap_or_default();
    let refused = |reason, message: &str| {
        Some(Attachment { listeners: Vec::new(), accepted: Condition::no("Accepted", reason, message) })
    };
    let named: Vec<_> = listeners
        .iter()
        .enumerate()
        .filter(|(_, listener)| {
            listener.owner == owner
                && parent.section.as_ref().is_none_or(|section| *section == listener.name)
                && parent.port.is_none_or(|port| port == i32::from(listener.port))
        })
        .collect();
    if named.is_empty() {
        return refused("NoMatchingParent", "no listener of the parent has that name and port");
    }
    let allowed: Vec<_> = named
        .into_iter()
        .filter(|(_, listener)| {
            listener.kinds.contains(&route.kind)
                && listener.from.contain(resources, &route.key.namespace, &listener.namespace)
        })
        .collect();
    if allowed.is_empty() {
        let message = format!("no listener takes {}s from namespace {}", route.kind, route.key.namespace);
        return refused("NotAllowedByListeners", &message);
    }
    let meeting: Vec<_> = allowed.into_iter().filter(|(_, listener)| hosts_meet(listener, route)).collect();
    if meeting.is_empty() {
        return refused("NoMatchingListenerHostname", "no listener takes a host of the route");
    }
    let listeners: Vec<_> = meeting
        .into_iter()
        .filter(|(_, listener)| listener.is_accepted())
        .map(|(index, _)| (gateway, index))
        .collect();
    if listeners.is_empty() {
        return refused("NoMatchingParent", "the listeners that would take the route are not accepted");
    }
    Some(Attachment { listeners, accepted: Condition::yes("Accepted", "Accepted") })
}

/// The Gateway that serves a parent, and whose listeners among its own are meant.
fn owner(gateways: &[ServedGateway], route: &Route, parent: &ParentRef) -> Option<(usize, Owner)> {
    let key = parent.key(&route.key.namespace);
    if parent.is("Gateway") {
        return gateways.iter().position(|gateway| gateway.key == key).map(|index| (index, Owner::Gateway));
    }
    if !parent.is("ListenerSet") {
        return None;
    }
    let has = |gateway: &ServedGateway| gateway.sets.iter().any(|set| set.key == key);
    gateways.iter().position(has).map(|index| (index, Owner::Set(key)))
}

fn hosts_meet(listener: &Listener, route: &Route) -> bool {
    let Some(own) = &listener.hostname else { return true };
    // A TLSRoute must name its hosts; the others take any.
    if route.hostnames.is_empty() {
        return route.kind != RouteKind::Tls;
    }
    route.hostnames.iter().any(|host| intersect(own, &host.to_ascii_lowercase()))
}

/// Whether some host is taken by both patterns, each exact or `*.suffix`.
pub fn intersect(one: &str, other: &str) -> bool {
    match (one.strip_prefix('*'), other.strip_prefix('*')) {
        (None, None) => one == other,
        (Some(suffix), None) => other.len() > suffix.len() && other.ends_with(suffix),
        (None, Some(suffix)) => one.len() > suffix.len() && one.ends_with(suffix),
        (Some(one), Some(other)) => one.ends_with(other) || other.ends_with(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (one, other, expected) in [
            ("a.com", "a.com", true),
            ("a.com", "b.com", false),
            ("*.a.com", "x.a.com", true),
            ("*.a.com", "x.y.a.com", true),
            ("*.a.com", "a.com", false),
            ("*.a.com", "xa.com", false),
            ("*.a.com", "*.x.a.com", true),
            ("*.a.com", "*.b.com", false),
            ("*.com", "*.a.com", true),
            ("*.a.com", "*.xa.com", false),
        ] {
            assert_eq!(intersect(one, other), expected, "{one} {other}");
            assert_eq!(intersect(other, one), expected, "{other} {one}");
        }
    }
}
