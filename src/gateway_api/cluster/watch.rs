//! Watches: one task for each kind and namespace.
//!
//! A list replaces what was there only once it is complete. A watch whose connection was lost goes on
//! from where it was; when that fails too, it begins anew with a list, so that whatever was missed is
//! healed. Until then what was last seen stays.

mod ended;
mod refusal;
mod sinks;
mod tries;
mod unreadable;

use std::fmt::Debug;
use std::sync::{Arc, PoisonError};

use futures_util::StreamExt;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::ended::{Ended, ended};
use self::refusal::Refusal;
use self::sinks::{Objects, Sink, Slices, certificates_only, readable, roots_only};
use self::tries::{Reach, Trust};
use self::unreadable::Unreadable;
use super::Shared;
use super::health::Failure;
use super::recovery::Hearing;
use crate::gateway_api::authorities::SECRET_TYPE;
use crate::gateway_api::resources::Key;
use crate::limits;

/// What is watched: a kind, in a namespace or in all.
struct Watch<K> {
    name: String,
    namespace: Option<String>,
    api: Api<DeserializeGuard<K>>,
    config: Config,
}

/// Starts all watches.
pub(super) fn start(client: &Client, namespaces: &[String], shared: &Arc<Shared>, tasks: &mut JoinSet<()>) {
    let scopes: Vec<Option<&str>> = match namespaces {
        [] => vec![None],
        some => some.iter().map(|namespace| Some(namespace.as_str())).collect(),
    };
    let plain = || Config::default().timeout(limits::WATCH_TIME.as_secs() as u32);
    macro_rules! objects {
        ($field:ident) => {
            Objects {
                shared: shared.clone(),
                field: |resources| &mut resources.$field,
                trim: |_| {},
                refused: None,
            }
        };
    }
    macro_rules! watch {
        ($name:literal, $sink:expr, $config:expr) => {
            for namespace in &scopes {
                begin($name, api(client, *namespace), *namespace, $config, $sink, shared, tasks);
            }
        };
    }
    watch!("Gateways", objects!(gateways), plain());
    watch!("ListenerSets", objects!(listener_sets), plain());
    watch!("HTTPRoutes", objects!(http_routes), plain());
    watch!("GRPCRoutes", objects!(grpc_routes), plain());
    watch!("TLSRoutes", objects!(tls_routes), plain());
    watch!("ReferenceGrants", objects!(grants), plain());
    watch!("BackendTLSPolicies", objects!(tls_policies), plain());
    watch!("MirrorPolicies", objects!(mirror_policies), plain());
    watch!("Services", objects!(services), plain());
    let tls_secrets = || plain().fields(&format!("type={SECRET_TYPE}"));
    watch!("Secrets", Objects { trim: certificates_only, ..objects!(secrets) }, tls_secrets());
    watch!("ConfigMaps", Objects { trim: roots_only, ..objects!(config_maps) }, plain());
    // Cluster-wide kinds.
    let classes = Objects { refused: Some(|resources| &mut resources.classes_refused), ..objects!(classes) };
    begin("GatewayClasses", Api::all(client.clone()), None, plain(), classes, shared, tasks);
    begin("Namespaces", Api::all(client.clone()), None, plain(), objects!(namespaces), shared, tasks);
    for namespace in &scopes {
        let name = watch_name("EndpointSlices", *namespace);
        // Known before any of them is live: the store is believed when all are.
        shared.live_slices.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), false);
        let sink = Slices { shared: shared.clone(), watch: name };
        begin("EndpointSlices", api(client, *namespace), *namespace, plain(), sink, shared, tasks);
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<DeserializeGuard<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn watch_name(kind: &str, namespace: Option<&str>) -> String {
    namespace.map_or_else(|| kind.to_owned(), |namespace| format!("{kind} in {namespace}"))
}

fn begin<K, S>(
    kind: &str,
    api: Api<DeserializeGuard<K>>,
    namespace: Option<&str>,
    config: Config,
    sink: S,
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
) where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    S: Sink<K>,
{
    let watch =
        Watch { name: watch_name(kind, namespace), namespace: namespace.map(str::to_owned), api, config };
    shared.health.expect(&watch.name);
    tasks.spawn(follow(watch, sink, shared.clone()));
}

/// Follows one watch for ever.
async fn follow<K, S>(mut watch: Watch<K>, mut sink: S, shared: Arc<Shared>)
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    S: Sink<K>,
{
    let (first, greatest) = limits::WATCH_BACKOFF;
    let mut failures: u32 = 0;
    let mut told = String::new();
    let mut refusal = Refusal::default();
    let mut unreadable = Unreadable::new(&watch.name, &shared);
    let mut hearing = shared.recovery.hearing();
    let (mut trust, mut reach) = (Trust::List, Reach::First);
    loop {
        let mut listed = None;
        hearing.begins();
        let targets = (&mut sink, &mut unreadable);
        let ended = once(&watch, targets, &shared, &mut listed, (reach, trust), &mut hearing).await;
        if listed.is_some() || !matches!(ended, Ended::Refused(_)) {
            refusal.over();
        }
        let failure = match ended {
            // The version from which it would go on is too old: it begins anew, no harm done.
            Ended::Expired => {
                tracing::debug!("{}: what was missed is gone, it is listed again", watch.name);
                None
            }
            // Fewer objects by a selector are a kindness; an API server need not know every selector.
            Ended::Selector if watch.config.field_selector.take().is_some() => {
                tracing::debug!("{}: the API server does not know the selector, all are watched", watch.name);
                continue;
            }
            Ended::Selector => None,
            Ended::Overtaken => {
                tracing::debug!("{}: there was no answer while others got theirs", watch.name);
                continue;
            }
            Ended::Refused(text) => {
                // It answers again: it is asked again soon, however long it was away.
                if listed.is_none() && !refusal.lasts() {
                    failures = 0;
                }
                Some(refusal.again(text))
            }
            Ended::Failed(failure) => Some(failure),
        };
        if let Some(failure) = failure {
            // The same error comes again and again; it is told once.
            if told != failure.text() {
                let text = failure.text();
                tracing::warn!("{} cannot be watched, what was last seen stays: {text}", watch.name);
                text.clone_into(&mut told);
            }
            sink.state(Err(&failure));
            shared.health.failed(&watch.name, failure);
        }
        // A list without a watch that holds is no success: lists are what costs the API server most.
        match listed.map(|listed: Instant| listed.elapsed() > 2 * greatest) {
            Some(true) => (failures, told, trust) = (0, String::new(), Trust::List),
            Some(false) => trust = Trust::Watch,
            None => {}
        }
        reach = if listed.is_some() { Reach::Listed } else { Reach::Lost };
        let pause = first.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(greatest);
        failures = failures.saturating_add(1).min(16);
        if hearing.pause(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await {
            // It may not answer everybody yet, and will soon.
            failures = failures.min(RECOVERING);
        }
    }
}

/// Failures after which the next pause is a short one still.
const RECOVERING: u32 = 2;

/// Lists and follows until it has to begin anew; `listed` tells since when a list was complete.
async fn once<K, S>(
    watch: &Watch<K>,
    (sink, unreadable): (&mut S, &mut Unreadable),
    shared: &Shared,
    listed: &mut Option<Instant>,
    (reach, trust): (Reach, Trust),
    hearing: &mut Hearing,
) -> Ended
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    S: Sink<K>,
{
    let mut events = watcher(watch.api.clone(), watch.config.clone()).boxed();
    let mut list = Vec::new();
    let mut resumes = false;
    let begun = Instant::now();
    let mut answered = false;
    // Until when something has to go wrong with a watch that does not hold.
    let mut doubted_until = None;
    let live = |sink: &mut S| {
        sink.state(Ok(()));
        shared.health.live(&watch.name);
        if reach != Reach::First {
            tracing::info!("{}: listed again", watch.name);
        }
    };
    loop {
        let next = match doubted_until {
            Some(until) => timeout_at(until, events.next()).await,
            None => tokio::select! {
                next = events.next() => Ok(next),
                () = hearing.overtakes(begun), if !answered => return Ended::Overtaken,
            },
        };
        if matches!(next, Err(_) | Ok(Some(Ok(_)))) && doubted_until.take().is_some() {
            live(sink);
        }
        let Ok(next) = next else { continue };
        let event = match next {
            Some(Ok(event)) => {
                // Where a list begins nothing was asked for yet.
                answered |= !matches!(event, Event::Init);
                event
            }
            // A lost connection alone loses nothing: the watch goes on from where it was. Once, for if
            // that fails too it is not known any more what was missed.
            Some(Err(watcher::Error::WatchFailed(error))) if !resumes => {
                tracing::debug!("{}: the connection was lost, the watch goes on: {error}", watch.name);
                resumes = true;
                continue;
            }
            Some(Err(error)) => return ended(&error, watch.config.field_selector.is_some()),
            None => return Ended::Failed(Failure::Failed("the watch ended".to_owned())),
        };
        match event {
            Event::Init => {
                list.clear();
                unreadable.list();
            }
            Event::InitApply(object) => {
                list.extend(unreadable.in_list(key(&object), readable(sink, object)));
            }
            Event::InitDone => {
                unreadable.list_ends();
                sink.replace(watch.namespace.as_deref(), std::mem::take(&mut list));
                shared.health.saw_list(&watch.name);
                if reach == Reach::Lost {
                    hearing.tell();
                }
                *listed = Some(Instant::now());
                match trust {
                    Trust::List => live(sink),
                    Trust::Watch => doubted_until = Some(Instant::now() + limits::WATCH_HOLDS),
                }
            }
            Event::Apply(object) => {
                let key = key(&object);
                match unreadable.in_event(&key, readable(sink, object)) {
                    Some(object) => sink.apply(object),
                    // It is not what it was: it must not go on meaning that.
                    None => sink.delete(&key),
                }
            }
            Event::Delete(object) => {
                let key = key(&object);
                unreadable.gone(&key);
                sink.delete(&key);
            }
        }
        resumes = false;
    }
}

fn key(object: &impl ResourceExt) -> Key {
    Key::new(object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests;
