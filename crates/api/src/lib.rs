//! Atoll's custom resources and the names that its programs agree on.
//!
//! It knows no other crate, does no I/O and compiles to wasm. Start at
//! [`names`], then [`instance`].

pub mod instance;
pub mod names;

pub use instance::{Instance, InstanceSpec, InstanceStatus, ObjectReference};
/// The trait by which a resource tells its kind and version.
pub use kube::Resource;
