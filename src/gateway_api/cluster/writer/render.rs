//! Statuses as the API has them: pure. What a condition said before keeps the time since when it did.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::features::FEATURES;
use crate::gateway_api::GROUP;
use crate::gateway_api::ignored::SETTINGS_IGNORED;
use crate::gateway_api::model::{ParentRef, RouteKind};
use crate::gateway_api::reachable::StatusAddress;
use crate::gateway_api::resources::Key;
use crate::gateway_api::status::{
    ClassStatus, Condition, GatewayStatus, ListenerStatus, PolicyStatus, RouteStatus, SetStatus,
};

/// Conditions, with the times of those in `current` that have not changed; conditions of types that
/// we do not write are kept.
fn conditions(current: &Value, wanted: &[Condition], generation: i64, now: &Timestamp) -> Value {
    let before = current.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut all: Vec<Value> = before
        .iter()
        .filter(|one| !OURS.iter().any(|kind| one.get("type").and_then(Value::as_str) == Some(kind)))
        .cloned()
        .collect();
    for condition in wanted {
        let status = if condition.holds { "True" } else { "False" };
        let known = before.iter().find(|one| {
            one.get("type").and_then(Value::as_str) == Some(condition.kind)
                && one.get("status").and_then(Value::as_str) == Some(status)
        });
        let since = known.and_then(|one| one.get("lastTransitionTime")).cloned();
        all.push(json!({
            "type": condition.kind,
            "status": status,
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": generation,
            "lastTransitionTime": since.unwrap_or_else(|| json!(seconds(now))),
        }));
    }
    Value::Array(all)
}

/// Types of conditions that we write.
const OURS: &[&str] = &[
    "Accepted",
    "Programmed",
    "ResolvedRefs",
    "Conflicted",
    "PartiallyInvalid",
    "InsecureFrontendValidationMode",
    SETTINGS_IGNORED,
];

fn seconds(now: &Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(super) fn class(current: &Value, status: &ClassStatus, now: &Timestamp) -> Value {
    let features: Vec<_> = FEATURES.iter().map(|name| json!({ "name": name })).collect();
    json!({
        "conditions": conditions(current, &status.conditions, status.generation, now),
        "supportedFeatures": features,
    })
}

pub(super) fn gateway(current: &Value, status: &GatewayStatus, now: &Timestamp) -> Value {
    let address = |address: &StatusAddress| match address {
        StatusAddress::Ip(address) => json!({ "type": "IPAddress", "value": address.to_string() }),
        StatusAddress::Host(host) => json!({ "type": "Hostname", "value": host }),
    };
    let addresses: Vec<_> = status.addresses.iter().map(address).collect();
    json!({
        "addresses": addresses,
        "attachedListenerSets": status.attached_sets,
        "conditions": conditions(current, &status.conditions, status.generation, now),
        "listeners": listeners(current, &status.listeners, status.generation, now),
    })
}

pub(super) fn listener_set(current: &Value, status: &SetStatus, now: &Timestamp) -> Value {
    json!({
        "conditions": conditions(current, &status.conditions, status.generation, now),
        "listeners": listeners(current, &status.listeners, status.generation, now),
    })
}

fn listeners(current: &Value, wanted: &[ListenerStatus], generation: i64, now: &Timestamp) -> Value {
    let before = current.get("listeners").and_then(Value::as_array).cloned().unwrap_or_default();
    let one = |listener: &ListenerStatus| {
        let known = before.iter().find(|one| one.get("name").and_then(Value::as_str) == Some(&listener.name));
        let kind = |kind: &RouteKind| json!({ "group": GROUP, "kind": kind.name() });
        json!({
            "name": listener.name,
            "attachedRoutes": listener.attached_routes,
            "supportedKinds": listener.supported_kinds.iter().map(kind).collect::<Vec<_>>(),
            "conditions": conditions(known.unwrap_or(&Value::Null), &listener.conditions, generation, now),
        })
    };
    wanted.iter().map(one).collect()
}

/// Whether a class's status says so already, whatever it tells of features.
pub(super) fn class_says(current: &Value, status: &ClassStatus) -> bool {
    let said = current.get("conditions").and_then(Value::as_array);
    status.conditions.iter().all(|wanted| {
        said.into_iter().flatten().any(|one| {
            one["type"] == wanted.kind
                && one["status"] == if wanted.holds { "True" } else { "False" }
                && one["reason"] == wanted.reason
                && one["observedGeneration"] == status.generation
        })
    })
}

/// Entries of other controllers, and of parents that are not `ours`, are kept as they are.
pub(super) fn route(
    current: &Value,
    status: Option<&RouteStatus>,
    controller: &str,
    ours: &dyn Fn(&Value) -> bool,
    now: &Timestamp,
) -> Value {
    let entries = Entries { name: "parents", reference: "parentRef", controller, ours, now };
    let generation = status.map_or(0, |status| status.generation);
    let wanted = status.iter().flat_map(|status| &status.parents);
    entries.with(current, generation, wanted.map(|(parent, states)| (parent_ref(parent), states.as_slice())))
}

/// The same for the ancestors of a policy.
pub(super) fn policy(
    current: &Value,
    status: Option<&PolicyStatus>,
    controller: &str,
    ours: &dyn Fn(&Value) -> bool,
    now: &Timestamp,
) -> Value {
    let entries = Entries { name: "ancestors", reference: "ancestorRef", controller, ours, now };
    let generation = status.map_or(0, |status| status.generation);
    let wanted = status.iter().flat_map(|status| &status.ancestors);
    let reference = |gateway: &Key| json!({ "group": GROUP, "kind": "Gateway", "namespace": gateway.namespace, "name": gateway.name });
    entries.with(current, generation, wanted.map(|(gateway, states)| (reference(gateway), states.as_slice())))
}

/// A list in a status, with an entry for each pair of a controller and a reference.
struct Entries<'a> {
    name: &'static str,
    /// What an entry calls its reference.
    reference: &'static str,
    controller: &'a str,
    /// Whether what we say about a reference is for this process to change.
    ours: &'a dyn Fn(&Value) -> bool,
    now: &'a Timestamp,
}

impl Entries<'_> {
    /// The list with what is `wanted`. Each entry keeps its place: two processes that write one after the
    /// other would not come to an end if each put its own last.
    fn with<'a>(
        &self,
        current: &Value,
        generation: i64,
        wanted: impl Iterator<Item = (Value, &'a [Condition])>,
    ) -> Value {
        let before = current.get(self.name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut wanted: Vec<_> = wanted.filter(|(reference, _)| (self.ours)(reference)).collect();
        let mut all = Vec::new();
        for entry in before {
            let reference = entry.get(self.reference).unwrap_or(&Value::Null);
            let by_us = entry.get("controllerName").and_then(Value::as_str) == Some(self.controller);
            if !by_us || !(self.ours)(reference) {
                all.push(entry.clone());
            } else if let Some(at) = wanted.iter().position(|(one, _)| one == reference) {
                let (reference, states) = wanted.remove(at);
                all.push(self.entry(entry, reference, states, generation));
            }
        }
        let new = wanted.into_iter();
        all.extend(new.map(|(reference, states)| self.entry(&Value::Null, reference, states, generation)));
        json!({ self.name: all })
    }

    fn entry(&self, before: &Value, reference: Value, states: &[Condition], generation: i64) -> Value {
        json!({
            self.reference: reference,
            "controllerName": self.controller,
            "conditions": conditions(before, states, generation, self.now),
        })
    }
}

/// As written: whoever reads a status compares it with the spec.
fn parent_ref(parent: &ParentRef) -> Value {
    let mut reference = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            reference.insert(key.to_owned(), value);
        }
    };
    put("group", parent.group.as_ref().map(|text| json!(text)));
    put("kind", parent.kind.as_ref().map(|text| json!(text)));
    put("namespace", parent.namespace.as_ref().map(|text| json!(text)));
    put("name", Some(json!(parent.name)));
    put("sectionName", parent.section.as_ref().map(|text| json!(text)));
    put("port", parent.port.map(|port| json!(port)));
    Value::Object(reference)
}

/// Whether a status says what is wanted already. What is not there is as good as empty.
pub(super) fn same(current: &Value, wanted: &Value) -> bool {
    match (current, wanted) {
        (Value::Null, Value::Array(items)) => items.is_empty(),
        (Value::Null, Value::Number(number)) => number.as_i64() == Some(0),
        (Value::Null, Value::Object(fields)) => fields.values().all(|field| same(&Value::Null, field)),
        (Value::Object(one), Value::Object(other)) => {
            other.iter().all(|(key, wanted)| same(one.get(key).unwrap_or(&Value::Null), wanted))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        _ => current == wanted,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn what_is_said_no_more_is_taken_back_and_what_others_say_is_kept() {
        let theirs = json!({ "type": "example.com/Theirs", "status": "True" });
        let said = |wanted: &[Condition], current: &Value| json!({ "conditions": conditions(current, wanted, 1, &Timestamp::UNIX_EPOCH) });
        let ignored = Condition::yes(SETTINGS_IGNORED, "UnsupportedValue");
        let before = said(&[ignored], &json!({ "conditions": [theirs] }));
        assert_eq!(before["conditions"][1]["type"], SETTINGS_IGNORED);
        assert_eq!(said(&[], &before), json!({ "conditions": [theirs] }));
    }
}
