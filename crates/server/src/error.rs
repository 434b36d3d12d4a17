//! What can go wrong, and how it is told: as a problem (RFC 9457).

use api::http::Problem;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

/// Why a request failed. Backends say so too; what they say is shown to who
/// asked, save for [`Error::Internal`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody is logged in, or no longer.
    #[error("nobody is logged in; log in")]
    NotLoggedIn,
    /// There is no such account, or it has another password: never which.
    #[error("account and password don't match; check both")]
    WrongPassword,
    /// The request came from another site's page.
    #[error(
        "the request came from another site; use the desktop's own page, or send {}",
        api::http::CSRF_HEADER
    )]
    CrossSite,
    /// The caller may see it, but not do that.
    #[error("{0}")]
    Forbidden(String),
    /// It isn't there, or the caller may not know that it is.
    #[error("{0}")]
    NotFound(String),
    /// There is one already.
    #[error("{detail}")]
    Taken {
        /// The field of the request that names it.
        field: String,
        /// What is taken and what to do.
        detail: String,
    },
    /// The request can't be understood or obeyed.
    #[error("{detail}")]
    Invalid {
        /// The field that is wrong, such as `inputs.port`, if it is one.
        field: Option<String>,
        /// What is wrong and what to do.
        detail: String,
    },
    /// Not yet: too many attempts or streams.
    #[error("{what}; try again in {seconds} s")]
    TooMany {
        /// What there were too many of.
        what: &'static str,
        /// When to try again.
        seconds: u64,
    },
    /// The body is too large.
    #[error("the request's body is larger than {0} bytes; send less")]
    TooLarge(usize),
    /// The body is no JSON.
    #[error("the request's body must be JSON; send content-type: application/json")]
    NotJson,
    /// It took too long.
    #[error("the server had no answer within {0} s; try again")]
    TooSlow(u64),
    /// Something that is needed doesn't answer now.
    #[error("{0}; try again in a moment")]
    Unavailable(String),
    /// A bug or a broken part. It is logged and not shown.
    #[error("something failed inside; the server's log says what (internal: {0})")]
    Internal(String),
}

impl Error {
    /// A workspace that isn't there, or isn't the caller's: the same words.
    pub fn no_workspace(name: &str) -> Self {
        Self::NotFound(format!("you have no workspace {name}; choose one of yours"))
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotLoggedIn | Self::WrongPassword => StatusCode::UNAUTHORIZED,
            Self::CrossSite | Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Taken { .. } => StatusCode::CONFLICT,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooSlow(_) | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn problem(&self) -> Problem {
        let status = self.status();
        let title = match self {
            Self::NotLoggedIn => "Not logged in",
            Self::WrongPassword => "Login refused",
            Self::CrossSite => "Cross-site request",
            Self::Invalid { .. } => "Invalid request",
            Self::Taken { .. } => "Taken",
            _ => status.canonical_reason().unwrap_or("Failed"),
        };
        let detail = match self {
            Self::Internal(_) => {
                "something failed inside; try again, and tell an operator if it stays".to_owned()
            }
            shown => shown.to_string(),
        };
        let field = match self {
            Self::Taken { field, .. } => Some(field.clone()),
            Self::Invalid { field, .. } => field.clone(),
            _ => None,
        };
        Problem { status: status.as_u16(), title: title.to_owned(), detail, field }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Self::Internal(what) = &self {
            tracing::error!(what, "a request failed inside");
        }
        let problem = self.problem();
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Self::TooMany { seconds, .. } = self {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// For paths below `/api` that lead nowhere.
pub(crate) async fn no_route() -> Error {
    Error::NotFound("the API has no such path; see /api/v1/openapi.json".to_owned())
}

/// For paths that are there, but not for this method.
pub(crate) async fn no_method() -> Response {
    let mut response =
        Error::NotFound("this path has no such method; see /api/v1/openapi.json".to_owned()).into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}
