//! The local provider: a node is a sandbox on this machine, with its own
//! network, mounts, processes, cgroups, root directory, containerd and init.
//!
//! [`node`] starts and ends one from the host's side, [`init`] is its first
//! process, [`network`] is the bridge the nodes share, [`cgroup`] their place
//! in the machine's cgroups, [`forward`] the way in from the host's loopback;
//! [`process`] is what they are to the host.

pub mod cgroup;
pub mod forward;
pub mod init;
pub mod mounts;
pub mod network;
pub mod node;
pub mod process;
pub mod supervise;
