//! Who writes statuses: the holder of a Lease, so that replicas do not write over each other.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::gateway_api::resources::Key;
use crate::limits;

/// A Lease that this process holds, or tries to.
pub(super) struct Lease {
    api: Api<LeaseObject>,
    name: String,
    holder: String,
}

impl Lease {
    /// The Lease for the statuses of `gateway`, in its namespace, or for those of all, in `namespace`.
    pub(super) fn new(client: Client, namespace: String, gateway: Option<&Key>) -> Self {
        let (namespace, name) = match gateway {
            Some(gateway) => (gateway.namespace.clone(), format!("mirrorgate-{}", gateway.name)),
            None => (namespace, "mirrorgate".to_owned()),
        };
        let host = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_default();
        let holder = format!("{host}-{}-{:08x}", std::process::id(), fastrand::u32(..));
        Self { api: Api::namespaced(client, &namespace), name, holder }
    }

    /// Takes and renews it until `end` says so, and gives it up; `leads` says whether this process holds
    /// it.
    pub(super) async fn keep(self, leads: watch::Sender<bool>, mut end: watch::Receiver<bool>) {
        let mut turns = tokio::time::interval(limits::LEASE_RENEW);
        let mut told = String::new();
        loop {
            tokio::select! {
                _ = turns.tick() => {}
                // An error means that there is nobody left to say so.
                _ = end.wait_for(|ends| *ends) => break,
            }
            let held = self.hold().await.unwrap_or_else(|error| {
                if told != error.to_string() {
                    tracing::warn!("the lease {} for writing statuses cannot be taken: {error}", self.name);
                    told = error.to_string();
                }
                false
            });
            if leads.send_if_modified(|leads| std::mem::replace(leads, held) != held) {
                tracing::info!(leads = held, lease = self.name, "writing of statuses");
            }
        }
        // First nothing is written any more, then another one may.
        if leads.send_replace(false) {
            match self.release().await {
                Ok(()) => tracing::info!(lease = self.name, "writing of statuses is left to others"),
                Err(error) => tracing::debug!("the lease {} is left to run out: {error}", self.name),
            }
        }
    }

    /// Gives it up if this process still holds it.
    async fn release(&self) -> Result<(), kube::Error> {
        let Some(mut found) = self.api.get_opt(&self.name).await? else { return Ok(()) };
        let Some(spec) = found.spec.as_mut().filter(|spec| self.holds(spec)) else { return Ok(()) };
        spec.holder_identity = Some(String::new());
        won(self.api.replace(&self.name, &PostParams::default(), &found).await).map(drop)
    }

    fn holds(&self, spec: &LeaseSpec) -> bool {
        spec.holder_identity.as_deref() == Some(&self.holder)
    }

    /// Takes or renews it; whether this process holds it now.
    async fn hold(&self) -> Result<bool, kube::Error> {
        let now = Timestamp::now();
        let Some(found) = self.api.get_opt(&self.name).await? else {
            let lease = LeaseObject {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(now, None)),
            };
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = found.spec.clone().unwrap_or_default();
        let mine = self.holds(&spec);
        let lasts = Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0));
        let expired = spec.renew_time.as_ref().is_none_or(|renewed| {
            let age = now.duration_since(renewed.0);
            age.is_positive() && age.unsigned_abs() > lasts
        });
        if !mine && !expired && spec.holder_identity.as_deref().is_some_and(|holder| !holder.is_empty()) {
            return Ok(false);
        }
        // With the version that was read: whoever was faster wins.
        let lease = LeaseObject { spec: Some(self.spec(now, mine.then_some(spec))), ..found };
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn spec(&self, now: Timestamp, mine: Option<LeaseSpec>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: Some(limits::LEASE_TIME.as_secs() as i32),
            acquire_time: mine.and_then(|spec| spec.acquire_time).or(Some(MicroTime(now))),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }
    }
}

/// A conflict means that another one was faster.
fn won(written: Result<LeaseObject, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
