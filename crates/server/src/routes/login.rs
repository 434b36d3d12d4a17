//! `login`, `logout`, `tokens`, `me`.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use api::http::{IssuedToken, Login, Problem, Session};
use axum::extract::{ConnectInfo, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode, Uri, header};

use crate::State;
use crate::backend::Caller;
use crate::error::Error;
use crate::guard::{self, Identified, Proof};
use crate::json::Body;
use crate::session::{SessionId, SessionRecord, no_cookie};

type Peer = Option<Extension<ConnectInfo<SocketAddr>>>;

/// Log in: sets the session's cookie
#[utoipa::path(post, path = "/api/v1/login", request_body = Login, responses(
    (status = OK, body = Session), (status = UNAUTHORIZED, body = Problem), (status = TOO_MANY_REQUESTS, body = Problem)
))]
pub(super) async fn login(
    Shared(state): Shared<State>,
    peer: Peer,
    uri: Uri,
    headers: HeaderMap,
    Body(login): Body<Login>,
) -> Result<Response, Error> {
    // Another site could log its visitor in as somebody else.
    guard::own_page(&headers, &uri)?;
    let caller = authenticate(&state, &peer, &headers, &login).await?;
    // Always a new one: an id that somebody knew before is worth nothing.
    if let Some(old) = SessionId::from_headers(&headers) {
        state.backends.sessions.remove(old.hash()).await?;
    }
    let id = SessionId::random()?;
    let now = state.now();
    let record = SessionRecord { account: caller.account.clone(), created: now, used: now };
    state.backends.sessions.create(id.hash(), record).await?;
    tracing::info!(account = caller.account, "logged in");
    Ok(([(header::SET_COOKIE, id.cookie())], Json(caller)).into_response())
}

/// A token for the Kubernetes API, by password
#[utoipa::path(post, path = "/api/v1/tokens", request_body = Login, responses(
    (status = OK, body = IssuedToken), (status = UNAUTHORIZED, body = Problem), (status = TOO_MANY_REQUESTS, body = Problem)
))]
pub(super) async fn issue_token(
    Shared(state): Shared<State>,
    peer: Peer,
    uri: Uri,
    headers: HeaderMap,
    Body(login): Body<Login>,
) -> Result<Json<IssuedToken>, Error> {
    guard::not_cross_site(&headers, &uri)?;
    let caller = authenticate(&state, &peer, &headers, &login).await?;
    let token = state.backends.accounts.issue_token(&caller).await?;
    tracing::info!(account = caller.account, expires = token.expires, "issued a token");
    Ok(Json(token))
}

async fn authenticate(
    state: &State,
    peer: &Peer,
    headers: &HeaderMap,
    login: &Login,
) -> Result<Caller, Error> {
    for (field, value) in [("account", &login.account), ("password", &login.password)] {
        if value.is_empty() {
            let detail = format!("the {field} is missing; fill it in");
            return Err(Error::Invalid { field: Some(field.to_owned()), detail });
        }
    }
    let address = guard::client_address(state, headers, peer.as_ref().map(|peer| &peer.0));
    if let Err(seconds) = state.throttle.attempt(&login.account, address) {
        state.metrics.logins_throttled.fetch_add(1, Ordering::Relaxed);
        return Err(Error::TooMany { what: "there were too many attempts to log in", seconds });
    }
    let Some(caller) = state.backends.accounts.authenticate(login).await? else {
        state.metrics.logins_refused.fetch_add(1, Ordering::Relaxed);
        tracing::info!(address = address.map(tracing::field::display), "a login was refused");
        return Err(Error::WrongPassword);
    };
    state.throttle.succeeded(&login.account, address);
    Ok(caller)
}

/// End the session
#[utoipa::path(post, path = "/api/v1/logout", responses(
    (status = NO_CONTENT), (status = UNAUTHORIZED, body = Problem)
))]
pub(super) async fn logout(
    Shared(state): Shared<State>,
    Extension(identified): Extension<Identified>,
) -> Result<Response, Error> {
    if let Proof::Session(hash) = identified.proof {
        state.backends.sessions.remove(hash).await?;
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, no_cookie())]).into_response())
}

/// Who is logged in
#[utoipa::path(get, path = "/api/v1/me", responses(
    (status = OK, body = Session), (status = UNAUTHORIZED, body = Problem)
))]
pub(super) async fn me(Extension(identified): Extension<Identified>) -> Json<Session> {
    Json(identified.caller)
}
