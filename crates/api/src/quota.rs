//! `SharedQuota`: what several workspaces may use together.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What several workspaces may use together: those of an account, or one and all
/// below it. An operator says so. What one workspace may use by itself is its
/// plan's to say.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "atoll.dev",
    version = "v1alpha1",
    kind = "SharedQuota",
    status = "SharedQuotaStatus",
    derive = "Default",
    derive = "PartialEq",
    validation = Rule::new("has(self.spec.account) != has(self.spec.workspace)").message("a shared quota is of an account or of a workspace and those below it: name one of both").field_path(".spec"),
    validation = Rule::new("has(self.spec.account) ? has(oldSelf.spec.account) && self.spec.account == oldSelf.spec.account : has(oldSelf.spec.workspace) && self.spec.workspace == oldSelf.spec.workspace").message("whose quota it is doesn't change: delete it and make another").field_path(".spec"),
    printcolumn = r#"{"name":"Account","type":"string","jsonPath":".spec.account"}"#,
    printcolumn = r#"{"name":"Workspace","type":"string","jsonPath":".spec.workspace"}"#,
    printcolumn = r#"{"name":"Counted","type":"string","jsonPath":".status.conditions[?(@.type==\"Counted\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SharedQuotaSpec {
    /// The account that owns the workspaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub account: Option<String>,
    /// The workspace that is the topmost of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub workspace: Option<String>,
    /// The most of each resource, by the names that a ResourceQuota uses, such as
    /// `requests.cpu` or `count/secrets`, and by those of `measures`.
    pub hard: BTreeMap<String, Quantity>,
    /// What is counted of other objects, by the name that it has in `hard`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measures: BTreeMap<String, Measure>,
}

/// What an object of some kind uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Measure {
    /// The kind, such as `databases.example.com`.
    pub resource: String,
    /// Where in the object the amount stands, such as `spec.size`: a number or a
    /// quantity. What isn't there is nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// In its place, an expression in CEL that gives the amount, such as
    /// `quantity(object.spec.replicas) * quantity(object.spec.size)`. An object of
    /// which it can't be told is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
}

/// What is used of a quota. Amounts are added to what is reserved when a request is
/// admitted, and go over to what is used once the object is seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedQuotaStatus {
    /// The process that counts: no other one may write what is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeper: Option<String>,
    /// What the objects that are there use.
    #[serde(default)]
    pub used: BTreeMap<String, Quantity>,
    /// What was admitted and not seen yet, by uid.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reserved: BTreeMap<String, Reservation>,
    /// `Counted` says whether what is used is known, and if not, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// An object that was admitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// Its kind, such as `pods` or `databases.example.com`.
    pub resource: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// What it uses more than before.
    pub more: BTreeMap<String, Quantity>,
    /// What it uses in all once it is stored; nothing when it is new, as its being
    /// there is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<BTreeMap<String, Quantity>>,
}
