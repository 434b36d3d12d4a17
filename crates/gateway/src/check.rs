//! An app's own service that says, for each request, whether it may pass
//! (`auth-url`). It is one of the Ingress' namespace: what the gateway can reach
//! is not for a tenant to ask by it. Without a clear yes nothing passes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pingora_error::Result;
use pingora_http::RequestHeader;
use tokio::net::TcpStream;

use crate::backend::Backend;
use crate::extra::Location;
use crate::page::Page;
use crate::route::{self, View};
use crate::stream::Peer;

/// For the whole question.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is of one connection or one body, and not of the question.
const OWN: [HeaderName; 11] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const REDIRECT: HeaderName = HeaderName::from_static("x-auth-request-redirect");

#[derive(Debug, Clone)]
pub struct Check {
    pub backend: Arc<Backend>,
    pub host: String,
    /// With the query.
    pub path: String,
    pub method: Method,
    /// Headers of a yes that the app gets, and from nobody else.
    pub pass: Vec<HeaderName>,
    /// Where somebody unknown is sent.
    pub signin: Option<Location>,
}

pub(crate) enum Checked {
    Passed(Vec<(HeaderName, HeaderValue)>),
    Answered(Box<Page>),
}

fn answered(page: Page) -> Checked {
    Checked::Answered(Box::new(page))
}

/// What is asked of, besides its head.
pub(crate) struct Asked<'a> {
    pub peer: &'a Peer,
    pub host: &'a str,
    pub authority: &'a str,
    /// What clients may claim of themselves, and nobody believes.
    pub claims: &'a [HeaderName],
}

impl Check {
    fn question(&self, head: &RequestHeader, asked: &Asked<'_>) -> http::Result<Request<Empty<Bytes>>> {
        let secure = asked.peer.tls.is_some();
        let (scheme, path) = (
            if secure { "https" } else { "http" },
            head.uri.path_and_query().map_or("/", |path| path.as_str()),
        );
        let own = [ORIGINAL_URL, ORIGINAL_METHOD, REDIRECT];
        let address = asked.peer.address.ip().to_canonical().to_string();
        let mut question = Request::builder().method(self.method.clone()).uri(&self.path);
        for (name, value) in &head.headers {
            if !OWN.contains(name) && !own.contains(name) && !asked.claims.contains(name) {
                question = question.header(name, value);
            }
        }
        question
            .header(header::HOST, &self.host)
            .header(ORIGINAL_URL, format!("{scheme}://{}{path}", asked.authority))
            .header(ORIGINAL_METHOD, head.method.as_str())
            .header(REDIRECT, path)
            .header("x-real-ip", &address)
            .header("x-forwarded-for", &address)
            .header("x-forwarded-proto", scheme)
            .header("x-forwarded-host", asked.authority)
            .body(Empty::new())
    }

    /// Asks whether a request may pass.
    pub(crate) async fn ask(&self, head: &RequestHeader, asked: &Asked<'_>) -> Result<Checked> {
        let answer = match (self.question(head, asked), self.backend.pick(&[])) {
            (Ok(question), Some(endpoint)) => {
                tokio::time::timeout(PATIENCE, send(endpoint, question)).await.ok().flatten()
            }
            _ => None,
        };
        let Some(answer) = answer else {
            return Page::new(502, "The app's login can't be reached.").map(answered);
        };
        match (answer.status(), &self.signin) {
            (status, _) if status.is_success() => {
                let all = answer.headers();
                let passed = self.pass.iter().filter_map(|name| Some((name.clone(), all.get(name)?.clone())));
                Ok(Checked::Passed(passed.collect()))
            }
            (StatusCode::UNAUTHORIZED, Some(signin)) => {
                let request = route::Request {
                    host: asked.host,
                    path: head.uri.path(),
                    query: head.uri.query(),
                    method: &head.method,
                    headers: &head.headers,
                    secure: asked.peer.tls.is_some(),
                    view: View::shared(false),
                };
                Page::redirect(302, &signin.fill(&request, asked.authority)).map(answered)
            }
            (StatusCode::UNAUTHORIZED, None) => {
                let mut page = Page::new(401, "This app asks for a login.")?;
                for challenge in answer.headers().get_all(header::WWW_AUTHENTICATE) {
                    page.head.append_header(header::WWW_AUTHENTICATE, challenge.clone())?;
                }
                Ok(answered(page))
            }
            (StatusCode::FORBIDDEN, _) => Page::new(403, "This app doesn't let you in.").map(answered),
            _ => Page::new(500, "The app's login says neither yes nor no.").map(answered),
        }
    }
}

async fn send(to: std::net::SocketAddr, question: Request<Empty<Bytes>>) -> Option<Response<Incoming>> {
    let io = TokioIo::new(TcpStream::connect(to).await.ok()?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
    let drive = async {
        let _ = connection.await;
    };
    let ask = sender.send_request(question);
    tokio::pin!(drive, ask);
    tokio::select! {
        answer = &mut ask => answer.ok(),
        () = &mut drive => ask.await.ok(),
    }
}
