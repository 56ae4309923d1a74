//! Where spans go. Called by [`super::Running`].

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::plan::Plan;
use crate::shard::WorkerId;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spans::Traces;
use crate::upstream::registry::Registry;
use crate::worker::Worker;

/// Starts what sends them, which counts as worker `number`. The reference that it holds keeps the
/// collector's endpoints fresh, as any other does.
pub(super) fn start(
    plan: &Plan,
    number: usize,
    registry: &Arc<Registry>,
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<()>,
) -> Traces {
    let Some(traces) = &plan.traces else { return Traces::off() };
    // A plan that was checked has it.
    let Some(spec) = plan.backends.iter().find(|spec| spec.name == traces.collector) else {
        return Traces::off();
    };
    let worker = Worker::new(WorkerId(number), fastrand::u64(..));
    Traces::start(traces, registry.reference(spec), worker, metrics, tasks)
}
