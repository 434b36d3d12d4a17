//! Admission: what is changed of pods in workspaces before they are stored, whether
//! what workspaces and members name is there, and whether there is room for what shared
//! quotas count.
//!
//! Nothing that it knows would be missed: what is named it asks the API server, and what
//! it reserves stands in the quotas. It registers itself once it listens, so that nobody
//! waits for somebody who was never there.

mod lookup;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use rustls::ServerConfig;
use serde_json::Value;
use tenancy::admission::{self, Front, Question, Review};
use tenancy::quota::charge::Interest;
use tenancy::quota::gate::{self, Gate};
use tenancy::reference;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::certificate::Certificate;

/// The largest question: an object of Kubernetes' largest size, twice, and more.
const LARGEST: usize = 8 << 20;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the API server comes
    #[arg(long, default_value = "0.0.0.0:8443")]
    https: SocketAddr,
    /// Readiness
    #[arg(long, default_value = "0.0.0.0:9090")]
    admin: SocketAddr,
    /// The folder with the certificate that the API server is shown, and the
    /// authority that it comes from: tls.crt, tls.key and ca.crt
    #[arg(long)]
    certificate: PathBuf,
    /// Where pods reach the Kubernetes API
    #[arg(long, default_value = "front.atoll-system.svc:6443")]
    front: String,
}

/// Serves until it is asked to end.
pub async fn run(
    client: Client,
    arguments: Arguments,
    stopped: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (host, port) = arguments.front.rsplit_once(':').context("--front is HOST:PORT")?;
    let front = Front {
        host: host.into(),
        port: port.parse().context("--front is HOST:PORT")?,
        authority: tenancy::desired::AUTHORITY.into(),
    };
    let path = arguments.certificate.join("ca.crt");
    let authority = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let Certificate { chain, key, .. } = Certificate::load(&arguments.certificate)?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let bind = |address: SocketAddr| async move {
        TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
    };
    let (https, admin) = (bind(arguments.https).await?, bind(arguments.admin).await?);
    let (gate, watching) = gate::new(client.clone());
    let router = Router::new()
        .route(admission::PODS, post(async |state, review| ask(state, review, Question::Pods)))
        .route(admission::SUSPENDED, post(async |state, review| ask(state, review, Question::Suspended)))
        .with_state(Arc::new(front))
        .route(reference::PARENT, post(lookup::parent))
        .route(reference::LEAVING, post(lookup::leaving))
        .route(reference::MEMBER, post(lookup::member))
        .with_state(client.clone())
        .route(gate::PATH, post(ask_for_room))
        .with_state(gate.clone())
        .layer(DefaultBodyLimit::max(LARGEST));
    let ready = Router::new().route("/readyz", get(async || "ready"));
    tokio::select! {
        () = stopped => Ok(()),
        result = serve(https, &acceptor, &router) => result,
        result = axum::serve(admin, ready) => result.context("serving readiness"),
        () = watching => anyhow::bail!("the watch of shared quotas ended: the process has to start again"),
        result = keep_registered(client, &authority, gate.interest()) => result,
    }
}

fn ask(State(front): State<Arc<Front>>, Json(review): Json<Review>, question: Question) -> Json<Value> {
    Json(admission::answer(&review, question, &front))
}

async fn serve(listener: TcpListener, acceptor: &TlsAcceptor, router: &Router) -> anyhow::Result<()> {
    loop {
        let (stream, address) = listener.accept().await.context("accepting the API server")?;
        let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(router.clone()));
        tokio::spawn(async move {
            let stream = match tokio::time::timeout(Duration::from_secs(5), acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%address, %error, "a connection was not greeted"),
                Err(_) => return tracing::debug!(%address, "a connection took too long to greet"),
            };
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new());
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%address, %error, "a connection ended");
            }
        });
    }
}

async fn ask_for_room(State(gate): State<Arc<Gate>>, Json(review): Json<gate::Review>) -> Json<Value> {
    Json(gate.answer(&review).await)
}

/// Registers, and looks now and then whether it still is; ends only with an error.
async fn keep_registered(
    client: Client,
    authority: &str,
    mut interest: watch::Receiver<Interest>,
) -> anyhow::Result<()> {
    let changing: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let refusing: Api<ValidatingWebhookConfiguration> = Api::all(client);
    let changes = Patch::Apply(admission::registration(authority));
    let lookups = Patch::Apply(reference::registration(authority));
    let parameters = PatchParams::apply("atoll-admission").force();
    let mut told = false;
    loop {
        let quotas = Patch::Apply(gate::registration(authority, &interest.borrow_and_update()));
        let registered = async {
            changing.patch(admission::NAME, &parameters, &changes).await?;
            refusing.patch(admission::NAME, &parameters, &lookups).await?;
            refusing.patch(gate::NAME, &parameters, &quotas).await
        };
        match registered.await {
            Ok(_) if told => {}
            Ok(_) => {
                told = true;
                tracing::info!("the API server asks here");
            }
            Err(error) => tracing::warn!(%error, "registering; trying again"),
        }
        let pause = Duration::from_secs(if told { 60 } else { 2 });
        // Other quotas may count other kinds.
        if let Ok(Err(_)) = tokio::time::timeout(pause, interest.changed()).await {
            anyhow::bail!("nobody tells of shared quotas any more");
        }
    }
}
