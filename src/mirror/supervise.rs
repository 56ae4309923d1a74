//! Looks at mirrors that stop or ramp by themselves; on the control runtime, never in a request's way.

use std::sync::Arc;
use std::time::Instant;

use super::Mirror;
use super::dial::DialEvent;
use crate::limits;
use crate::proxy::Gateway;

/// Runs for as long as the process.
pub async fn supervise(gateway: Arc<Gateway>) {
    let mut turns = tokio::time::interval(limits::MIRROR_LOOK);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let table = gateway.table().clone();
        for route in table.routes() {
            route.mirrors.iter().for_each(|mirror| look(&route.name, mirror));
        }
    }
}

fn look(route: &str, mirror: &Mirror) {
    let budget = &mirror.budget;
    if !budget.dial().looks() {
        return;
    }
    let event = budget.dial().look(budget.reading(), Instant::now());
    let name = &*mirror.name;
    match &event {
        Some(DialEvent::Stopped(reason)) => {
            budget.metrics().stopped();
            tracing::warn!(route, mirror = name, reason, "mirror stopped");
        }
        Some(DialEvent::Stepped(fraction)) => {
            tracing::info!(route, mirror = name, percent = fraction.percent(), "mirror ramped up");
        }
        None => return,
    }
    budget.show();
}
