//! `templates`.

use api::http::{Problem, TemplateView};
use axum::extract::State as Shared;
use axum::{Extension, Json};

use crate::State;
use crate::error::Error;
use crate::guard::Identified;

/// What the store has
#[utoipa::path(get, path = "/api/v1/templates", responses(
    (status = OK, body = Vec<TemplateView>), (status = UNAUTHORIZED, body = Problem)
))]
pub(super) async fn list(
    Shared(state): Shared<State>,
    Extension(identified): Extension<Identified>,
) -> Result<Json<Vec<TemplateView>>, Error> {
    state.backends.cloud.templates(&identified.caller).await.map(Json)
}
