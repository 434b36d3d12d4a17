//! The roles of a workspace's members.

use serde::{Deserialize, Serialize};

/// What a member may do in a workspace; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "resources", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees objects, but no Secret, and runs nothing.
    Viewer,
    /// Runs and changes apps.
    Developer,
    /// Adds and removes members below itself.
    Manager,
    /// Owns the workspace and pays for it.
    Owner,
}

impl Role {
    /// All roles, the weakest first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Developer, Self::Manager, Self::Owner];

    /// Its name in resources and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Manager => "manager",
            Self::Owner => "owner",
        }
    }
}
