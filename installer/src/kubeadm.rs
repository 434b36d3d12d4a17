//! What kubeadm is told: the configuration of a cluster's first node and the
//! names it expects.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// The Kubernetes version in the cluster images that this program builds.
pub const KUBERNETES_VERSION: &str = "v1.34.10";
/// The image that holds a pod's namespaces, as kubeadm names it.
pub const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.10.1";
/// Where kubelet and kubeadm find containerd.
pub const CRI_SOCKET: &str = "unix:///run/containerd/containerd.sock";
/// Pods' addresses.
pub const POD_CIDR: &str = "10.244.0.0/16";
/// Services' addresses.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// The service address of the Kubernetes API: the range's first.
pub const KUBERNETES_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The service address of the cluster's DNS.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The service address of the default gateway, which DNS gives for apps' hosts.
pub const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 80);

/// The service address of front, which kubeconfigs lead to.
pub const FRONT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 81);
/// The service address of the server, where agents bring usage.
pub const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 82);

/// What differs between machines.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// The most files a process may open; kubelet is told not to ask for more.
    pub open_files: Option<u64>,
    /// Whether negative `oom_score_adj` is refused.
    pub restrict_oom_score: bool,
}

/// The configuration of the first node, as one YAML stream.
pub fn init_configuration(cluster: &str, node: &str, address: Ipv4Addr, limits: &Limits) -> String {
    let mut kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        "serverTLSBootstrap": true,
        "rotateCertificates": true,
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 3,
        "imageGCHighThresholdPercent": 90,
        // The disk is the machine's, and others fill it too: what matters is what is left.
        "evictionHard": {
            "memory.available": "100Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi"
        },
        // So that a node is used again soon after somebody made room.
        "evictionPressureTransitionPeriod": "30s",
    });
    let mut proxy = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": POD_CIDR,
        // The machine's connection table is not the node's to size.
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"
        },
    });
    if limits.restrict_oom_score {
        kubelet["oomScoreAdj"] = json!(0);
        proxy["oomScoreAdj"] = json!(0);
    }
    if let Some(files) = limits.open_files {
        kubelet["maxOpenFiles"] = json!(files);
    }
    let documents = [
        json!({
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "localAPIEndpoint": { "advertiseAddress": address, "bindPort": 6443 },
            "nodeRegistration": registration(node, address),
        }),
        json!({
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "clusterName": cluster,
            "kubernetesVersion": KUBERNETES_VERSION,
            "networking": { "podSubnet": POD_CIDR, "serviceSubnet": SERVICE_CIDR },
            "apiServer": { "certSANs": ["127.0.0.1", "localhost", "kubernetes"] },
        }),
        kubelet,
        proxy,
    ];
    stream(&documents)
}

/// The configuration by which a further node joins.
pub fn join_configuration(
    node: &str,
    address: Ipv4Addr,
    server: Ipv4Addr,
    token: &str,
    ca_hash: &str,
) -> String {
    stream(&[json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        "discovery": { "bootstrapToken": {
            "apiServerEndpoint": format!("{server}:6443"),
            "token": token,
            "caCertHashes": [ca_hash],
        } },
        "nodeRegistration": registration(node, address),
    })])
}

fn registration(node: &str, address: Ipv4Addr) -> Value {
    json!({
        "name": node,
        "criSocket": CRI_SOCKET,
        // Every node runs pods, the first one included.
        "taints": [],
        "imagePullPolicy": "IfNotPresent",
        "kubeletExtraArgs": [{ "name": "node-ip", "value": address }],
        // The sandbox's kernel is the machine's: its configuration is not in
        // the node, and swap, where there is some, is the machine's choice.
        "ignorePreflightErrors": ["SystemVerification", "Swap", "NumCPU", "Mem"],
    })
}

fn stream(documents: &[Value]) -> String {
    // JSON is YAML, and needs no second serialiser.
    documents.iter().map(|document| format!("---\n{document:#}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    fn documents(text: &str) -> Vec<Value> {
        serde_yaml_ng::Deserializer::from_str(text).map(|d| Value::deserialize(d).unwrap()).collect()
    }

    #[test]
    fn a_confined_machine_gets_no_negative_oom_score() {
        let text = init_configuration(
            "one",
            "one-1",
            Ipv4Addr::new(10, 213, 0, 2),
            &Limits { open_files: Some(20_000), restrict_oom_score: true },
        );
        let all = documents(&text);
        assert_eq!(all.len(), 4);
        assert_eq!(all[2]["oomScoreAdj"], 0);
        assert_eq!(all[2]["maxOpenFiles"], 20_000);
        assert_eq!(all[3]["oomScoreAdj"], 0);
        let free = documents(&init_configuration("one", "one-1", Ipv4Addr::LOCALHOST, &Limits::default()));
        assert!(free[2].get("oomScoreAdj").is_none());
    }

    #[test]
    fn joining_checks_the_authority() {
        let text = join_configuration("n", Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, "a.b", "sha256:1");
        let all = documents(&text);
        assert_eq!(all[0]["discovery"]["bootstrapToken"]["caCertHashes"][0], "sha256:1");
    }
}
