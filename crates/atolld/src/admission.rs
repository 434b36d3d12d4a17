//! Admission: what is changed of pods in workspaces before they are stored, whether
//! what workspaces and members name is there, and whether there is room for what shared
//! quotas count.
//!
//! Nothing that it knows would be missed: what is named it asks the API server, and what
//! it reserves stands in the quotas. It registers itself once it listens, so that nobody
//! waits for somebody who was never there.

mod lookup;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use front::certificate::Shown;
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
use tenancy::admission::{self, Front, Question};
use tenancy::defaults;
use tenancy::quota::charge::Interest;
use tenancy::quota::gate::{self, Gate};
use tenancy::reference;
use tenancy::review::Review;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use lookup::Lookup;

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
    let authority = arguments.certificate.join("ca.crt");
    read_authority(&authority)?;
    let shown = Shown::new(front::Files {
        chain: arguments.certificate.join("tls.crt"),
        key: arguments.certificate.join("tls.key"),
    })?;
    let acceptor = acceptor(shown.clone());
    let bind = |address: SocketAddr| async move {
        TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
    };
    let (https, admin) = (bind(arguments.https).await?, bind(arguments.admin).await?);
    let (gate, watching) = gate::new(client.clone());
    let (lookup, looking) = Lookup::new(client.clone());
    let router = Router::new()
        .route(admission::PODS, post(async |state, review| ask(state, review, Question::Pods)))
        .route(admission::SUSPENDED, post(async |state, review| ask(state, review, Question::Suspended)))
        .with_state(Arc::new(front))
        .route(reference::PARENT, post(lookup::parent))
        .route(reference::LEAVING, post(lookup::leaving))
        .route(reference::OWNER, post(lookup::owner))
        .route(reference::ANOTHER, post(lookup::another))
        .route(reference::MEMBER, post(lookup::member))
        .route(defaults::PATH, post(lookup::defaults))
        .with_state(lookup)
        .route(gate::PATH, post(ask_for_room))
        .with_state(gate.clone())
        .layer(DefaultBodyLimit::max(LARGEST));
    let ready = Router::new().route("/readyz", get(async || "ready"));
    tokio::select! {
        () = stopped => Ok(()),
        result = serve(https, &acceptor, &router) => result,
        result = axum::serve(admin, ready) => result.context("serving readiness"),
        () = watching => anyhow::bail!("the watch of shared quotas ended: the process has to start again"),
        () = looking => anyhow::bail!("the watch of workspaces ended: the process has to start again"),
        () = shown.keep_fresh() => anyhow::bail!("nobody looks after the certificate: the process has to start again"),
        result = keep_registered(client, &authority, gate.interest()) => result,
    }
}

fn read_authority(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Greets with the certificate as it is when somebody comes.
fn acceptor(shown: Arc<Shown>) -> TlsAcceptor {
    TlsAcceptor::from(Arc::new(ServerConfig::builder().with_no_client_auth().with_cert_resolver(shown)))
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

async fn ask_for_room(State(gate): State<Arc<Gate>>, Json(review): Json<Review>) -> Json<Value> {
    Json(gate.answer(&review).await)
}

/// Registers, and looks now and then whether it still is; ends only with an error.
async fn keep_registered(
    client: Client,
    authority: &Path,
    mut interest: watch::Receiver<Interest>,
) -> anyhow::Result<()> {
    let changing: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let refusing: Api<ValidatingWebhookConfiguration> = Api::all(client);
    let parameters = PatchParams::apply("atoll-admission").force();
    let mut told = false;
    loop {
        // It may be renewed as well.
        let authority = read_authority(authority)?;
        let changes = Patch::Apply(admission::registration(&authority));
        let lookups = Patch::Apply(reference::registration(&authority));
        let quotas = Patch::Apply(gate::registration(&authority, &interest.borrow_and_update()));
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

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Writes a new certificate, and says what a client has to believe.
    fn renew(files: &front::Files) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["admission.test".to_owned()]).unwrap();
        std::fs::write(&files.chain, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()
    }

    async fn greets(address: SocketAddr, believed: &CertificateDer<'static>) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(believed.clone()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("admission.test").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.is_ok()
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_shown_by_a_server_that_runs() {
        // Another test may have chosen it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = std::env::temp_dir().join(format!("atoll-admission-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let files = front::Files { chain: folder.join("tls.crt"), key: folder.join("tls.key") };
        let first = renew(&files);
        let shown = Shown::new(files.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, router) = (acceptor(shown.clone()), Router::new());
        let server = tokio::spawn(async move { serve(listener, &acceptor, &router).await });
        assert!(greets(address, &first).await);
        let second = renew(&files);
        assert!(!greets(address, &second).await, "nobody has looked yet");
        shown.reload();
        assert!(greets(address, &second).await);
        assert!(!greets(address, &first).await);
        // Half written, the one before goes on.
        std::fs::write(&files.key, "").unwrap();
        shown.reload();
        assert!(greets(address, &second).await);
        server.abort();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
