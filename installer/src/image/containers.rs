//! The container images that a cluster image carries.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::Context as _;
use super::oci::{Digest, Index};
use super::{Error, Result};

/// A container image in a group of a cluster image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerImage {
    /// Its full name with tag.
    pub name: String,
    /// The group, a folder of `/images`.
    pub group: String,
    /// Its manifest's digest.
    pub digest: Digest,
    /// The layout's folder, to be handed to `ctr images import` as a tar.
    #[serde(skip)]
    pub layout: PathBuf,
}

/// The layouts in unpacked layers: (group, folder). A group of a higher layer
/// adds to a lower one's of the same name.
pub(crate) fn layouts(layers: &[PathBuf]) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for layer in layers {
        let images = layer.join("images");
        let entries = match std::fs::read_dir(&images) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).on("reading", &images),
        };
        let mut groups = Vec::new();
        for entry in entries {
            let entry = entry.on("reading", &images)?;
            if entry.path().join("index.json").is_file() {
                groups.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
            }
        }
        groups.sort();
        found.extend(groups);
    }
    Ok(found)
}

pub(crate) fn read_index(layout: &Path) -> Result<Index> {
    let path = layout.join("index.json");
    let bytes = std::fs::read(&path).on("reading", &path)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Format {
        what: path.display().to_string(),
        why: format!("is no OCI index ({e}); write the group again as an OCI layout"),
    })
}

/// All container images in unpacked layers, by group and name.
pub fn container_images(layers: &[PathBuf]) -> Result<Vec<ContainerImage>> {
    let mut images = Vec::new();
    for (group, layout) in layouts(layers)? {
        for manifest in read_index(&layout)?.manifests {
            images.push(ContainerImage {
                name: manifest.name().unwrap_or_default().to_owned(),
                group: group.clone(),
                digest: manifest.digest,
                layout: layout.clone(),
            });
        }
    }
    Ok(images)
}
