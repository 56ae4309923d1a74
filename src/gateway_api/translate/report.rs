//! What is said of classes, Gateways, ListenerSets and their listeners.

use super::Settings;
use crate::gateway_api::listeners::{AddressProblem, Listener, Owner, ServedGateway};
use crate::gateway_api::reachable::StatusAddress;
use crate::gateway_api::resources::Resources;
use crate::gateway_api::status::{
    ClassStatus, Condition, GatewayStatus, ListenerStatus, SetStatus, Statuses,
};

/// Fills in all of `statuses` but routes.
pub(super) fn report(
    resources: &Resources,
    settings: &Settings,
    gateways: &[ServedGateway],
    statuses: &mut Statuses,
) {
    for (key, class) in &resources.classes {
        if class.spec.controller_name != settings.controller {
            continue;
        }
        let condition = match &class.spec.parameters_ref {
            None => Condition::yes("Accepted", "Accepted"),
            Some(_) => Condition::no("Accepted", "InvalidParameters", "parameters are not supported"),
        };
        let generation = class.metadata.generation.unwrap_or(0);
        statuses.classes.insert(key.clone(), ClassStatus { generation, conditions: vec![condition] });
    }
    statuses.tls_policies = crate::gateway_api::tls_policies::statuses(resources, gateways);
    for gateway in gateways {
        let sets: Vec<_> =
            gateway.sets.iter().map(|set| (set.key.clone(), set_status(gateway, set))).collect();
        let accepted =
            |status: &SetStatus| status.conditions.first().is_some_and(|condition| condition.holds);
        let attached_sets = sets.iter().filter(|(_, status)| accepted(status)).count() as i32;
        let addresses = addresses(resources, settings, gateway);
        statuses.gateways.insert(gateway.key.clone(), gateway_status(gateway, addresses, attached_sets));
        statuses.listener_sets.extend(sets);
    }
}

/// Where a Gateway is reached, or why it cannot be told yet: at its own address, and where that is all of
/// the machine's, wherever the settings say.
fn addresses(
    resources: &Resources,
    settings: &Settings,
    gateway: &ServedGateway,
) -> Result<Vec<StatusAddress>, String> {
    match gateway.address {
        Ok(address) if address.is_unspecified() => settings.reachable.addresses(resources),
        Ok(address) => Ok(vec![StatusAddress::Ip(address)]),
        // Why it has none is told by its conditions.
        Err(_) => Ok(Vec::new()),
    }
}

fn gateway_status(
    gateway: &ServedGateway,
    addresses: Result<Vec<StatusAddress>, String>,
    attached_sets: i32,
) -> GatewayStatus {
    let own: Vec<_> = gateway.listeners.iter().filter(|one| one.owner == Owner::Gateway).collect();
    let accepted = gateway_accepted(gateway, &own);
    let programmed = match &gateway.address {
        _ if !accepted.holds => Condition::no("Programmed", "Invalid", "the Gateway is not accepted"),
        Err(AddressProblem::NotUsable(why) | AddressProblem::Unsupported(why)) => {
            Condition::no("Programmed", "AddressNotUsable", why.clone())
        }
        Err(AddressProblem::NotAssigned) => {
            let message = "no address is left: another Gateway has this port, or the pool is empty";
            Condition::no("Programmed", "AddressNotAssigned", message)
        }
        Ok(_) if !gateway.listeners.iter().any(Listener::is_programmed) => {
            Condition::no("Programmed", "Invalid", "no listener can be served")
        }
        Ok(_) => match &addresses {
            Ok(_) => Condition::yes("Programmed", "Programmed"),
            Err(why) => Condition::no("Programmed", "AddressNotAssigned", why.clone()),
        },
    };
    let mut conditions = vec![accepted, programmed];
    conditions.extend(gateway.identity.as_ref().map(|identity| match identity {
        Ok(_) => Condition::yes("ResolvedRefs", "ResolvedRefs"),
        Err(condition) => condition.clone(),
    }));
    let clients = gateway.listeners.iter().filter_map(|listener| listener.clients.as_ref());
    if clients.into_iter().any(|clients| clients.fallback) {
        conditions.push(Condition {
            message: "clients are let in whatever certificate they show".to_owned(),
            ..Condition::yes("InsecureFrontendValidationMode", "ConfigurationChanged")
        });
    }
    GatewayStatus {
        generation: gateway.object.metadata.generation.unwrap_or(0),
        addresses: addresses.unwrap_or_default(),
        conditions,
        listeners: own.into_iter().map(|listener| listener_status(gateway, listener)).collect(),
        attached_sets,
    }
}

fn gateway_accepted(gateway: &ServedGateway, own: &[&Listener]) -> Condition {
    let infrastructure = gateway.object.spec.infrastructure.as_ref();
    if infrastructure.is_some_and(|infrastructure| infrastructure.parameters_ref.is_some()) {
        return Condition::no("Accepted", "InvalidParameters", "parameters are not supported");
    }
    if let Err(AddressProblem::Unsupported(why)) = &gateway.address {
        return Condition::no("Accepted", "UnsupportedAddress", why.clone());
    }
    let good = own.iter().filter(|listener| listener.is_accepted()).count();
    match good {
        _ if good == own.len() => Condition::yes("Accepted", "Accepted"),
        0 => Condition::no("Accepted", "ListenersNotValid", "no listener is accepted"),
        _ => Condition {
            message: "some listeners are not accepted".to_owned(),
            ..Condition::yes("Accepted", "ListenersNotValid")
        },
    }
}

fn set_status(gateway: &ServedGateway, set: &crate::gateway_api::listeners::ServedSet) -> SetStatus {
    let own: Vec<_> =
        gateway.listeners.iter().filter(|one| one.owner == Owner::Set(set.key.clone())).collect();
    let reachable = gateway.address.is_ok();
    // Unlike a Gateway's own, one whose certificate cannot be used does not count.
    let accepted = own.iter().filter(|listener| listener.is_programmed()).count();
    let programmed = own.iter().any(|listener| listener.is_programmed()) && reachable;
    let conditions = if !set.allowed {
        let message = format!("Gateway {} lets no ListenerSet of this namespace add listeners", gateway.key);
        vec![
            Condition::no("Accepted", "NotAllowed", message.clone()),
            Condition::no("Programmed", "NotAllowed", message),
        ]
    } else {
        let some = Condition {
            message: "some listeners are not accepted".to_owned(),
            ..Condition::yes("Accepted", "ListenersNotValid")
        };
        vec![
            match accepted {
                0 => Condition::no("Accepted", "ListenersNotValid", "no listener is accepted"),
                _ if accepted == own.len() => Condition::yes("Accepted", "Accepted"),
                _ => some,
            },
            match programmed {
                true => Condition::yes("Programmed", "Programmed"),
                false => Condition::no("Programmed", "ListenersNotValid", "no listener can be served"),
            },
        ]
    };
    SetStatus {
        generation: set.object.metadata.generation.unwrap_or(0),
        conditions,
        listeners: own.into_iter().map(|listener| listener_status(gateway, listener)).collect(),
    }
}

fn listener_status(gateway: &ServedGateway, listener: &Listener) -> ListenerStatus {
    let accepted = listener.refused.clone().unwrap_or_else(|| Condition::yes("Accepted", "Accepted"));
    let conflicted =
        listener.conflict.clone().unwrap_or_else(|| Condition::no("Conflicted", "NoConflicts", ""));
    let resolved =
        listener.unresolved.clone().unwrap_or_else(|| Condition::yes("ResolvedRefs", "ResolvedRefs"));
    let programmed = match (listener.is_programmed(), &gateway.address) {
        // Conformance wants the conflict's own reason, for listeners of sets at least.
        (false, _) => {
            let reason = listener.conflict.as_ref().map_or("Invalid", |conflict| conflict.reason);
            Condition::no("Programmed", reason, "the listener cannot be served")
        }
        (true, Err(_)) => Condition::no("Programmed", "Pending", "the Gateway has no address"),
        (true, Ok(_)) => Condition::yes("Programmed", "Programmed"),
    };
    ListenerStatus {
        name: listener.name.clone(),
        attached_routes: listener.attached,
        supported_kinds: listener.kinds.clone(),
        conditions: vec![accepted, conflicted, resolved, programmed],
    }
}
