//! Measures what the pods of this node use, and brings it to the server.
//!
//! A tick every few seconds looks at the cgroups and writes down what it saw; a minute
//! that is over is sent once it is written down, and sent until it was taken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use api::names::WORKSPACE_LABEL;
use api::usage::{Meter, UsageBatch};
use http::Request;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use metering::cgroup::Hierarchy;
use metering::{Recorder, Sample, file};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::Arguments;
use super::cluster::{Cluster, is_over};
use super::gateways::Gateways;
use super::network::DataPath;
use crate::certificate::Certificate;
use crate::server::ingest;

/// How often pods are looked at. What a pod uses between the last look and its
/// end is not seen.
const LOOK: Duration = Duration::from_secs(2);
/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// The most facts in a batch.
const MOST: usize = 20_000;
/// The name on the server's certificate.
const SERVER: &str = "server.atoll-system.svc";

/// The pods of workspaces that run on the node.
fn metered(cluster: &Cluster, node: &str) -> BTreeMap<String, metering::Pod> {
    let pods = cluster.pods.state();
    let metered = pods.iter().filter(|pod| is_on(pod, node) && !is_over(pod)).filter_map(|pod| {
        let workspace = pod.namespace()?;
        let payer = payer(cluster, &workspace)?;
        let uid = pod.uid()?;
        let metered = metering::Pod { uid: uid.clone(), name: pod.name_any(), workspace, payer };
        Some((uid, metered))
    });
    metered.collect()
}

/// Who pays for what is used in a namespace, if it is a workspace's.
pub(super) fn payer(cluster: &Cluster, namespace: &str) -> Option<String> {
    let namespace = cluster.namespaces.get(&ObjectRef::new(namespace))?;
    let workspace = namespace.labels().get(WORKSPACE_LABEL)?;
    Some(cluster.workspaces.get(&ObjectRef::new(workspace))?.spec.owner.clone())
}

pub(super) fn is_on(pod: &Pod, node: &str) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node)
}

/// Measures and sends.
pub async fn run(cluster: &Cluster, arguments: &Arguments, path: &DataPath) -> anyhow::Result<()> {
    cluster.ready().await?;
    let hierarchy = Hierarchy::find(&arguments.cgroups)
        .with_context(|| format!("{} holds no cgroups", arguments.cgroups.display()))?;
    std::fs::create_dir_all(&arguments.state)
        .with_context(|| format!("creating {}", arguments.state.display()))?;
    let state = arguments.state.join("usage.json");
    let epoch = || format!("{}-{:016x}", identity::now(), rand::random::<u64>());
    let mut recorder = file::load(&state, epoch)?;
    let mut gateways = Gateways::load(arguments.state.join("gateways.json"), epoch)?;
    let Certificate { chain, key, roots, .. } = Certificate::load(&arguments.certificate)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
    let connector = TlsConnector::from(Arc::new(config));

    // What ended while nobody looked held its memory until it was last seen.
    let running = metered(cluster, &arguments.node);
    for uid in recorder.running().iter().filter(|uid| !running.contains_key(*uid)) {
        recorder.end(uid, 0);
    }
    let mut minute = identity::now() / 60_000;
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let time = identity::now();
        let gone = look(&mut recorder, cluster, &arguments.node, &hierarchy, path, time)?;
        gateways.look(cluster, &arguments.node, time).await;
        let is_over = time / 60_000 > minute;
        if is_over {
            recorder.close(minute);
            gateways.close(minute)?;
            minute = time / 60_000;
        }
        // What pods hold is known from one look to the next alone: whoever is started after
        // this process has died goes on from here. It is written down before the kernel
        // forgets who has gone, and before it is sent: what was sent is never told
        // otherwise after a crash.
        file::save(&state, &recorder)?;
        gone.iter().try_for_each(|uid| path.forget(uid))?;
        if !is_over {
            continue;
        }
        for recorder in [&mut recorder, gateways.recorder()] {
            deliver(recorder, &connector, arguments).await;
        }
        file::save(&state, &recorder)?;
        gateways.save()?;
    }
}

/// Sends what waits, until all was taken or something wasn't.
async fn deliver(recorder: &mut Recorder, connector: &TlsConnector, arguments: &Arguments) {
    while let Some((batch, last)) = recorder.batch(&arguments.cluster, &arguments.node, MOST) {
        match tokio::time::timeout(ANSWER, send(connector, arguments.server, &batch)).await {
            Ok(Ok(())) => recorder.taken(last),
            Ok(Err(error)) => {
                tracing::warn!(error = format!("{error:#}"), "usage was not taken; it is kept");
                break;
            }
            Err(_) => {
                tracing::warn!("the server did not answer; usage is kept");
                break;
            }
        }
    }
}

/// Takes note of what all pods have used; returns those whose final counts were
/// taken.
fn look(
    recorder: &mut Recorder,
    cluster: &Cluster,
    node: &str,
    hierarchy: &Hierarchy,
    path: &DataPath,
    time: u64,
) -> anyhow::Result<Vec<String>> {
    let metered = metered(cluster, node);
    let mut counters = path.counters()?;
    for pod in metered.values() {
        let mut sample =
            Sample { counters: counters.remove(&pod.uid).unwrap_or_default(), memory_bytes: None };
        // It may have no cgroup yet, or none any more.
        if let Some(usage) = hierarchy.usage(&pod.uid) {
            sample.counters.insert(Meter::CpuMicroseconds, usage.cpu_microseconds);
            sample.memory_bytes = Some(usage.memory_bytes);
        }
        recorder.see(pod, &sample, time);
    }
    let pods = cluster.pods.state();
    let alive: BTreeSet<String> =
        pods.iter().filter(|pod| is_on(pod, node)).filter_map(|pod| pod.uid()).collect();
    let ended = path.ended(&alive)?;
    for (uid, counters) in &ended {
        // What went by after the last look.
        recorder.see_ended(uid, &Sample { counters: counters.clone(), memory_bytes: None }, time);
    }
    for uid in recorder.running().iter().filter(|uid| !metered.contains_key(*uid)) {
        // Its link may still be there, and with it counts.
        if !counters.contains_key(uid) || ended.contains_key(uid) {
            recorder.end(uid, time);
        }
    }
    Ok(ended.into_keys().collect())
}

async fn send(connector: &TlsConnector, server: SocketAddr, batch: &UsageBatch) -> anyhow::Result<()> {
    let body = serde_json::to_vec(batch)?;
    let stream =
        tokio::net::TcpStream::connect(server).await.with_context(|| format!("reaching {server}"))?;
    let stream =
        connector.connect(ServerName::try_from(SERVER)?, stream).await.context("greeting the server")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(ingest::PATH)
        .header(http::header::HOST, SERVER)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(bytes::Bytes::from(body)))?;
    let answer = async {
        let answer = sender.send_request(request).await;
        drop(sender);
        answer
    };
    let (answer, ended) = tokio::join!(answer, connection);
    let answer = answer?;
    if let Err(error) = ended {
        tracing::debug!(%error, "the connection to the server ended");
    }
    if !answer.status().is_success() {
        bail!("the server said {}", answer.status());
    }
    Ok(())
}
