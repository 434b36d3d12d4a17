//! `workspaces`.

use api::http::{NewWorkspace, Problem, WorkspaceView};
use axum::extract::State as Shared;
use axum::{Extension, Json};
use http::StatusCode;

use crate::State;
use crate::error::Error;
use crate::guard::Identified;
use crate::json::{Body, display_name, name};

/// The caller's workspaces
#[utoipa::path(get, path = "/api/v1/workspaces", responses(
    (status = OK, body = Vec<WorkspaceView>), (status = UNAUTHORIZED, body = Problem)
))]
pub(super) async fn list(
    Shared(state): Shared<State>,
    Extension(identified): Extension<Identified>,
) -> Result<Json<Vec<WorkspaceView>>, Error> {
    state.backends.cloud.workspaces(&identified.caller).await.map(Json)
}

/// Make a workspace that the caller owns
#[utoipa::path(post, path = "/api/v1/workspaces", request_body = NewWorkspace, responses(
    (status = CREATED, body = WorkspaceView), (status = UNAUTHORIZED, body = Problem),
    (status = CONFLICT, body = Problem), (status = UNPROCESSABLE_ENTITY, body = Problem)
))]
pub(super) async fn create(
    Shared(state): Shared<State>,
    Extension(identified): Extension<Identified>,
    Body(mut new): Body<NewWorkspace>,
) -> Result<(StatusCode, Json<WorkspaceView>), Error> {
    name("a workspace", &new.name)?;
    new.display_name = display_name(&new.display_name)?;
    let made = state.backends.cloud.create_workspace(&identified.caller, new).await?;
    Ok((StatusCode::CREATED, Json(made)))
}
