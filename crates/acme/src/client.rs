//! HTTPS to an authority: to those that are publicly known, and those that are
//! given; with limits, and without redirects.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::Error;

/// For one request and its answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer, in bytes: a chain is some thousand.
const LARGEST: usize = 1 << 20;

type Hyper = Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>;

/// When the authority wants to be asked again after its last refusal; 0: it has
/// not said.
#[derive(Clone, Default)]
pub(crate) struct RetryAfter(Arc<AtomicU64>);

impl RetryAfter {
    pub fn take(&self) -> Option<u64> {
        Some(self.0.swap(0, Ordering::Relaxed)).filter(|seconds| *seconds > 0)
    }

    /// Only seconds are read: no authority known sends a date.
    fn heed<B>(&self, response: &Response<B>) {
        let refused = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        let value = response.headers().get(header::RETRY_AFTER);
        if let Some(seconds) = value.and_then(|value| value.to_str().ok()?.trim().parse().ok())
            && refused.contains(&response.status())
        {
            self.0.store(seconds, Ordering::Relaxed);
        }
    }
}

pub(crate) struct Https {
    client: Hyper,
    retry_after: RetryAfter,
}

impl Https {
    /// `roots`: certificates in PEM of authorities to believe besides the public ones.
    pub fn new(roots: &str, retry_after: RetryAfter) -> Result<Self, Error> {
        let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let mut given = 0;
        for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
            let root = root.map_err(|error| Error::Roots(error.to_string()))?;
            store.add(root).map_err(|error| Error::Roots(error.to_string()))?;
            given += 1;
        }
        if given == 0 && !roots.trim().is_empty() {
            return Err(Error::Roots("no certificate in them".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Unreachable(error.to_string()))?
            .with_root_certificates(store)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), retry_after })
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>>;

impl HttpClient for Https {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answer {
        let (sent, retry_after) = (self.client.request(request), self.retry_after.clone());
        Box::pin(async move {
            let other = |text: String| instant_acme::Error::Other(text.into());
            let answered = async {
                let response = sent.await.map_err(|error| other(chain(&error)))?;
                retry_after.heed(&response);
                let (head, body) = response.into_parts();
                let body =
                    Limited::new(body, LARGEST).collect().await.map_err(|error| other(error.to_string()))?;
                Ok(BytesResponse::from(Response::from_parts(head, Full::new(body.to_bytes()))))
            };
            match tokio::time::timeout(TIMEOUT, answered).await {
                Ok(answer) => answer,
                Err(_) => Err(other(format!("no answer within {} seconds", TIMEOUT.as_secs()))),
            }
        })
    }
}

/// An error with what has caused it: hyper's own says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What the library says, for people.
pub(crate) fn refused(error: instant_acme::Error, retry_after: &RetryAfter) -> Error {
    match error {
        instant_acme::Error::Api(problem) => Error::Refused {
            nonce: problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:badNonce"),
            text: words(&problem),
            retry_after: retry_after.take(),
        },
        other => Error::Unreachable(other.to_string()),
    }
}

/// A problem document (RFC 7807) in one line.
pub(crate) fn words(problem: &instant_acme::Problem) -> String {
    let kind = problem.r#type.as_deref().unwrap_or("about:blank");
    let kind = kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind);
    let mut text = format!("{} ({kind})", problem.detail.as_deref().unwrap_or("no reason was given"));
    for sub in &problem.subproblems {
        text = format!("{text}; {sub}");
    }
    text
}
