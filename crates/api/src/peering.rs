//! `Peering`: two workspaces agree that their pods may talk.
//!
//! Each side says for itself with whom, and what of its own the other may reach. It is
//! in force while both sides have one that names the other.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use kube::core::{Selector, SelectorExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Annotation on a workspace's namespace: a list of [`Opened`], as JSON. Tenants can't
/// write it.
pub const PEERS_ANNOTATION: &str = "policy.atoll.dev/peers";

/// The workspace in whose namespace this is agrees with another one that its pods may
/// talk with it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "atoll.dev",
    version = "v1alpha1",
    kind = "Peering",
    namespaced,
    status = "PeeringStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name":"With","type":"string","jsonPath":".spec.with"}"#,
    printcolumn = r#"{"name":"In force","type":"string","jsonPath":".status.conditions[?(@.type==\"InForce\")].status"}"#,
    printcolumn = r#"{"name":"Namespace","type":"string","jsonPath":".status.namespace"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PeeringSpec {
    /// The other workspace: `NAME`, or `OWNER/NAME` for one of another owner.
    #[schemars(regex(pattern = r"^([a-z][a-z0-9-]*/)?[a-z][a-z0-9-]*$"))]
    pub with: String,
    /// What of this workspace the other one may reach; without any it reaches nothing,
    /// and only answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub allow: Vec<Allowed>,
}

impl PeeringSpec {
    /// Owner and name of the other workspace, seen from one of `owner`'s.
    pub fn other<'a>(&'a self, owner: &'a str) -> (&'a str, &'a str) {
        self.with.split_once('/').unwrap_or((owner, &self.with))
    }
}

/// Pods and ports that may be reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Allowed {
    /// Which pods, by their labels; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Which of their ports; without any, all, of every protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub ports: Vec<Port>,
}

impl Allowed {
    /// Whether it is said of a pod with these labels. A selector that can't be read
    /// chooses none.
    pub fn chooses(&self, labels: &BTreeMap<String, String>) -> bool {
        let Some(selector) = self.pod_selector.clone() else { return true };
        Selector::try_from(selector).is_ok_and(|selector| selector.matches(labels))
    }
}

/// A pod's port: where a Service leads, not the Service's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Its number.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// TCP, if nothing is said.
    #[serde(default)]
    pub protocol: PortProtocol,
}

/// The protocols that have ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PortProtocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
}

/// What became of a peering.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeeringStatus {
    /// The other workspace's namespace, while it is in force: its Services are reached
    /// at `NAME.NAMESPACE.svc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `InForce` says whether both sides agree, and if not, what is waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// What a workspace has opened to another one, as nodes read it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opened {
    /// The other one's namespace.
    pub from: String,
    /// What it may reach here.
    pub allow: Vec<Allowed>,
}

/// What a namespace's annotation says. What can't be read opens nothing.
pub fn opened(annotation: &str) -> Vec<Opened> {
    serde_json::from_str(annotation).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_chooses_pods_and_one_that_cannot_be_read_none() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let chooses = |selector: &str| {
            serde_json::from_str::<Allowed>(&format!(r#"{{"podSelector": {selector}}}"#))
                .unwrap()
                .chooses(&labels)
        };
        assert!(Allowed::default().chooses(&labels));
        assert!(chooses("{}") && chooses(r#"{"matchLabels": {"app": "web"}}"#));
        assert!(!chooses(r#"{"matchLabels": {"app": "db"}}"#));
        assert!(!chooses(r#"{"matchExpressions": [{"key": "app", "operator": "Near"}]}"#));
    }

    #[test]
    fn what_cannot_be_read_opens_nothing() {
        let all = [Opened { from: "a-x".into(), allow: vec![Allowed::default()] }];
        assert_eq!(opened(&serde_json::to_string(&all).unwrap()), all);
        assert!(opened("").is_empty() && opened(r#"[{"from": 1}]"#).is_empty());
        let port: Port = serde_json::from_str(r#"{"port": 80}"#).unwrap();
        assert_eq!(port.protocol, PortProtocol::Tcp);
    }
}
