//! A request's body as JSON, and what must hold of its fields; problems name the
//! field.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::header;
use serde::de::DeserializeOwned;

use crate::State;
use crate::error::Error;

/// The body. Only `application/json`: a form of another site can't send it.
pub(crate) struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<State> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &State) -> Result<Self, Error> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Error::NotJson);
        }
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|_| Error::TooLarge(state.settings.body_limit))?;
        parse(&bytes).map(Self)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let problem = error.inner().to_string();
        // serde names a missing field in words only.
        let missing = problem.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let field = match (path.as_str(), missing) {
            (".", missing) => missing.map(str::to_owned),
            (path, None) => Some(path.to_owned()),
            (path, Some(missing)) => Some(format!("{path}.{missing}")),
        };
        Error::Invalid { field, detail: format!("the request's body: {problem}") }
    })
}

/// How long what people call something may be.
const DISPLAY_NAME: usize = 100;

fn invalid(field: &str, detail: String) -> Error {
    Error::Invalid { field: Some(field.to_owned()), detail }
}

/// Refuses a `name` that `what`, such as `a workspace`, can't have.
pub(crate) fn name(what: &str, name: &str) -> Result<(), Error> {
    api::names::check_workspace_name(name)
        .map_err(|remedy| invalid("name", format!("this can't be {what}'s name: {remedy}")))
}

/// What people call something, without space around it.
pub(crate) fn display_name(title: &str) -> Result<String, Error> {
    let title = title.trim();
    if title.chars().count() > DISPLAY_NAME {
        let detail = format!("the title is too long; use at most {DISPLAY_NAME} characters");
        return Err(invalid("displayName", detail));
    }
    if title.chars().any(char::is_control) {
        return Err(invalid("displayName", "the title has control characters; remove them".to_owned()));
    }
    Ok(title.to_owned())
}

#[cfg(test)]
mod tests {
    use api::http::{NewApp, NewWorkspace};

    use super::*;

    #[test]
    fn a_problem_names_the_field() {
        let field = |result: Result<NewApp, Error>| match result {
            Err(Error::Invalid { field, .. }) => field,
            other => panic!("{:?}", other.is_ok()),
        };
        assert_eq!(field(parse(br#"{"inputs":{}}"#)).as_deref(), Some("template"));
        assert_eq!(field(parse(br#"{"template":"x","inputs":{"port":1}}"#)).as_deref(), Some("inputs.port"));
        assert_eq!(field(parse(b"nonsense")), None);
        assert!(parse::<NewWorkspace>(br#"{"name":"shop"}"#).is_ok());
    }
}
