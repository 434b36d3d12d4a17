//! `Account`: a person or a robot.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A person or a robot. Its name is its id: Kubernetes knows it as the user
/// `atoll:<name>` (see [`crate::names::user`]). What it proves itself by is in
/// Secrets that only Atoll reads.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "atoll.dev",
    version = "v1alpha1",
    kind = "Account",
    status = "AccountStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Display name","type":"string","jsonPath":".spec.displayName"}"#,
    printcolumn = r#"{"name":"Operator","type":"boolean","jsonPath":".spec.operator"}"#,
    printcolumn = r#"{"name":"Disabled","type":"boolean","jsonPath":".spec.disabled"}"#,
    printcolumn = r#"{"name":"Workspaces","type":"integer","jsonPath":".status.workspaces"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AccountSpec {
    /// What people call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// Whether it operates the cloud: it may see and change everything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub operator: bool,
    /// Whether it is shut out: its tokens and sessions are refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// How many workspaces it may own; without it, ten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_limit: Option<u32>,
}

impl AccountSpec {
    /// How many workspaces it may own.
    pub fn workspace_limit(&self) -> u32 {
        self.workspace_limit.unwrap_or(DEFAULT_WORKSPACE_LIMIT)
    }
}

/// How many workspaces an account may own of which nothing else is said.
pub const DEFAULT_WORKSPACE_LIMIT: u32 = 10;

/// What the controller last saw of an account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountStatus {
    /// How many workspaces it owns: an account that owns one can't be deleted.
    #[serde(default)]
    pub workspaces: u32,
    /// Kubernetes' usual conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
