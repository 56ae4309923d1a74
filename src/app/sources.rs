//! The sources of endpoints at start-up and reload: how they are asked, and who waits for them.

use std::sync::Arc;

use tokio::time::timeout_at;

use crate::admin::readiness::Readiness;
use crate::config;
use crate::discovery::kubernetes::SliceStore;
use crate::discovery::resolver::ResolverPolicy;
use crate::discovery::{DnsSettings, Settings};
use crate::limits;
use crate::plan::Plan;
use crate::routing::table::RoutingTable;
use crate::shard::Lane;

/// How sources are asked.
pub(super) fn settings(plan: &Plan, slices: Arc<SliceStore>) -> Settings {
    Settings {
        parse: |text| {
            config::parse_endpoints(text, std::path::Path::new("")).map_err(|errors| errors.to_string())
        },
        dns: DnsSettings {
            servers: plan.name_servers.servers.clone(),
            search: plan.name_servers.search.clone(),
            ..DnsSettings::default()
        },
        slices,
        policy: ResolverPolicy::default(),
    }
}

/// Registers every primary's backend with `readiness`; a mirror never holds it back.
pub(super) fn wait_for_primaries(table: &RoutingTable, readiness: &Readiness) {
    table.for_each_backend(|backend, lane| {
        if lane == Lane::Primary {
            readiness.wait_for_backend(backend.name(), backend.answered());
        }
    });
}

/// Gives the sources of `table` a moment to answer before the first request is accepted, or the table is
/// used: [`limits::FIRST_ANSWERS`] of the lane. Without it the first copies had nowhere to go.
pub(super) async fn first_answers(table: &RoutingTable) {
    let mut sources = Vec::new();
    table.for_each_backend(|backend, lane| sources.push((backend.answered(), lane)));
    let begun = tokio::time::Instant::now();
    let mut late = 0;
    for (mut answered, lane) in sources {
        let heard = answered.wait_for(|answered| *answered);
        // An error of the source's means that nobody refers to it any more.
        late += usize::from(timeout_at(begun + limits::FIRST_ANSWERS[lane.index()], heard).await.is_err());
    }
    if late > 0 {
        tracing::warn!(late, "sources of endpoints have not answered yet");
    }
}
