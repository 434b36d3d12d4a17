//! Metering on a node: what pods' cgroups and counters say becomes readings that
//! only grow, by minute, for whoever pays.
//!
//! [`recorder`] is the pure core: samples go in, usage facts come out, and its
//! state can be written down and taken up again. [`cgroup`] reads a pod's cgroups,
//! of version 1 and 2. [`file`] keeps the state over a restart.
//!
//! It knows neither the cluster's API nor the ledger: the agent tells it which
//! pods there are, and sends what it gives.

pub mod cgroup;
pub mod file;
pub mod recorder;

pub use recorder::{Pod, Recorder, Sample};

/// An error of metering.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state can't be read or written.
    #[error("{action} {path}: {source}")]
    File {
        /// What was done.
        action: &'static str,
        /// With which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The state is not what was written.
    #[error("{path} is damaged ({source}): move it away, and counting begins anew from what cgroups hold")]
    Damaged {
        /// Which file.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}
