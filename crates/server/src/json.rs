//! A request's body as JSON, with problems that name the field.

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
