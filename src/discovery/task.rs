//! Keeps one backend fresh: carries out what [`super::resolver`] says, with the source that the
//! backend names at present. It ends when nobody refers to the backend any more.
//!
//! It holds no reference to the backend across an await, so that it never keeps a subscription alive.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::time::sleep_until;

use super::Shared;
use super::dns::DnsSource;
use super::file::FileSource;
use super::kubernetes::SliceSource;
use super::resolver::{Action, Answer, Resolver, ResolverPolicy};
use super::source::{EndpointSpec, SourceSpec, Update};
use crate::upstream::registry::WeakBackendRef;

/// Keeps `backend` fresh until it is dropped.
pub(super) async fn keep_fresh(
    backend: WeakBackendRef,
    mut specs: watch::Receiver<SourceSpec>,
    shared: Arc<Shared>,
) {
    loop {
        let spec = specs.borrow_and_update().clone();
        // A new source begins anew; what the old one published stays in use until the new one answers.
        tokio::select! {
            changed = specs.changed() => if changed.is_err() { return },
            () = follow(&backend, spec, &shared) => return,
        }
    }
}

/// Follows one source; returns when the backend is gone.
async fn follow(backend: &WeakBackendRef, spec: SourceSpec, shared: &Shared) {
    let mut source = Source::open(spec, shared);
    let Some(max_age) = backend.upgrade().map(|backend| backend.endpoints().policy().max_age) else { return };
    let max_age = max_age.or(shared.policy.max_age);
    let policy = ResolverPolicy { confirm_empty: source.confirm_empty(), max_age, ..shared.policy.clone() };
    let mut resolver = Resolver::new(policy, fastrand::u64(..), Instant::now());
    let mut told = Told::default();
    loop {
        match resolver.step(Instant::now()) {
            Action::Ask => {
                let answer = source.ask().await;
                resolver.heard(answer, Instant::now());
            }
            Action::Wait(until) => {
                let wake = async {
                    match until {
                        Some(until) => sleep_until(until.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = wake => {}
                    event = source.changed() => resolver.changed(event),
                }
            }
            action => {
                let Some(backend) = backend.upgrade() else { return };
                told.is_wrong(resolver.error_to_show());
                match action {
                    Action::Apply { set, event, confirmed } => {
                        let publish = || backend.publish_as_of(&set, event, confirmed);
                        // A bug in publishing must not lose the watch on the source with it.
                        match catch_unwind(AssertUnwindSafe(publish)) {
                            Ok(_) => resolver.applied(),
                            Err(_) => {
                                tracing::error!(backend = %backend.name(), "publishing endpoints panicked");
                                let error = "publishing the endpoints failed (internal error)";
                                resolver.apply_failed(error.to_owned(), Instant::now());
                            }
                        }
                    }
                    // What was wrong and still is must not seem to come and go: it is said again next.
                    Action::Confirm => backend.confirm(resolver.error_to_show()),
                    Action::KeepLast { error } => {
                        if told.is_news(&error) {
                            tracing::warn!(backend = %backend.name(), error, "endpoints may be out of date");
                        }
                        backend.fail(error);
                    }
                    Action::Ask | Action::Wait(_) => {}
                }
            }
        }
    }
}

/// What the log was told of. It comes again with each attempt and is told once, until it is over.
#[derive(Default)]
struct Told(Option<String>);

impl Told {
    /// What is wrong now, if something is.
    fn is_wrong(&mut self, error: Option<String>) {
        self.0 = self.0.take().filter(|_| error.is_some());
    }

    fn is_news(&mut self, error: &str) -> bool {
        let news = self.0.as_deref() != Some(error);
        self.0 = Some(error.to_owned());
        news
    }
}

enum Source {
    Static(Vec<EndpointSpec>),
    File(FileSource),
    Dns(DnsSource),
    Slices(SliceSource),
}

impl Source {
    fn open(spec: SourceSpec, shared: &Shared) -> Self {
        match spec {
            SourceSpec::Static(endpoints) => Self::Static(endpoints),
            SourceSpec::File(path) => Self::File(FileSource::open(path, shared.parse, &shared.files)),
            SourceSpec::Dns { host, port } => Self::Dns(DnsSource::addresses(host, port, shared.dns.clone())),
            SourceSpec::Srv(name) => Self::Dns(DnsSource::services(name, shared.dns.clone())),
            SourceSpec::Kubernetes { namespace, service, port } => {
                Self::Slices(shared.slices.source(&namespace, &service, port))
            }
        }
    }

    /// Whether an answer without endpoints is more often an accident than meant.
    fn confirm_empty(&self) -> bool {
        matches!(self, Self::Dns(_))
    }

    async fn ask(&mut self) -> Answer {
        match self {
            Self::Static(endpoints) => Answer {
                update: Update::Full(endpoints.clone()),
                event: Instant::now(),
                refresh: None,
                warning: None,
            },
            Self::File(file) => file.ask().await,
            Self::Dns(dns) => dns.ask().await,
            Self::Slices(slices) => slices.ask().await,
        }
    }

    /// Resolves, with the time of the event, when the source is seen to have changed.
    async fn changed(&mut self) -> Instant {
        match self {
            Self::File(file) => file.changed().await,
            Self::Slices(slices) => slices.changed().await,
            Self::Static(_) | Self::Dns(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::source::SourceError;

    /// Whether the log is told after what the source says, and how often.
    fn lines(resolver: &mut Resolver, told: &mut Told, update: Update, warning: Option<&str>) -> usize {
        let now = Instant::now();
        resolver.changed(now);
        assert_eq!(resolver.step(now), Action::Ask);
        let warning = warning.map(str::to_owned);
        resolver.heard(Answer { update, event: now, refresh: None, warning }, now);
        let mut lines = 0;
        loop {
            let action = resolver.step(now);
            told.is_wrong(resolver.error_to_show());
            match action {
                Action::Apply { .. } => resolver.applied(),
                Action::KeepLast { error } => lines += usize::from(told.is_news(&error)),
                Action::Confirm => {}
                Action::Ask | Action::Wait(_) => return lines,
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_once_until_it_is_over() {
        let mut resolver = Resolver::new(ResolverPolicy::default(), 7, Instant::now());
        let mut told = Told::default();
        let mut lines = |update, warning| lines(&mut resolver, &mut told, update, warning);
        let full = || Update::Full(Vec::new());
        assert_eq!(lines(full(), None), 0);
        assert_eq!(lines(full(), Some("not watched")), 1);
        assert_eq!(lines(full(), Some("not watched")), 0, "confirmed, and as wrong as before");
        assert_eq!(lines(Update::Failed(SourceError("gone".to_owned())), None), 1);
        assert_eq!(lines(full(), Some("not watched")), 1);
        assert_eq!(lines(full(), None), 0);
        assert_eq!(lines(full(), Some("not watched")), 1);
    }
}
