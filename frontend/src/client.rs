//! Requests to the server.

use api::http::{CSRF_HEADER, CSRF_VALUE, Problem};
use gloo_net::http::{Method, Request, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An answer that carries nothing.
#[derive(Clone, Copy)]
pub struct Done;

pub async fn get<T: DeserializeOwned>(path: &str) -> Result<T, Problem> {
    read(send(RequestBuilder::new(path).build()).await?).await
}

pub async fn post<T: DeserializeOwned>(path: &str, body: &impl Serialize) -> Result<T, Problem> {
    let request = RequestBuilder::new(path).method(Method::POST).header(CSRF_HEADER, CSRF_VALUE).json(body);
    read(send(request).await?).await
}

/// A request whose answer says nothing.
pub async fn act(method: Method, path: &str) -> Result<Done, Problem> {
    let request = RequestBuilder::new(path).method(method).header(CSRF_HEADER, CSRF_VALUE).build();
    send(request).await.map(|_| Done)
}

async fn send(request: Result<Request, gloo_net::Error>) -> Result<Response, Problem> {
    let request = request.map_err(|error| problem("The request can't be made", &error.to_string()))?;
    let response = request.send().await.map_err(|_| {
        problem("No answer", "the server can't be reached; check your connection and try again")
    })?;
    if response.ok() {
        return Ok(response);
    }
    let status = response.status();
    Err(response.json::<Problem>().await.unwrap_or_else(|_| Problem {
        status,
        title: "Failed".to_owned(),
        detail: format!("the server answered {status}; try again in a moment"),
        field: None,
    }))
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, Problem> {
    response.json().await.map_err(|_| {
        problem("Not understood", "the server is newer or older than this page; load the page again")
    })
}

fn problem(title: &str, detail: &str) -> Problem {
    Problem { status: 0, title: title.to_owned(), detail: detail.to_owned(), field: None }
}
