//! What the suite asks of statuses, as text:
//!
//! ```text
//! = gateway-invalid-tls-configuration.yaml      manifests of a test
//! Gateway some-gateway                          an object, `namespace/name` or of the suite's namespace
//!   Accepted=True (ListenersNotValid)           its condition; without a reason any will do
//!   sets 2                                      ListenerSets attached to a Gateway
//!   listener https: ResolvedRefs=False (x); kinds HTTPRoute, GRPCRoute; attached 1
//! HTTPRoute some-route
//!   parent some-gateway: Accepted=True; ResolvedRefs=False (BackendNotFound)
//! ```
//!
//! Every status must have been observed at its object's generation.

use std::path::Path;
use std::sync::Arc;

use mirrorgate::gateway_api::CONTROLLER;
use mirrorgate::gateway_api::listeners::Addresses;
use mirrorgate::gateway_api::manifests::Manifests;
use mirrorgate::gateway_api::model::RouteKind;
use mirrorgate::gateway_api::resources::{Key, Map};
use mirrorgate::gateway_api::status::{Condition, ListenerStatus, Statuses};
use mirrorgate::gateway_api::translate::{Settings, translate};

use super::certificates::Certificates;
use super::cluster::{INFRA, manifests};

const GENERATION: i64 = 7;

#[test]
fn statuses() {
    let Some(suite) = manifests() else { return };
    let certificates = Certificates::new();
    let (mut found, mut object, mut file) = (Statuses::default(), "", "");
    let (mut checked, mut wrong) = (0, Vec::new());
    let lines = include_str!("statuses.txt").lines();
    for line in lines.filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("= ") {
            (file, object) = (name, "");
            found = translated(&suite, name, &certificates);
        } else if !line.starts_with(' ') {
            object = line;
        } else {
            checked += 1;
            if let Err(problem) = check(&found, object, line.trim()) {
                wrong.push(format!("{file}: {object}: {}: {problem}", line.trim()));
            }
        }
    }
    assert!(checked > 100, "{checked} expectations");
    assert!(wrong.is_empty(), "{} of {checked} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn translated(suite: &Path, file: &str, certificates: &Certificates) -> Statuses {
    let mut read = Manifests::default();
    for path in [suite.join("base.yaml"), suite.join("tests").join(file)] {
        let text = std::fs::read_to_string(&path).unwrap().replace("{GATEWAY_CLASS_NAME}", "mirrorgate");
        let text = text.replace("{GATEWAY_CONTROLLER_NAME}", CONTROLLER);
        read.add(&path, &text);
    }
    read.add(Path::new("secrets.yaml"), &certificates.manifests());
    assert_eq!(read.problems, []);
    fn age<K: Clone + kube::ResourceExt>(map: &mut Map<K>) {
        map.values_mut().for_each(|object| Arc::make_mut(object).meta_mut().generation = Some(GENERATION));
    }
    let resources = &mut read.resources;
    age(&mut resources.classes);
    age(&mut resources.gateways);
    age(&mut resources.listener_sets);
    age(&mut resources.http_routes);
    age(&mut resources.grpc_routes);
    age(&mut resources.tls_routes);
    age(&mut resources.tls_policies);
    let settings = Settings { any_class: true, ..Settings::default() };
    let mut addresses = Addresses::new(Some("10.0.0.1-10.0.0.99".parse().unwrap()));
    let statuses = translate(resources, &settings, &mut addresses).statuses;
    let generations = (statuses.classes.values().map(|status| status.generation))
        .chain(statuses.gateways.values().map(|status| status.generation))
        .chain(statuses.listener_sets.values().map(|status| status.generation))
        .chain(statuses.routes.values().map(|status| status.generation))
        .chain(statuses.tls_policies.values().map(|status| status.generation));
    assert!(generations.into_iter().all(|generation| generation == GENERATION), "{file}");
    statuses
}

fn key(name: &str) -> Key {
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
            match line.strip_prefix("sets ") {
                Some(count) if status.attached_sets.to_string() == count => Ok(()),
                Some(_) => Err(format!("{} sets are attached", status.attached_sets)),
                None => of_listener_or_object(&status.listeners, &status.conditions, line),
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

/// `parent name: conditions`
fn of_parent<'a>(line: &str, parents: impl Iterator<Item = (Key, &'a Vec<Condition>)>) -> Result<(), String> {
    let (name, wanted) = line.strip_prefix("parent ").and_then(|line| line.split_once(": ")).unwrap();
    let parents: Vec<_> = parents.filter(|(parent, _)| *parent == key(name)).collect();
    if parents.is_empty() {
        return Err("there is no such parent".to_owned());
    }
    parents.iter().try_for_each(|(_, states)| wanted.split("; ").try_for_each(|one| condition(states, one)))
}

/// A condition of the object, or `listener name: …` of one of its listeners.
fn of_listener_or_object(
    listeners: &[ListenerStatus],
    conditions: &[Condition],
    line: &str,
) -> Result<(), String> {
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
