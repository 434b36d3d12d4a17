//! `workspaces`.

use api::http::{NewWorkspace, Problem, WorkspaceView};
use axum::extract::State as Shared;
use axum::{Extension, Json};
use http::StatusCode;

use crate::State;
use crate::error::Error;
use crate::guard::Identified;
use crate::json::Body;

/// How long what people call it may be.
const DISPLAY_NAME: usize = 100;

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
    let invalid = |field: &str, detail: String| Error::Invalid { field: Some(field.to_owned()), detail };
    api::names::check_workspace_name(&new.name)
        .map_err(|remedy| invalid("name", format!("this can't be a workspace's name: {remedy}")))?;
    new.display_name = new.display_name.trim().to_owned();
    if new.display_name.chars().count() > DISPLAY_NAME {
        return Err(invalid(
            "displayName",
            format!("the title is too long; use at most {DISPLAY_NAME} characters"),
        ));
    }
    if new.display_name.chars().any(char::is_control) {
        return Err(invalid("displayName", "the title has control characters; remove them".to_owned()));
    }
    let made = state.backends.cloud.create_workspace(&identified.caller, new).await?;
    Ok((StatusCode::CREATED, Json(made)))
}
