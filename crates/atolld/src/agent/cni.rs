//! The node's network configuration: the CNI chain with the node's own range of
//! addresses, and pods let out to the world under the node's address. Both are
//! looked at again every minute, and put back when somebody removed them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::Arguments;

/// How often what was written is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How soon it is tried again when it failed.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// The file is the first by name in its folder, so that it is the one used.
const FILE: &str = "10-atoll.conflist";

/// Keeps it until the watch of the node ends.
pub async fn run(client: Client, arguments: &Arguments) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client);
    let own = watcher::Config::default().fields(&format!("metadata.name={}", arguments.node));
    let changes = watcher(nodes, own).default_backoff().applied_objects();
    pin_mut!(changes);
    let mut ranges = Vec::new();
    let mut pause = LOOK_AGAIN;
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(node)) => ranges = pod_ranges(&node),
                Some(Err(error)) => tracing::warn!(%error, "watching this node"),
                None => bail!("the watch of node {} ended", arguments.node),
            },
            () = tokio::time::sleep(pause) => {}
        }
        if ranges.is_empty() {
            continue;
        }
        pause = LOOK_AGAIN;
        if let Err(error) = ensure(arguments, &ranges) {
            tracing::error!(error = format!("{error:#}"), "setting up the node's network");
            pause = TRY_AGAIN;
        }
    }
}

/// The addresses that Kubernetes gave this node for its pods.
fn pod_ranges(node: &Node) -> Vec<String> {
    let ranges = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
    tracing::debug!(node = node.name_any(), ?ranges, "node changed");
    ranges
}

fn ensure(arguments: &Arguments, ranges: &[String]) -> anyhow::Result<()> {
    masquerade(&arguments.cluster_pods)?;
    // Last, because pods start as soon as it is there.
    let path = arguments.cni.join(FILE);
    let text = serde_json::to_vec_pretty(&configuration(ranges, &plugin(arguments)))?;
    if std::fs::read(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    write_atomically(&path, &text)?;
    tracing::info!(path = %path.display(), ?ranges, "wrote the CNI configuration");
    Ok(())
}

fn write_atomically(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text).with_context(|| format!("writing {}", partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("writing {}", path.display()))
}

/// The last of the chain: what judges and counts.
fn plugin(arguments: &Arguments) -> Value {
    network::Node::cni_entry(&network::Config {
        bpffs: arguments.bpffs.clone(),
        program: arguments.network_program_on_node.clone(),
    })
}

/// The CNI chain: a point-to-point link for each pod, so that pods share no
/// link layer they could spoof on, host ports, and our own plugin.
fn configuration(ranges: &[String], plugin: &Value) -> Value {
    let ranges: Vec<Value> = ranges.iter().map(|range| json!([{ "subnet": range }])).collect();
    json!({
        "cniVersion": "1.0.0",
        "name": "atoll",
        "plugins": [
            {
                "type": "ptp",
                "ipam": { "type": "host-local", "ranges": ranges, "routes": [{ "dst": "0.0.0.0/0" }] }
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
            plugin
        ]
    })
}

/// Gives what leaves the cluster's pods for elsewhere the node's address.
/// Between pods addresses stay as they are: policies and meters go by them.
fn masquerade(cluster_pods: &str) -> anyhow::Result<()> {
    let listed =
        Command::new("nft").args(["list", "table", "ip", "atoll"]).output().context("running nft")?;
    if listed.status.success() && String::from_utf8_lossy(&listed.stdout).contains(cluster_pods) {
        return Ok(());
    }
    let rules = format!(
        "add table ip atoll\ndelete table ip atoll\ntable ip atoll {{\n\
         chain postrouting {{ type nat hook postrouting priority srcnat;\n\
         ip saddr {cluster_pods} ip daddr != {cluster_pods} masquerade; }}\n}}\n"
    );
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running nft")?;
    nft.stdin.take().context("running nft")?.write_all(rules.as_bytes()).context("writing to nft")?;
    let output = nft.wait_with_output().context("running nft")?;
    if !output.status.success() {
        bail!("nft refused the masquerading rules: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    tracing::info!(cluster_pods, "masquerading what leaves the cluster");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_gives_addresses_of_the_nodes_own_range() {
        let text = configuration(&["10.244.3.0/24".into()], &json!({ "type": "atoll-cni" }));
        assert_eq!(text["plugins"][0]["type"], "ptp");
        assert_eq!(text["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.244.3.0/24");
        assert_eq!(text["plugins"][2]["type"], "atoll-cni", "it judges what the others made");
        assert!(text["plugins"][0].get("ipMasq").is_none(), "sources must stay visible");
    }

    #[test]
    fn a_node_without_a_range_is_waited_for() {
        assert!(pod_ranges(&Node::default()).is_empty());
    }
}
