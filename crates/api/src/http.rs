//! The server's HTTP API, `/api/v1`: what the desktop and the command send and
//! get, as JSON.
//!
//! | | |
//! |---|---|
//! | `POST /api/v1/login` | [`Login`] → [`Session`]; sets the session's cookie |
//! | `POST /api/v1/logout` | ends the session |
//! | `POST /api/v1/tokens` | [`Login`] → [`IssuedToken`], for a kubeconfig |
//! | `GET /api/v1/me` | [`Session`] |
//! | `GET /api/v1/accounts` | list of [`AccountView`]; for operators |
//! | `POST /api/v1/accounts` | [`NewAccount`] → [`AccountView`]; for operators |
//! | `GET /api/v1/workspaces` | list of [`WorkspaceView`] |
//! | `POST /api/v1/workspaces` | [`NewWorkspace`] → [`WorkspaceView`] |
//! | `GET /api/v1/workspaces/{w}/apps` | list of [`AppView`] |
//! | `POST /api/v1/workspaces/{w}/apps` | [`NewApp`] → [`AppView`] |
//! | `DELETE /api/v1/workspaces/{w}/apps/{name}` | removes it |
//! | `GET /api/v1/workspaces/{w}/usage?from=&to=` | list of [`crate::usage::UsageLine`], by object |
//! | `GET /api/v1/workspaces/{w}/bill?from=&to=` | [`crate::usage::Bill`] |
//! | `GET /api/v1/templates` | list of [`TemplateView`] |
//! | `GET /api/v1/events` | server-sent [`Event`]s: what to ask for again |
//! | `GET /api/v1/openapi.json` | this, as OpenAPI 3.1 |
//!
//! What fails answers with [`Problem`] (RFC 9457). `from` and `to` are seconds
//! since 1970; without them it is this month so far, UTC. Who asks is known by
//! the session's cookie or by a token in `Authorization: Bearer`; `login`,
//! `tokens` and `openapi.json` need neither. Requests that change something and
//! `login` carry [`CSRF_HEADER`], unless they carry a token; `tokens` needs none,
//! as it acts on nothing but the password in it.
//!
//! Who isn't a member of a workspace gets 404, whether there is one or not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::role::Role;

/// A browser sends it only from our own pages: its presence shows that no other
/// site made the request.
pub const CSRF_HEADER: &str = "x-atoll-desktop";
/// What [`CSRF_HEADER`] says.
pub const CSRF_VALUE: &str = "1";
/// The session's cookie.
pub const SESSION_COOKIE: &str = "__Host-atoll-session";

/// Who somebody says they are.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// The account's name.
    pub account: String,
    /// Its password; not printed.
    pub password: String,
}

/// Who is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The account's name.
    pub account: String,
    /// What people call it.
    pub display_name: String,
    /// Whether it operates the cloud.
    pub operator: bool,
}

/// A token for the Kubernetes API, and where that is.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct IssuedToken {
    /// The account it speaks for.
    pub account: String,
    /// The token; not printed.
    pub token: String,
    /// Seconds since 1970 at which it expires.
    pub expires: u64,
}

/// An account, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AccountView {
    /// Its name.
    pub name: String,
    /// What people call it.
    #[serde(default)]
    pub display_name: String,
    /// Whether it operates the cloud.
    #[serde(default)]
    pub operator: bool,
    /// Whether it is shut out.
    #[serde(default)]
    pub disabled: bool,
}

/// An account to be made.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NewAccount {
    /// Its name, a DNS label.
    pub name: String,
    /// What people call it.
    #[serde(default)]
    pub display_name: String,
    /// Its first password; not printed.
    pub password: String,
}

/// A workspace, as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceView {
    /// Its name.
    pub name: String,
    /// What people call it.
    pub display_name: String,
    /// Its namespace, once there is one.
    pub namespace: Option<String>,
    /// The account that owns it.
    pub owner: String,
    /// What the caller may do in it.
    pub role: Role,
    /// The workspace above it, as `NAME`, or `OWNER/NAME` where that has another owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Whether all of it is there.
    pub ready: bool,
    /// If not, what is missing.
    #[serde(default)]
    pub message: String,
}

/// A workspace to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NewWorkspace {
    /// Its name, a DNS label.
    pub name: String,
    /// What people call it.
    #[serde(default)]
    pub display_name: String,
}

/// An installed app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AppView {
    /// The instance's name.
    pub name: String,
    /// The template it came from.
    pub template: String,
    /// The template's title.
    pub title: String,
    /// How many of its workloads are ready, such as `1/2`; empty while unknown.
    #[serde(default)]
    pub ready: String,
    /// The https addresses under which it answers.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Whether it is being removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removing: bool,
}

/// An app to be installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NewApp {
    /// A template of the store, by name.
    pub template: String,
    /// Its inputs, by name. A problem with one names the field `inputs.<name>`.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
}

/// A template of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TemplateView {
    /// Its name.
    pub name: String,
    /// Its title.
    pub title: String,
    /// One sentence.
    pub description: String,
    /// What it asks for.
    pub inputs: Vec<InputView>,
}

/// What a template asks for: one field of a form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct InputView {
    /// The input's name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// `string`, `number`, `int` (a whole number), `boolean` or `choice`.
    pub kind: String,
    /// What it is when nothing is said.
    pub default: Option<String>,
    /// Whether it must be said.
    pub required: bool,
    /// What can be chosen.
    #[serde(default)]
    pub options: Vec<String>,
}

/// What changed: the desktop asks for it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Event {
    /// The caller's workspaces.
    Workspaces,
    /// A workspace's apps.
    Apps {
        /// Which one.
        workspace: String,
    },
    /// A workspace's usage.
    Usage {
        /// Which one.
        workspace: String,
    },
}

/// Why something failed (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, in a few words.
    pub title: String,
    /// What it is about and what to do.
    pub detail: String,
    /// The field of the request that is wrong, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}
