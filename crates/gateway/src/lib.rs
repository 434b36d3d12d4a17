//! The cloud's front door: serves Ingress and HTTPRoute by host and path, with
//! TLS, straight to the endpoints. One object's change costs that object's work
//! and no running request.
//!
//! Data flows one way: [`watch`] hears of objects, [`object`] trims them,
//! [`index`] applies each to the [`table`], and [`proxy`] looks requests up in
//! it, on connections that [`listen`] has accepted. Start reading at [`index`].
//!
//! It must not know of accounts, plans or money; it writes nothing to the
//! Kubernetes API (status is the controller's); and below [`watch`] nothing
//! knows that there is an API server.

pub mod access;
mod admin;
pub mod affinity;
pub mod annotation;
mod authority;
pub mod backend;
pub mod certificate;
pub mod challenge;
pub mod check;
pub mod client;
pub mod client_auth;
mod compress;
pub mod cors;
mod decided;
pub mod entrance;
pub mod error;
mod expression;
pub mod extra;
pub mod few;
pub mod gateway_api;
mod head;
mod header;
mod id;
pub mod index;
pub mod lean;
pub mod listen;
pub mod metrics;
mod mirror;
pub mod object;
mod page;
pub mod password;
pub mod pem;
mod ports;
mod proxy;
mod proxy_protocol;
pub mod rare;
pub mod rate;
pub mod retry;
pub mod route;
mod screen;
pub mod snapshot;
mod stream;
pub mod table;
pub mod tenant;
mod trace;
pub mod traffic;
mod tunnel;
mod upgrade;
pub mod upstream_tls;
pub mod watch;

use std::collections::HashSet;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use access::AccessLog;
pub use error::Error;
use index::{Index, Scope};
use listen::{Options, Server};
use metrics::Metrics;
use object::{Id, Kind};
use snapshot::Snapshot;
use table::Table;
use watch::{Change, Heard};

/// How long requests that are under way may take to finish after a stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// The snapshot is written at most this often.
const SNAPSHOT: Duration = Duration::from_secs(3);
/// Writing it is one part of so many of the time: it holds every object, however
/// few have changed.
const SNAPSHOT_SHARE: u32 = 20;
/// Changes that wait to be applied; a full channel slows the watches down.
const WAITING: usize = 256;

#[derive(Debug, Clone)]
pub struct Config {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub admin: SocketAddr,
    /// The port of `https://` as clients see it, for redirects.
    pub public_https_port: u16,
    /// The directory of the snapshot; None: there is none.
    pub snapshot: Option<PathBuf>,
    pub system_namespace: String,
    /// The Secret, in the system's namespace, that is served where a host has none.
    pub default_certificate: String,
    /// The names of the IngressClasses that are ours; an Ingress without one is.
    pub ingress_classes: Vec<String>,
    /// The controller's name in GatewayClasses.
    pub controller: String,
    /// What a workspace may take of this gateway.
    pub workspace_limits: tenant::Limits,
    /// Whose connections begin with a PROXY header, which says who the client is.
    pub proxy_protocol_from: Vec<IpNet>,
    /// The zone of the node, whose endpoints are preferred where these say so.
    pub node_zone: Option<String>,
    /// Whether answers are compressed where nothing else is said of a route.
    pub compress: bool,
    /// Whether each request is told of on the standard output.
    pub access_log: bool,
}

impl Default for Config {
    fn default() -> Self {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        Self {
            http: any(8080),
            https: any(8443),
            admin: any(9090),
            public_https_port: 443,
            snapshot: None,
            system_namespace: api::names::SYSTEM_NAMESPACE.to_owned(),
            default_certificate: api::names::GATEWAY_CERTIFICATE.to_owned(),
            ingress_classes: api::names::INGRESS_CLASSES.map(str::to_owned).into(),
            controller: api::names::GATEWAY_CONTROLLER.to_owned(),
            workspace_limits: tenant::Limits::default(),
            proxy_protocol_from: Vec::new(),
            node_zone: None,
            compress: false,
            access_log: false,
        }
    }
}

/// Serves until `shutdown` is done, then lets requests finish.
pub async fn run(
    client: kube::Client,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let table = Arc::new(Table::default());
    let metrics = Arc::new(Metrics::default());
    let options = Options {
        https_port: config.public_https_port,
        balancers: config.proxy_protocol_from,
        compress: config.compress,
        access_log: if config.access_log { Some(AccessLog::to_stdout(metrics.clone())?) } else { None },
    };
    let server = Server::with(table.clone(), metrics.clone(), options)?;
    let scope = Scope {
        ingress_classes: config.ingress_classes,
        controller: config.controller,
        default_certificate: Id::new(config.system_namespace.clone(), config.default_certificate),
        default_gateway: Id::new(config.system_namespace.clone(), api::names::DEFAULT_GATEWAY),
        workspace_limits: config.workspace_limits,
        node_zone: config.node_zone,
    };
    let mut index = Index::new(scope, table.clone());
    let http = bind(config.http).await?;
    let https = bind(config.https).await?;
    let admin_listener = bind(config.admin).await?;
    tracing::info!(http = %config.http, https = %config.https, admin = %config.admin, "listening");

    let snapshot = config.snapshot.map(Snapshot::new);
    let loaded = load(snapshot.as_ref(), &mut index);
    let admin = Arc::new(admin::Admin {
        table,
        metrics: metrics.clone(),
        ready: AtomicBool::new(false),
        epoch: epoch()?,
    });
    let admin_task = tokio::spawn(admin.clone().serve(admin_listener));

    let (to, from) = mpsc::channel(WAITING);
    let watches = watch::start(&client, &Kind::ALL, &to);
    let users = watch::Users::new(&client, &to);
    let challenges = watch::challenges(client.clone(), config.system_namespace, admin.table.clone());
    let challenges = tokio::spawn(challenges);
    drop(to);
    let (synced, is_synced) = tokio::sync::oneshot::channel();
    // On a thread of its own: a change that concerns much holds no request up, and
    // what is kept doesn't share its memory's pages with what comes and goes.
    let handle = tokio::runtime::Handle::current();
    let applying = tokio::task::spawn_blocking(move || {
        handle.block_on(apply(index, from, snapshot, metrics, (synced, users)));
    });

    // Until it is known what to serve, connections wait in the sockets' queues
    // rather than being told that there is nothing.
    let opened = async {
        if !loaded {
            let _ = is_synced.await;
        }
        let listen = |listener, address, tls| {
            server.listen(listener, Some(tls)).map_err(|source| Error::Listen { address, source })
        };
        let open = (listen(http, config.http, false)?, listen(https, config.https, true)?);
        admin.ready.store(true, Ordering::Release);
        tracing::info!(hosts = admin.table.hosts.len(), from_snapshot = loaded, "serving");
        let shared = [config.http.port(), config.https.port()];
        ports::keep_open(&server, &admin.table, config.http.ip(), &shared).await;
        drop(open);
        Ok(())
    };
    let result = tokio::select! {
        result = opened => result,
        () = shutdown => Ok(()),
    };
    admin.ready.store(false, Ordering::Release);
    server.drain(PATIENCE).await;
    // The last changes are saved before the channel's end is reached.
    drop(watches);
    if let Err(error) = applying.await {
        tracing::warn!(%error, "the index did not end in order");
    }
    admin_task.abort();
    challenges.abort();
    result
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Whether there was a snapshot to serve from.
fn load(snapshot: Option<&Snapshot>, index: &mut Index) -> bool {
    match snapshot.map(Snapshot::load) {
        None | Some(Ok(None)) => false,
        Some(Ok(Some(mut objects))) => {
            let count = objects.len();
            // What others refer to is there before them, but for users: only those that
            // an Ingress wants are taken.
            objects.sort_by_key(|object| (object.kind() == Kind::Users, object.kind().refers()));
            objects.into_iter().for_each(|object| index.apply(object));
            tracing::info!(objects = count, "serving from the snapshot until the watches are in sync");
            true
        }
        Some(Err(error)) => {
            tracing::warn!(%error, "the snapshot is not used");
            false
        }
    }
}

/// Owns the index: applies changes as they come and saves what has changed.
async fn apply(
    mut index: Index,
    mut changes: mpsc::Receiver<Heard>,
    snapshot: Option<Snapshot>,
    metrics: Arc<Metrics>,
    (synced, mut users): (tokio::sync::oneshot::Sender<()>, watch::Users),
) {
    let mut missing: HashSet<Kind> = Kind::ALL.into_iter().collect();
    let mut synced = Some(synced);
    let mut saved = index.generation();
    let mut writing: Option<JoinHandle<Duration>> = None;
    let mut not_before = Instant::now();
    let mut tick = tokio::time::interval(SNAPSHOT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            heard = changes.recv() => {
                let Some((change, at)) = heard else { break };
                match change {
                    Change::Apply(object) => {
                        index.apply(*object);
                        metrics.effect(at.elapsed());
                    }
                    Change::Delete(kind, id) => {
                        index.delete(kind, &id);
                        metrics.effect(at.elapsed());
                    }
                    Change::Listed(kind, listed) => {
                        index.retain(kind, &listed);
                        missing.remove(&kind);
                    }
                    Change::Absent(kind) => {
                        missing.remove(&kind);
                    }
                }
                users.keep(&index);
                if missing.is_empty() && let Some(synced) = synced.take() {
                    let _ = synced.send(());
                }
            }
            // What is not in sync yet would replace a fuller snapshot.
            _ = tick.tick(), if missing.is_empty() => {
                if let Some(written) = writing.take_if(|writing| writing.is_finished()) {
                    not_before = Instant::now() + written.await.unwrap_or_default() * SNAPSHOT_SHARE;
                }
                // Changes don't wait for the disk.
                if writing.is_none() && Instant::now() >= not_before {
                    writing = save(&index, &mut saved, snapshot.as_ref());
                }
            }
        }
    }
    if let Some(writing) = writing {
        let _ = writing.await;
    }
    if missing.is_empty()
        && let Some(writing) = save(&index, &mut saved, snapshot.as_ref())
    {
        let _ = writing.await;
    }
}

/// Begins to write what has changed; in the end, how long that took.
fn save(index: &Index, saved: &mut u64, snapshot: Option<&Snapshot>) -> Option<JoinHandle<Duration>> {
    let snapshot = snapshot.filter(|_| *saved != index.generation())?.clone();
    *saved = index.generation();
    let objects = index.objects();
    Some(tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        if let Err(error) = snapshot.save(&objects) {
            tracing::warn!(%error, "the snapshot was not written");
        }
        started.elapsed()
    }))
}

/// Like no other process's.
fn epoch() -> Result<String, Error> {
    let mut random = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random)
        .map_err(|_| Error::NoRandomness)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
