//! `events`.

use api::http::{Event, Problem};
use axum::Extension;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response, Sse};
use http::{HeaderName, HeaderValue};

use crate::State;
use crate::error::Error;
use crate::guard::Identified;

/// What changes, as server-sent events
#[utoipa::path(get, path = "/api/v1/events", responses(
    (status = OK, body = Event, content_type = "text/event-stream"), (status = UNAUTHORIZED, body = Problem)
))]
pub(super) async fn listen(
    Shared(state): Shared<State>,
    Extension(identified): Extension<Identified>,
) -> Result<Response, Error> {
    let mut response = Sse::new(crate::events::stream(state, identified)?).into_response();
    // Whoever stands between must not hold events back.
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}
