//! `Plan`: what a workspace may use.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gateway::GatewayLimits;
use crate::names::{DEFAULT_GATEWAY, GATEWAY_CLASS, INGRESS_CLASSES, SYSTEM_NAMESPACE};

/// What a workspace may use.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "atoll.dev",
    version = "v1alpha1",
    kind = "Plan",
    status = "PlanStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Pod security","type":"string","jsonPath":".spec.podSecurity"}"#,
    printcolumn = r#"{"name":"CPU","type":"string","jsonPath":".spec.hard['limits\\.cpu']"}"#,
    printcolumn = r#"{"name":"Memory","type":"string","jsonPath":".spec.hard['limits\\.memory']"}"#,
    printcolumn = r#"{"name":"Workspaces","type":"integer","jsonPath":".status.workspaces"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PlanSpec {
    /// The most of each resource, as in a ResourceQuota's `spec.hard`.
    #[serde(default)]
    pub hard: BTreeMap<String, Quantity>,
    /// What a container asks for that says nothing, as in a LimitRange.
    #[serde(default)]
    pub default_request: BTreeMap<String, Quantity>,
    /// What a container is limited to that says nothing, as in a LimitRange.
    #[serde(default)]
    pub default_limit: BTreeMap<String, Quantity>,
    /// The Pod Security Standard that is enforced.
    #[serde(default)]
    pub pod_security: PodSecurity,
    /// Where images may come from: what their full names begin with, such as
    /// `docker.io/library` or `registry.example.com`; `*` is anywhere.
    #[serde(default = "anything", skip_serializing_if = "is_anything")]
    pub registries: Vec<String>,
    /// The storage classes that claims may name; `*` is any.
    #[serde(default = "anything", skip_serializing_if = "is_anything")]
    pub storage_classes: Vec<String>,
    /// The priority classes that pods may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub priority_classes: Vec<String>,
    /// The runtime classes that pods may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runtime_classes: Vec<String>,
    /// The ingress classes that Ingresses may name; without it, the cloud's own; `*` is
    /// any.
    #[serde(default = "own_ingress_classes", skip_serializing_if = "is_own_ingress_classes")]
    pub ingress_classes: Vec<String>,
    /// The gateway classes that Gateways may name; without it, the cloud's own; `*` is any.
    #[serde(default = "own_gateway_classes", skip_serializing_if = "is_own_gateway_classes")]
    pub gateway_classes: Vec<String>,
    /// The Gateways of other namespaces that routes may attach to, as `NAMESPACE/NAME`;
    /// without it, the cloud's own; `*` is any.
    #[serde(default = "own_gateways", skip_serializing_if = "is_own_gateways")]
    pub gateways: Vec<String>,
    /// The labels of nodes by which pods may choose one, besides operating
    /// system, architecture, region and zone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_labels: Vec<String>,
    /// The keys of taints that pods may tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<String>,
    /// The classes that are meant where none is named; each is one that the plan allows.
    #[serde(default, skip_serializing_if = "ClassDefaults::is_empty")]
    pub defaults: ClassDefaults,
    /// The labels of the nodes that pods run on, and on no others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// The most that a workspace may take at each gateway.
    #[serde(default, skip_serializing_if = "GatewayLimits::is_empty")]
    pub gateway: GatewayLimits,
    /// How many days a workspace can be restored that was deleted; without it, seven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_days: Option<u32>,
}

/// The classes that are meant where none is named. Without one it is the cluster's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClassDefaults {
    /// Of claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Of Ingresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_class: Option<String>,
    /// Of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// Of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class: Option<String>,
}

impl ClassDefaults {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn anything() -> Vec<String> {
    vec!["*".into()]
}

// As serde wants it.
#[allow(clippy::ptr_arg)]
fn is_anything(names: &Vec<String>) -> bool {
    *names == anything()
}

fn own_ingress_classes() -> Vec<String> {
    INGRESS_CLASSES.map(Into::into).into()
}

// As serde wants it.
#[allow(clippy::ptr_arg)]
fn is_own_ingress_classes(names: &Vec<String>) -> bool {
    *names == own_ingress_classes()
}

fn own_gateway_classes() -> Vec<String> {
    vec![GATEWAY_CLASS.into()]
}

// As serde wants it.
#[allow(clippy::ptr_arg)]
fn is_own_gateway_classes(names: &Vec<String>) -> bool {
    *names == own_gateway_classes()
}

fn own_gateways() -> Vec<String> {
    vec![format!("{SYSTEM_NAMESPACE}/{DEFAULT_GATEWAY}")]
}

// As serde wants it.
#[allow(clippy::ptr_arg)]
fn is_own_gateways(names: &Vec<String>) -> bool {
    *names == own_gateways()
}

impl Default for PlanSpec {
    fn default() -> Self {
        Self {
            hard: BTreeMap::new(),
            default_request: BTreeMap::new(),
            default_limit: BTreeMap::new(),
            pod_security: PodSecurity::default(),
            registries: anything(),
            storage_classes: anything(),
            priority_classes: Vec::new(),
            runtime_classes: Vec::new(),
            ingress_classes: own_ingress_classes(),
            gateway_classes: own_gateway_classes(),
            gateways: own_gateways(),
            node_labels: Vec::new(),
            tolerations: Vec::new(),
            defaults: ClassDefaults::default(),
            node_selector: BTreeMap::new(),
            gateway: GatewayLimits::default(),
            deletion_days: None,
        }
    }
}

/// What the controller last saw of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// How many workspaces have it: one that is in use can't be deleted.
    #[serde(default)]
    pub workspaces: u32,
}

/// The Pod Security Standards that a tenant may have; `privileged` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PodSecurity {
    /// What most images built to run anywhere can do with.
    #[default]
    Restricted,
    /// Root in the container, too.
    Baseline,
}

impl PodSecurity {
    /// Its name in the namespace's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restricted => "restricted",
            Self::Baseline => "baseline",
        }
    }
}
