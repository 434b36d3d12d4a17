//! What the kernel is told: from who is where to the tables' exact content, and
//! to what must change. It opens nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::address;
use crate::kernel::{Address, Grant, OpenPort, SYSTEM, UNKNOWN};
use crate::policy::Range;
use crate::record::LocalPod;

/// Whose a namespace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The cluster's own.
    System,
    /// A workspace's, by a name that no other workspace ever has: its
    /// namespace's name, which ends in letters that nobody chooses.
    Workspace(String),
}

impl Protocol {
    /// IP's number of it.
    const fn number(self) -> u16 {
        match self {
            Self::Tcp => crate::policy::TCP as u16,
            Self::Udp => crate::policy::UDP as u16,
        }
    }
}

impl Owner {
    /// Its number in the kernel. It is computed, so that every node knows the
    /// same one, and none is given twice after a restart.
    pub fn identity(&self) -> u64 {
        match self {
            Self::System => SYSTEM,
            Self::Workspace(name) => {
                let hash = Sha256::digest(name.as_bytes());
                let first = hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
                // The small numbers are taken.
                first.max(SYSTEM + 1)
            }
        }
    }
}

/// The protocols whose ports can be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A pod of the cluster with addresses of its own. Pods on their node's network
/// and pods that ended are left out: their address is another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodState {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// Which of its ports tenants may reach; heeded for system pods only.
    pub open: Vec<(Protocol, u16)>,
    /// What pods of other workspaces may reach; heeded for workspaces' pods only.
    pub granted: Vec<Granted>,
}

/// What the pods of another workspace may reach of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The other workspace's namespace.
    pub from: String,
    /// The port; without one, all that there is.
    pub port: Option<(Protocol, u16)>,
}

/// A node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// All its addresses.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_ranges: Vec<IpNet>,
}

/// Who is where, in the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredState {
    /// Whose each namespace is. Pods of others are unknown, and talk to nobody.
    pub namespaces: BTreeMap<String, Owner>,
    /// All pods that have an address.
    pub pods: Vec<PodState>,
    /// All nodes.
    pub nodes: Vec<NodeState>,
    /// The ranges of all pods of the cluster.
    pub pod_ranges: Vec<IpNet>,
    /// The ranges of all services, and of addresses given to LoadBalancers.
    pub service_ranges: Vec<IpNet>,
    /// What tenants may not reach besides: the service of the Kubernetes API,
    /// etcd, the operator's own networks.
    pub reserved: Vec<IpNet>,
}

/// What tenants never reach, whatever the operator says.
const RESERVED: [&str; 9] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    // Link-local: the clouds' metadata.
    "169.254.0.0/16",
    // Multicast, and all that lies behind it up to broadcast.
    "224.0.0.0/3",
    "::/128",
    "::1/128",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// The clouds' metadata service by IPv6.
const RESERVED_HOSTS: [&str; 1] = ["fd00:ec2::254"];

/// How many entries one workspace's pods may take in the table of grants, so that nobody
/// fills it alone; and how many there is room for.
const MOST_GRANTS: usize = 4096;
const ALL_GRANTS: usize = 65536;

/// The content of the kernel's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Identities of pods.
    pub addresses: BTreeMap<Address, u64>,
    /// What prefixes are, by length and first address.
    pub ranges: BTreeMap<(u32, Address), Range>,
    /// Ports that tenants may reach.
    pub open_ports: BTreeSet<OpenPort>,
    /// What workspaces let each other reach.
    pub grants: BTreeSet<Grant>,
    /// Identities of namespaces.
    pub namespaces: BTreeMap<String, u64>,
}

/// The tables for a state of the cluster, seen from a node with these pods.
pub fn plan(state: &DesiredState, local: &[LocalPod]) -> Tables {
    let mut tables = Tables {
        namespaces: state.namespaces.iter().map(|(name, owner)| (name.clone(), owner.identity())).collect(),
        ..Tables::default()
    };
    plan_ranges(state, &mut tables);

    let is_pods = |ip: &IpAddr| state.pod_ranges.iter().any(|range| range.contains(ip));
    let nodes = node_addresses(state);
    for pod in &state.pods {
        let identity = identity_of(state, &pod.namespace);
        for ip in &pod.addresses {
            // Whoever claims another's address claims in vain.
            if !is_pods(ip) || nodes.contains(ip) {
                tracing::warn!(namespace = pod.namespace, %ip, "a pod's address is outside the pods' ranges");
                continue;
            }
            tables
                .addresses
                .entry(address::key(*ip))
                // Two claim one address: until that is settled it is nobody's.
                .and_modify(|other| *other = if *other == identity { identity } else { UNKNOWN })
                .or_insert(identity);
        }
    }
    // What the container runtime said of this node's pods is newer than what
    // the API server knows.
    for pod in local.iter().filter(|pod| !pod.ended) {
        for ip in &pod.addresses {
            tables.addresses.insert(address::key(*ip), identity_of(state, &pod.namespace));
        }
    }
    for pod in state.pods.iter().filter(|pod| identity_of(state, &pod.namespace) == SYSTEM) {
        for ip in &pod.addresses {
            let address = address::key(*ip);
            if tables.addresses.get(&address) == Some(&SYSTEM) {
                tables.open_ports.extend(pod.open.iter().map(|(protocol, port)| OpenPort {
                    address,
                    port: *port,
                    protocol: protocol.number(),
                }));
            }
        }
    }
    plan_grants(state, &mut tables);
    tables
}

/// Of workspaces alone: nobody opens anything of the cluster's own.
fn plan_grants(state: &DesiredState, tables: &mut Tables) {
    let workspace =
        |namespace: &str| Some(identity_of(state, namespace)).filter(|identity| *identity > SYSTEM);
    let mut left: BTreeMap<u64, usize> = BTreeMap::new();
    for pod in state.pods.iter().filter(|pod| !pod.granted.is_empty()) {
        let Some(to) = workspace(&pod.namespace) else { continue };
        for (ip, granted) in pod.addresses.iter().flat_map(|ip| pod.granted.iter().map(move |one| (ip, one)))
        {
            let address = address::key(*ip);
            let Some(from) = workspace(&granted.from) else { continue };
            // Whose address it is has to be settled.
            if from == to || tables.addresses.get(&address) != Some(&to) {
                continue;
            }
            let (protocol, port) = granted.port.map_or((0, 0), |(protocol, port)| (protocol.number(), port));
            let left = left.entry(to).or_insert(MOST_GRANTS);
            if *left == 0 || tables.grants.len() == ALL_GRANTS {
                tracing::warn!(namespace = pod.namespace, "it opens more to peers than there is room for");
                break;
            }
            if tables.grants.insert(Grant { from, to, address, port, protocol, reserved: 0 }) {
                *left -= 1;
            }
        }
    }
}

/// Who a pod of that namespace is.
pub fn identity_of(state: &DesiredState, namespace: &str) -> u64 {
    state.namespaces.get(namespace).map_or(UNKNOWN, Owner::identity)
}

/// From the general to the special: of two that say something of one prefix the
/// later holds.
fn plan_ranges(state: &DesiredState, tables: &mut Tables) {
    let fixed = RESERVED.iter().filter_map(|text| text.parse().ok());
    let hosts = RESERVED_HOSTS.iter().filter_map(|text| text.parse().ok()).map(address::host);
    let mut put = |net: IpNet, range: Range| {
        tables.ranges.insert(address::prefix(net), range);
    };
    state.pod_ranges.iter().for_each(|net| put(*net, Range::Vacant));
    state.service_ranges.iter().for_each(|net| put(*net, Range::Service));
    fixed.chain(hosts).for_each(|net| put(net, Range::Reserved));
    state.reserved.iter().for_each(|net| put(*net, Range::Reserved));
    node_addresses(state).into_iter().for_each(|ip| put(address::host(ip), Range::Node));
}

fn node_addresses(state: &DesiredState) -> BTreeSet<IpAddr> {
    state
        .nodes
        .iter()
        .flat_map(|node| {
            let own = node.pod_ranges.iter().flat_map(|range| address::own_of_range(*range));
            node.addresses.iter().copied().chain(own)
        })
        .collect()
}

/// What leads from one table to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<K, V> {
    /// To be written, new or with another value.
    pub put: Vec<(K, V)>,
    /// To be removed.
    pub remove: Vec<K>,
}

impl<K: Ord + Clone, V: PartialEq + Clone> Difference<K, V> {
    /// What leads from `old` to `new`.
    pub fn between(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Self {
        Self {
            put: new
                .iter()
                .filter(|(key, value)| old.get(*key) != Some(*value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            remove: old.keys().filter(|key| !new.contains_key(*key)).cloned().collect(),
        }
    }

    /// How many entries change.
    pub fn len(&self) -> usize {
        self.put.len() + self.remove.len()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
