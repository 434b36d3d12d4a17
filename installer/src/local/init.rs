//! A node's first process: it makes the node's namespaces and root, waits for
//! its address, and then supervises containerd and kubelet until it is killed.
//!
//! kubeadm needs no init system: it finds none, writes kubelet's configuration,
//! and waits; kubelet is started as soon as that configuration is there.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use super::cgroup::{self, Hierarchy};
use super::mounts;
use super::supervise::{Service, Supervisor};
use crate::{Error, Result, command};

/// Names under which images are asked for and that the cluster's registry
/// serves, with where they come from when it lacks one.
const MIRRORED: [(&str, Option<&str>); 4] = [
    ("registry.atoll.local", None),
    ("registry.k8s.io", Some("https://registry.k8s.io")),
    ("docker.io", Some("https://registry-1.docker.io")),
    ("ghcr.io", Some("https://ghcr.io")),
];

/// What a node is told of itself, as `node.json` in its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfig {
    /// The cluster it belongs to.
    pub cluster: String,
    /// Its name, which is its host name and its name in Kubernetes.
    pub name: String,
    /// Its directory on the machine.
    pub directory: PathBuf,
    /// The cluster image's layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// Its address in the nodes' network, a /24.
    pub address: Ipv4Addr,
    /// The machine's address there.
    pub gateway: Ipv4Addr,
    /// The bridge of the nodes' network.
    pub bridge: String,
    /// The host's end of its link.
    pub link: String,
    /// Where the cluster's registry listens.
    pub registry: String,
    /// The cgroup hierarchies it is placed in.
    pub cgroups: Vec<Hierarchy>,
    /// Whether the machine refuses negative `oom_score_adj`, as it does
    /// without CAP_SYS_RESOURCE.
    pub restrict_oom_score: bool,
    /// What its `/etc/resolv.conf` says.
    pub resolver: String,
}

impl NodeConfig {
    /// Reads `node.json` in a node's directory.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("node.json");
        let text = fs::read(&path).map_err(Error::file("reading", &path))?;
        serde_json::from_slice(&text).map_err(|source| Error::State { path, source })
    }
}

/// Runs as a node's first process; returns only when it could not start.
pub fn run(directory: &Path) -> Result<()> {
    let config = NodeConfig::load(directory)?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .map_err(Error::system("making the node's namespaces"))?;
    nix::unistd::sethostname(&config.name).map_err(Error::system("naming the node"))?;
    mounts::enter_root(&config)?;
    delegate_cgroups(&config)?;
    write_configuration(&config)?;
    wait_for_address(&config)?;
    // Nothing but the node's own network is changed by these.
    for (setting, value) in [("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")] {
        let path = Path::new("/proc/sys").join(setting);
        if path.exists() {
            fs::write(&path, value).map_err(Error::file("writing", path))?;
        }
    }
    fs::write("/run/atoll/ready", "").map_err(Error::file("writing", "/run/atoll/ready"))?;
    tracing::info!(node = config.name, address = %config.address, "node is up");
    Supervisor::new(services()).run()
}

fn services() -> Vec<Service> {
    vec![
        Service { name: "containerd", command: |_| Some(vec!["/usr/bin/containerd".into()]) },
        Service { name: "kubelet", command: kubelet_command },
    ]
}

/// kubelet's command line, once kubeadm has written its configuration.
fn kubelet_command(root: &Path) -> Option<Vec<String>> {
    if !root.join("var/lib/kubelet/config.yaml").exists() {
        return None;
    }
    let flags = fs::read_to_string(root.join("var/lib/kubelet/kubeadm-flags.env")).unwrap_or_default();
    let mut words: Vec<String> = [
        "/usr/bin/kubelet",
        "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
        "--kubeconfig=/etc/kubernetes/kubelet.conf",
        "--config=/var/lib/kubelet/config.yaml",
    ]
    .map(String::from)
    .into();
    if let Some(value) = flags.trim().strip_prefix("KUBELET_KUBEADM_ARGS=") {
        words.extend(value.trim_matches('"').split_whitespace().map(String::from));
    }
    Some(words)
}

/// In version 2 a cgroup that holds processes can't hand controllers to its
/// children, so the first process moves aside.
fn delegate_cgroups(config: &NodeConfig) -> Result<()> {
    if !cgroup::is_version_2(&config.cgroups) {
        return Ok(());
    }
    let own = Path::new("/sys/fs/cgroup/init");
    fs::create_dir_all(own).map_err(Error::file("creating", own))?;
    fs::write(own.join("cgroup.procs"), "0").map_err(Error::file("writing", own))?;
    cgroup::delegate(Path::new("/sys/fs/cgroup"));
    Ok(())
}

fn write_configuration(config: &NodeConfig) -> Result<()> {
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{} {}\n",
        config.address, config.name
    );
    write("/etc/hosts", &hosts)?;
    write("/etc/hostname", &format!("{}\n", config.name))?;
    write("/etc/resolv.conf", &config.resolver)?;
    if !Path::new("/etc/machine-id").exists() {
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid")
            .map_err(Error::file("reading", "/proc/sys/kernel/random/uuid"))?;
        write("/etc/machine-id", &id.replace('-', ""))?;
    }
    write("/etc/containerd/config.toml", &containerd_configuration(config))?;
    for (host, upstream) in MIRRORED {
        let upstream = upstream.map(|url| format!("server = \"{url}\"\n")).unwrap_or_default();
        let text =
            format!("{upstream}[host.\"{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n", config.registry);
        write(&format!("/etc/containerd/certs.d/{host}/hosts.toml"), &text)?;
    }
    Ok(())
}

fn containerd_configuration(config: &NodeConfig) -> String {
    format!(
        "version = 3\n\
         [grpc]\n  address = '/run/containerd/containerd.sock'\n\
         [plugins.'io.containerd.cri.v1.images'.pinned_images]\n  sandbox = '{pause}'\n\
         [plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = '/etc/containerd/certs.d'\n\
         [plugins.'io.containerd.cri.v1.runtime']\n  restrict_oom_score_adj = {restrict}\n\
         [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n  \
         runtime_type = 'io.containerd.runc.v2'\n\
         [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\n  \
         SystemdCgroup = false\n",
        pause = crate::kubeadm::PAUSE_IMAGE,
        restrict = config.restrict_oom_score,
    )
}

fn write(path: &str, text: &str) -> Result<()> {
    let path = Path::new(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::file("creating", parent))?;
    }
    fs::write(path, text).map_err(Error::file("writing", path))
}

/// The host's side gives the node its link as soon as the namespaces are there.
fn wait_for_address(config: &NodeConfig) -> Result<()> {
    command::call("ip", ["link", "set", "lo", "up"])?;
    let limit = Duration::from_secs(30);
    let started = Instant::now();
    while started.elapsed() < limit {
        let shown = command::call("ip", ["-o", "-4", "address", "show", "dev", "eth0"]).unwrap_or_default();
        if shown.contains(&config.address.to_string()) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Error::Timeout {
        what: format!("the link of node {}", config.name),
        seconds: limit.as_secs(),
        remedy: "run `atoll doctor` to see what the machine lacks".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelet_waits_for_its_configuration() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(kubelet_command(root.path()), None);
        let directory = root.path().join("var/lib/kubelet");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("config.yaml"), "").unwrap();
        assert_eq!(kubelet_command(root.path()).unwrap().len(), 4);
        fs::write(directory.join("kubeadm-flags.env"), "KUBELET_KUBEADM_ARGS=\"--node-ip=10.0.0.1 --v=2\"\n")
            .unwrap();
        assert_eq!(kubelet_command(root.path()).unwrap()[4..], ["--node-ip=10.0.0.1", "--v=2"]);
    }
}
