//! The server: the desktop, the HTTP API, and the ledger, which nobody else opens.
//!
//! It assembles: [`accounts`] are identity's, [`sessions`] are kept with each
//! account's credentials, [`cloud`] acts through front with the caller's own
//! rights, [`money`] is the ledger's, and [`ingest`] takes usage from agents.

mod accounts;
mod cloud;
pub mod ingest;
mod money;
mod sessions;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use front::directory::Index;
use identity::store::Store;
use identity::token::{AUDIENCE, Verifier};
use kube::Client;
use server::{Backends, Files, Server, Settings};
use tokio::sync::broadcast;

use crate::certificate::Certificate;

#[derive(clap::Args)]
pub struct Arguments {
    /// The desktop and the API; only the gateway comes here
    #[arg(long, default_value = "0.0.0.0:8080")]
    http: SocketAddr,
    /// Where agents bring usage
    #[arg(long, default_value = "0.0.0.0:8444")]
    usage: SocketAddr,
    /// Readiness and metrics
    #[arg(long, default_value = "0.0.0.0:9090")]
    admin: SocketAddr,
    /// The folder with the certificate that agents are shown, and the authority
    /// that theirs come from: tls.crt, tls.key and ca.crt
    #[arg(long)]
    certificate: PathBuf,
    /// The ledger: sqlite:PATH or postgres://...
    #[arg(long, env = "ATOLL_LEDGER")]
    ledger: String,
    /// The desktop's files
    #[arg(long, default_value = "/usr/share/atoll/desktop")]
    desktop: PathBuf,
    /// The store's templates
    #[arg(long, default_value = "/usr/share/atoll/templates")]
    templates: PathBuf,
    /// The Kubernetes API as accounts see it
    #[arg(long, default_value = "https://front.atoll-system.svc:6443")]
    front: String,
    /// The port of https as clients see it, for apps' addresses
    #[arg(long, default_value_t = 443)]
    public_https_port: u16,
}

/// Serves until it is asked to end.
pub async fn run(
    client: Client,
    arguments: Arguments,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let (index, directory) = Index::new();
    let verifier = Verifier::new(AUDIENCE);
    let store = Store::new(client.clone());
    let ledger = ledger::Ledger::open(&arguments.ledger).await?;
    let (counted, _) = broadcast::channel(256);

    let certificate = Certificate::load(&arguments.certificate)?;
    let accounts = Arc::new(accounts::Accounts::new(store.clone(), verifier.clone(), directory.clone())?);
    let (cloud, keep_cloud) = cloud::Cloud::new(
        client.clone(),
        accounts.clone(),
        directory.clone(),
        cloud::Config {
            front: arguments.front,
            authority: certificate.authority.iter().map(|one| one.to_vec()).collect(),
            templates: arguments.templates,
            https_port: arguments.public_https_port,
        },
        counted.clone(),
    )?;
    let workspaces = cloud.workspaces.clone();
    let backends = Backends {
        accounts: accounts.clone(),
        sessions: Arc::new(sessions::Sessions::load(client.clone(), store.clone()).await?),
        cloud: Arc::new(cloud),
        money: Arc::new(money::Money { ledger: ledger.clone(), workspaces }),
    };
    // Only the gateway reaches the port, which a policy sees to.
    let settings = Settings { trust_forwarded: true, ..Settings::default() };
    let server = Server::new(backends, settings, Files::load(&arguments.desktop)?);

    let bind = |address: SocketAddr| async move {
        tokio::net::TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
    };
    let (http, usage, admin) =
        (bind(arguments.http).await?, bind(arguments.usage).await?, bind(arguments.admin).await?);
    let people = server.router().into_make_service_with_connect_info::<SocketAddr>();
    let closing = server.clone();
    let people = axum::serve(http, people).with_graceful_shutdown(async move {
        stopped.await;
        closing.close();
    });
    let operators = axum::serve(admin, server.admin_router());
    tokio::select! {
        () = front::feed::run(client, index) => anyhow::bail!("the watches of accounts and workspaces ended"),
        () = store.keep_told(verifier) => anyhow::bail!("the watch of keys and revocations ended"),
        result = keep_cloud => result,
        result = ingest::run(usage, certificate, ledger, counted) => result,
        result = operators => result.context("serving operators"),
        result = people => result.context("serving people"),
    }
}
