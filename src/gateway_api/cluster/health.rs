//! How the watches are doing, by name: what start-up and statuses wait for, and what `/ready` tells.

use std::collections::BTreeMap;

use tokio::sync::watch;

use crate::limits;

/// The state of all watches.
pub(super) struct Health(watch::Sender<BTreeMap<String, Watch>>);

/// The state of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Watch {
    /// It was complete once.
    listed: bool,
    /// Why it is not up to date at present, if so.
    error: Option<Failure>,
    /// Objects that cannot be read, a line each.
    unreadable: Vec<String>,
}

/// Why a watch is not up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The API server says no: a permission or a CRD is missing. The rest goes on without.
    Refused(String),
    /// It may be better the next time.
    Failed(String),
}

impl Failure {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Refused(text) | Self::Failed(text) => text,
        }
    }
}

impl Health {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }

    /// There is such a watch. Called for all of them before any begins.
    pub(super) fn expect(&self, name: &str) {
        self.0.send_modify(|watches| {
            watches.insert(name.to_owned(), Watch::default());
        });
    }

    /// The watch saw a complete list. Whether it holds, so that it is up to date, is not known yet.
    pub(super) fn saw_list(&self, name: &str) {
        self.set(name, |watch| Watch { listed: true, ..watch });
    }

    /// The watch is up to date.
    pub(super) fn live(&self, name: &str) {
        self.set(name, |watch| Watch { listed: true, error: None, ..watch });
    }

    /// The watch is not up to date; what it saw before stays.
    pub(super) fn failed(&self, name: &str, failure: Failure) {
        self.set(name, |watch| Watch { error: Some(failure), ..watch });
    }

    /// What cannot be read of what the watch sees, a line each.
    pub(super) fn unreadable(&self, name: &str, lines: Vec<String>) {
        self.set(name, |watch| Watch { unreadable: lines, ..watch });
    }

    /// Resolves when every kind was listed, or will not be: only then is what is missing not there.
    /// Kinds that go on failing while others can be read do not hold it back for ever.
    pub(super) async fn listed(&self) {
        let mut watches = self.0.subscribe();
        let mut others = self.0.subscribe();
        let patience = async {
            drop(others.wait_for(|watches| watches.values().any(|watch| watch.listed)).await);
            tokio::time::sleep(limits::LISTS_PATIENCE).await;
        };
        // The sender lives as long as this does, so that waiting cannot fail.
        tokio::select! {
            biased;
            _ = watches.wait_for(all_listed) => {}
            () = patience => {}
        }
    }

    /// A line for each watch that is not up to date, and those for what cannot be read.
    pub(super) fn problems(&self) -> Vec<String> {
        let watches = self.0.borrow();
        let wrong = watches.iter().filter_map(|(name, watch)| match &watch.error {
            Some(failure) => Some(format!("{name} cannot be watched: {}", failure.text())),
            None if !watch.listed => Some(format!("{name}: not listed yet")),
            None => None,
        });
        wrong.chain(watches.values().flat_map(|watch| watch.unreadable.iter().cloned())).collect()
    }

    /// Whether all there is of a kind is known at present, so that what was not seen is not there.
    pub(super) fn is_live(&self, kind: &str) -> bool {
        let watches = self.0.borrow();
        let mut of_kind = watches.iter().filter(|(name, _)| name.split(' ').next() == Some(kind));
        of_kind.all(|(_, watch)| watch.listed && watch.error.is_none())
    }

    fn set(&self, name: &str, next: impl FnOnce(Watch) -> Watch) {
        self.0.send_if_modified(|watches| {
            let watch = watches.entry(name.to_owned()).or_default();
            let next = next(watch.clone());
            let news = *watch != next;
            *watch = next;
            news
        });
    }
}

fn all_listed(watches: &BTreeMap<String, Watch>) -> bool {
    watches.values().all(|watch| watch.listed || matches!(watch.error, Some(Failure::Refused(_))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    fn listed(health: &Health) -> bool {
        health.listed().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_an_answer_and_a_failure_is_none() {
        let health = Health::new();
        ["Services", "TLSRoutes"].iter().for_each(|name| health.expect(name));
        assert!(!listed(&health));
        health.live("Services");
        health.failed("TLSRoutes", Failure::Failed("refused connection".to_owned()));
        assert!(!listed(&health));
        assert_eq!(health.problems(), ["TLSRoutes cannot be watched: refused connection"]);
        health.failed("TLSRoutes", Failure::Refused("403".to_owned()));
        assert!(listed(&health));
        // Once listed it stays so: what was last seen is still there.
        health.failed("Services", Failure::Failed("gone".to_owned()));
        assert!(listed(&health));
        assert_eq!(health.problems().len(), 2);
        health.live("Services");
        assert_eq!(health.problems(), ["TLSRoutes cannot be watched: 403"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_kind_that_goes_on_failing_does_not_hold_back_the_rest_for_ever() {
        let health = Health::new();
        ["Services", "TLSRoutes"].iter().for_each(|name| health.expect(name));
        let nothing = tokio::time::timeout(10 * limits::LISTS_PATIENCE, health.listed()).await;
        assert!(nothing.is_err(), "an API server that is away tells nothing, however long one waits");
        health.live("Services");
        health.failed("TLSRoutes", Failure::Failed("500".to_owned()));
        let waited = tokio::time::timeout(limits::LISTS_PATIENCE - Duration::from_secs(1), health.listed());
        assert!(waited.await.is_err());
        let waited = tokio::time::timeout(limits::LISTS_PATIENCE + Duration::from_secs(1), health.listed());
        assert!(waited.await.is_ok());
    }
}
