//! `atoll status`: what runs, what is ready, where it is.

use serde::Serialize;

use super::{Place, bootstrap};
use crate::local::{forward, node};
use crate::readiness::{self, Part};
use crate::record::Record;
use crate::{Error, Result, apply};

/// A cluster as it is now.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// What is written down about it.
    pub cluster: Record,
    /// Its nodes' processes on this machine.
    pub nodes: Vec<NodeStatus>,
    /// Whether connections from 127.0.0.1 are carried into it.
    pub forwarding: bool,
    /// What Kubernetes says of its parts; empty when it doesn't answer.
    pub parts: Vec<Part>,
    /// Why Kubernetes doesn't answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether nothing is missing.
    pub ready: bool,
}

/// One node's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: std::net::Ipv4Addr,
    /// Whether its first process runs, and as which pid.
    pub pid: Option<i32>,
}

/// Looks at a cluster without changing anything.
pub async fn status(place: &Place) -> Result<Status> {
    let directory = place.directory();
    let record = directory.load()?.ok_or_else(|| Error::NoCluster(place.name.clone()))?;
    let nodes: Vec<NodeStatus> = (0..record.nodes)
        .map(|index| NodeStatus {
            name: record.node(index),
            address: record.address(index),
            pid: node::running(&directory.node(&record.node(index))).map(|process| process.pid),
        })
        .collect();
    let forwarding = forward::running(&directory.0).is_some();
    let answer = async {
        let client = apply::client(&bootstrap::direct_kubeconfig(&directory)).await?;
        readiness::parts(&client).await
    };
    let answer = tokio::time::timeout(std::time::Duration::from_secs(10), answer).await;
    let (parts, problem) = match answer {
        Ok(Ok(parts)) => (parts, None),
        Ok(Err(error)) => (Vec::new(), Some(error.to_string())),
        Err(_) => (Vec::new(), Some("the Kubernetes API didn't answer in 10 s".into())),
    };
    let ready = problem.is_none()
        && forwarding
        && nodes.iter().all(|node| node.pid.is_some())
        && parts.iter().all(Part::is_ready);
    Ok(Status { cluster: record, nodes, forwarding, parts, problem, ready })
}
