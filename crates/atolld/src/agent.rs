//! The agent: one on every node, for what a node needs that only it can do.
//!
//! [`cni`] keeps the node's network configuration, [`network`] tells the kernel who
//! is where, and [`usage`] measures what pods use, and [`gateways`] what the gateway
//! carries, which it brings to the server. All go by what [`cluster`] knows.

mod cluster;
mod cni;
mod gateways;
mod network;
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
    /// The addresses of services, and of LoadBalancers
    #[arg(long, value_name = "CIDR")]
    services: Vec<String>,
    /// What tenants may not reach besides nodes: the service of the Kubernetes API
    #[arg(long, value_name = "CIDR")]
    reserved: Vec<String>,
    /// Where programs and counters in the kernel are kept
    #[arg(long, default_value = "/sys/fs/bpf")]
    bpffs: PathBuf,
    /// The network's programs
    #[arg(long, default_value = "/usr/lib/atoll/network.o")]
    network_program: PathBuf,
    /// Where the CNI plugin finds them, as this process sees it; on the node it is
    /// the same path
    #[arg(long, default_value = "/var/lib/atoll/agent/network.o")]
    network_program_on_node: PathBuf,
    /// The CNI plugin
    #[arg(long, default_value = "/usr/bin/atoll-cni")]
    cni_plugin: PathBuf,
    /// Where the container runtime finds it, as this process sees it
    #[arg(long, default_value = "/opt/cni/bin/atoll-cni")]
    cni_plugin_on_node: PathBuf,
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
    // Before the CNI chain names the plugin.
    let path = network::DataPath::open(&arguments)?;
    let (cluster, keep_cluster) = cluster::Cluster::watch(&client);
    tokio::select! {
        () = stopped => Ok(()),
        result = keep_cluster => result,
        result = cni::run(client, &arguments) => result,
        result = network::run(&cluster, &arguments, &path) => result,
        result = usage::run(&cluster, &arguments, &path) => result,
    }
}
