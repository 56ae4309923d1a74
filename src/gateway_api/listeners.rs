//! Which listeners there are, whose they are, and what is wrong with them: Gateways that are served,
//! with their own listeners and those that ListenerSets add.

mod addresses;
mod clients;
mod convert;
mod validity;

use std::net::IpAddr;
use std::sync::Arc;

use gateway_api::experimental::gateways::Gateway;
use gateway_api::experimental::listenersets::ListenerSet;

pub use self::addresses::{AddressPool, AddressProblem, Addresses};
use super::model::RouteKind;
use super::resources::{Key, Resources, seniority};
use super::selector::Selector;
use super::status::Condition;
use super::translate::Settings;
use crate::plan::ClientVerification;

/// A Gateway that this process serves.
#[derive(Clone, Debug)]
pub struct ServedGateway {
    /// Its name.
    pub key: Key,
    /// As it was read.
    pub object: Arc<Gateway>,
    /// Where it listens.
    pub address: Result<IpAddr, AddressProblem>,
    /// Its own listeners, then those of its ListenerSets, the oldest set first.
    pub listeners: Vec<Listener>,
    /// ListenerSets that name it.
    pub sets: Vec<ServedSet>,
    /// The Secret that says who it is for backends, or why it cannot be used; `None` if it names none.
    pub identity: Option<Result<Key, Condition>>,
}

/// A ListenerSet of a served Gateway.
#[derive(Clone, Debug)]
pub struct ServedSet {
    /// Its name.
    pub key: Key,
    /// As it was read.
    pub object: Arc<ListenerSet>,
    /// Whether the Gateway lets it add listeners.
    pub allowed: bool,
}

/// Whose listener one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The Gateway's own.
    Gateway,
    /// A ListenerSet's.
    Set(Key),
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP in plain text.
    Http,
    /// HTTP in TLS.
    Https,
    /// TLS that ends here.
    TlsTerminate,
    /// TLS that goes through.
    TlsPassthrough,
    /// Something else.
    Unsupported,
}

/// A listener, with what was found about it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Whose it is.
    pub owner: Owner,
    /// The namespace of whoever owns it.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Hosts that it takes; `None` is any.
    pub hostname: Option<String>,
    /// Its port.
    pub port: u16,
    /// Its protocol as written.
    pub protocol: String,
    /// What it speaks.
    pub speaks: Speaks,
    /// Kinds that may attach.
    pub kinds: Vec<RouteKind>,
    /// Whether other kinds were asked for.
    pub invalid_kinds: bool,
    /// Namespaces whose routes may attach.
    pub from: Namespaces,
    /// Secrets by group, kind and name.
    pub certificates: Vec<CertificateRef>,
    /// Secrets that can be used.
    pub usable_certificates: Vec<Key>,
    /// Which clients it takes; `None` is all.
    pub clients: Option<ClientVerification>,
    /// `Conflicted`, if it holds.
    pub conflict: Option<Condition>,
    /// Why it is not accepted, if it is not.
    pub refused: Option<Condition>,
    /// Why what it refers to cannot be used, if so.
    pub unresolved: Option<Condition>,
    /// Routes that attached.
    pub attached: i32,
}

impl Listener {
    /// Whether routes may attach.
    pub fn is_accepted(&self) -> bool {
        self.refused.is_none()
    }

    /// Whether it takes connections.
    pub fn is_programmed(&self) -> bool {
        let certified = !matches!(self.speaks, Speaks::Https | Speaks::TlsTerminate)
            || !self.usable_certificates.is_empty();
        self.is_accepted() && certified
    }
}

/// A Secret, or a ConfigMap, as a listener or a Gateway names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRef {
    /// API group; empty is core.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub key: Key,
}

/// Namespaces whose routes, or ListenerSets, may attach.
#[derive(Clone, Debug, PartialEq)]
pub enum Namespaces {
    /// All.
    All,
    /// The listener's own.
    Same,
    /// None.
    None,
    /// Those with such labels.
    Selected(Selector),
}

impl Namespaces {
    /// Whether `namespace` is among them; `own` is the listener's.
    pub fn contain(&self, resources: &Resources, namespace: &str, own: &str) -> bool {
        match self {
            Self::All => true,
            Self::Same => namespace == own,
            Self::None => false,
            Self::Selected(selector) => selector.matches(&resources.namespace_labels(namespace)),
        }
    }
}

/// Whether a GatewayClass is ours.
fn is_ours(resources: &Resources, class: &str, settings: &Settings) -> bool {
    match resources.classes.get(&Key::new("", class)) {
        Some(class) => class.spec.controller_name == settings.controller,
        // Files need not spell out the class. Where classes cannot be read, as with the rights of a namespace
        // alone, it is believed of the one Gateway that this process was told to serve.
        None => settings.any_class || settings.gateway.is_some() && resources.classes_refused,
    }
}

/// Every Gateway that is to be served, the oldest first, with its listeners judged.
pub fn served(resources: &Resources, settings: &Settings, addresses: &mut Addresses) -> Vec<ServedGateway> {
    let mut gateways: Vec<_> = resources
        .gateways
        .iter()
        .filter(|(key, gateway)| {
            settings.gateway.as_ref().is_none_or(|only| only == *key)
                && is_ours(resources, &gateway.spec.gateway_class_name, settings)
        })
        .collect();
    gateways.sort_by_cached_key(|(_, gateway)| seniority(&gateway.metadata));
    addresses.keep(gateways.iter().map(|(key, _)| *key));
    let mut served: Vec<_> =
        gateways.into_iter().map(|(key, gateway)| serve(resources, key, gateway)).collect();
    addresses.assign(&mut served);
    served
}

/// The Gateway that the ListenerSet called `set` adds to.
pub fn gateway_of(set: &Key, object: &ListenerSet) -> Option<Key> {
    let parent = &object.spec.parent_ref;
    let namespace = parent.namespace.as_deref().unwrap_or(&set.namespace);
    let is_gateway = parent.kind.as_deref().unwrap_or("Gateway") == "Gateway";
    is_gateway.then(|| Key::new(namespace, parent.name.clone()))
}

fn serve(resources: &Resources, key: &Key, gateway: &Arc<Gateway>) -> ServedGateway {
    let mut listeners: Vec<_> =
        gateway.spec.listeners.iter().map(|raw| convert::of_gateway(raw, key)).collect();
    let allowed = convert::allowed_sets(gateway);
    let mut sets: Vec<_> = resources
        .listener_sets
        .iter()
        .filter(|(set, object)| gateway_of(set, object).is_some_and(|gateway| gateway == *key))
        .collect();
    sets.sort_by_cached_key(|(_, set)| seniority(&set.metadata));
    let sets: Vec<_> = sets
        .into_iter()
        .map(|(set, object)| ServedSet {
            key: set.clone(),
            object: object.clone(),
            allowed: allowed.contain(resources, &set.namespace, &key.namespace),
        })
        .collect();
    for set in sets.iter().filter(|set| set.allowed) {
        listeners.extend(set.object.spec.listeners.iter().map(|raw| convert::of_set(raw, &set.key)));
    }
    validity::judge(resources, &mut listeners);
    clients::judge(resources, key, gateway, &mut listeners);
    ServedGateway {
        key: key.clone(),
        object: gateway.clone(),
        address: Err(AddressProblem::NotAssigned),
        listeners,
        sets,
        identity: clients::identity(resources, key, gateway),
    }
}
