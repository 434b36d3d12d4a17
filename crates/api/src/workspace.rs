//! `Workspace`: where work runs, and `Member`: who works there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::role::Role;
use crate::tree::Node;

/// Where work runs: one namespace, which belongs to one account.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "atoll.dev",
    version = "v1alpha1",
    kind = "Workspace",
    status = "WorkspaceStatus",
    shortname = "ws",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Owner","type":"string","jsonPath":".spec.owner"}"#,
    printcolumn = r#"{"name":"Plan","type":"string","jsonPath":".spec.plan"}"#,
    printcolumn = r#"{"name":"Namespace","type":"string","jsonPath":".status.namespace"}"#,
    printcolumn = r#"{"name":"Parent","type":"string","jsonPath":".spec.parent"}"#,
    printcolumn = r#"{"name":"Suspended","type":"boolean","jsonPath":".spec.suspended","priority":1}"#,
    printcolumn = r#"{"name":"Goes","type":"string","jsonPath":".spec.deletion","priority":1}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceSpec {
    /// The account that owns it and pays for it.
    pub owner: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// What it may use; without one, the plan named `standard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The workspace above it, whose members are its members too: `NAME`, or
    /// `OWNER/NAME` for one of another owner, who has to accept this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([a-z][a-z0-9-]*/)?[a-z][a-z0-9-]*$"))]
    pub parent: Option<String>,
    /// Workspaces of other owners that may be below this one, as `OWNER/NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = r"^[a-z][a-z0-9-]*/[a-z][a-z0-9-]*$")))]
    pub accepted_children: Vec<String>,
    /// Whether what is there stays and nothing new may be made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cordoned: bool,
    /// Whether nothing runs in it; its data is kept. An operator says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// When it goes, with all that is in it. Until then nothing runs in it, and who takes
    /// this away has it as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Time>,
}

/// How many days a workspace stays that is to go, where its plan says nothing else.
pub const DELETION_DAYS: u32 = 7;

impl Workspace {
    /// Whether nothing runs in it.
    pub fn rests(&self) -> bool {
        self.spec.suspended || self.spec.deletion.is_some()
    }

    /// What the tree has to know of it.
    pub fn node(&self) -> Node {
        Node {
            owner: self.spec.owner.clone(),
            parent: self.spec.parent.clone(),
            accepted: self.spec.accepted_children.iter().cloned().collect(),
        }
    }
}

/// What the controller made of a workspace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceStatus {
    /// Its namespace, chosen once: the workspace's name and six random letters,
    /// so that a namespace's name tells nobody who exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `Ready` says whether all of it is there, and if not, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How many workspaces are just below it: one that has any can't be deleted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub children: u32,
    /// A digest of what the controller asked for in its namespace, and of how that was
    /// stored: one that begins knows by it that nothing has to be asked for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<String>,
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

// As serde wants it.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// An account's role in the workspace in whose namespace this is. The owner is
/// named by the workspace itself.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "atoll.dev",
    version = "v1alpha1",
    kind = "Member",
    namespaced,
    derive = "PartialEq",
    validation = "self.metadata.name == self.spec.account",
    validation = Rule::new("self.spec.role != 'owner'").message("a workspace has one owner, whom it names itself: invite another one with the role owner to hand it over").field_path(".spec.role"),
    printcolumn = r#"{"name":"Role","type":"string","jsonPath":".spec.role"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct MemberSpec {
    /// The account; the member has the same name, so that there is one of each.
    pub account: String,
    /// Every role but owner.
    pub role: Role,
}
