//! A cluster as a whole: bringing it up, looking at it, taking it down.

mod bootstrap;
mod down;
mod status;
mod up;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::kubeadm::{
    DNS_ADDRESS, FRONT_ADDRESS, GATEWAY_ADDRESS, KUBERNETES_ADDRESS, KUBERNETES_VERSION, POD_CIDR,
    SERVER_ADDRESS, SERVICE_CIDR,
};
use crate::record::{Directory, Record};

pub use down::down;
pub use status::{NodeStatus, Status, status};
pub use up::{Options, Outcome, up};

/// Which cluster is meant.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where clusters are kept.
    pub state: PathBuf,
    /// The cluster's name.
    pub name: String,
}

impl Place {
    /// The cluster's directory.
    pub fn directory(&self) -> Directory {
        Directory::new(&self.state, &self.name)
    }
}

/// What manifests may refer to as `${NAME}`.
pub fn manifest_values(record: &Record) -> BTreeMap<String, String> {
    let (first, last) = record.pool();
    let first_node = record.address(0);
    [
        ("API_ADDRESS", first_node.to_string()),
        ("APPS_DOMAIN", api::names::APPS_DOMAIN.to_string()),
        ("CLUSTER", record.name.clone()),
        ("DESKTOP_HOST", api::names::DESKTOP_HOST.to_string()),
        ("DNS_ADDRESS", DNS_ADDRESS.to_string()),
        ("FRONT_ADDRESS", FRONT_ADDRESS.to_string()),
        ("GATEWAY_ADDRESS", GATEWAY_ADDRESS.to_string()),
        ("HTTPS_PORT", record.ports.https.to_string()),
        ("KUBERNETES_ADDRESS", KUBERNETES_ADDRESS.to_string()),
        ("KUBERNETES_VERSION", KUBERNETES_VERSION.to_string()),
        ("NODE_CIDR", format!("{}/24", record.gateway())),
        ("POD_CIDR", POD_CIDR.to_string()),
        ("POOL_CIDR", format!("10.213.{}.192/26", record.subnet)),
        ("POOL_FIRST", first.to_string()),
        ("POOL_LAST", last.to_string()),
        ("REGISTRY_LISTEN", format!("{first_node}:5000")),
        ("SERVER_ADDRESS", SERVER_ADDRESS.to_string()),
        ("SERVICE_CIDR", SERVICE_CIDR.to_string()),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .into()
}
