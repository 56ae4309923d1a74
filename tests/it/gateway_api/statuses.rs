//! What the suite asks of statuses, as text:
//!
//! ```text
//! = gateway-invalid-tls-configuration.yaml      manifests of a test
//! Gateway some-gateway                          an object, `namespace/name` or of the suite's namespace
//!   Accepted=True (ListenersNotValid)           its condition; without a reason any will do
//!   sets 2                                      ListenerSets attached to a Gateway
//!   addresses 10.0.0.1                          where a Gateway is; `addresses` alone is anywhere
//!   listener https: ResolvedRefs=False (x); kinds HTTPRoute, GRPCRoute; attached 1
//!   listeners 1                                 how many it tells of
//! HTTPRoute some-route
//!   parent some-gateway: Accepted=True; ResolvedRefs=False (BackendNotFound)
//!   parents 1                                   how many it tells of
//! served by some-gateway: HTTPRoute a, b        see [`served`]
//! ready                                         all Gateways are that are meant to be
//! * Gateway some-gateway {"spec": {}}           a change; see [`Objects::change`]
//! ```
//!
//! What holds of every status is in [`Objects::statuses`].

use mirrorgate::gateway_api::model::RouteKind;
use mirrorgate::gateway_api::resources::Key;
use mirrorgate::gateway_api::status::{Condition, ListenerStatus, Statuses};

use super::certificates::Certificates;
use super::cluster::{INFRA, manifests};
use super::objects::Objects;

#[test]
fn statuses() {
    let Some(suite) = manifests() else { return };
    let certificates = Certificates::new();
    let (mut objects, mut found, mut object, mut file) = (None, Statuses::default(), "", "");
    let (mut checked, mut wrong) = (0, Vec::new());
    let mut judge = |place: &str, line: &str, result: Result<(), String>| {
        checked += 1;
        if let Err(problem) = result {
            wrong.push(format!("{place}: {line}: {problem}"));
        }
    };
    let lines = include_str!("statuses.txt").lines().chain(include_str!("served.txt").lines());
    for line in lines.filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("= ") {
            (file, object) = (name, "");
            found = objects.insert(Objects::load(&suite, name, &certificates)).statuses();
        } else if let Some(change) = line.strip_prefix("* ") {
            let objects = objects.as_mut().unwrap();
            objects.change(change);
            found = objects.statuses();
        } else if line == "ready" {
            judge(file, line, ready(&found, objects.as_ref().unwrap()));
        } else if !line.starts_with(' ') && line.contains(" by ") {
            judge(file, line, served(&found, line));
        } else if !line.starts_with(' ') {
            object = line;
        } else {
            judge(&format!("{file}: {object}"), line.trim(), check(&found, object, line.trim()));
        }
    }
    assert!(checked > 400, "{checked} expectations");
    assert!(wrong.is_empty(), "{} of {checked} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether every Gateway is accepted and programmed that is meant to be.
fn ready(statuses: &Statuses, objects: &Objects) -> Result<(), String> {
    let meant = statuses.gateways.iter().filter(|(key, _)| objects.is_meant(key));
    for (key, status) in meant {
        for wanted in ["Accepted=True", "Programmed=True"] {
            condition(&status.conditions, wanted).map_err(|problem| format!("{key}: {problem}"))?;
        }
    }
    Ok(())
}

/// `served by gateway: HTTPRoute a, b` is what most tests wait for before they send anything: the Gateway has
/// an address, all its listeners are good, and it accepts the routes and finds all that they refer to.
/// `accepted by` says nothing of what they refer to. Either may be by `ListenerSet name` as well.
fn served(statuses: &Statuses, line: &str) -> Result<(), String> {
    let (verb, rest) = line.split_once(" by ").unwrap();
    let (parent, routes) = rest.split_once(": ").unwrap();
    let (kind, parent) = parent.split_once(' ').unwrap_or(("Gateway", parent));
    let object = format!("{kind} {parent}");
    if kind == "Gateway" {
        check(statuses, &object, "addresses")?;
    }
    let listeners = match kind {
        "Gateway" => statuses.gateways.get(&key(parent)).map(|status| &status.listeners),
        _ => statuses.listener_sets.get(&key(parent)).map(|status| &status.listeners),
    };
    for listener in listeners.into_iter().flatten() {
        let line = format!("listener {}: Accepted=True; Programmed=True; ResolvedRefs=True", listener.name);
        check(statuses, &object, &line)?;
    }
    let resolved = match verb {
        "served" => "; ResolvedRefs=True (ResolvedRefs)",
        "accepted" => "",
        _ => panic!("{verb} by whom?"),
    };
    let (kind, names) = routes.split_once(' ').unwrap();
    names.split(", ").try_for_each(|name| {
        let line = format!("parent {parent}: Accepted=True (Accepted){resolved}");
        check(statuses, &format!("{kind} {name}"), &line).map_err(|problem| format!("{name}: {problem}"))
    })
}

pub fn key(name: &str) -> Key {
    let (namespace, name) = name.split_once('/').unwrap_or((INFRA, name));
    Key::new(namespace, name)
}

fn check(statuses: &Statuses, object: &str, line: &str) -> Result<(), String> {
    let (kind, name) = object.split_once(' ').unwrap();
    let key = key(name);
    let absent = || format!("{kind} {key} has no status");
    match kind {
        "GatewayClass" => {
            let status = statuses.classes.get(&Key::new("", name)).ok_or_else(absent)?;
            condition(&status.conditions, line)
        }
        "Gateway" => {
            let status = statuses.gateways.get(&key).ok_or_else(absent)?;
            let addresses: Vec<_> = status.addresses.iter().map(ToString::to_string).collect();
            match line.split_once(' ') {
                Some(("sets", wanted)) => equal(&status.attached_sets, wanted),
                Some(("addresses", wanted)) => equal(&addresses.join(", "), wanted),
                None if line == "addresses" && addresses.is_empty() => Err("it has none".to_owned()),
                None if line == "addresses" => Ok(()),
                _ => of_listener_or_object(&status.listeners, &status.conditions, line),
            }
        }
        "ListenerSet" => {
            let status = statuses.listener_sets.get(&key).ok_or_else(absent)?;
            of_listener_or_object(&status.listeners, &status.conditions, line)
        }
        "BackendTLSPolicy" => {
            let status = statuses.tls_policies.get(&key).ok_or_else(absent)?;
            of_parent(line, status.ancestors.iter().map(|(gateway, states)| (gateway.clone(), states)))
        }
        _ => {
            let route =
                [RouteKind::Http, RouteKind::Grpc, RouteKind::Tls].into_iter().find(|one| one.name() == kind);
            let status = statuses.routes.get(&(route.unwrap(), key.clone())).ok_or_else(absent)?;
            of_parent(
                line,
                status.parents.iter().map(|(parent, states)| (parent.key(&key.namespace), states)),
            )
        }
    }
}

fn equal(found: &impl ToString, wanted: &str) -> Result<(), String> {
    let found = found.to_string();
    if found == wanted { Ok(()) } else { Err(format!("found {found}")) }
}

/// `parent name: conditions`, or `parents count`.
fn of_parent<'a>(line: &str, parents: impl Iterator<Item = (Key, &'a Vec<Condition>)>) -> Result<(), String> {
    if let Some(wanted) = line.strip_prefix("parents ") {
        return equal(&parents.count(), wanted);
    }
    let (name, wanted) = line.strip_prefix("parent ").and_then(|line| line.split_once(": ")).unwrap();
    let parents: Vec<_> = parents.filter(|(parent, _)| *parent == key(name)).collect();
    if parents.is_empty() {
        return Err("there is no such parent".to_owned());
    }
    parents.iter().try_for_each(|(_, states)| wanted.split("; ").try_for_each(|one| condition(states, one)))
}

/// A condition of the object, `listener name: …` of one of its listeners, or `listeners count`.
fn of_listener_or_object(
    listeners: &[ListenerStatus],
    conditions: &[Condition],
    line: &str,
) -> Result<(), String> {
    if let Some(wanted) = line.strip_prefix("listeners ") {
        return equal(&listeners.len(), wanted);
    }
    let Some((name, wanted)) = line.strip_prefix("listener ").and_then(|line| line.split_once(": ")) else {
        return condition(conditions, line);
    };
    let listener = listeners.iter().find(|listener| listener.name == name);
    let listener = listener.ok_or("there is no such listener")?;
    for part in wanted.split("; ") {
        let kinds: Vec<_> = listener.supported_kinds.iter().map(|kind| kind.name()).collect();
        match part.split_once(' ') {
            // The suite asks for these, and lets there be others.
            Some(("kinds", wanted)) if wanted.split(", ").all(|kind| kinds.contains(&kind)) => {}
            Some(("kinds", _)) => return Err(format!("the kinds are {kinds:?}")),
            Some(("attached", count)) if listener.attached_routes.to_string() == count => {}
            Some(("attached", _)) => return Err(format!("{} are attached", listener.attached_routes)),
            _ if part == "kinds" && kinds.is_empty() => {}
            _ => condition(&listener.conditions, part)?,
        }
    }
    Ok(())
}

/// `Accepted=True`, or `Accepted=True (Reason)`
fn condition(conditions: &[Condition], wanted: &str) -> Result<(), String> {
    let (kind, _) = wanted.split_once('=').unwrap_or_else(|| panic!("no condition: {wanted:?}"));
    let found = conditions.iter().find(|condition| condition.kind == kind);
    let text = found.map(ToString::to_string).ok_or("there is no such condition")?;
    match text.starts_with(wanted) {
        true => Ok(()),
        false => Err(text),
    }
}
