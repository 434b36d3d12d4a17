//! Builds, carries and boots cluster images.
//!
//! [`image`] makes and keeps them. [`cluster`] turns one into a running
//! cluster, on nodes that a provider gives; [`local`] is the provider that
//! makes nodes on this machine. What is pure lies in [`record`], [`kubeadm`],
//! [`manifest`] and the findings of [`machine`]. It must not know what the
//! programs inside the cluster do. Start reading at [`cluster::up`].

pub mod access;
pub mod apply;
pub mod authority;
pub mod cluster;
pub mod command;
mod error;
pub mod image;
pub mod kubeadm;
pub mod local;
pub mod machine;
pub mod manifest;
pub mod progress;
pub mod readiness;
pub mod record;

pub use error::{Error, Result};
