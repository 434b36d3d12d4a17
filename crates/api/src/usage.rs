//! What agents measure and the ledger posts.

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
}

impl Meter {
    /// All meters.
    pub const ALL: [Self; 7] = [
        Self::CpuMicroseconds,
        Self::MemoryMebibyteSeconds,
        Self::InternetSentBytes,
        Self::InternetReceivedBytes,
        Self::ClusterSentBytes,
        Self::ClusterReceivedBytes,
        Self::StorageMebibyteSeconds,
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
    /// What was measured: a pod's or a volume's UID.
    pub object: String,
    /// What people call it: `pod/<name>`, `volume/<name>`.
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
