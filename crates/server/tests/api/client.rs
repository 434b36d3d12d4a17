//! A caller, and the server it calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::http::{CSRF_HEADER, CSRF_VALUE, Problem, SESSION_COOKIE};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use futures::StreamExt;
use http::{Request, header};
use serde_json::{Value, json};
use server::{Files, Server, Settings};
use tower::ServiceExt;

use crate::common::{Memory, PASSWORD};

pub struct Rig {
    pub memory: Arc<Memory>,
    pub server: Server,
    pub router: Router,
    pub now: Arc<AtomicU64>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let memory = Memory::new();
        let now = Arc::new(AtomicU64::new(1_795_348_800));
        let clock = now.clone();
        let mut settings =
            Settings { clock: Arc::new(move || clock.load(Ordering::Relaxed)), ..Settings::default() };
        change(&mut settings);
        let server = Server::new(memory.backends(), settings, Files::default());
        Self { router: server.router(), memory, server, now }
    }

    pub fn ask(&self, method: &str, path: &str) -> Ask<'_> {
        let host = ("host", "atoll.localhost".to_owned());
        Ask {
            rig: self,
            method: method.to_owned(),
            path: path.to_owned(),
            headers: vec![host],
            body: String::new(),
        }
    }

    /// Logs in and returns the cookie.
    pub async fn log_in(&self, account: &str) -> String {
        let answer = self.ask("POST", "/api/v1/login").own().login(account, PASSWORD).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let cookie = answer.header("set-cookie").to_owned();
        assert!(cookie.starts_with(SESSION_COOKIE));
        cookie.split(';').next().unwrap().to_owned()
    }

    /// Every path and method of the API, as its own document tells them; what
    /// stands in braces is filled by `workspace`.
    pub async fn endpoints(&self, workspace: &str) -> Vec<(String, String)> {
        let document = self.ask("GET", "/api/v1/openapi.json").send().await.json();
        let mut endpoints = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                let path = path.replace("{workspace}", workspace).replace("{name}", "wiki-ada");
                endpoints.push((method.to_uppercase(), path));
            }
        }
        assert!(endpoints.len() >= 12, "{endpoints:?}");
        endpoints
    }
}

pub struct Ask<'a> {
    rig: &'a Rig,
    method: String,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Ask<'_> {
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn cookie(self, cookie: &str) -> Self {
        self.header("cookie", cookie)
    }

    /// As our own page does.
    pub fn own(self) -> Self {
        self.header(CSRF_HEADER, CSRF_VALUE).header("origin", "https://atoll.localhost")
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string();
        self.header("content-type", "application/json")
    }

    pub fn raw(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    pub fn login(self, account: &str, password: &str) -> Self {
        self.json(&json!({ "account": account, "password": password }))
    }

    pub async fn open(self) -> Response {
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let peer: SocketAddr = "192.0.2.7:1234".parse().unwrap();
        let request = request.extension(ConnectInfo(peer)).body(Body::from(self.body)).unwrap();
        self.rig.router.clone().oneshot(request).await.unwrap()
    }

    pub async fn send(self) -> Answer {
        let response = self.open().await;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        Answer { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{} is no JSON", self.text))
    }

    /// The problem; it must be told as one, and with the same status.
    pub fn problem(&self) -> Problem {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{}", self.text);
        let problem: Problem = serde_json::from_str(&self.text).unwrap();
        assert_eq!(problem.status, self.status);
        problem
    }
}

/// The next pieces of a stream, as text, until one holds `what`.
pub async fn until(response: Response, what: &str) -> (String, axum::body::BodyDataStream) {
    let mut stream = response.into_body().into_data_stream();
    let mut text = String::new();
    while !text.contains(what) {
        let piece = tokio::time::timeout(std::time::Duration::from_secs(10), stream.next()).await;
        let piece = piece.unwrap_or_else(|_| panic!("{what:?} did not come after {text:?}"));
        let piece = piece.unwrap_or_else(|| panic!("the stream ended after {text:?}")).unwrap();
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    (text, stream)
}
