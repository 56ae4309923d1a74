//! Who writes what is said about a Gateway: the holder of its Lease, so that replicas do not write over
//! each other. One task takes, renews and gives up the Leases of all Gateways that this process serves.
//!
//! A Lease is believed to be held only for as long as nobody else can have taken it. Whoever ends, or does
//! not serve a Gateway any more, first stops to write, and then gives the Lease up.

mod object;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use kube::{Client, Resource};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use self::object::Object;
use super::recovery::Hearing;
use super::{Shared, said};
use crate::gateway_api::resources::Key;
use crate::gateway_api::status::Statuses;
use crate::limits;

/// The Leases of the Gateways that are served.
pub(super) struct Leases {
    client: Client,
    holder: String,
    shared: Arc<Shared>,
    leases: BTreeMap<Key, Lease>,
    /// Gateways beyond the bound, as told.
    beyond: usize,
    held: watch::Sender<Held>,
}

/// What this process may write about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Gateways whose Lease it holds.
    pub(super) gateways: Arc<BTreeSet<Key>>,
    /// Leases that nobody can take, if there are any.
    pub(super) problem: Option<String>,
}

/// One of them.
#[derive(Default)]
struct Lease {
    held: bool,
    /// Since when its Gateway is not served any more: what was said about it is still to be taken back.
    left: Option<Instant>,
    /// Why it cannot be taken, as told.
    error: Option<String>,
}

impl Leases {
    /// None yet; `held` is told of each change.
    pub(super) fn new(client: Client, shared: Arc<Shared>, held: watch::Sender<Held>) -> Self {
        let host = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_default();
        let holder = format!("{host}-{}-{:08x}", std::process::id(), fastrand::u32(..));
        Self { client, holder, shared, leases: BTreeMap::new(), beyond: 0, held }
    }

    /// Holds what can be had of the Leases of the Gateways in `statuses` until `end` says so.
    pub(super) async fn keep(
        mut self,
        mut statuses: watch::Receiver<Option<Arc<Statuses>>>,
        mut end: watch::Receiver<bool>,
    ) {
        let mut turns = tokio::time::interval(limits::LEASE_RENEW);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hearing = self.shared.recovery.hearing();
        loop {
            tokio::select! {
                // Whoever could not reach the API server goes on as soon as somebody else can.
                () = next(&mut turns, &mut hearing) => {
                    let all_said = self.shared.all_said();
                    self.give_up(|lease| lease.is_over(all_said)).await;
                    let served = self.leases.iter().filter(|(_, lease)| lease.left.is_none());
                    self.take(served.map(|(key, _)| key.clone()).collect(), &mut hearing).await;
                }
                // The sender lives as long as this task does.
                Ok(()) = statuses.changed() => {
                    let served = statuses.borrow_and_update().clone();
                    let new = self.serve(served.iter().flat_map(|statuses| statuses.gateways.keys()));
                    self.take(new, &mut hearing).await;
                }
                () = ended(&mut end) => break,
            }
        }
        self.give_up(|_| true).await;
    }

    /// These Gateways are served, and no others; those whose Lease is to be taken now.
    fn serve<'a>(&mut self, gateways: impl Iterator<Item = &'a Key>) -> Vec<Key> {
        let served: BTreeSet<&Key> = gateways.collect();
        for (key, lease) in &mut self.leases {
            lease.left = match served.contains(key) {
                true => None,
                false => lease.left.or_else(|| Some(Instant::now())),
            };
        }
        let mut new: Vec<Key> =
            served.into_iter().filter(|key| !self.leases.contains_key(*key)).cloned().collect();
        let beyond = new.len().saturating_sub(limits::LEASES.saturating_sub(self.leases.len()));
        new.truncate(new.len() - beyond);
        self.leases.extend(new.iter().map(|key| (key.clone(), Lease::default())));
        if beyond > self.beyond {
            tracing::warn!(
                "{beyond} Gateways are served without a status: {} is the most that one process writes about",
                limits::LEASES
            );
        }
        self.beyond = beyond;
        new
    }

    /// Takes or renews some. One that does not answer in time is not held.
    async fn take(&mut self, keys: Vec<Key>, hearing: &mut Hearing) {
        hearing.begins();
        let mut silent: BTreeSet<Key> = keys.iter().cloned().collect();
        let objects = keys.into_iter().map(|key| {
            let owner =
                self.shared.snapshot.resources().gateways.get(&key).and_then(|one| one.owner_ref(&()));
            let object = Object::new(&self.client, &key, self.holder.clone()).owned_by(owner);
            async move { (key, object.hold().await) }
        });
        let mut answers =
            Box::pin(futures_util::stream::iter(objects).buffer_unordered(limits::STATUS_WRITES));
        let patience = tokio::time::sleep(limits::LEASE_ANSWER);
        tokio::pin!(patience);
        loop {
            let answer = tokio::select! {
                answer = answers.next() => answer,
                () = &mut patience => None,
            };
            let Some((key, answer)) = answer else { break };
            silent.remove(&key);
            if let Some(lease) = self.leases.get_mut(&key) {
                if lease.error.is_some() && answer.is_ok() {
                    hearing.tell();
                }
                lease.answered(&key, answer.map_err(|error| said::by_error(&error)));
            }
        }
        drop(answers);
        for key in silent {
            if let Some(lease) = self.leases.get_mut(&key) {
                lease.answered(&key, Err("no answer in time".to_owned()));
            }
        }
        self.tell();
    }

    /// Gives those up that `meant` says, and forgets them.
    async fn give_up(&mut self, meant: impl Fn(&Lease) -> bool) {
        let (gone, kept) = std::mem::take(&mut self.leases).into_iter().partition(|(_, lease)| meant(lease));
        self.leases = kept;
        let gone: BTreeMap<Key, Lease> = gone;
        if gone.is_empty() {
            return;
        }
        // First nothing is written any more, then another one may.
        self.tell();
        let releases = gone.into_iter().filter(|(_, lease)| lease.held).map(|(key, _)| {
            let object = Object::new(&self.client, &key, self.holder.clone());
            async move {
                match object.release().await {
                    Ok(()) => tracing::info!(gateway = %key, "statuses are left to others"),
                    Err(error) => {
                        let error = said::by_error(&error);
                        tracing::debug!("the Lease of Gateway {key} is left to run out: {error}");
                    }
                }
            }
        });
        let all = futures_util::stream::iter(releases).buffer_unordered(limits::STATUS_WRITES);
        // Those that are not given up in time run out.
        let _late = tokio::time::timeout(limits::LEASE_RELEASE, all.collect::<()>()).await;
    }

    fn tell(&self) {
        let held = self.leases.iter().filter(|(_, lease)| lease.held).map(|(key, _)| key.clone());
        let mut failed = self.leases.iter().filter_map(|(key, lease)| Some((key, lease.error.as_ref()?)));
        let problem = failed.next().map(|(key, error)| {
            let others = match failed.count() {
                0 => String::new(),
                more => format!(", nor those of {more} others"),
            };
            format!("the Lease of Gateway {key} cannot be taken{others}, its status is not written: {error}")
        });
        let now = Held { gateways: Arc::new(held.collect()), problem };
        self.held.send_if_modified(|held| {
            let news = *held != now;
            *held = now;
            news
        });
    }
}

/// Resolves when it is time to look at the Leases.
async fn next(turns: &mut Interval, hearing: &mut Hearing) {
    tokio::select! {
        _ = turns.tick() => {}
        () = hearing.word() => {}
    }
}

/// Resolves when the end was told, or there is nobody left to tell it.
async fn ended(end: &mut watch::Receiver<bool>) {
    drop(end.wait_for(|ends| *ends).await);
}

impl Lease {
    /// Whether its Gateway has not been served for long enough, when nothing was left to write at the end of a
    /// turn that began at `all_said`.
    fn is_over(&self, all_said: Option<Instant>) -> bool {
        let (least, most) = limits::LEASE_LEFT;
        self.left.is_some_and(|left| {
            let done = all_said.is_some_and(|said| said > left);
            left.elapsed() >= if done { least } else { most }
        })
    }

    /// Notes whether it is held now; a change is told, and an error once.
    fn answered(&mut self, gateway: &Key, answer: Result<bool, String>) {
        let (held, error) = match answer {
            Ok(held) => (held, None),
            Err(error) => (false, Some(error)),
        };
        if let Some(error) = error.as_ref().filter(|error| self.error.as_ref() != Some(error)) {
            tracing::warn!(
                "the Lease of Gateway {gateway} cannot be taken, its status is not written: {error}"
            );
        }
        if self.held != held {
            tracing::info!(writes = held, %gateway, "writing of statuses");
        }
        (self.held, self.error) = (held, error);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_is_left_is_kept_until_what_was_said_is_taken_back() {
        let before = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        let lease = Lease { left: Some(Instant::now()), ..Lease::default() };
        let (least, most) = limits::LEASE_LEFT;
        tokio::time::advance(least).await;
        let now = Some(Instant::now());
        assert!(lease.is_over(now));
        assert!(!lease.is_over(None) && !lease.is_over(Some(before)), "there may be something to take back");
        assert!(!Lease::default().is_over(now), "its Gateway is served");
        tokio::time::advance(most - least).await;
        assert!(lease.is_over(None), "not for ever");
    }
}
