//! The node's data path. On the node's side of every pod's link two programs in
//! the kernel judge each packet by who its ends are, and count it by class; they
//! are attached before the pod's first packet and go on while no program of ours
//! runs. This is their user half: it says who is who, and reads the counters.
//!
//! It must not know Kubernetes, prices or the clock. Start at [`policy`] (who may
//! talk to whom), then [`plan`] (what is told to the kernel), then [`Node`] (what
//! the agent calls) and [`cni`] (what the container runtime calls). The kernel
//! half is `crates/network-ebpf`; it is shipped as a file beside the programs.

pub mod address;
pub mod attach;
pub mod cni;
mod error;
pub mod kernel;
pub mod maps;
pub mod node;
pub mod plan;
pub mod policy;
pub mod record;

pub use error::Error;
pub use kernel::{Class, Counter, Direction};
pub use node::{Config, Node, remove_all};
pub use plan::{DesiredState, Granted, NodeState, Owner, PodState, Protocol};
pub use record::{Counts, Reading};

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;
