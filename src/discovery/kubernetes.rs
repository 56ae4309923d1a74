//! Endpoints of Services, from EndpointSlices: one store for the process, and for each backend a
//! source that looks at its own Service alone.
//!
//! Whoever reads slices (files or a cluster's watch) puts them into the [`SliceStore`]; a change wakes
//! the backends of that Service and nobody else. No route is compiled for it, and nothing here knows
//! whether a backend is a route's primary or its mirror.

mod endpoints;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use tokio::sync::watch;

use super::resolver::Answer;
use super::source::{EndpointSpec, SourceError, Update};
use crate::limits;

pub use self::endpoints::endpoints;

/// The label by which a slice names its Service.
const SERVICE: &str = "kubernetes.io/service-name";

/// The slices of all Services, as last seen.
#[derive(Debug)]
pub struct SliceStore {
    services: Mutex<Services>,
    state: watch::Sender<State>,
}

/// Whether what is in the store can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// No complete list was seen yet.
    Pending,
    /// It is kept up to date, but for what this says.
    Live(Option<Doubt>),
    /// It is not kept up to date at present.
    Stale(String),
}

/// What may be out of date of a store that is kept up to date otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Why. It is shown with the endpoints of every Service, since nobody knows whose are missing.
    pub why: String,
    /// Services some of whose slices are older than the rest: when they were last known to be right.
    pub kept: HashMap<Name, Instant>,
}

/// A Service: its namespace and its name.
pub type Name = (Arc<str>, Arc<str>);

#[derive(Debug, Default)]
struct Services {
    /// By namespace and Service.
    services: HashMap<Name, Service>,
    /// Which Service a slice, by namespace and name, belongs to.
    owners: HashMap<(String, String), Name>,
}

#[derive(Debug)]
struct Service {
    slices: BTreeMap<String, Arc<EndpointSlice>>,
    /// When its slices changed last.
    changed: watch::Sender<Instant>,
}

impl Default for SliceStore {
    fn default() -> Self {
        Self { services: Mutex::default(), state: watch::Sender::new(State::Pending) }
    }
}

impl SliceStore {
    /// A slice was added or changed at `event`.
    pub fn apply(&self, slice: EndpointSlice, event: Instant) {
        self.services().apply(Arc::new(slice), event);
    }

    /// A slice was deleted at `event`.
    pub fn delete(&self, namespace: &str, name: &str, event: Instant) {
        self.services().delete(&(namespace.to_owned(), name.to_owned()), event);
    }

    /// A complete list: what it does not name is gone. From now on the store is believed.
    pub fn replace(&self, slices: impl IntoIterator<Item = EndpointSlice>, event: Instant) {
        self.replace_in(None, slices, event);
        self.live();
    }

    /// A complete list of one namespace, or of all. Whether the store is believed stays as it is.
    pub fn replace_in(
        &self,
        namespace: Option<&str>,
        slices: impl IntoIterator<Item = EndpointSlice>,
        event: Instant,
    ) {
        let mut services = self.services();
        let listed = services.owners.keys().filter(|(of, _)| namespace.is_none_or(|only| only == of));
        let mut gone: std::collections::HashSet<_> = listed.cloned().collect();
        for slice in slices {
            gone.remove(&(slice.namespace().unwrap_or_default(), slice.name_any()));
            services.apply(Arc::new(slice), event);
        }
        for id in gone {
            services.delete(&id, event);
        }
    }

    /// What is in the store is kept up to date (again).
    pub fn live(&self) {
        self.live_but(None);
    }

    /// The same, but for what `doubt` says: endpoints are used all the same.
    pub fn live_but(&self, doubt: Option<Doubt>) {
        self.state.send_if_modified(|state| {
            let before = std::mem::replace(state, State::Live(doubt));
            before != *state
        });
    }

    /// What is in the store may be out of date, and why. Before the first list nothing is told.
    pub fn stale(&self, error: String) {
        self.state.send_if_modified(|state| {
            let tells = *state != State::Pending && *state != State::Stale(error.clone());
            if tells {
                *state = State::Stale(error);
            }
            tells
        });
    }

    /// Number of slices.
    pub fn len(&self) -> usize {
        self.services().owners.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn source(self: &Arc<Self>, namespace: &str, service: &str, port: Arc<str>) -> SliceSource {
        let name = (Arc::from(namespace), Arc::from(service));
        let changed = self.services().entry(&name).changed.subscribe();
        SliceSource { store: self.clone(), name, port, changed, state: self.state.subscribe() }
    }

    fn services(&self) -> MutexGuard<'_, Services> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Services {
    fn entry(&mut self, name: &Name) -> &mut Service {
        self.services.entry(name.clone()).or_insert_with(|| Service {
            slices: BTreeMap::new(),
            changed: watch::Sender::new(Instant::now()),
        })
    }

    fn apply(&mut self, slice: Arc<EndpointSlice>, event: Instant) {
        let namespace = slice.namespace().unwrap_or_default();
        let id = (namespace, slice.name_any());
        let owner = service_of(&slice);
        if self.owners.get(&id) != owner.as_ref() {
            self.delete(&id, event);
        }
        // A slice without a Service is nobody's.
        let Some(owner) = owner else { return };
        self.owners.insert(id.clone(), owner.clone());
        let service = self.entry(&owner);
        if service.slices.get(&id.1) != Some(&slice) {
            service.slices.insert(id.1, slice);
            service.changed.send_replace(event);
        }
    }

    fn delete(&mut self, id: &(String, String), event: Instant) {
        let Some(owner) = self.owners.remove(id) else { return };
        let Some(service) = self.services.get_mut(&owner) else { return };
        service.slices.remove(&id.1);
        service.changed.send_replace(event);
        if service.slices.is_empty() && service.changed.receiver_count() == 0 {
            self.services.remove(&owner);
        }
    }
}

/// The Service whose endpoints are in `slice`.
pub fn service_of(slice: &EndpointSlice) -> Option<Name> {
    let service = slice.labels().get(SERVICE)?;
    Some((Arc::from(slice.namespace().unwrap_or_default()), Arc::from(&**service)))
}

/// The endpoints of one port of one Service.
pub(crate) struct SliceSource {
    store: Arc<SliceStore>,
    name: Name,
    port: Arc<str>,
    changed: watch::Receiver<Instant>,
    state: watch::Receiver<State>,
}

impl SliceSource {
    /// What the store says at present, once it has seen a complete list.
    pub(crate) async fn ask(&mut self) -> Answer {
        // The store lives as long as this does, so that waiting cannot fail.
        drop(self.state.wait_for(|state| *state != State::Pending).await);
        let state = self.state.borrow_and_update().clone();
        // Before the slices are read, so that no change falls in between.
        let event = *self.changed.borrow_and_update();
        let (update, warning) = match state {
            State::Stale(error) => (Update::Failed(SourceError(error)), None),
            State::Pending => (Update::Full(self.endpoints()), None),
            State::Live(None) => (Update::Full(self.endpoints()), None),
            State::Live(Some(doubt)) => match doubt.kept.get(&self.name) {
                Some(since) => {
                    (Update::Kept { endpoints: self.endpoints(), since: *since, why: doubt.why }, None)
                }
                None => (Update::Full(self.endpoints()), Some(doubt.why)),
            },
        };
        Answer { update, event, refresh: Some(limits::SLICES_RESYNC), warning }
    }

    fn endpoints(&self) -> Vec<EndpointSpec> {
        let services = self.store.services();
        let slices = services.services.get(&self.name).map(|service| service.slices.values());
        endpoints(slices.into_iter().flatten().map(|slice| &**slice), &self.port)
    }

    /// Resolves, with the time of the event, when the Service's slices or the store's state changed.
    pub(crate) async fn changed(&mut self) -> Instant {
        tokio::select! {
            _ = self.changed.changed() => *self.changed.borrow(),
            _ = self.state.changed() => Instant::now(),
        }
    }
}

#[cfg(test)]
mod tests;
