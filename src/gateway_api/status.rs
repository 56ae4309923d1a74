//! What became of resources, as data: conditions without times, which a writer adds. Compared as a
//! whole, so that a status is written only when it says something new.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::model::{ParentRef, RouteKind};
use super::reachable::StatusAddress;
use super::resources::Key;
use crate::limits;

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// In a word, as the specification has it.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Condition {
    /// A condition that holds.
    pub fn yes(kind: &'static str, reason: &'static str) -> Self {
        Self { kind, holds: true, reason, message: String::new() }
    }

    /// A condition that does not hold, and why.
    pub fn no(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, holds: false, reason, message: message.into() }
    }

    /// Whether it says that something cannot be served as it is written.
    fn is_bad(&self) -> bool {
        match self.kind {
            // These are good news when they do not hold.
            "Conflicted" | "PartiallyInvalid" => self.holds,
            _ => !self.holds,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holds = if self.holds { "True" } else { "False" };
        write!(formatter, "{}={holds} ({})", self.kind, self.reason)?;
        match self.message.is_empty() {
            true => Ok(()),
            false => write!(formatter, ": {}", self.message),
        }
    }
}

/// As much of `lines` as a condition's message has room for.
pub(super) fn first_lines<'a>(lines: impl ExactSizeIterator<Item = &'a String>) -> String {
    let (most, longest) = limits::LINES_IN_STATUS;
    let more = lines.len().saturating_sub(most);
    let first = lines.take(most).map(|line| line.chars().take(longest).collect());
    let mut first: Vec<String> = first.collect();
    if more > 0 {
        first.push(format!("and {more} more"));
    }
    first.join("\n")
}

/// The condition of `kind` in `conditions`.
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

/// What became of everything that this process serves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statuses {
    /// By name.
    pub classes: BTreeMap<Key, ClassStatus>,
    /// Gateways that are served.
    pub gateways: BTreeMap<Key, GatewayStatus>,
    /// ListenerSets of Gateways that are served.
    pub listener_sets: BTreeMap<Key, SetStatus>,
    /// Routes that name such a parent, with one entry for each.
    pub routes: BTreeMap<(RouteKind, Key), RouteStatus>,
    /// BackendTLSPolicies, by the Gateways through which they matter.
    pub tls_policies: BTreeMap<Key, PolicyStatus>,
}

/// Of a GatewayClass.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassStatus {
    /// What it is observed at.
    pub generation: i64,
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// Of a Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayStatus {
    /// What it is observed at.
    pub generation: i64,
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// Where it can be reached.
    pub addresses: Vec<StatusAddress>,
    /// Of its own listeners, in order.
    pub listeners: Vec<ListenerStatus>,
    /// ListenerSets that are accepted.
    pub attached_sets: i32,
}

/// Of a ListenerSet.
#[derive(Clone, Debug, PartialEq)]
pub struct SetStatus {
    /// What it is observed at.
    pub generation: i64,
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// Of its listeners, in order.
    pub listeners: Vec<ListenerStatus>,
}

/// Of one listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Routes that attached.
    pub attached_routes: i32,
    /// Kinds of route that may attach.
    pub supported_kinds: Vec<RouteKind>,
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// Of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteStatus {
    /// What it is observed at.
    pub generation: i64,
    /// For each parent that this process serves.
    pub parents: Vec<(ParentRef, Vec<Condition>)>,
}

/// Of a BackendTLSPolicy.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyStatus {
    /// What it is observed at.
    pub generation: i64,
    /// Gateways through which it matters.
    pub ancestors: Vec<(Key, Vec<Condition>)>,
}

impl Statuses {
    /// A socket of a Gateway, called as its plan has it (`namespace/name:port`), cannot be bound.
    pub fn not_listening(&mut self, socket: &str, error: &str) {
        let key = socket.rsplit_once(':').and_then(|(key, _)| key.split_once('/'));
        let Some(status) =
            key.and_then(|(namespace, name)| self.gateways.get_mut(&Key::new(namespace, name)))
        else {
            return;
        };
        let programmed = status.conditions.iter_mut().find(|one| one.kind == "Programmed");
        if let Some(programmed) = programmed.filter(|one| one.holds) {
            *programmed = Condition::no("Programmed", "AddressNotUsable", error);
        }
    }

    /// Whether something is not accepted, not resolved or not programmed.
    pub fn complain(&self) -> bool {
        !self.complaints().is_empty()
    }

    /// What is not accepted, not resolved or not programmed: a line for each condition that says so.
    pub fn complaints(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mut add = |object: String, conditions: &[Condition]| {
            let bad = conditions.iter().filter(|condition| condition.is_bad());
            all.extend(bad.map(|condition| format!("{object}: {condition}")));
        };
        for (key, status) in &self.classes {
            add(format!("GatewayClass {key}"), &status.conditions);
        }
        let gateways = self
            .gateways
            .iter()
            .map(|(key, status)| (format!("Gateway {key}"), &status.conditions, &status.listeners));
        let sets = self
            .listener_sets
            .iter()
            .map(|(key, status)| (format!("ListenerSet {key}"), &status.conditions, &status.listeners));
        for (object, conditions, listeners) in gateways.chain(sets) {
            for listener in listeners {
                add(format!("{object}: listener {}", listener.name), &listener.conditions);
            }
            add(object, conditions);
        }
        for ((kind, key), status) in &self.routes {
            status.parents.iter().for_each(|(_, states)| add(format!("{kind} {key}"), states));
        }
        for (key, status) in &self.tls_policies {
            status.ancestors.iter().for_each(|(_, states)| add(format!("BackendTLSPolicy {key}"), states));
        }
        all
    }
}

impl fmt::Display for Statuses {
    /// A line for each object and listener, and one for each condition below it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn conditions(
            formatter: &mut fmt::Formatter<'_>,
            indent: usize,
            conditions: &[Condition],
        ) -> fmt::Result {
            conditions.iter().try_for_each(|condition| writeln!(formatter, "{:indent$}{condition}", ""))
        }
        fn listeners(formatter: &mut fmt::Formatter<'_>, listeners: &[ListenerStatus]) -> fmt::Result {
            listeners.iter().try_for_each(|listener| {
                let kinds: Vec<_> = listener.supported_kinds.iter().map(|kind| kind.name()).collect();
                let (name, attached) = (&listener.name, listener.attached_routes);
                writeln!(formatter, "  listener {name}: {attached} routes attached of {}", kinds.join(", "))?;
                conditions(formatter, 4, &listener.conditions)
            })
        }
        for (key, status) in &self.classes {
            writeln!(formatter, "GatewayClass {key}")?;
            conditions(formatter, 2, &status.conditions)?;
        }
        for (key, status) in &self.gateways {
            let addresses: Vec<_> = status.addresses.iter().map(ToString::to_string).collect();
            match addresses.as_slice() {
                [] => writeln!(formatter, "Gateway {key}")?,
                some => writeln!(formatter, "Gateway {key} at {}", some.join(", "))?,
            }
            if !self.listener_sets.is_empty() {
                writeln!(formatter, "  {} ListenerSets attached", status.attached_sets)?;
            }
            conditions(formatter, 2, &status.conditions)?;
            listeners(formatter, &status.listeners)?;
        }
        for (key, status) in &self.listener_sets {
            writeln!(formatter, "ListenerSet {key}")?;
            conditions(formatter, 2, &status.conditions)?;
            listeners(formatter, &status.listeners)?;
        }
        for ((kind, key), status) in &self.routes {
            writeln!(formatter, "{kind} {key}")?;
            for (parent, states) in &status.parents {
                let section =
                    parent.section.as_ref().map(|section| format!("/{section}")).unwrap_or_default();
                let port = parent.port.map(|port| format!(":{port}")).unwrap_or_default();
                let kind = parent.kind.as_deref().unwrap_or("Gateway");
                writeln!(formatter, "  parent {kind} {}{section}{port}", parent.key(&key.namespace))?;
                conditions(formatter, 4, states)?;
            }
        }
        for (key, status) in &self.tls_policies {
            writeln!(formatter, "BackendTLSPolicy {key}")?;
            for (gateway, states) in &status.ancestors {
                writeln!(formatter, "  for Gateway {gateway}")?;
                conditions(formatter, 4, states)?;
            }
        }
        Ok(())
    }
}
