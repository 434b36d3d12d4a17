//! What a cluster still lacks before everything in it is ready, in words.

use std::fmt;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde::Serialize;

use crate::progress::Progress;
use crate::{Error, Result};

/// The namespaces whose workloads make up the cluster itself.
const NAMESPACES: [&str; 2] = ["kube-system", api::names::SYSTEM_NAMESPACE];

/// One part of the cluster and whether it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What it is, such as `Deployment kube-system/coredns`.
    pub name: String,
    /// How many are ready of how many.
    pub ready: i32,
    /// How many there should be.
    pub wanted: i32,
    /// Why others wait for it, though it is ready: a node that takes no more pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Part {
    /// Whether nothing is missing.
    pub fn is_ready(&self) -> bool {
        self.ready >= self.wanted
    }
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({}/{})", self.name, self.ready, self.wanted)?;
        self.note.iter().try_for_each(|note| write!(out, ": {note}"))
    }
}

/// Every part of the cluster itself.
pub async fn parts(client: &Client) -> Result<Vec<Part>> {
    let all = ListParams::default();
    let mut parts = Vec::new();
    let nodes = Api::<Node>::all(client.clone()).list(&all).await;
    for node in nodes.map_err(Error::kubernetes("listing nodes"))? {
        parts.push(of_node(&node));
    }
    for namespace in NAMESPACES {
        let sets = Api::<DaemonSet>::namespaced(client.clone(), namespace).list(&all).await;
        parts.extend(sets.map_err(Error::kubernetes("listing daemon sets"))?.iter().map(of_daemon_set));
        let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&all).await;
        let pods = pods.map_err(Error::kubernetes("listing pods"))?;
        parts.extend(pods.iter().filter(|pod| is_static(pod)).map(of_pod));
        let deployments = Api::<Deployment>::namespaced(client.clone(), namespace).list(&all).await;
        let deployments = deployments.map_err(Error::kubernetes("listing deployments"))?;
        parts.extend(deployments.iter().map(of_deployment));
    }
    Ok(parts)
}

fn of_node(node: &Node) -> Part {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    // Kubelet's names for what it runs short of.
    let short =
        conditions.into_iter().flatten().find(|c| c.type_.ends_with("Pressure") && c.status == "True");
    let note = short.map(|c| {
        let remedy = match c.type_.as_str() {
            "DiskPressure" => "free space on the disk that holds the cluster's state",
            "MemoryPressure" => "free memory",
            _ => "end what has many processes",
        };
        format!("{}, takes no new pods: {remedy}", c.type_)
    });
    Part { name: format!("Node {}", node.name_any()), ready: i32::from(ready), wanted: 1, note }
}

/// Whether kubelet started a pod by itself, from a file on its node.
fn is_static(pod: &Pod) -> bool {
    pod.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "Node")
}

fn of_pod(pod: &Pod) -> Part {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    let name = format!("Pod {}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    Part { name, ready: i32::from(ready), wanted: 1, note: None }
}

fn of_deployment(deployment: &Deployment) -> Part {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    // Until its controller has seen the newest version, its numbers speak of
    // an older one.
    let current = status.observed_generation >= deployment.metadata.generation;
    let updated = status.updated_replicas.unwrap_or(0).min(status.available_replicas.unwrap_or(0));
    Part {
        name: format!("Deployment {}/{}", deployment.namespace().unwrap_or_default(), deployment.name_any()),
        ready: if current { updated } else { 0 },
        wanted,
        note: None,
    }
}

fn of_daemon_set(set: &DaemonSet) -> Part {
    let status = set.status.clone().unwrap_or_default();
    let current = status.observed_generation >= set.metadata.generation;
    let updated = status.updated_number_scheduled.unwrap_or(0).min(status.number_ready);
    Part {
        name: format!("DaemonSet {}/{}", set.namespace().unwrap_or_default(), set.name_any()),
        ready: if current { updated } else { 0 },
        wanted: status.desired_number_scheduled.max(i32::from(!current)),
        note: None,
    }
}

/// Waits until every part is ready and each of `nodes` is among them, saying
/// which part it waits for.
pub async fn wait(client: &Client, nodes: &[String], limit: Duration, progress: &dyn Progress) -> Result<()> {
    let started = Instant::now();
    loop {
        let last;
        // The API server may be away for a moment, as after a restart.
        match parts(client).await {
            Ok(parts) => {
                let missing =
                    nodes.iter().filter(|name| !parts.iter().any(|p| p.name == format!("Node {name}")));
                let mut waiting: Vec<String> = missing.map(|name| format!("Node {name} to appear")).collect();
                waiting.extend(parts.iter().filter(|part| !part.is_ready()).map(Part::to_string));
                if waiting.is_empty() {
                    return Ok(());
                }
                let noted = parts.iter().filter(|part| part.is_ready() && part.note.is_some());
                waiting.extend(noted.map(Part::to_string));
                last = waiting.join(", ");
                let ready = parts.iter().filter(|part| part.is_ready()).count() as u64;
                progress.update(&format!("waiting for {last}"), Some(ready), Some(parts.len() as u64));
            }
            Err(error) => {
                last = error.to_string();
                progress.update(&format!("waiting for the Kubernetes API ({last})"), None, None);
            }
        }
        if started.elapsed() > limit {
            let remedy = match complaint(client).await {
                Some(text) => format!("{text}; `atoll up` goes on waiting"),
                None => "`atoll status` shows what is missing, `atoll up` goes on waiting".into(),
            };
            return Err(Error::Timeout { what: last, seconds: limit.as_secs(), remedy });
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Why a pod of the cluster doesn't run, if Kubernetes says so.
async fn complaint(client: &Client) -> Option<String> {
    for namespace in NAMESPACES {
        let pods =
            Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default()).await.ok()?;
        for pod in pods {
            let states =
                pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
            for status in states {
                if let Some(waiting) = status.state.and_then(|state| state.waiting) {
                    let reason = waiting.reason.unwrap_or_default();
                    let message = waiting.message.unwrap_or_default();
                    return Some(format!("pod {}: {reason} {message}", pod.name_any()));
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_takes_no_pods_says_why() {
        let node = |pressure: &str| -> Node {
            serde_json::from_value(serde_json::json!({
                "metadata": { "name": "n" },
                "status": { "conditions": [
                    { "type": "Ready", "status": "True" }, { "type": "DiskPressure", "status": pressure },
                ] }
            }))
            .unwrap()
        };
        let well = of_node(&node("False"));
        assert!(well.is_ready() && well.to_string() == "Node n (1/1)", "{well}");
        let full = of_node(&node("True"));
        assert!(
            full.is_ready() && full.to_string().contains("DiskPressure, takes no new pods: free space"),
            "{full}"
        );
    }

    #[test]
    fn numbers_of_an_older_version_do_not_count() {
        let set: DaemonSet = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "a", "namespace": "n", "generation": 2 },
            "status": {
                "observedGeneration": 1, "desiredNumberScheduled": 0, "numberReady": 0,
                "currentNumberScheduled": 0, "numberMisscheduled": 0
            }
        }))
        .unwrap();
        assert!(!of_daemon_set(&set).is_ready());
        let deployment: Deployment = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "a", "namespace": "n", "generation": 1 },
            "spec": { "replicas": 2, "selector": {}, "template": {} },
            "status": { "observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": 1 }
        }))
        .unwrap();
        let part = of_deployment(&deployment);
        assert_eq!((part.ready, part.wanted), (1, 2));
    }
}
