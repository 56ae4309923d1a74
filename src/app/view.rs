//! What the admin API shows of the table and the configuration in use.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::reload::Reloader;
use crate::admin::mirrors::MirrorsInUse;
use crate::admin::{JsonView, LanesInUse, Warnings};
use crate::proxy::Gateway;
use crate::routing::table::{Action, Route};
use crate::shard::Lane;

/// Which lanes refer to backends.
pub(super) fn lanes(gateway: Arc<Gateway>) -> LanesInUse {
    Arc::new(move || {
        let mut referring: HashMap<Arc<str>, Vec<Lane>> = HashMap::new();
        gateway.table().for_each_backend(|backend, lane| {
            let lanes = referring.entry(backend.name().clone()).or_default();
            // Each once, in the order of `Lane::ALL`.
            if let Err(place) = lanes.binary_search_by_key(&lane.index(), |lane| lane.index()) {
                lanes.insert(place, lane);
            }
        });
        referring
    })
}

/// The mirrors of the table in use.
pub(super) fn mirrors(gateway: Arc<Gateway>) -> MirrorsInUse {
    Arc::new(move || gateway.table().routes().iter().flat_map(|route| route.mirrors.clone()).collect())
}

/// The compiled routes.
pub(super) fn routes(gateway: Arc<Gateway>) -> JsonView {
    Arc::new(move || Value::Array(gateway.table().routes().iter().map(|route| shown(route)).collect()))
}

/// The configuration as loaded, and the last reload error.
pub(super) fn configuration(reloader: Arc<Reloader>) -> JsonView {
    Arc::new(move || {
        let (configuration, error) = reloader.shown();
        json!({ "configuration": configuration, "last_reload_error": error })
    })
}

/// What cannot be read or listened on at present, a line each.
pub(super) fn warnings(reloader: Arc<Reloader>) -> Warnings {
    Arc::new(move || reloader.problems())
}

fn shown(route: &Route) -> Value {
    let backends = match &route.action {
        Action::Redirect(_) | Action::Fail => Value::Null,
        Action::Forward(backends) => backends
            .choices()
            .iter()
            .map(|choice| {
                let backend = choice.backend.as_ref().map(|backend| &**backend.name());
                json!({ "backend": backend, "weight": choice.weight })
            })
            .collect(),
    };
    let mirrors: Value = route
        .mirrors
        .iter()
        .map(|mirror| json!({ "backend": **mirror.backend.name(), "timeout_seconds": mirror.plan.timeouts.total.as_secs_f64() }))
        .collect();
    json!({ "name": *route.name, "backends": backends, "mirrors": mirrors })
}
