//! `workspaces/{workspace}/apps`.

use api::Role;
use api::http::{AppView, NewApp, Problem};
use axum::extract::{Path, State as Shared};
use axum::{Extension, Json};
use http::StatusCode;

use crate::State;
use crate::error::Error;
use crate::guard::{Identified, Membership};
use crate::json::Body;

/// A workspace's apps
#[utoipa::path(get, path = "/api/v1/workspaces/{workspace}/apps", params(("workspace" = String, Path)), responses(
    (status = OK, body = Vec<AppView>), (status = UNAUTHORIZED, body = Problem), (status = NOT_FOUND, body = Problem)
))]
pub(super) async fn list(
    Shared(state): Shared<State>,
    Extension(identified): Extension<Identified>,
    Extension(member): Extension<Membership>,
) -> Result<Json<Vec<AppView>>, Error> {
    state.backends.cloud.apps(&identified.caller, &member.workspace).await.map(Json)
}

/// Install an app
#[utoipa::path(post, path = "/api/v1/workspaces/{workspace}/apps", params(("workspace" = String, Path)),
    request_body = NewApp, responses(
    (status = CREATED, body = AppView), (status = UNAUTHORIZED, body = Problem), (status = FORBIDDEN, body = Problem),
    (status = NOT_FOUND, body = Problem), (status = UNPROCESSABLE_ENTITY, body = Problem)
))]
pub(super) async fn install(
    Shared(state): Shared<State>,
    Extension(identified): Extension<Identified>,
    Extension(member): Extension<Membership>,
    Body(new): Body<NewApp>,
) -> Result<(StatusCode, Json<AppView>), Error> {
    member.at_least(Role::Developer)?;
    let made = state.backends.cloud.install(&identified.caller, &member.workspace, new).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Remove an app
#[utoipa::path(delete, path = "/api/v1/workspaces/{workspace}/apps/{name}",
    params(("workspace" = String, Path), ("name" = String, Path)), responses(
    (status = NO_CONTENT), (status = UNAUTHORIZED, body = Problem), (status = FORBIDDEN, body = Problem),
    (status = NOT_FOUND, body = Problem)
))]
pub(super) async fn uninstall(
    Shared(state): Shared<State>,
    Extension(identified): Extension<Identified>,
    Extension(member): Extension<Membership>,
    Path((_, name)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    member.at_least(Role::Developer)?;
    state.backends.cloud.uninstall(&identified.caller, &member.workspace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
