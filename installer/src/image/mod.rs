//! Cluster images: OCI images that carry all of a cluster.
//!
//! An image's layers hold, by path, `/node` (a node's root filesystem),
//! `/images/<group>` (container images as OCI layouts) and `/manifests`. Start
//! reading at [`Store`], which keeps images and unpacks them, and at [`build()`],
//! which makes one from a Kubefile and the parts that `images/` describes.
//! `docs/cluster-image.md` is the format's description.
//!
//! This module knows nothing of clusters and nodes: it yields folders.

mod archive;
pub(crate) mod blobs;
pub mod build;
mod containers;
mod error;
mod evict;
pub mod kubefile;
pub mod layer;
mod lock;
pub mod oci;
mod reference;
mod registry;
mod store;

pub use build::{BuildOptions, DEFAULT_NAME, REQUIRED_PACKAGES, RequiredPackage, build};
pub use containers::{ContainerImage, container_images};
pub use error::{Error, Result};
pub use evict::Evicted;
pub use lock::Lock;
pub use reference::{Reference, repository};
pub use registry::fill_registry;
pub use store::{Image, Layer, Store, default_cache_dir};

/// The label that tells a cluster image from others; its value is `cluster`.
pub const LABEL_IMAGE: &str = "dev.atoll.image";
/// The label with the format's number, [`FORMAT`].
pub const LABEL_FORMAT: &str = "dev.atoll.format";
/// The label with Go's name of the processor.
pub const LABEL_ARCH: &str = "dev.atoll.arch";
/// The label with Kubernetes' version, for example v1.34.10.
pub const LABEL_KUBERNETES: &str = "dev.atoll.kubernetes.version";
/// The format that this version reads and writes.
pub const FORMAT: u32 = 1;
