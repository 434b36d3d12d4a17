//! Why a request is refused, as Kubernetes' own `Status`, which kubectl prints.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;

use crate::body::Body;
use crate::request::Unclear;

/// Why a request is refused. The words are the caller's to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody said who they are.
    #[error("no token was sent: log in with `atoll login`")]
    NoToken,
    /// What was sent is no token of ours, or ambiguous.
    #[error("the token is not valid: log in again with `atoll login`")]
    BadToken,
    /// A token of ours that is not good, or not any more.
    #[error("{0}")]
    Token(#[from] identity::token::Refusal),
    /// The account was removed.
    #[error("the account {0} doesn't exist any more")]
    NoAccount(String),
    /// The account was shut out.
    #[error("the account {0} is disabled: ask an operator")]
    Disabled(String),
    /// Nobody may say that they are somebody else.
    #[error("impersonation (`--as`) is not possible here: use that account's own token")]
    Impersonation,
    /// The path could be read in two ways.
    #[error("{0}")]
    Unclear(#[from] Unclear),
    /// Something else in the request can't be understood.
    #[error("{0}")]
    Bad(&'static str),
    /// No such object, or another's.
    #[error("{resource} \"{name}\" not found")]
    NotFound {
        /// With the group, such as `workspaces.atoll.dev`.
        resource: &'static str,
        /// The object's name.
        name: String,
    },
    /// A form of request that isn't served.
    #[error("{0}")]
    NotAcceptable(&'static str),
    /// The caller's last list is older than their last change of membership.
    #[error("too old resource version: the memberships have changed since; list again")]
    Expired,
    /// Too much at once of one caller.
    #[error("too many requests at once for {0}: let some end first")]
    TooMany(String),
    /// It isn't known yet who is who.
    #[error("front has not heard yet which accounts there are: try again in a moment")]
    NotReady,
    /// The API server had nobody to ask whether it may store something.
    #[error("what decides on this request is away for a moment, and nothing was changed: try again")]
    Undecided,
    /// The API server is away.
    #[error("the Kubernetes API server can't be reached: try again in a moment")]
    Unreachable,
    /// The API server was asked and said nothing.
    #[error("the Kubernetes API server did not answer in time: try again in a moment")]
    Timeout,
}

impl Refusal {
    /// The HTTP status.
    pub const fn code(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::BadToken | Self::Token(_) | Self::NoAccount(_) | Self::Disabled(_) => {
                StatusCode::UNAUTHORIZED
            }
            Self::Impersonation => StatusCode::FORBIDDEN,
            Self::Unclear(_) | Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::Expired => StatusCode::GONE,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NotReady | Self::Undecided => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    const fn reason(&self) -> &'static str {
        match self.code() {
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::BAD_REQUEST => "BadRequest",
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::NOT_ACCEPTABLE => "NotAcceptable",
            StatusCode::GONE => "Expired",
            StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
            StatusCode::GATEWAY_TIMEOUT => "Timeout",
            _ => "ServiceUnavailable",
        }
    }

    /// Kubernetes' `Status`.
    pub fn status(&self) -> serde_json::Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": self.reason(), "code": self.code().as_u16(),
        });
        if let (Self::NotFound { resource, name }, Some(object)) = (self, status.as_object_mut()) {
            let (kind, group) = resource.split_once('.').unwrap_or((resource, ""));
            object.insert("details".to_owned(), json!({ "name": name, "group": group, "kind": kind }));
        }
        status
    }

    /// The whole answer.
    pub fn response(&self) -> Response<Body> {
        let text = Bytes::from(self.status().to_string());
        let mut response = Response::new(Full::new(text).map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = self.code();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(self, Self::TooMany(_) | Self::NotReady | Self::Undecided) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_can_read_it() {
        let name = "b".to_owned();
        let status = Refusal::NotFound { resource: "workspaces.atoll.dev", name }.status();
        assert_eq!(status["message"], r#"workspaces.atoll.dev "b" not found"#);
        assert_eq!(status["code"], 404);
        assert_eq!(status["reason"], "NotFound");
        assert_eq!(status["details"]["group"], "atoll.dev");
        let busy = Refusal::TooMany("ada".to_owned()).response();
        assert_eq!(busy.status(), 429);
        assert_eq!(busy.headers()["retry-after"], "1");
    }
}
