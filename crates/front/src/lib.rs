//! The Kubernetes API as one account may see it. Front authenticates by tokens
//! that need no database, sends requests on under the account's name, narrows
//! lists and watches of namespaces and workspaces to the account's own, and
//! streams the rest as it is.
//!
//! A request goes through [`headers`] (its token), [`caller`] (whose), [`request`]
//! (what it asks for), [`open`] (whether there is room), and `proxy`, which sends
//! it on by `upstream`. [`across`] puts lists over several namespaces together, and
//! `watching` is the one stream that is looked into. Start
//! reading at `proxy`.
//!
//! It must not know passwords, plans or money, and decides no right: RBAC does,
//! for the name that front gives. Only `feed` (feature `kube`) is a client of
//! Kubernetes for itself; what it hears of goes into [`directory`].

pub mod across;
mod admin;
pub mod body;
pub mod caller;
pub mod certificate;
pub mod directory;
pub mod error;
pub mod event;
#[cfg(feature = "kube")]
pub mod feed;
pub mod headers;
mod listen;
pub mod metrics;
pub mod open;
mod proxy;
pub mod refusal;
pub mod request;
pub mod upstream;
pub mod visible;
mod watching;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use identity::token::Verifier;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use certificate::Files;
pub use directory::Directory;
pub use error::Error;
use listen::Listener;
use metrics::Metrics;
pub use open::Limits;
use open::Open;
use proxy::Proxy;
pub use upstream::{Credentials, Upstream};

/// Tokens expire without anybody telling; this is how late that may be noticed
/// of a request under way.
const LOOK: Duration = Duration::from_secs(5);

/// How front serves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients come.
    pub https: SocketAddr,
    /// `/readyz` and `/metrics`, where tenants don't come.
    pub admin: SocketAddr,
    /// The certificate that clients are shown; read again as it is renewed.
    pub certificate: Files,
    /// The issuer that the cluster's ServiceAccount tokens name.
    pub issuer: String,
    /// How many requests one caller may have under way.
    pub limits: Limits,
    /// Connections at once; further ones wait.
    pub connections: usize,
    /// How long requests that are under way may take to finish after a stop.
    pub patience: Duration,
}

impl Config {
    /// The usual ports and limits.
    pub fn new(certificate: Files) -> Self {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        Self {
            https: any(6443),
            admin: any(9090),
            certificate,
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            limits: Limits::default(),
            connections: 4096,
            patience: Duration::from_secs(10),
        }
    }
}

/// Serves until `shutdown` is done, then lets requests finish: watches end at
/// once, in order, for their clients to begin them elsewhere.
///
/// # Errors
/// When front can't begin to serve.
pub async fn run(
    config: Config,
    upstream: Upstream,
    verifier: Arc<Verifier>,
    directory: Arc<dyn Directory>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let https = bind(config.https).await?;
    let admin = bind(config.admin).await?;
    serve(https, admin, config, upstream, verifier, directory, shutdown).await
}

/// The same on sockets that are bound already; `config`'s addresses don't count.
///
/// # Errors
/// When front can't begin to serve.
pub async fn serve(
    https: TcpListener,
    admin: TcpListener,
    config: Config,
    upstream: Upstream,
    verifier: Arc<Verifier>,
    directory: Arc<dyn Directory>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let metrics = Arc::new(Metrics::default());
    let proxy = Arc::new(Proxy {
        sender: upstream::Sender::new(&upstream)?,
        verifier,
        directory,
        issuer: config.issuer,
        open: Open::new(config.limits, metrics.clone()),
        metrics,
    });
    let shown = certificate::Shown::new(config.certificate)?;
    let listener = Arc::new(Listener {
        proxy: proxy.clone(),
        tls: listen::tls(shown.clone())?,
        connections: Arc::new(Semaphore::new(config.connections)),
        stopping: CancellationToken::new(),
        stopped: CancellationToken::new(),
        tasks: TaskTracker::new(),
    });
    let mut background = tokio::task::JoinSet::new();
    background.spawn(shown.keep_fresh());
    background.spawn(admin::serve(proxy.clone(), admin));
    background.spawn(sweep(proxy.clone()));
    let accepting = tokio::spawn(listener.clone().accept(https));
    tracing::info!(https = %config.https, upstream = upstream.address, "serving");

    shutdown.await;
    listener.stopping.cancel();
    proxy.open.stop();
    let _ = accepting.await;
    listener.tasks.close();
    if tokio::time::timeout(config.patience, listener.tasks.wait()).await.is_err() {
        tracing::warn!(connections = listener.tasks.len(), "connections are cut");
    }
    listener.stopped.cancel();
    listener.tasks.wait().await;
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Ends what may not go on, whenever something has changed.
async fn sweep(proxy: Arc<Proxy>) {
    let mut tokens = proxy.verifier.changes();
    let mut accounts = proxy.directory.changes();
    loop {
        tokio::select! {
            _ = tokens.changed() => {}
            _ = accounts.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        proxy.sweep();
    }
}
