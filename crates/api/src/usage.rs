//! What agents measure and the ledger posts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is measured. Readings are cumulative since the source began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Meter {
    /// Processor time, in microseconds.
    CpuMicroseconds,
    /// Memory held over time, in mebibyte-seconds.
    MemoryMebibyteSeconds,
    /// Bytes sent to the internet.
    InternetSentBytes,
    /// Bytes received from the internet.
    InternetReceivedBytes,
    /// Bytes sent to pods of the cluster.
    ClusterSentBytes,
    /// Bytes received from pods of the cluster.
    ClusterReceivedBytes,
    /// Provisioned storage over time, in mebibyte-seconds.
    StorageMebibyteSeconds,
    /// Requests to a workspace's addresses that a gateway took in.
    GatewayRequests,
    /// Bytes that gateways sent to who asks a workspace's addresses.
    GatewaySentBytes,
    /// Bytes that gateways received from them.
    GatewayReceivedBytes,
}

impl Meter {
    /// All meters.
    pub const ALL: [Self; 10] = [
        Self::CpuMicroseconds,
        Self::MemoryMebibyteSeconds,
        Self::InternetSentBytes,
        Self::InternetReceivedBytes,
        Self::ClusterSentBytes,
        Self::ClusterReceivedBytes,
        Self::StorageMebibyteSeconds,
        Self::GatewayRequests,
        Self::GatewaySentBytes,
        Self::GatewayReceivedBytes,
    ];

    /// Its name, as in JSON and SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CpuMicroseconds => "cpu_microseconds",
            Self::MemoryMebibyteSeconds => "memory_mebibyte_seconds",
            Self::InternetSentBytes => "internet_sent_bytes",
            Self::InternetReceivedBytes => "internet_received_bytes",
            Self::ClusterSentBytes => "cluster_sent_bytes",
            Self::ClusterReceivedBytes => "cluster_received_bytes",
            Self::StorageMebibyteSeconds => "storage_mebibyte_seconds",
            Self::GatewayRequests => "gateway_requests",
            Self::GatewaySentBytes => "gateway_sent_bytes",
            Self::GatewayReceivedBytes => "gateway_received_bytes",
        }
    }

    /// The meter of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|meter| meter.name() == name)
    }
}

/// One reading. (cluster, node, epoch, object, meter, minute) identify it: sent
/// twice, it counts once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageFact {
    /// What was measured: a pod's or a volume's UID, or a gateway's process and the
    /// namespace that it carried for.
    pub object: String,
    /// What people call it: `pod/<name>`, `volume/<name>`, `gateway`.
    pub name: String,
    /// The workspace whose object it is, by its namespace: a later workspace of the
    /// same name has another, and must not see it.
    pub workspace: String,
    /// The account that pays for this minute.
    pub payer: String,
    /// What is measured.
    pub meter: Meter,
    /// Whole minutes since 1970, UTC; the reading was taken at its end.
    pub minute: u64,
    /// The cumulative reading.
    pub reading: u64,
}

/// What one agent sends at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageBatch {
    /// The cluster.
    pub cluster: String,
    /// The node that was measured.
    pub node: String,
    /// Which life of the source: readings begin at 0 with each.
    pub epoch: String,
    /// The readings.
    pub facts: Vec<UsageFact>,
}

/// What a gateway has carried since its process began, as it tells the agent of its node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayUsage {
    /// Which life of the process.
    pub epoch: String,
    /// By namespace; those for which there was nothing are left out.
    pub namespaces: BTreeMap<String, GatewayCounts>,
}

/// What was carried for one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayCounts {
    /// Requests that were taken in.
    pub requests: u64,
    /// Bytes of bodies, and of what is passed through, to clients.
    pub sent_bytes: u64,
    /// And from them.
    pub received_bytes: u64,
}

/// How much of a meter a workspace used in some time, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct UsageLine {
    /// The object's name, such as `pod/web`, or empty for a sum over all.
    #[serde(default)]
    pub name: String,
    /// What was measured.
    pub meter: Meter,
    /// How much, in the meter's unit.
    pub quantity: u64,
    /// What it costs, in millionths of the currency's unit.
    pub charge_micros: i64,
}

/// A workspace's bill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Bill {
    /// The workspace.
    pub workspace: String,
    /// The first minute of the time that is billed, since 1970.
    pub from_minute: u64,
    /// The minute after its last.
    pub to_minute: u64,
    /// The currency, such as `EUR`.
    pub currency: String,
    /// A line for each meter.
    pub lines: Vec<UsageLine>,
    /// The sum, in millionths of the currency's unit.
    pub total_micros: i64,
}
