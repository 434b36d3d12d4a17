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

/// Keeps the targets that are right and gives the others free ones.
pub(crate) fn assign(
    wanted: &BTreeSet<u16>,
    current: &[(u16, u16)],
    taken: &BTreeSet<u16>,
) -> Option<Vec<(u16, u16)>> {
    let mut used: BTreeSet<u16> = taken.clone();
    let mut targets = Vec::new();
    for port in wanted {
        if let Some((_, target)) =
            current.iter().find(|(own, target)| own == port && PORTS.contains(target) && !taken.contains(target))
        {
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
            let names: Vec<_> = current.into_iter().map(|(id, _)| id.name).collect();
            return if names.is_empty() { Desired::Kept } else { Desired::Gone(names) };
        };
        let own = service_name(gateway);
        let now = current.into_iter().find(|(id, _)| id.name == own);
        let now = now.map(|(_, entrance)| entrance.targets).unwrap_or_default();
        let Some(targets) = assign(&ports, &now, &self.taken_ports(gateway)) else { return Desired::Full };
        let spec = object.spec.clone();
        let infrastructure = spec.infrastructure.unwrap_or_default();
        let wanted = Wanted {
            targets,
            address: spec.addresses.into_iter().find_map(|address| address.value),
            labels: infrastructure.labels,
            annotations: infrastructure.annotations,
        };
        let mut before = now;
        before.sort_unstable();
        let plain = wanted.labels.is_empty() && wanted.annotations.is_empty() && wanted.address.is_none();
        if before == wanted.targets && plain { Desired::Kept } else { Desired::Made(wanted) }
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
        let wanted = |ports: &[u16]| ports.iter().copied().collect::<BTreeSet<u16>>();
        let none = BTreeSet::new();
        assert_eq!(assign(&wanted(&[80, 443]), &[], &none), Some(vec![(80, 20000), (443, 20001)]));
        let taken = wanted(&[20000]);
        assert_eq!(assign(&wanted(&[80]), &[(80, 20007)], &taken), Some(vec![(80, 20007)]));
        // Somebody else's, or none of the range: not kept.
        assert_eq!(assign(&wanted(&[80]), &[(80, 20000)], &taken), Some(vec![(80, 20001)]));
        assert_eq!(assign(&wanted(&[80]), &[(80, 8443)], &taken), Some(vec![(80, 20001)]));
        // A port that is kept is not given to another of the same Gateway.
        assert_eq!(assign(&wanted(&[80, 90]), &[(90, 20000)], &none), Some(vec![(80, 20001), (90, 20000)]));
        assert_eq!(assign(&wanted(&[80]), &[], &PORTS.into_iter().collect()), None);
    }

    #[test]
    fn two_gateways_never_have_one_service() {
        let names: BTreeSet<_> =
            [("a", "b-c"), ("a-b", "c"), ("a", "b")].map(|(a, b)| service_name(&Id::new(a, b))).into();
        assert_eq!(names.len(), 3);
    }
}
