#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::*;
use crate::discovery::kubernetes::Doubt;
use crate::discovery::source::SourceSpec;
use crate::plan::{BackendPolicy, BackendSpec, Protocol};
use crate::telemetry::metrics::Metrics;

/// Far more than anything takes: reaching it is a failure, not a measurement.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A registry that is kept fresh while this lives.
pub(super) struct Running {
    pub(super) registry: Arc<Registry>,
    task: AbortHandle,
}

impl Running {
    pub(super) fn start(dns: DnsSettings) -> Self {
        let registry = registry();
        let settings = Settings { parse, dns, slices: Arc::default(), policy: ResolverPolicy::default() };
        let task = tokio::spawn(Discovery::new(settings).run(registry.clone())).abort_handle();
        Self { registry, task }
    }

    pub(super) fn backend(&self, name: &str, source: SourceSpec) -> BackendRef {
        self.registry.reference(&spec(name, source))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn registry() -> Arc<Registry> {
    Arc::new(Registry::new(1, Arc::new(Metrics::new(1))))
}

fn spec(name: &str, source: SourceSpec) -> BackendSpec {
    BackendSpec {
        name: name.into(),
        source,
        protocol: Protocol::Http1,
        host: None,
        transport: Default::default(),
        policy: BackendPolicy::default(),
    }
}

/// An address a line, then a line that says that it is all.
fn parse(text: &str) -> Result<Vec<EndpointSpec>, String> {
    assert!(!text.contains("panic"), "a planted bug");
    let lines = text.strip_suffix("end\n").ok_or("not complete")?;
    lines
        .lines()
        .map(|line| line.parse().map(EndpointSpec::new).map_err(|error| format!("{line}: {error}")))
        .collect()
}

pub(super) fn addresses(backend: &BackendRef) -> Vec<String> {
    backend.endpoints().entries().iter().map(|entry| entry.endpoint.address().to_string()).collect()
}

/// Waits until `condition` holds, looking whenever something about the backend changed.
pub(super) async fn until(backend: &BackendRef, what: &str, condition: impl Fn(&BackendRef) -> bool) {
    let mut revision = backend.revision();
    let waited = timeout(PATIENCE, async {
        loop {
            revision.borrow_and_update();
            if condition(backend) {
                return;
            }
            revision.changed().await.unwrap();
        }
    });
    if waited.await.is_err() {
        panic!("{what}: has {:?}, {:?}", addresses(backend), backend.freshness());
    }
}

pub(super) async fn until_addresses(backend: &BackendRef, expected: &[&str]) {
    until(backend, &format!("expected {expected:?}"), |backend| {
        backend.endpoints().generation() > 0 && addresses(backend) == expected
    })
    .await;
}

pub(super) async fn until_error(backend: &BackendRef, part: &str) {
    until(backend, &format!("expected an error with {part:?}"), |backend| {
        backend.freshness().last_error.is_some_and(|error| error.contains(part))
    })
    .await;
}

fn list(addresses: &[&str]) -> SourceSpec {
    let endpoint = |address: &&str| EndpointSpec::new(address.parse::<SocketAddr>().unwrap());
    SourceSpec::Static(addresses.iter().map(endpoint).collect())
}

#[tokio::test]
async fn a_list_is_published_at_once_and_again_when_the_configuration_changes_it() {
    let running = Running::start(DnsSettings::default());
    let backend = running.backend("app", list(&["127.0.0.1:1"]));
    until_addresses(&backend, &["127.0.0.1:1"]).await;
    assert!(*backend.answered().borrow());
    let again = running.backend("app", list(&["127.0.0.1:2", "127.0.0.1:1"]));
    assert!(again.same(&backend));
    until_addresses(&backend, &["127.0.0.1:2", "127.0.0.1:1"]).await;
    assert_eq!(backend.endpoints().generation(), 2);
}

#[tokio::test]
async fn a_new_source_that_cannot_tell_leaves_what_the_old_one_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("endpoints");
    let running = Running::start(DnsSettings::default());
    let backend = running.backend("app", list(&["127.0.0.1:1"]));
    until_addresses(&backend, &["127.0.0.1:1"]).await;
    running.backend("app", SourceSpec::File(path.clone()));
    until_error(&backend, "No such file").await;
    assert_eq!(addresses(&backend), ["127.0.0.1:1"]);
    std::fs::write(&path, "127.0.0.1:2\nend\n").unwrap();
    until_addresses(&backend, &["127.0.0.1:2"]).await;
}

#[tokio::test]
async fn a_backend_that_an_old_table_still_refers_to_stays_fresh() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("endpoints");
    std::fs::write(&path, "127.0.0.1:1\nend\n").unwrap();
    let running = Running::start(DnsSettings::default());
    let source = SourceSpec::File(path.clone());
    let old = running.backend("app", source.clone());
    let new = running.registry.reference(&BackendSpec { protocol: Protocol::H2c, ..spec("app", source) });
    assert!(!new.same(&old), "it is spoken to in another way");
    until_addresses(&old, &["127.0.0.1:1"]).await;
    until_addresses(&new, &["127.0.0.1:1"]).await;
    std::fs::write(&path, "127.0.0.1:2\nend\n").unwrap();
    until_addresses(&old, &["127.0.0.1:2"]).await;
    until_addresses(&new, &["127.0.0.1:2"]).await;
}

/// Whoever watches a backend is told of what changes: not of its age.
#[tokio::test]
async fn what_is_as_wrong_as_before_is_no_news() {
    let slices: Arc<SliceStore> = Arc::default();
    let registry = registry();
    let settings = Settings {
        parse,
        dns: DnsSettings::default(),
        slices: slices.clone(),
        policy: ResolverPolicy::default(),
    };
    let running = Running {
        task: tokio::spawn(Discovery::new(settings).run(registry.clone())).abort_handle(),
        registry,
    };
    let (namespace, service, port) = ("shop".into(), "app".into(), "".into());
    let backend = running.backend("app", SourceSpec::Kubernetes { namespace, service, port });
    // Each of these has all backends ask again.
    let doubt = |number: usize| {
        let others = (Arc::from("shop"), Arc::from(number.to_string()));
        Some(Doubt { why: "a.yaml is broken".to_owned(), kept: [(others, Instant::now())].into() })
    };
    slices.live_but(doubt(0));
    until_error(&backend, "a.yaml is broken").await;
    let (revision, mut confirmed) = (*backend.revision().borrow(), backend.freshness().confirmed);
    for number in 1..4 {
        slices.live_but(doubt(number));
        let asked = async {
            while backend.freshness().confirmed == confirmed {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, asked).await.unwrap();
        confirmed = backend.freshness().confirmed;
        assert_eq!(*backend.revision().borrow(), revision);
    }
    slices.live();
    until(&backend, "no error", |backend| backend.freshness().last_error.is_none()).await;
}

#[tokio::test]
async fn a_task_ends_with_the_last_reference() {
    let running = Running::start(DnsSettings::default());
    let backend = running.backend("app", list(&["127.0.0.1:1"]));
    until_addresses(&backend, &["127.0.0.1:1"]).await;
    let weak = backend.downgrade();
    let mut source = backend.watch_source();
    drop(backend);
    assert!(weak.is_gone(), "no task keeps a reference");
    assert!(source.changed().await.is_err());
    let again = running.backend("app", list(&["127.0.0.1:2"]));
    until_addresses(&again, &["127.0.0.1:2"]).await;
    assert_eq!(again.endpoints().generation(), 1, "it is another one");
}

#[tokio::test]
async fn a_panic_in_one_source_is_that_backend_s_failure_and_heals() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("endpoints");
    std::fs::write(&path, "127.0.0.1:1\nend\n").unwrap();
    let running = Running::start(DnsSettings::default());
    let backend = running.backend("app", SourceSpec::File(path.clone()));
    until_addresses(&backend, &["127.0.0.1:1"]).await;
    std::fs::write(&path, "panic").unwrap();
    until_error(&backend, "internal error").await;
    assert_eq!(addresses(&backend), ["127.0.0.1:1"]);
    let other = running.backend("other", list(&["127.0.0.1:3"]));
    until_addresses(&other, &["127.0.0.1:3"]).await;
    std::fs::write(&path, "127.0.0.1:2\nend\n").unwrap();
    until_addresses(&backend, &["127.0.0.1:2"]).await;
}

#[tokio::test]
async fn thousands_of_backends_are_kept_fresh() {
    let running = Running::start(DnsSettings::default());
    let backends: Vec<_> =
        (0..5_000).map(|number| running.backend(&format!("app-{number}"), list(&["127.0.0.1:1"]))).collect();
    for backend in &backends {
        until_addresses(backend, &["127.0.0.1:1"]).await;
    }
}
