//! What mirrors do beyond Gateway API: a small kind of ours, attached to a route.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the mirrors of one route.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "mirrorgate.dev",
    version = "v1alpha1",
    kind = "MirrorPolicy",
    namespaced,
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct MirrorPolicySpec {
    /// The route, in the policy's own namespace.
    pub target_ref: TargetRef,
    /// Only mirrors to this Service; absent is all of the route's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// From the end of the request to the end of the copy, as `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// What decides whether a request is copied; absent is a draw for each request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_by: Option<SampleBy>,
    /// A new Host for copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Methods that are copied; absent is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// `credentials` takes authorization, proxy-authorization and cookie off copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strip: Option<Strip>,
    /// Edits of the copy's head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<PolicyEdits>,
    /// What copies may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<PolicyBudget>,
}

/// The route that a policy is attached to.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct TargetRef {
    /// `HTTPRoute` or `GRPCRoute`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// What decides whether a request is copied: the same is always in or always out.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
pub struct SampleBy {
    /// What it is.
    pub r#type: SampleType,
    /// Name of the header, cookie or parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What decides whether a request is copied.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum SampleType {
    /// A header field.
    Header,
    /// A cookie.
    Cookie,
    /// A parameter of the query.
    Query,
    /// The path.
    Path,
    /// The client's address.
    Client,
}

/// What is taken off copies.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strip {
    /// authorization, proxy-authorization, cookie.
    Credentials,
}

/// Edits of the copy's head.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct PolicyEdits {
    /// Replaced.
    #[serde(default)]
    pub set: std::collections::BTreeMap<String, String>,
    /// Added.
    #[serde(default)]
    pub add: std::collections::BTreeMap<String, String>,
    /// Taken away.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// What copies may take.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyBudget {
    /// Copies in flight at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Bytes that one copy may lag behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<u32>,
}
