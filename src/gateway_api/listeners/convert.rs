//! Listeners of a Gateway and of a ListenerSet are the same thing in two generated types.

use gateway_api::experimental::gateways as gateway;
use gateway_api::experimental::listenersets as set;

use super::{CertificateRef, Listener, Namespaces, Owner, Speaks};
use crate::gateway_api::GROUP;
use crate::gateway_api::model::RouteKind;
use crate::gateway_api::resources::Key;
use crate::gateway_api::selector::Selector;

macro_rules! selector {
    ($raw:expr) => {
        Selector {
            labels: $raw.match_labels.clone().unwrap_or_default(),
            expressions: $raw
                .match_expressions
                .iter()
                .flatten()
                .map(|one| (one.key.clone(), one.operator.clone(), one.values.clone().unwrap_or_default()))
                .collect(),
        }
    };
}

macro_rules! listener {
    ($raw:expr, $owner:expr, $key:expr, $from:path, $mode:path) => {{
        use $from as From;
        use $mode as Mode;
        let passthrough =
            matches!($raw.tls.as_ref().and_then(|tls| tls.mode.as_ref()), Some(Mode::Passthrough));
        let allowed = $raw.allowed_routes.as_ref();
        let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
        let from = match namespaces.and_then(|namespaces| namespaces.from.as_ref()) {
            None | Some(From::Same) => Namespaces::Same,
            Some(From::All) => Namespaces::All,
            Some(From::Selector) => match namespaces.and_then(|namespaces| namespaces.selector.as_ref()) {
                Some(selector) => Namespaces::Selected(selector!(selector)),
                None => Namespaces::None,
            },
        };
        let speaks = speaks(&$raw.protocol, passthrough);
        let wanted: Vec<_> = allowed
            .and_then(|allowed| allowed.kinds.as_ref())
            .into_iter()
            .flatten()
            .map(|one| (one.group.as_deref().unwrap_or(GROUP), one.kind.as_str()))
            .collect();
        let (kinds, invalid_kinds) = kinds(speaks, &wanted);
        Listener {
            owner: $owner,
            namespace: $key.namespace.clone(),
            name: $raw.name.clone(),
            hostname: $raw
                .hostname
                .clone()
                .filter(|host| !host.is_empty())
                .map(|host| host.to_ascii_lowercase()),
            port: u16::try_from($raw.port).unwrap_or(0),
            protocol: $raw.protocol.clone(),
            speaks,
            kinds,
            invalid_kinds,
            from,
            certificates: $raw
                .tls
                .iter()
                .flat_map(|tls| tls.certificate_refs.iter().flatten())
                .map(|one| CertificateRef {
                    group: one.group.clone().unwrap_or_default(),
                    kind: one.kind.clone().unwrap_or_else(|| "Secret".to_owned()),
                    key: Key::new(one.namespace.as_deref().unwrap_or(&$key.namespace), one.name.clone()),
                })
                .collect(),
            usable_certificates: Vec::new(),
            clients: None,
            conflict: None,
            refused: None,
            unresolved: None,
            attached: 0,
        }
    }};
}

/// A listener of the Gateway called `key`.
pub(super) fn of_gateway(raw: &gateway::GatewayListeners, key: &Key) -> Listener {
    listener!(
        raw,
        Owner::Gateway,
        key,
        gateway::GatewayListenersAllowedRoutesNamespacesFrom,
        gateway::GatewayListenersTlsMode
    )
}

/// A listener of the ListenerSet called `key`.
pub(super) fn of_set(raw: &set::ListenerSetListeners, key: &Key) -> Listener {
    listener!(
        raw,
        Owner::Set(key.clone()),
        key,
        set::ListenerSetListenersAllowedRoutesNamespacesFrom,
        set::ListenerSetListenersTlsMode
    )
}

/// Namespaces whose ListenerSets may add to `gateway`; none unless it says so.
pub(super) fn allowed_sets(gateway: &gateway::Gateway) -> Namespaces {
    use gateway::GatewayAllowedListenersNamespacesFrom as From;
    let namespaces = gateway.spec.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    match namespaces.and_then(|namespaces| namespaces.from.as_ref()) {
        None | Some(From::None) => Namespaces::None,
        Some(From::All) => Namespaces::All,
        Some(From::Same) => Namespaces::Same,
        Some(From::Selector) => match namespaces.and_then(|namespaces| namespaces.selector.as_ref()) {
            Some(selector) => Namespaces::Selected(selector!(selector)),
            None => Namespaces::None,
        },
    }
}

/// How clients of HTTPS listeners are verified.
pub(super) struct Validation {
    /// Objects with roots.
    pub(super) authorities: Vec<CertificateRef>,
    /// Whether clients whose certificate is not valid are let in, too.
    pub(super) fallback: bool,
}

/// How a Gateway in `namespace` wants clients of HTTPS on `port` verified, if at all.
pub(super) fn validation(gateway: &gateway::Gateway, port: u16, namespace: &str) -> Option<Validation> {
    macro_rules! validation {
        ($raw:expr, $mode:path) => {{
            use $mode as Mode;
            Validation {
                authorities: $raw
                    .ca_certificate_refs
                    .iter()
                    .map(|one| CertificateRef {
                        group: one.group.clone(),
                        kind: one.kind.clone(),
                        key: Key::new(one.namespace.as_deref().unwrap_or(namespace), one.name.clone()),
                    })
                    .collect(),
                fallback: matches!($raw.mode, Some(Mode::AllowInsecureFallback)),
            }
        }};
    }
    let frontend = gateway.spec.tls.as_ref()?.frontend.as_ref()?;
    let mut ports = frontend.per_port.iter().flatten();
    if let Some(own) = ports.find(|one| one.port == i32::from(port)) {
        let raw = own.tls.validation.as_ref()?;
        return Some(validation!(raw, gateway::GatewayTlsFrontendPerPortTlsValidationMode));
    }
    let raw = frontend.default.validation.as_ref()?;
    Some(validation!(raw, gateway::GatewayTlsFrontendDefaultValidationMode))
}

fn speaks(protocol: &str, passthrough: bool) -> Speaks {
    match (protocol, passthrough) {
        ("HTTP", _) => Speaks::Http,
        ("HTTPS", false) => Speaks::Https,
        ("TLS", true) => Speaks::TlsPassthrough,
        ("TLS", false) => Speaks::TlsTerminate,
        // HTTPS that goes through is TLS, and a route for it a TLSRoute.
        _ => Speaks::Unsupported,
    }
}

/// Kinds that may attach, and whether others were asked for.
fn kinds(speaks: Speaks, wanted: &[(&str, &str)]) -> (Vec<RouteKind>, bool) {
    let possible: &[RouteKind] = match speaks {
        Speaks::Http | Speaks::Https => &[RouteKind::Http, RouteKind::Grpc],
        Speaks::TlsTerminate | Speaks::TlsPassthrough => &[RouteKind::Tls],
        Speaks::Unsupported => &[],
    };
    if wanted.is_empty() {
        return (possible.to_vec(), false);
    }
    let found = |(group, kind): &(&str, &str)| {
        possible.iter().find(|one| *group == GROUP && one.name() == *kind).copied()
    };
    (wanted.iter().filter_map(found).collect(), wanted.iter().any(|one| found(one).is_none()))
}
