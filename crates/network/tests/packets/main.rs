//! Real packets through the real programs and the real plugin, in namespaces.
//! Root, Linux 6.6 or newer and `cargo xtask ebpf` are needed; without them the
//! tests fail.
#![allow(clippy::unwrap_used)]

mod count;
mod plugin;
mod ways;
mod world;
