//! Who may ask: by a session's cookie or by a token; from our own pages only; in
//! a workspace, members only. What can't decide, denies.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use api::Role;
use api::http::CSRF_HEADER;
use axum::extract::{ConnectInfo, Path, Request, State as Shared};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, Uri, header};

use crate::State;
use crate::backend::Caller;
use crate::error::Error;
use crate::session::{SessionHash, SessionId};

/// By what the caller was recognised.
#[derive(Clone)]
pub(crate) enum Proof {
    Session(SessionHash),
    Token(String),
}

/// Who asks, and by what that is known.
#[derive(Clone)]
pub(crate) struct Identified {
    pub caller: Caller,
    pub proof: Proof,
}

/// The workspace that a request is about; the caller is a member.
#[derive(Clone)]
pub(crate) struct Membership {
    pub workspace: String,
    pub role: Role,
}

impl Membership {
    /// Refuses who may do less than `role` may.
    pub fn at_least(&self, role: Role) -> Result<(), Error> {
        if self.role >= role {
            return Ok(());
        }
        let (workspace, have) = (&self.workspace, self.role.name());
        Err(Error::Forbidden(format!(
            "you are {have} in {workspace}, and only a {} may do that; ask the workspace's owner",
            role.name()
        )))
    }
}

/// Lets through who is logged in, and tells the handler who it is.
pub(crate) async fn identify(
    Shared(state): Shared<State>,
    mut request: Request,
    next: Next,
) -> Result<Response, Error> {
    let identified = match bearer(request.headers())? {
        Some(token) => recognise(&state, Proof::Token(token)).await?,
        None => {
            if !request.method().is_safe() {
                own_page(request.headers(), request.uri())?;
            }
            let id = SessionId::from_headers(request.headers()).ok_or(Error::NotLoggedIn)?;
            recognise(&state, Proof::Session(id.hash())).await?
        }
    };
    request.extensions_mut().insert(identified);
    Ok(next.run(request).await)
}

/// Who that is now; [`Error::NotLoggedIn`] for what has ended meanwhile.
pub(crate) async fn recognise(state: &State, proof: Proof) -> Result<Identified, Error> {
    let caller = match &proof {
        Proof::Token(token) => state.backends.accounts.verify_token(token).await?,
        Proof::Session(hash) => {
            let record = state.backends.sessions.get(*hash).await?.ok_or(Error::NotLoggedIn)?;
            let now = state.now();
            if !record.lives(now, state.settings.lifetimes) {
                state.backends.sessions.remove(*hash).await?;
                return Err(Error::NotLoggedIn);
            }
            let caller = state.backends.accounts.account(&record.account, record.created).await?;
            if caller.is_some() && record.worth_touching(now) {
                state.backends.sessions.touch(*hash, now).await?;
            }
            caller
        }
    };
    Ok(Identified { caller: caller.ok_or(Error::NotLoggedIn)?, proof })
}

/// The token in `Authorization`. One that can't be read is no reason to look at
/// the cookie.
fn bearer(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    token.filter(|token| !token.is_empty()).map(Some).ok_or(Error::NotLoggedIn)
}

/// Refuses requests that another site's page may have made: it can send our
/// cookie on old browsers, but neither our header nor a false origin.
pub(crate) fn own_page(headers: &HeaderMap, uri: &Uri) -> Result<(), Error> {
    not_cross_site(headers, uri)?;
    if headers.contains_key(CSRF_HEADER) { Ok(()) } else { Err(Error::CrossSite) }
}

/// Refuses what a browser says comes from another origin. Programs say nothing.
pub(crate) fn not_cross_site(headers: &HeaderMap, uri: &Uri) -> Result<(), Error> {
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(Error::CrossSite);
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    // HTTP/2 names the host in the address, HTTP/1.1 in a header.
    let host = uri.authority().map(http::uri::Authority::as_str);
    let host = host.or_else(|| headers.get(header::HOST)?.to_str().ok());
    let same = origin.to_str().ok().and_then(|origin| origin.strip_prefix("https://")) == host;
    if same && host.is_some() { Ok(()) } else { Err(Error::CrossSite) }
}

/// Lets members of the workspace in the path through. For all others it isn't
/// there.
pub(crate) async fn member(
    Shared(state): Shared<State>,
    Path(parameters): Path<std::collections::HashMap<String, String>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Error> {
    let workspace = parameters.get("workspace").cloned().unwrap_or_default();
    let caller = &request.extensions().get::<Identified>().ok_or(Error::NotLoggedIn)?.caller;
    if api::names::check_workspace_name(&workspace).is_err() {
        return Err(Error::no_workspace("of that name"));
    }
    let role = state.backends.cloud.role(caller, &workspace).await?;
    let role = role.ok_or_else(|| Error::no_workspace(&workspace))?;
    request.extensions_mut().insert(Membership { workspace, role });
    Ok(next.run(request).await)
}

/// Lets operators through.
pub(crate) async fn operator(request: Request, next: Next) -> Result<Response, Error> {
    let caller = &request.extensions().get::<Identified>().ok_or(Error::NotLoggedIn)?.caller;
    if !caller.operator {
        return Err(Error::Forbidden("only operators of the cloud may do that; ask one of them".to_owned()));
    }
    Ok(next.run(request).await)
}

/// The client's address, if it is known.
pub(crate) fn client_address(
    state: &State,
    headers: &HeaderMap,
    peer: Option<&ConnectInfo<SocketAddr>>,
) -> Option<IpAddr> {
    if state.settings.trust_forwarded {
        // The gateway adds to the end; before it stands what anybody claims.
        let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
        return last.rsplit(',').next()?.trim().parse().ok();
    }
    peer.map(|info| info.0.ip())
}

/// Ends what takes too long.
pub(crate) async fn limit_time(
    Shared(state): Shared<State>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let limit: Duration = state.settings.time_limit;
    tokio::time::timeout(limit, next.run(request)).await.map_err(|_| Error::TooSlow(limit.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &str)], uri: &str) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        own_page(&headers, &uri.parse().unwrap()).is_ok()
    }

    #[test]
    fn only_our_own_pages_may_change_something() {
        let ours = ("x-atoll-desktop", "1");
        let host = ("host", "atoll.localhost:8443");
        let origin = ("origin", "https://atoll.localhost:8443");
        assert!(check(&[ours, host, origin, ("sec-fetch-site", "same-origin")], "/"));
        assert!(check(&[ours, host], "/"), "a program without a browser");
        assert!(check(&[ours, origin], "https://atoll.localhost:8443/x"), "HTTP/2");
        assert!(!check(&[host, origin], "/"), "no header of ours");
        assert!(!check(&[ours, host, ("sec-fetch-site", "same-site")], "/"));
        assert!(!check(&[ours, host, ("sec-fetch-site", "cross-site")], "/"));
        for origin in
            ["null", "https://evil.example", "http://atoll.localhost:8443", "https://atoll.localhost"]
        {
            assert!(!check(&[ours, host, ("origin", origin)], "/"), "{origin}");
        }
        assert!(!check(&[ours, origin], "/"), "no host to compare with");
    }

    #[test]
    fn a_token_that_cannot_be_read_is_refused_at_once() {
        let with = |value: &str| {
            bearer(&[(header::AUTHORIZATION, value.parse().unwrap())].into_iter().collect::<HeaderMap>())
        };
        assert_eq!(with("Bearer abc"), Ok(Some("abc".to_owned())));
        assert_eq!(bearer(&HeaderMap::new()), Ok(None));
        for bad in ["Basic abc", "Bearer", "Bearer  ", ""] {
            assert_eq!(with(bad), Err(Error::NotLoggedIn), "{bad}");
        }
    }
}
