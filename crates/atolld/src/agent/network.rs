//! Keeps the node's data path told of who is where, and reads what it counted.
//!
//! The programs in the kernel judge and count while the agent is away; what it
//! tells them is what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use api::names::WORKSPACE_LABEL;
use api::peering::{Opened, PEERS_ANNOTATION, PortProtocol, opened};
use api::usage::Meter;
use k8s_openapi::api::core::v1::{Node as KubeNode, Pod};
use kube::ResourceExt;
use network::{Class, DesiredState, Direction, Granted, Node, NodeState, Owner, PodState, Protocol};

use super::Arguments;
use super::cluster::{Cluster, is_over};

/// Annotation on the cluster's own pods: the ports that tenants may reach, such as
/// `8443/TCP,53/UDP,20000-20255/TCP`.
const OPEN_PORTS: &str = "atoll.dev/open-ports";
/// Changes that come together are told together.
const GATHER: Duration = Duration::from_millis(20);
/// How soon it is tried again when the kernel refused.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The node's data path, shared with the meter.
#[derive(Clone)]
pub struct DataPath(Arc<Mutex<Node>>);

impl DataPath {
    /// Puts the plugin and the programs where the container runtime finds them, and
    /// opens what an earlier agent left.
    pub fn open(arguments: &Arguments) -> anyhow::Result<Self> {
        install(&arguments.network_program, &arguments.network_program_on_node)?;
        install(&arguments.cni_plugin, &arguments.cni_plugin_on_node)?;
        let config =
            network::Config { bpffs: arguments.bpffs.clone(), program: arguments.network_program.clone() };
        Ok(Self(Arc::new(Mutex::new(Node::open(&config)?))))
    }

    fn lock(&self) -> MutexGuard<'_, Node> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the kernel counted, by pod UID.
    pub fn counters(&self) -> anyhow::Result<BTreeMap<String, BTreeMap<Meter, u64>>> {
        let readings = self.lock().readings()?;
        Ok(readings.into_iter().map(|reading| (reading.uid, meters(&reading.counts))).collect())
    }

    /// The final counts of pods that are gone; [`Self::forget`] them when they are
    /// safe.
    pub fn ended(&self, alive: &BTreeSet<String>) -> anyhow::Result<BTreeMap<String, BTreeMap<Meter, u64>>> {
        let readings = self.lock().collect_ended(alive)?;
        Ok(readings.into_iter().map(|reading| (reading.uid, meters(&reading.counts))).collect())
    }

    /// Frees what is kept of a pod that is gone.
    pub fn forget(&self, uid: &str) -> anyhow::Result<()> {
        self.lock().forget(uid)?;
        Ok(())
    }
}

fn meters(counts: &network::Counts) -> BTreeMap<Meter, u64> {
    let bytes = |direction, classes: &[Class]| {
        classes.iter().map(|class| counts.get(direction, *class).bytes).sum::<u64>()
    };
    let inside = [Class::Workspace, Class::Cluster];
    BTreeMap::from([
        (Meter::InternetSentBytes, bytes(Direction::Sent, &[Class::Internet])),
        (Meter::InternetReceivedBytes, bytes(Direction::Received, &[Class::Internet])),
        (Meter::ClusterSentBytes, bytes(Direction::Sent, &inside)),
        (Meter::ClusterReceivedBytes, bytes(Direction::Received, &inside)),
    ])
}

/// Copies a program to the node, if another one is there.
fn install(from: &Path, to: &Path) -> anyhow::Result<()> {
    let content = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let partial = to.with_extension("partial");
    std::fs::copy(from, &partial).with_context(|| format!("writing {}", partial.display()))?;
    std::fs::rename(&partial, to).with_context(|| format!("writing {}", to.display()))?;
    tracing::info!(path = %to.display(), "installed");
    Ok(())
}

/// Tells the kernel of every change.
pub async fn run(cluster: &Cluster, arguments: &Arguments, path: &DataPath) -> anyhow::Result<()> {
    cluster.ready().await?;
    let mut pause = Duration::ZERO;
    loop {
        tokio::time::sleep(pause).await;
        let state = desired(arguments, cluster)?;
        match path.lock().apply(&state) {
            Ok(0) => {}
            Ok(entries) => tracing::debug!(entries, "told the kernel what changed"),
            Err(error) => {
                tracing::error!(%error, "telling the kernel who is where");
                pause = TRY_AGAIN;
                continue;
            }
        }
        cluster.changed().await;
        pause = GATHER;
    }
}

fn desired(arguments: &Arguments, cluster: &Cluster) -> anyhow::Result<DesiredState> {
    let ranges = |texts: &[String]| {
        let parsed = texts.iter().map(|text| text.parse().with_context(|| format!("{text} is no range")));
        parsed.collect::<anyhow::Result<Vec<_>>>()
    };
    Ok(DesiredState {
        namespaces: cluster
            .namespaces
            .state()
            .iter()
            .map(|namespace| {
                let name = namespace.name_any();
                let owner = match namespace.labels().contains_key(WORKSPACE_LABEL) {
                    true => Owner::Workspace(name.clone()),
                    false => Owner::System,
                };
                (name, owner)
            })
            .collect(),
        pods: pods(cluster),
        nodes: cluster.nodes.state().iter().map(|node| node_state(node)).collect(),
        pod_ranges: ranges(std::slice::from_ref(&arguments.cluster_pods))?,
        service_ranges: ranges(&arguments.services)?,
        reserved: ranges(&arguments.reserved)?,
    })
}

/// All pods with addresses of their own, and what their workspaces let others reach.
fn pods(cluster: &Cluster) -> Vec<PodState> {
    let namespaces = cluster.namespaces.state();
    let peers: BTreeMap<String, Vec<Opened>> = namespaces
        .iter()
        .filter(|namespace| namespace.labels().contains_key(WORKSPACE_LABEL))
        .filter_map(|namespace| {
            Some((namespace.name_any(), opened(namespace.annotations().get(PEERS_ANNOTATION)?)))
        })
        .collect();
    let state = |pod: &Pod| {
        let peers = pod.namespace().and_then(|namespace| peers.get(&namespace));
        pod_state(pod, peers.map(Vec::as_slice).unwrap_or_default())
    };
    cluster.pods.state().iter().filter_map(|pod| state(pod)).collect()
}

/// What of a pod with these labels others may reach.
fn granted(labels: &BTreeMap<String, String>, opened: &[Opened]) -> Vec<Granted> {
    let mut all = Vec::new();
    for Opened { from, allow } in opened {
        for allowed in allow.iter().filter(|allowed| allowed.chooses(labels)) {
            if allowed.ports.is_empty() {
                all.push(Granted { from: from.clone(), port: None });
            }
            all.extend(allowed.ports.iter().map(|port| {
                let protocol = match port.protocol {
                    PortProtocol::Tcp => Protocol::Tcp,
                    PortProtocol::Udp => Protocol::Udp,
                };
                Granted { from: from.clone(), port: Some((protocol, port.port)) }
            }));
        }
    }
    all
}

/// A pod with addresses of its own.
fn pod_state(pod: &Pod, opened: &[Opened]) -> Option<PodState> {
    let status = pod.status.as_ref()?;
    let on_node = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    if on_node || is_over(pod) {
        return None;
    }
    let addresses: Vec<_> =
        status.pod_ips.iter().flatten().filter_map(|address| address.ip.parse().ok()).collect();
    if addresses.is_empty() {
        return None;
    }
    let open = pod.annotations().get(OPEN_PORTS).map(|text| open_ports(text)).unwrap_or_default();
    let names = pod.labels().get("k8s-app").is_some_and(|app| app == "kube-dns");
    let open = if names { vec![(Protocol::Udp, 53), (Protocol::Tcp, 53)] } else { open };
    Some(PodState { namespace: pod.namespace()?, addresses, open, granted: granted(pod.labels(), opened) })
}

/// The ports of an annotation; what isn't one stays closed.
fn open_ports(text: &str) -> Vec<(Protocol, u16)> {
    let ports = |word: &str| {
        let (ports, protocol) = word.trim().split_once('/')?;
        let protocol = match protocol {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            _ => return None,
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        Some((first..=last).map(move |port| (protocol, port)))
    };
    text.split(',').filter_map(ports).flatten().collect()
}

fn node_state(node: &KubeNode) -> NodeState {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let ranges = node.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten());
    NodeState {
        addresses: addresses.filter_map(|address| address.address.parse().ok()).collect(),
        pod_ranges: ranges.filter_map(|range| range.parse().ok()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_none_stay_closed() {
        let open = open_ports("8443/TCP, 53/UDP,9090,http/TCP,70000/TCP,1/SCTP");
        assert_eq!(open, [(Protocol::Tcp, 8443), (Protocol::Udp, 53)]);
        assert_eq!(open_ports("20000-20001/TCP"), [(Protocol::Tcp, 20000), (Protocol::Tcp, 20001)]);
        assert!(open_ports("20001-20000/TCP,1-70000/TCP,1-/TCP,-/TCP").is_empty());
    }

    #[test]
    fn what_is_opened_is_opened_of_the_pods_that_are_chosen() {
        let told = r#"[{"from": "a-x", "allow": [
            {"podSelector": {"matchLabels": {"app": "web"}}, "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]},
            {"podSelector": {"matchLabels": {"app": "db"}}}]}]"#;
        let of = |app: &str| {
            let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
            granted(&labels, &opened(told)).into_iter().map(|one| (one.from, one.port)).collect::<Vec<_>>()
        };
        let from = || "a-x".to_owned();
        assert_eq!(of("web"), [(from(), Some((Protocol::Tcp, 80))), (from(), Some((Protocol::Udp, 53)))]);
        assert_eq!(of("db"), [(from(), None)]);
        assert!(of("other").is_empty());
    }

    #[test]
    fn pods_without_an_address_of_their_own_are_left_out() {
        let pod = |value| serde_json::from_value::<Pod>(value).unwrap();
        let spec = serde_json::json!({ "containers": [], "hostNetwork": true });
        let status = serde_json::json!({ "podIPs": [{ "ip": "10.0.0.1" }] });
        assert!(pod_state(&pod(serde_json::json!({ "spec": spec, "status": status })), &[]).is_none());
        let over = serde_json::json!({ "phase": "Succeeded", "podIPs": [{ "ip": "10.0.0.1" }] });
        assert!(pod_state(&pod(serde_json::json!({ "status": over })), &[]).is_none());
        let metadata = serde_json::json!({ "namespace": "a" });
        let plain = pod(serde_json::json!({ "metadata": metadata, "status": status }));
        assert_eq!(pod_state(&plain, &[]).unwrap().addresses.len(), 1);
    }
}
