//! What the data plane makes of a plan: immutable, swapped whole, loaded once per request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::filter::{Filters, Redirect};
use super::index::{RequestView, RouteIndex, Rule};
use super::sections::Sections;
use super::streams::{Found, StreamRoute, Streams};
use crate::mirror::Mirror;
use crate::mirror::budget::Budget;
use crate::mirror::loop_guard::LoopGuard;
use crate::plan::{
    BackendSpec, ClientLimits, MirrorPlan, Plan, RetryPlan, RouteAction, RoutePlan, SectionMode, StreamPlan,
    Timeouts,
};
use crate::proxy::rate::RateLimiter;
use crate::proxy::sanitize::{TrustSettings, Via};
use crate::shard::Lane;
use crate::telemetry::metrics::{Metrics, MirrorKey, RouteMetrics};
use crate::upstream::registry::{BackendRef, Registry};

/// The compiled configuration.
pub struct RoutingTable {
    routes: Vec<Arc<Route>>,
    index: RouteIndex,
    sections: Sections,
    streams: Streams,
    trust: TrustSettings,
    limits: ClientLimits,
    guard: LoopGuard,
}

/// A route, ready to be used.
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// What happens to a request that matches.
    pub action: Action,
    /// Edits of request and response.
    pub filters: Filters,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// When a request is sent again.
    pub retries: Option<RetryPlan>,
    /// Bytes of a request's body.
    pub max_body: Option<u64>,
    /// Requests a time.
    pub rate: Option<Arc<RateLimiter>>,
    /// Who gets copies.
    pub mirrors: Vec<Arc<Mirror>>,
    /// Its counters.
    pub metrics: Arc<RouteMetrics>,
}

/// What happens to a request that matches.
pub enum Action {
    /// Sent to one of these.
    Forward(Backends),
    /// Answered with a redirect.
    Redirect(Redirect),
    /// Answered 500.
    Fail,
}

/// Backends that share a route's traffic by weight.
pub struct Backends {
    choices: Vec<Choice>,
    total: u64,
}

/// A backend that takes a share.
pub struct Choice {
    /// `None` could not be resolved: its share is answered 500.
    pub backend: Option<BackendRef>,
    /// Its share.
    pub weight: u32,
    /// Edits of what goes there, after the route's.
    pub filters: Filters,
    /// Who gets copies of what goes there.
    pub mirrors: Vec<Arc<Mirror>>,
}

/// Makes tables of plans, and carries over from one to the next what must outlive a reload.
pub struct Builder {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    budgets: Mutex<HashMap<MirrorKey, Weak<Budget>>>,
    rates: Mutex<HashMap<Arc<str>, Weak<RateLimiter>>>,
    guard: LoopGuard,
    listeners: Mutex<HashMap<Arc<str>, ListenerId>>,
}

/// A listener's number: the same for the same name for as long as the process runs, so that
/// connections survive a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub usize);

impl RoutingTable {
    /// The route that takes a request, and how long the prefix is that matched.
    pub fn find(&self, request: &RequestView<'_>) -> Option<(&Arc<Route>, usize)> {
        let super::index::Found { rule, prefix } = self.index.find(request)?;
        self.routes.get(rule).map(|route| (route, prefix))
    }

    /// The part of `listener` that takes requests for `host`; `None` when none does.
    pub fn section(&self, listener: ListenerId, host: &str) -> Option<ListenerId> {
        self.sections.find(listener, host)
    }

    /// Whether a request for `host` came on a connection that asked for a `name` of another part of
    /// `listener`: what the client was promised by its TLS is not what it asks for now (RFC 9110, 7.4).
    pub fn is_misdirected(&self, listener: ListenerId, name: &str, host: &str) -> bool {
        // Without parts every name leads to the listener itself.
        name != host && self.sections.find(listener, name) != self.sections.find(listener, host)
    }

    /// Whether connections to `listener` are told apart by name before anybody ends their TLS.
    pub fn splits(&self, listener: ListenerId) -> bool {
        self.streams.split(listener)
    }

    /// What happens to TLS for `name`, with the route that takes it; `None` when HTTP is inside.
    pub fn stream(&self, listener: ListenerId, name: &str) -> Option<(SectionMode, Option<&StreamRoute>)> {
        match self.sections.find(listener, name) {
            Some(part) => self.streams.find(part, name),
            None => Some((SectionMode::Passthrough, None)),
        }
    }

    /// All routes, in order.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// What of a client's word is believed.
    pub fn trust(&self) -> &TrustSettings {
        &self.trust
    }

    /// What is taken of clients.
    pub fn limits(&self) -> &ClientLimits {
        &self.limits
    }

    /// Knows copies that came back here.
    pub fn guard(&self) -> &LoopGuard {
        &self.guard
    }

    /// Calls `visit` with every backend that a route refers to and what for: the one walk over
    /// references.
    pub fn for_each_backend(&self, mut visit: impl FnMut(&BackendRef, Lane)) {
        let choices = self.streams.routes().iter().flat_map(|route| &route.backends.choices);
        choices.filter_map(|choice| choice.backend.as_ref()).for_each(|one| visit(one, Lane::Primary));
        for route in &self.routes {
            if let Action::Forward(backends) = &route.action {
                for choice in &backends.choices {
                    choice.backend.iter().for_each(|backend| visit(backend, Lane::Primary));
                    choice.mirrors.iter().for_each(|mirror| visit(&mirror.backend, Lane::Mirror));
                }
            }
            route.mirrors.iter().for_each(|mirror| visit(&mirror.backend, Lane::Mirror));
        }
    }
}

impl Backends {
    fn new(choices: Vec<Choice>) -> Self {
        let total = choices.iter().map(|choice| u64::from(choice.weight)).sum();
        Self { choices, total }
    }

    /// The backend that `draw`, uniform over 64 bits, falls on. `None` when none has a weight.
    pub fn pick(&self, draw: u64) -> Option<&Choice> {
        if let [only] = self.choices.as_slice() {
            return (only.weight > 0).then_some(only);
        }
        let mut point = ((u128::from(draw) * u128::from(self.total)) >> 64) as u64;
        self.choices.iter().find(|choice| match point.checked_sub(u64::from(choice.weight)) {
            Some(rest) => {
                point = rest;
                false
            }
            None => true,
        })
    }

    /// The backends with their weights.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }
}

impl Builder {
    /// Makes tables whose backends live in `registry`.
    pub fn new(registry: Arc<Registry>, metrics: Arc<Metrics>) -> Self {
        Self {
            registry,
            metrics,
            budgets: Mutex::default(),
            rates: Mutex::default(),
            guard: LoopGuard::default(),
            listeners: Mutex::default(),
        }
    }

    /// The number of the listener called `name`.
    pub fn listener(&self, name: &Arc<str>) -> ListenerId {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let next = ListenerId(listeners.len());
        *listeners.entry(name.clone()).or_insert(next)
    }

    /// Takes references to all that `plan` names. A plan that was checked cannot fail here; a name
    /// that is not among its backends is left out, so that a mirror never costs a route.
    pub fn build(&self, plan: &Plan) -> RoutingTable {
        let specs: HashMap<_, _> = plan.backends.iter().map(|spec| (spec.name.clone(), spec)).collect();
        let scopes: Vec<_> = plan.routes.iter().map(|route| self.scope(route)).collect();
        let rules: Vec<_> = plan
            .routes
            .iter()
            .zip(&scopes)
            .map(|(route, scope)| Rule {
                listeners: scope.as_deref(),
                hosts: &route.hosts,
                matches: &route.matches,
            })
            .collect();
        RoutingTable {
            index: RouteIndex::build(&rules),
            sections: Sections::build(&plan.sections, |name| self.listener(name)),
            streams: Streams::build(
                &plan.sections,
                plan.streams.iter().map(|stream| self.stream(stream, &specs)),
                |name| self.listener(name),
            ),
            routes: plan
                .routes
                .iter()
                .map(|route| Arc::new(self.route(route, &specs, plan.limits.body)))
                .collect(),
            trust: TrustSettings {
                trusted_hops: plan.trusted_hops,
                via: plan.via.as_deref().and_then(Via::new),
            },
            limits: plan.limits.clone(),
            guard: self.guard.clone(),
        }
    }

    fn stream<'plan>(
        &self,
        plan: &'plan StreamPlan,
        specs: &HashMap<Arc<str>, &BackendSpec>,
    ) -> Found<'plan> {
        let choices: Vec<_> = plan
            .backends
            .iter()
            .map(|choice| Choice {
                backend: specs.get(&choice.backend).map(|spec| self.registry.reference(spec)),
                weight: choice.weight,
                filters: Filters::default(),
                mirrors: Vec::new(),
            })
            .collect();
        Found {
            parts: plan.sections.iter().map(|name| self.listener(name)).collect(),
            hosts: &plan.hosts,
            route: StreamRoute { name: plan.name.clone(), backends: Backends::new(choices) },
        }
    }

    fn scope(&self, route: &RoutePlan) -> Option<Vec<usize>> {
        let names = route.listeners.as_ref()?;
        Some(names.iter().map(|name| self.listener(name).0).collect())
    }

    fn route(&self, plan: &RoutePlan, specs: &HashMap<Arc<str>, &BackendSpec>, body: Option<u64>) -> Route {
        let reference = |name: &Arc<str>| specs.get(name).map(|spec| self.registry.reference(spec));
        let of_choices = match &plan.action {
            RouteAction::Forward(choices) => choices.as_slice(),
            RouteAction::Redirect(_) | RouteAction::Fail => &[],
        };
        let every: Vec<_> =
            plan.mirrors.iter().chain(of_choices.iter().flat_map(|choice| &choice.mirrors)).collect();
        let mirror = |mirror: &MirrorPlan| {
            let backend = reference(&mirror.backend)?;
            let before = every.iter().take_while(|other| !std::ptr::eq(**other, mirror));
            let index = before.filter(|other| other.backend == mirror.backend).count();
            Some(Arc::new(self.mirror(plan, mirror, index, backend)))
        };
        let mirrors = |mirrors: &[MirrorPlan]| mirrors.iter().filter_map(mirror).collect::<Vec<_>>();
        let action = match &plan.action {
            RouteAction::Redirect(redirect) => Action::Redirect(redirect.clone()),
            RouteAction::Fail => Action::Fail,
            RouteAction::Forward(backends) => {
                let choices: Vec<_> = backends
                    .iter()
                    .map(|choice| Choice {
                        backend: reference(&choice.backend),
                        weight: choice.weight,
                        filters: choice.filters.clone(),
                        mirrors: mirrors(&choice.mirrors),
                    })
                    .collect();
                Action::Forward(Backends::new(choices))
            }
        };
        Route {
            name: plan.name.clone(),
            action,
            filters: plan.filters.clone(),
            timeouts: plan.timeouts,
            retries: plan.retries.clone(),
            mirrors: mirrors(&plan.mirrors),
            max_body: plan.limits.body.or(body),
            rate: self.rate(plan),
            metrics: self.metrics.route(&plan.name),
        }
    }

    fn mirror(&self, route: &RoutePlan, plan: &MirrorPlan, nth: usize, backend: BackendRef) -> Mirror {
        let name =
            if nth == 0 { plan.backend.clone() } else { format!("{}~{}", plan.backend, nth + 1).into() };
        Mirror {
            route: route.name.clone(),
            budget: self.budget(&route.name, &name, plan),
            name,
            backend,
            plan: plan.clone(),
            guard: self.guard.clone(),
        }
    }

    /// The rate of a route, which goes on unless it is another one.
    fn rate(&self, route: &RoutePlan) -> Option<Arc<RateLimiter>> {
        let plan = route.limits.rate.as_ref()?;
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(living) = rates.get(&route.name).and_then(Weak::upgrade)
            && living.plan() == plan
        {
            return Some(living);
        }
        rates.retain(|_, rate| rate.strong_count() > 0);
        let rate = Arc::new(RateLimiter::new(plan));
        rates.insert(route.name.clone(), Arc::downgrade(&rate));
        Some(rate)
    }

    /// The budget of a mirror, shared with the table before this one.
    fn budget(&self, route: &Arc<str>, name: &Arc<str>, plan: &MirrorPlan) -> Arc<Budget> {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (route.clone(), name.clone());
        if let Some(living) = budgets.get(&key).and_then(Weak::upgrade) {
            living.configure(plan);
            return living;
        }
        budgets.retain(|_, budget| budget.strong_count() > 0);
        let budget = Budget::new(plan, self.metrics.mirror(route, name));
        budgets.insert(key, Arc::downgrade(&budget));
        budget
    }
}
