//! The API server, as front reaches it: by HTTP/1.1, one connection for each
//! request under way, so that a client that reads its watch slowly holds up
//! nobody else.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::body::Body;
use crate::error::Error;
use crate::headers;
use crate::refusal::Refusal;

/// A token file is read again after this time: kubelet renews it long before
/// the old one expires.
const REREAD: Duration = Duration::from_secs(10);
/// Connecting to the API server takes no longer.
const CONNECT: Duration = Duration::from_secs(5);
/// Kubernetes itself ends what takes a minute; this is for when it is silent.
const ANSWER: Duration = Duration::from_secs(75);
/// What a list is read into at most, when it must be read.
const MOST: usize = 16 << 20;

/// Where the API server is and how front proves itself there.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Such as `https://10.96.0.1:443`.
    pub address: String,
    /// Its CA, in PEM.
    pub ca: Vec<u8>,
    /// How front proves itself.
    pub credentials: Credentials,
}

/// How front proves itself.
#[derive(Clone)]
pub enum Credentials {
    /// The token in a file, which is renewed by somebody else.
    TokenFile(PathBuf),
    /// A client certificate: chain and key, in PEM.
    Certificate {
        /// The chain.
        chain: Vec<u8>,
        /// The key.
        key: Vec<u8>,
    },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TokenFile(path) => f.debug_tuple("TokenFile").field(path).finish(),
            Self::Certificate { .. } => f.debug_struct("Certificate").finish_non_exhaustive(),
        }
    }
}

type Http = Client<HttpsConnector<HttpConnector>, Body>;

/// For whom a request is sent.
pub(crate) enum As<'a> {
    /// Front, for itself or impersonating.
    Front,
    /// The bearer of this token, and front says nothing about it.
    Bearer(&'a str),
}

pub(crate) struct Sender {
    authority: Authority,
    /// Proves itself by front's certificate, if it has one.
    own: Http,
    /// Proves nothing: the certificate would count for more than a token.
    plain: Http,
    token: Option<TokenFile>,
}

impl Sender {
    pub fn new(upstream: &Upstream) -> Result<Self, Error> {
        let bad =
            |reason: &str| Error::Upstream { address: upstream.address.clone(), reason: reason.to_owned() };
        let uri: Uri = upstream.address.parse().map_err(|_| bad("is no address"))?;
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return Err(bad("must begin with https://"));
        }
        let authority = uri.authority().cloned().ok_or_else(|| bad("names no host"))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&upstream.ca) {
            let certificate = certificate.map_err(|_| bad("has a CA that is no PEM"))?;
            roots.add(certificate).map_err(|_| bad("has a CA that can't be parsed"))?;
        }
        if roots.is_empty() {
            return Err(bad("has no CA: give its certificate in PEM"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let plain = builder.clone().with_no_client_auth();
        let (own, token) = match &upstream.credentials {
            Credentials::TokenFile(path) => (plain.clone(), Some(TokenFile::new(path))),
            Credentials::Certificate { chain, key } => {
                let chain = CertificateDer::pem_slice_iter(chain)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|_| bad("has a client certificate that is no PEM"))?;
                let key =
                    PrivateKeyDer::from_pem_slice(key).map_err(|_| bad("has a client key that is no PEM"))?;
                (builder.with_client_auth_cert(chain, key)?, None)
            }
        };
        Ok(Self { authority, own: client(own), plain: client(plain), token })
    }

    /// Sends a request; `target` is path and query.
    pub async fn send(
        &self,
        by: As<'_>,
        method: Method,
        target: &str,
        mut headers: HeaderMap,
        body: Body,
        answers_in_time: bool,
    ) -> Result<Response<Incoming>, Refusal> {
        let client = match by {
            As::Front => {
                headers.remove(AUTHORIZATION);
                if let Some(token) = &self.token {
                    headers.insert(AUTHORIZATION, token.get().ok_or(Refusal::Unreachable)?);
                }
                &self.own
            }
            As::Bearer(token) => {
                headers.insert(AUTHORIZATION, headers::bearer(token)?);
                &self.plain
            }
        };
        let target = PathAndQuery::try_from(target).map_err(|_| Refusal::Bad("the path is no path"))?;
        let uri = Uri::builder()
            .scheme(Scheme::HTTPS)
            .authority(self.authority.clone())
            .path_and_query(target)
            .build()
            .map_err(|_| Refusal::Bad("the path is no path"))?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let answer = client.request(request);
        let answer = if answers_in_time {
            tokio::time::timeout(ANSWER, answer).await.map_err(|_| Refusal::Timeout)?
        } else {
            answer.await
        };
        let answer = answer.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "the API server can't be reached");
            Refusal::Unreachable
        })?;
        if matches!(by, As::Front) && answer.status() == StatusCode::UNAUTHORIZED {
            // The caller has shown a good token; it is ours that isn't.
            tracing::error!("the API server doesn't know front: look at its ServiceAccount and token");
            if let Some(token) = &self.token {
                token.forget();
            }
            return Err(Refusal::Unreachable);
        }
        Ok(answer)
    }

    /// Reads something as front itself; the body of what isn't 200 is not read.
    pub async fn read(&self, target: &str, headers: HeaderMap) -> Result<(StatusCode, Vec<u8>), Refusal> {
        let answer = self.send(As::Front, Method::GET, target, headers, empty(), true).await?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Ok((status, Vec::new()));
        }
        Ok((status, read(answer.into_body()).await?.to_vec()))
    }
}

/// Reads an answer that must be looked into.
pub(crate) async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let body = http_body_util::Limited::new(body, MOST).collect();
    let body = tokio::time::timeout(ANSWER, body).await.map_err(|_| Refusal::Timeout)?;
    Ok(body.map_err(|_| Refusal::Unreachable)?.to_bytes())
}

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn client(tls: ClientConfig) -> Http {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    let https =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(64)
        .pool_timer(TokioTimer::new())
        .build(https)
}

/// A token that somebody else renews.
struct TokenFile {
    path: PathBuf,
    read: Mutex<Option<(Instant, HeaderValue)>>,
}

impl TokenFile {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: Mutex::default() }
    }

    /// The token as a header. A file that can't be read leaves the token that
    /// was there: it may be in the middle of being replaced.
    fn get(&self) -> Option<HeaderValue> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, value)) = &*read
            && at.elapsed() < REREAD
        {
            return Some(value.clone());
        }
        // A few hundred bytes from memory: no reason for another thread.
        match std::fs::read_to_string(&self.path) {
            Ok(text) if !text.trim().is_empty() => {
                let value = headers::bearer(text.trim()).ok()?;
                *read = Some((Instant::now(), value));
            }
            Ok(_) => tracing::error!(path = %self.path.display(), "front's token file is empty"),
            Err(error) => tracing::error!(path = %self.path.display(), %error, "front's token can't be read"),
        }
        read.as_ref().map(|(_, value)| value.clone())
    }

    /// The next request reads the file.
    fn forget(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
