//! The Lease of one Gateway as an object of the API server's: each call is a read, and a write with the
//! version that was read, so that of two who want it one gets it.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::gateway_api::resources::Key;
use crate::limits;

/// The Lease of a Gateway, and who wants it.
pub(super) struct Object {
    api: Api<Lease>,
    name: String,
    holder: String,
    owner: Option<OwnerReference>,
}

impl Object {
    /// Of `gateway`, in its namespace, for `holder`.
    pub(super) fn new(client: &Client, gateway: &Key, holder: String) -> Self {
        let api = Api::namespaced(client.clone(), &gateway.namespace);
        Self { api, name: format!("mirrorgate-{}", gateway.name), holder, owner: None }
    }

    /// With the Gateway as its owner should it be made: the cluster deletes it with that. Only then, since
    /// to change an owner later may take the permission to delete.
    pub(super) fn owned_by(self, owner: Option<OwnerReference>) -> Self {
        Self { owner, ..self }
    }

    /// Takes or renews it; whether it is held now.
    pub(super) async fn hold(&self) -> Result<bool, kube::Error> {
        let now = Timestamp::now();
        let Some(found) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    owner_references: self.owner.clone().map(|owner| vec![owner]),
                    ..ObjectMeta::default()
                },
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
        let lease = Lease { spec: Some(self.spec(now, mine.then_some(spec))), ..found };
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    /// Gives it up if it is held still.
    pub(super) async fn release(&self) -> Result<(), kube::Error> {
        let Some(mut found) = self.api.get_opt(&self.name).await? else { return Ok(()) };
        let Some(spec) = found.spec.as_mut().filter(|spec| self.holds(spec)) else { return Ok(()) };
        spec.holder_identity = Some(String::new());
        won(self.api.replace(&self.name, &PostParams::default(), &found).await).map(drop)
    }

    fn holds(&self, spec: &LeaseSpec) -> bool {
        spec.holder_identity.as_deref() == Some(&self.holder)
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

/// A conflict means that another one was faster. One that is gone meanwhile is made at the next turn.
fn won(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(error),
    }
}
