#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::discovery::resolver::{Action, Answer, Resolver, ResolverPolicy};
use crate::discovery::source::{EndpointSpec, SourceError, SourceSpec, Update};
use crate::limits;
use crate::plan::{BackendPolicy, Protocol};

fn spec(name: &str) -> BackendSpec {
    let source = SourceSpec::Static(Vec::new());
    BackendSpec {
        name: name.into(),
        source,
        protocol: Protocol::Http1,
        host: None,
        transport: Default::default(),
        policy: BackendPolicy::default(),
    }
}

fn addresses(backend: &BackendRef) -> Vec<String> {
    backend.endpoints().entries().iter().map(|entry| entry.endpoint.address().to_string()).collect()
}

/// Routes as a table holds them: for each the backends that it sends to and those that get copies.
type Tables = Vec<Vec<(usize, Vec<usize>)>>;

/// What the sources say, as replayed to both.
#[derive(Clone, Debug)]
enum Step {
    /// The configuration is reloaded; the references that only the last one held are dropped.
    Reload(usize),
    /// The source of this backend says this.
    Said(usize, Update),
}

fn update() -> impl Strategy<Value = Update> {
    prop_oneof![
        prop::collection::vec(1..5_u16, 0..4).prop_map(|ports| Update::Full(
            ports.into_iter().map(|port| EndpointSpec::new(([127, 0, 0, 1], port).into())).collect()
        )),
        Just(Update::Gone("gone".to_owned())),
        Just(Update::Failed(SourceError("failed".to_owned()))),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => (0..3_usize).prop_map(Step::Reload),
        4 => (0..4_usize, update()).prop_map(|(backend, update)| Step::Said(backend, update)),
    ];
    prop::collection::vec(step, 0..40)
}

fn tables() -> impl Strategy<Value = Tables> {
    let route = (0..4_usize, prop::collection::vec(0..4_usize, 0..3));
    prop::collection::vec(prop::collection::vec(route, 0..3), 3)
}

/// Each primary becomes a mirror and the other way round.
fn exchanged(tables: &Tables) -> Tables {
    let exchange = |(primary, mirrors): &(usize, Vec<usize>)| {
        let mut named = mirrors.clone();
        named.push(*primary);
        (named.remove(0), named)
    };
    tables.iter().map(|table| table.iter().map(exchange).collect()).collect()
}

/// What could be seen of a backend: its name, generation, endpoints and error.
type Seen = (String, u64, Vec<String>, Option<String>);

/// Plays `steps` to a registry and returns what could be seen of every live backend after each.
fn history(tables: &Tables, steps: &[Step]) -> Vec<Vec<Seen>> {
    let registry = Registry::new(1, Arc::new(Metrics::new(1)));
    let now = Instant::now();
    let mut held: Vec<BackendRef> = Vec::new();
    let mut resolvers: HashMap<usize, Resolver> = HashMap::new();
    let mut known: HashMap<usize, Vec<EndpointSpec>> = HashMap::new();
    let mut seen = Vec::new();
    for step in steps {
        match step {
            Step::Reload(index) => {
                let routes = tables[*index].iter().flat_map(|(primary, mirrors)| {
                    std::iter::once(primary).chain(mirrors).map(|backend| format!("app-{backend}"))
                });
                held = routes.map(|name| registry.reference(&spec(&name))).collect();
            }
            Step::Said(number, update) => {
                for backend in registry.live() {
                    if **backend.name() != *format!("app-{number}") {
                        continue;
                    }
                    let id = backend.downgrade().id();
                    let resolver = resolvers
                        .entry(id)
                        .or_insert_with(|| Resolver::new(ResolverPolicy::default(), 1, now));
                    match update {
                        Update::Full(set) => known.insert(id, set.clone()),
                        Update::Kept { endpoints, .. } => known.insert(id, endpoints.clone()),
                        Update::Gone(_) => known.insert(id, Vec::new()),
                        Update::Failed(_) => None,
                    };
                    let answer = Answer {
                        update: update.clone(),
                        event: now,
                        refresh: Some(limits::FILE_RESYNC),
                        warning: None,
                    };
                    resolver.heard(answer, now);
                    loop {
                        match resolver.step(now) {
                            Action::Apply { set, event, .. } => {
                                backend.publish(&set, event);
                                resolver.applied();
                            }
                            Action::Confirm => backend.confirm(resolver.error_to_show()),
                            Action::KeepLast { error } => backend.fail(error),
                            Action::Ask => {}
                            Action::Wait(_) => break,
                        }
                    }
                }
            }
        }
        let live = registry.live();
        let ids: HashSet<usize> = live.iter().map(|backend| backend.downgrade().id()).collect();
        resolvers.retain(|id, _| ids.contains(id));
        known.retain(|id, _| ids.contains(id));
        let referred: HashSet<usize> = held.iter().map(|backend| backend.downgrade().id()).collect();
        assert_eq!(ids, referred, "what is referred to is what is kept fresh");
        for backend in &held {
            let mut expected: Vec<String> = Vec::new();
            for endpoint in known.get(&backend.downgrade().id()).into_iter().flatten() {
                if !expected.contains(&endpoint.address.to_string()) {
                    expected.push(endpoint.address.to_string());
                }
            }
            assert_eq!(addresses(backend), expected, "in use is what is known");
        }
        let look = |backend: &BackendRef| {
            let error = backend.freshness().last_error;
            (backend.name().to_string(), backend.endpoints().generation(), addresses(backend), error)
        };
        seen.push(live.iter().map(look).collect());
    }
    seen
}

proptest! {
    #[test]
    fn exchanging_primaries_and_mirrors_changes_no_history(tables in tables(), steps in steps()) {
        prop_assert_eq!(history(&tables, &steps), history(&exchanged(&tables), &steps));
    }
}
