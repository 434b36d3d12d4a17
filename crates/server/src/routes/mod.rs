//! The API's paths; each group with what guards it.

mod accounts;
pub(crate) mod admin;
mod apps;
mod events;
mod login;
mod money;
mod templates;
mod workspaces;

use axum::middleware::{from_fn, from_fn_with_state};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{State, guard};

/// All paths of the API. What is added to any group but the first is guarded
/// without a word of its own.
pub(crate) fn all(state: &State) -> OpenApiRouter<State> {
    let open = OpenApiRouter::new().routes(routes!(login::login)).routes(routes!(login::issue_token));
    let identified = OpenApiRouter::new()
        .routes(routes!(login::logout))
        .routes(routes!(login::me))
        .routes(routes!(workspaces::list, workspaces::create))
        .routes(routes!(templates::list))
        .routes(routes!(events::listen));
    let members = OpenApiRouter::new()
        .routes(routes!(apps::list, apps::install))
        .routes(routes!(apps::uninstall))
        .routes(routes!(money::usage))
        .routes(routes!(money::bill))
        .route_layer(from_fn_with_state(state.clone(), guard::member));
    let operators = OpenApiRouter::new()
        .routes(routes!(accounts::list, accounts::create))
        .route_layer(from_fn(guard::operator));
    let guarded = identified
        .merge(members)
        .merge(operators)
        .route_layer(from_fn_with_state(state.clone(), guard::identify));
    open.merge(guarded)
}
