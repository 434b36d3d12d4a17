//! The way from this machine's loopback into a cluster: one process per cluster
//! listens on 127.0.0.1 and hands each connection into the first node's network,
//! where the cluster's service addresses mean something.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::node;
use super::process::{self, Process};
use crate::{Error, Result};

/// What the forwarder is told, as `forward.json` in the cluster's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forwarding {
    /// The directory of the node whose network connections go into.
    pub node: PathBuf,
    /// Ports on 127.0.0.1 and where each leads.
    pub ports: Vec<(u16, SocketAddr)>,
}

fn settings_file(cluster: &Path) -> PathBuf {
    cluster.join("forward.json")
}

fn process_file(cluster: &Path) -> PathBuf {
    cluster.join("forward.pid")
}

/// The forwarder's process, when it runs.
pub fn running(cluster: &Path) -> Option<Process> {
    Process::load(&process_file(cluster))
}

/// Whether a port on 127.0.0.1 can be listened on.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Starts the forwarder, or starts it again when it is to forward something else.
pub fn ensure(cluster: &Path, forwarding: &Forwarding) -> Result<()> {
    let file = settings_file(cluster);
    let text = serde_json::to_vec_pretty(forwarding)
        .map_err(|source| Error::State { path: file.clone(), source })?;
    let unchanged = fs::read(&file).is_ok_and(|old| old == text);
    if unchanged && running(cluster).is_some() {
        return Ok(());
    }
    stop(cluster)?;
    crate::record::write_atomically(&file, &text, 0o600)?;
    let log = cluster.join("forward.log");
    let mut child = process::detach("atoll-forward", "forward", cluster, &log)?;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(10) {
        if running(cluster).is_some() {
            return Ok(());
        }
        if let Ok(Some(_)) = child.try_wait() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = fs::read_to_string(&log).unwrap_or_default();
    Err(Error::Command {
        command: "forwarding ports".into(),
        reason: said.lines().last().unwrap_or("it did not start in 10 s").to_string(),
    })
}

/// Ends the forwarder.
pub fn stop(cluster: &Path) -> Result<()> {
    match running(cluster) {
        Some(process) => process.end(Signal::SIGTERM, Duration::from_secs(5)),
        None => Ok(()),
    }
}

/// Asks for a socket in the node's network.
type Request = oneshot::Sender<Result<TcpSocket>>;

/// Forwards until it is ended. Runs as a process of its own.
pub async fn run(cluster: &Path) -> Result<()> {
    let _ = nix::unistd::setsid();
    let file = settings_file(cluster);
    let text = fs::read(&file).map_err(Error::file("reading", &file))?;
    let forwarding: Forwarding =
        serde_json::from_slice(&text).map_err(|source| Error::State { path: file, source })?;

    let mut listeners = Vec::new();
    for (port, target) in &forwarding.ports {
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port);
        let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
            Error::Input(format!("port {port} on 127.0.0.1 can't be used ({error}): choose another one"))
        })?;
        listeners.push((listener, *target));
    }
    let (sockets, requests) = mpsc::channel(64);
    let node = forwarding.node.clone();
    std::thread::spawn(move || make_sockets(&node, requests));
    if let Some(own) = Process::of(i32::try_from(std::process::id()).unwrap_or_default()) {
        own.save(&process_file(cluster))?;
    }
    let mut accepting = tokio::task::JoinSet::new();
    for (listener, target) in listeners {
        accepting.spawn(accept(listener, target, sockets.clone()));
    }
    while accepting.join_next().await.is_some() {}
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, target: SocketAddr, sockets: mpsc::Sender<Request>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let sockets = sockets.clone();
                tokio::spawn(async move {
                    if let Err(error) = carry(client, target, sockets).await {
                        tracing::debug!(%target, %error, "connection ended");
                    }
                });
            }
            // Out of descriptors, most likely: those in use will be given back.
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, sockets: mpsc::Sender<Request>) -> Result<()> {
    let failed = |reason: String| Error::Command { command: format!("connecting to {target}"), reason };
    let (request, answer) = oneshot::channel();
    sockets.send(request).await.map_err(|error| failed(error.to_string()))?;
    let socket = answer.await.map_err(|error| failed(error.to_string()))??;
    let connecting = tokio::time::timeout(Duration::from_secs(10), socket.connect(target));
    let mut server = connecting
        .await
        .map_err(|_| failed("no answer in 10 s".into()))?
        .map_err(|error| failed(error.to_string()))?;
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    tokio::io::copy_bidirectional(&mut client, &mut server)
        .await
        .map(|_| ())
        .map_err(|error| failed(error.to_string()))
}

/// Makes sockets in the node's network namespace: a socket belongs to the
/// namespace of the thread that made it, so one thread lives there. It follows
/// the node when that was started again.
fn make_sockets(node: &Path, mut requests: mpsc::Receiver<Request>) {
    let mut entered = None;
    while let Some(request) = requests.blocking_recv() {
        let answer = enter(node, &mut entered).and_then(|()| {
            TcpSocket::new_v4().map_err(Error::file("making", "a socket in the node's network"))
        });
        // Whoever asked may have gone away meanwhile.
        let _ = request.send(answer);
    }
}

fn enter(node: &Path, entered: &mut Option<Process>) -> Result<()> {
    let process = node::running(node).ok_or_else(|| Error::Machine {
        what: "the cluster's first node doesn't run".into(),
        remedy: "`atoll up` starts it".into(),
    })?;
    if *entered == Some(process) {
        return Ok(());
    }
    let path = format!("/proc/{}/ns/net", process.pid);
    let namespace = File::open(&path).map_err(Error::file("opening", path))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(Error::system("entering the node's network"))?;
    *entered = Some(process);
    Ok(())
}
