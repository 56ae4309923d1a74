//! `/mirrors`: what each mirror of each route does, and the dial that a person turns.

use std::sync::Arc;
use std::time::Instant;

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::AdminState;
use super::api::decoded;
use super::reply::{Reply, json, plain};
use crate::config;
use crate::limits;
use crate::mirror::Mirror;
use crate::mirror::dial::{DialState, DialView, Order};
use crate::mirror::outcome::Outcome;
use crate::mirror::pair::Agreement;
use crate::shard::Lane;
use crate::telemetry::metrics::MirrorMetrics;

/// The mirrors of the table in use, in order.
pub type MirrorsInUse = Arc<dyn Fn() -> Vec<Arc<Mirror>> + Send + Sync>;

/// All mirrors.
pub(super) fn list(state: &AdminState) -> Reply {
    json(StatusCode::OK, &shown(&(state.mirrors)()))
}

/// Turns the dial of the mirror that the parameters name, and shows it. Parameters stand in the query
/// or, as a form, in the body.
pub(super) async fn change(request: Request<Incoming>, state: &AdminState) -> Reply {
    let mut text = request.uri().query().unwrap_or_default().to_owned();
    match Limited::new(request.into_body(), limits::ADMIN_FORM_BYTES).collect().await {
        Ok(body) => {
            text.push('&');
            text.push_str(&String::from_utf8_lossy(&body.to_bytes()));
        }
        Err(error) => return plain(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}")),
    }
    let Some(parameters) = Parameters::of(&text) else {
        return plain(StatusCode::BAD_REQUEST, "a parameter is not percent-encoded UTF-8");
    };
    let order = match parameters.order() {
        Ok(order) => order,
        Err(error) => return plain(StatusCode::BAD_REQUEST, error),
    };
    let (Some(route), Some(backend)) = (parameters.get("route"), parameters.get("backend")) else {
        return plain(StatusCode::BAD_REQUEST, "say which: /mirrors?route=…&backend=…");
    };
    let mut mirrors = (state.mirrors)();
    // By its own name, one of several mirrors to a backend; by the backend's, all of them.
    let is_meant = |mirror: &Mirror| *mirror.name == *backend || **mirror.backend.name() == *backend;
    mirrors.retain(|mirror| *mirror.route == *route && is_meant(mirror));
    if mirrors.is_empty() {
        return plain(StatusCode::NOT_FOUND, "no route in use has this mirror; GET /mirrors lists them");
    }
    for mirror in &mirrors {
        mirror.budget.dial().turn(order, Instant::now());
        mirror.budget.show();
    }
    tracing::info!(route, mirror = backend, ?order, "mirror dialled");
    json(StatusCode::OK, &shown(&mirrors))
}

/// Decoded parameters; one without a value has an empty one.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(text: &str) -> Option<Self> {
        let pairs = text.trim_end().split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(key)?, decoded(value)?))
        });
        decoded.collect::<Option<_>>().map(Self)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn order(&self) -> Result<Order, String> {
        let mut orders = Vec::new();
        for (key, value) in &self.0 {
            match (key.as_str(), value.as_str()) {
                ("route" | "backend", _) => {}
                ("percent", percent) => orders.push(Order::Share(config::percent(percent)?)),
                ("pause", "" | "1" | "true") => orders.push(Order::Pause),
                ("resume", "" | "1" | "true") => orders.push(Order::Resume),
                (key, _) => return Err(format!("unknown parameter {key:?}; {ORDERS}")),
            }
        }
        match orders.as_slice() {
            [order] => Ok(*order),
            _ => Err(ORDERS.to_owned()),
        }
    }
}

const ORDERS: &str = "give one of percent=<0 to 100>, pause and resume";

fn shown(mirrors: &[Arc<Mirror>]) -> Value {
    Value::Array(mirrors.iter().map(|mirror| view(mirror)).collect())
}

fn view(mirror: &Mirror) -> Value {
    let budget = &mirror.budget;
    let metrics = budget.metrics();
    let dial = budget.dial().view(Instant::now());
    let outcomes: Map<String, Value> = Outcome::ALL
        .iter()
        .map(|outcome| (outcome.as_str().to_owned(), metrics.outcome_total(*outcome)))
        .filter(|(_, count)| *count > 0)
        .map(|(outcome, count)| (outcome, count.into()))
        .collect();
    let agreement: Map<String, Value> = Agreement::ALL
        .iter()
        .map(|agreement| (agreement.as_str().to_owned(), metrics.agreement_total(*agreement).into()))
        .collect();
    json!({
        "route": &*mirror.route,
        "backend": &**mirror.backend.name(),
        "mirror": &*mirror.name,
        "percent": dial.fraction.percent(),
        "state": dial.state.as_str(),
        "reason": match &dial.state {
            DialState::Stopped(reason) => Some(reason.as_str()),
            DialState::Active | DialState::Paused => None,
        },
        "configured_percent": dial.configured.percent(),
        "set_by_hand": dial.set_by_hand,
        "ramp": ramp(&dial),
        "breaker": if budget.is_broken() { "open" } else { "closed" },
        "in_flight": metrics.in_flight.load(std::sync::atomic::Ordering::Relaxed),
        "in_flight_limit": budget.in_flight_limit(),
        "buffered_bytes": metrics.buffered_bytes(),
        "offered": metrics.offered_total(),
        "outcomes": outcomes,
        "unread_answers": metrics.unread_answers_total(),
        "agreement": agreement,
        "latency_seconds": { "primary": latency(metrics, Lane::Primary), "copy": latency(metrics, Lane::Mirror) },
    })
}

fn ramp(dial: &DialView) -> Value {
    match dial.step {
        None => Value::Null,
        Some((step, steps)) => json!({
            "step": step,
            "steps": steps,
            "next_in_seconds": dial.next_step.map(|time| time.as_secs_f64()),
        }),
    }
}

/// To the head of the answer, of requests that both answered.
fn latency(metrics: &MirrorMetrics, lane: Lane) -> Value {
    match metrics.answer_quantiles(lane, [0.5, 0.9, 0.99]) {
        None => Value::Null,
        Some(([p50, p90, p99], count)) => json!({ "p50": p50, "p90": p90, "p99": p99, "count": count }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::plan::Fraction;

    #[test]
    fn one_order_is_given_at_a_time() {
        let order = |text: &str| Parameters::of(text).unwrap().order();
        let share = Fraction { numerator: 25, denominator: 1000 };
        assert_eq!(order("route=a&backend=b&percent=2.5"), Ok(Order::Share(share)));
        assert_eq!(order("pause"), Ok(Order::Pause));
        assert_eq!(order("resume=1&route=a\n"), Ok(Order::Resume));
        for wrong in ["", "route=a", "pause&resume", "percent=101", "percent", "pause=no", "stop"] {
            assert!(order(wrong).is_err(), "{wrong}");
        }
        assert!(Parameters::of("route=%ff").is_none());
        let encoded = Parameters::of("backend=http%3A%2F%2Fb%3A80").unwrap();
        assert_eq!(encoded.get("backend"), Some("http://b:80"));
    }
}
