//! Takes usage from the nodes' agents, over mutual TLS.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::usage::UsageBatch;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use ledger::Ledger;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;

use crate::certificate::Certificate;

/// The path agents send to.
pub const PATH: &str = "/internal/v1/usage";
/// The largest batch, in bytes.
const LARGEST: usize = 32 << 20;

#[derive(Clone)]
struct Ingest {
    ledger: Ledger,
    /// Is told the namespaces of workspaces for which something was counted.
    counted: broadcast::Sender<String>,
}

/// Takes usage until the listener fails, from those whose certificate comes from
/// the same authority.
pub async fn run(
    listener: TcpListener,
    certificate: Certificate,
    ledger: Ledger,
    counted: broadcast::Sender<String>,
) -> anyhow::Result<()> {
    let Certificate { chain, key, roots, .. } = certificate;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    let config = ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let router = Router::new()
        .route(PATH, post(take))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(Ingest { ledger, counted });
    loop {
        let (stream, address) = listener.accept().await.context("accepting an agent")?;
        let acceptor = acceptor.clone();
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let stream = match tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::warn!(%address, %error, "an agent was refused"),
                Err(_) => return tracing::warn!(%address, "an agent took too long to say who it is"),
            };
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new());
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%address, %error, "an agent's connection ended");
            }
        });
    }
}

async fn take(State(ingest): State<Ingest>, Json(batch): Json<UsageBatch>) -> Result<StatusCode, StatusCode> {
    match ingest.ledger.ingest(&batch).await {
        Ok(ingested) => {
            tracing::debug!(node = batch.node, ?ingested, "usage was counted");
            let mut namespaces: Vec<String> = batch.facts.into_iter().map(|fact| fact.workspace).collect();
            namespaces.sort_unstable();
            namespaces.dedup();
            for namespace in namespaces {
                // Nobody may be listening.
                let _ = ingest.counted.send(namespace);
            }
            Ok(StatusCode::NO_CONTENT)
        }
        Err(error) => {
            tracing::error!(%error, node = batch.node, "usage was not counted; the agent sends it again");
            Err(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}
