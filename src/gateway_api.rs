//! Gateway API resources become a [`Plan`](crate::plan::Plan) and the conditions that tell people
//! what became of them.
//!
//! *objects → [`resources`] (a snapshot) → [`model`] (one shape for HTTPRoute, GRPCRoute and TLSRoute)
//! → [`translate`] → plan, statuses.* All of that is pure: no IO, no clock, the same for files
//! ([`manifests`]) and for a cluster ([`cluster`]). What names a backend is found by one walker,
//! [`refs::for_each_backend`], for translation, grants, conditions and watches alike.
//!
//! Endpoints do not pass through here: an EndpointSlice goes to
//! [`SliceStore`](crate::discovery::kubernetes::SliceStore) and from there to one backend's set,
//! without any of this being called.

pub mod annotations;
mod authorities;
pub mod backends;
#[cfg(feature = "kubernetes")]
pub mod cluster;
pub mod filters;
pub mod grants;
pub mod ignored;
pub mod listeners;
pub mod manifests;
pub mod matches;
pub mod model;
pub mod parents;
pub mod reachable;
pub mod refs;
pub mod resources;
pub mod selector;
pub mod status;
pub mod tls_policies;
pub mod translate;

#[cfg(test)]
mod tests;

/// The API group of Gateway API.
pub const GROUP: &str = "gateway.networking.k8s.io";
/// The controller that GatewayClasses name to be served by this program, unless told otherwise.
pub const CONTROLLER: &str = "mirrorgate.dev/gateway";
