//! The Service that is a Gateway's address. It selects the gateway's pods, and
//! each of its ports leads to a port of theirs that is nobody else's: that is
//! how they know whom a connection is for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::index::Index;
use crate::object::Id;

/// The ports of the gateway's pods that Gateways have; the manifest opens them.
pub const PORTS: std::ops::RangeInclusive<u16> = 20000..=20255;

/// What is to be done for a Gateway's Service.
#[derive(Debug, PartialEq, Eq)]
pub enum Desired {
    /// It is as it has to be.
    Kept,
    Made(Wanted),
    /// There is no port left.
    Full,
    /// The Gateway is gone, or not ours: these Services go.
    Gone(Vec<String>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// By the port that clients see: the port of our pods.
    pub targets: Vec<(u16, u16)>,
    pub address: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// Keeps the targets that are right and gives the others free ones. Of two
/// Gateways that have one, whatever came between, the smaller keeps it: did both
/// give way, they would for ever.
pub(crate) fn assign(
    gateway: &Id,
    wanted: &BTreeSet<u16>,
    current: &[(u16, u16)],
    taken: &BTreeMap<u16, Id>,
) -> Option<Vec<(u16, u16)>> {
    let mut used: BTreeSet<u16> = taken.keys().copied().collect();
    let mut targets = Vec::new();
    let ours = |target: &u16| PORTS.contains(target) && taken.get(target).is_none_or(|other| gateway < other);
    for port in wanted {
        if let Some((_, target)) = current.iter().find(|(own, target)| own == port && ours(target)) {
            used.insert(*target);
            targets.push((*port, *target));
        }
    }
    for port in wanted {
        if targets.iter().all(|(own, _)| own != port) {
            let free = PORTS.into_iter().find(|target| !used.contains(target))?;
            used.insert(free);
            targets.push((*port, free));
        }
    }
    targets.sort_unstable();
    Some(targets)
}

impl Index {
    /// What has to be done so that a Gateway has its Service.
    pub fn entrance(&self, gateway: &Id) -> Desired {
        let current = self.entrances_of(gateway);
        if *gateway == self.default_gateway() {
            return Desired::Kept;
        }
        let Some((ports, object)) = self.wanted_ports(gateway).filter(|(ports, _)| !ports.is_empty()) else {
            let names: Vec<_> = current.into_iter().map(|(id, _)| id.name.clone()).collect();
            return if names.is_empty() { Desired::Kept } else { Desired::Gone(names) };
        };
        let own = service_name(gateway);
        let now = current.into_iter().find(|(id, _)| id.name == own).map(|(_, entrance)| entrance);
        let before = now.as_ref().map(|entrance| entrance.targets.clone()).unwrap_or_default();
        let Some(targets) = assign(gateway, &ports, &before, &self.taken_ports(gateway)) else {
            return Desired::Full;
        };
        let spec = object.spec.clone();
        let infrastructure = spec.infrastructure.unwrap_or_default();
        let wanted = Wanted {
            targets,
            address: spec.addresses.into_iter().find_map(|address| address.value),
            labels: infrastructure.labels,
            annotations: infrastructure.annotations,
        };
        let kept = now.is_some_and(|mut now| {
            now.targets.sort_unstable();
            now.targets == wanted.targets
                && now.asked == wanted.address
                && now.labels == wanted.labels
                && now.annotations == wanted.annotations
        });
        if kept { Desired::Kept } else { Desired::Made(wanted) }
    }
}

/// A name that no other Gateway's Service has, whatever its Gateway is called.
pub fn service_name(gateway: &Id) -> String {
    let hash = Sha256::digest(gateway.to_string());
    let hex: String = hash.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    format!("gateway-{hex}")
}

/// The Service, for server-side apply.
pub fn service(gateway: &Id, wanted: &Wanted) -> Value {
    let ports: Vec<_> = wanted
        .targets
        .iter()
        .map(|(port, target)| json!({ "name": format!("port-{port}"), "port": port, "protocol": "TCP", "targetPort": target }))
        .collect();
    let mut annotations = wanted.annotations.clone();
    annotations.insert(api::names::GATEWAY_ANNOTATION.to_owned(), gateway.to_string());
    let mut spec = json!({
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "allocateLoadBalancerNodePorts": false,
        "selector": { "app": "gateway" },
        "ports": ports,
    });
    if let Some(address) = &wanted.address {
        spec["loadBalancerIP"] = json!(address);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": service_name(gateway),
            "namespace": api::names::SYSTEM_NAMESPACE,
            "labels": wanted.labels,
            "annotations": annotations,
        },
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_kept_and_never_shared() {
        let check =
            |wanted: &[u16], current: &[(u16, u16)], taken: &[(u16, &str)], targets: &[(u16, u16)]| {
                let wanted = wanted.iter().copied().collect();
                let taken = taken.iter().map(|(port, name)| (*port, Id::new("a", *name))).collect();
                let assigned = assign(&Id::new("a", "m"), &wanted, current, &taken);
                assert_eq!(assigned.unwrap_or_default(), targets);
            };
        check(&[80, 443], &[], &[], &[(80, 20000), (443, 20001)]);
        check(&[80], &[(80, 20007)], &[(20000, "a")], &[(80, 20007)]);
        // None of the range, or somebody else's: not kept.
        check(&[80], &[(80, 8443)], &[(20000, "a")], &[(80, 20001)]);
        check(&[80], &[(80, 20000)], &[(20000, "a")], &[(80, 20001)]);
        check(&[80], &[(80, 20000)], &[(20000, "z")], &[(80, 20000)]);
        // A port that is kept is not given to another of the same Gateway.
        check(&[80, 90], &[(90, 20000)], &[], &[(80, 20001), (90, 20000)]);
        let all: Vec<(u16, &str)> = PORTS.map(|port| (port, "a")).collect();
        check(&[80], &[], &all, &[]);
    }

    #[test]
    fn two_gateways_never_have_one_service() {
        let names: BTreeSet<_> =
            [("a", "b-c"), ("a-b", "c"), ("a", "b")].map(|(a, b)| service_name(&Id::new(a, b))).into();
        assert_eq!(names.len(), 3);
    }
}
