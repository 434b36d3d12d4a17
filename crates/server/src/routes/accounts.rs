//! `accounts`, for operators.

use api::http::{AccountView, NewAccount, Problem};
use axum::extract::State as Shared;
use axum::{Extension, Json};
use http::StatusCode;

use crate::State;
use crate::error::Error;
use crate::guard::Identified;
use crate::json::{Body, display_name, name};

/// All accounts
#[utoipa::path(get, path = "/api/v1/accounts", responses(
    (status = OK, body = Vec<AccountView>), (status = UNAUTHORIZED, body = Problem), (status = FORBIDDEN, body = Problem)
))]
pub(super) async fn list(
    Shared(state): Shared<State>,
    Extension(identified): Extension<Identified>,
) -> Result<Json<Vec<AccountView>>, Error> {
    state.backends.cloud.accounts(&identified.caller).await.map(Json)
}

/// Make an account with its first password
#[utoipa::path(post, path = "/api/v1/accounts", request_body = NewAccount, responses(
    (status = CREATED, body = AccountView), (status = UNAUTHORIZED, body = Problem), (status = FORBIDDEN, body = Problem),
    (status = CONFLICT, body = Problem), (status = UNPROCESSABLE_ENTITY, body = Problem)
))]
pub(super) async fn create(
    Shared(state): Shared<State>,
    Extension(identified): Extension<Identified>,
    Body(mut new): Body<NewAccount>,
) -> Result<(StatusCode, Json<AccountView>), Error> {
    name("an account", &new.name)?;
    new.display_name = display_name(&new.display_name)?;
    let made = state.backends.cloud.create_account(&identified.caller, new).await?;
    tracing::info!(account = made.name, by = identified.caller.account, "made an account");
    Ok((StatusCode::CREATED, Json(made)))
}
