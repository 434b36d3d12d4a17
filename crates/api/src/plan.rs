//! `Plan`: what a workspace may use.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a workspace may use.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "atoll.dev",
    version = "v1alpha1",
    kind = "Plan",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Pod security","type":"string","jsonPath":".spec.podSecurity"}"#,
    printcolumn = r#"{"name":"CPU","type":"string","jsonPath":".spec.hard['limits\\.cpu']"}"#,
    printcolumn = r#"{"name":"Memory","type":"string","jsonPath":".spec.hard['limits\\.memory']"}"#,
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
