//! The agent: one on every node, for what a node needs that only it can do.
//!
//! [`cni`] keeps the node's network configuration, and [`usage`] measures what
//! pods use and brings it to the server.

mod cni;
mod usage;

use std::net::SocketAddr;
use std::path::PathBuf;

use kube::Client;

#[derive(clap::Args)]
pub struct Arguments {
    /// The node this agent runs on
    #[arg(long, env = "NODE_NAME")]
    node: String,
    /// The cluster it belongs to, as the ledger knows it
    #[arg(long)]
    cluster: String,
    /// Where the node's container runtime looks for CNI configurations
    #[arg(long, default_value = "/etc/cni/net.d")]
    cni: PathBuf,
    /// The addresses of all pods of the cluster, which see each other unmasked
    #[arg(long)]
    cluster_pods: String,
    /// The node's cgroups
    #[arg(long, default_value = "/sys/fs/cgroup")]
    cgroups: PathBuf,
    /// Where what was measured is kept until the server has it
    #[arg(long, default_value = "/var/lib/atoll/agent")]
    state: PathBuf,
    /// Where the server takes usage
    #[arg(long)]
    server: SocketAddr,
    /// The folder with what proves the agent there: tls.crt, tls.key and ca.crt
    #[arg(long)]
    certificate: PathBuf,
}

/// Runs until it is asked to end.
pub async fn run(
    client: Client,
    arguments: Arguments,
    stopped: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    tokio::select! {
        () = stopped => Ok(()),
        result = cni::run(client.clone(), &arguments) => result,
        result = usage::run(client.clone(), &arguments) => result,
    }
}
