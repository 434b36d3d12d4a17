//! The server's HTTP API, as the command asks it: through the forwarded port, under
//! the desktop's name, believing the cluster's authority alone.

use std::sync::Arc;

use anyhow::{Context, bail};
use api::http::Problem;
use api::names::DESKTOP_HOST;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use installer::access::Access;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_rustls::TlsConnector;

/// Asks and reads the answer.
pub async fn ask<T: DeserializeOwned>(
    access: &Access,
    token: Option<&str>,
    method: Method,
    path: &str,
    body: Option<&(impl Serialize + Sync)>,
) -> anyhow::Result<T> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(access.authority.as_bytes()) {
        roots.add(certificate.context("the cluster's authority")?)?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let address = (std::net::Ipv4Addr::LOCALHOST, access.https);
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .with_context(|| format!("reaching the cluster at 127.0.0.1:{}: see `atoll status`", access.https))?;
    let name = ServerName::try_from(DESKTOP_HOST)?;
    let stream =
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.context("greeting the server")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);

    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", DESKTOP_HOST)
        .header("accept", "application/json")
        .header(api::http::CSRF_HEADER, api::http::CSRF_VALUE);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = match body {
        Some(body) => {
            request = request.header("content-type", "application/json");
            Bytes::from(serde_json::to_vec(body)?)
        }
        None => Bytes::new(),
    };
    let answer = sender.send_request(request.body(Full::new(body))?).await.context("asking the server")?;
    let status = answer.status();
    let text = answer.into_body().collect().await.context("reading the server's answer")?.to_bytes();
    connection.abort();
    if status.is_success() {
        let text = if text.is_empty() { b"null" } else { &text[..] };
        return serde_json::from_slice(text).context("the server's answer is not what was expected");
    }
    match serde_json::from_slice::<Problem>(&text) {
        Ok(problem) => bail!("{}", problem.detail),
        Err(_) => bail!("the server said {status}: see `atoll status`"),
    }
}
