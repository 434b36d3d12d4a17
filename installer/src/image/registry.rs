//! A registry's storage, filled without a registry: the container images of a
//! cluster image in the folders that distribution's filesystem driver reads.

use std::path::{Path, PathBuf};

use super::blobs::{Blobs, link_or_copy};
use super::containers::{layouts, read_index};
use super::error::Context as _;
use super::oci::{Descriptor, Digest, Index, Manifest};
use super::reference::split_tag;
use super::{Error, Result, repository};

/// Puts all container images of the unpacked layers into a registry's storage
/// folder, under their path without the registry's host: `registry.k8s.io/pause`
/// becomes `pause`. Files are linked where that is possible. Run again it adds
/// what is new; a tag moves to the newest layer's image. Returns their names.
pub fn fill_registry(layers: &[PathBuf], dir: &Path) -> Result<Vec<String>> {
    let root = dir.join("docker/registry/v2");
    let mut names = Vec::new();
    for (_, layout) in layouts(layers)? {
        let blobs = Blobs::of_layout(&layout);
        for image in read_index(&layout)?.manifests {
            let Some(name) = image.name().map(str::to_owned) else { continue };
            let (_, tag) = split_tag(&name);
            let repository = super::layer::inside(Path::new(repository(&name)))
                .ok_or_else(|| Error::Escape { what: layout.display().to_string(), entry: name.clone() })?;
            let repository = root.join("repositories").join(repository);
            add_manifest(&blobs, &root, &repository, &image)?;
            let tag = tag.unwrap_or("latest");
            let tag = repository.join("_manifests/tags").join(tag);
            link(&tag.join("current"), &image.digest)?;
            link(&tag.join("index/sha256").join(image.digest.hex()), &image.digest)?;
            names.push(name);
        }
    }
    Ok(names)
}

fn add_manifest(blobs: &Blobs, root: &Path, repository: &Path, manifest: &Descriptor) -> Result<()> {
    add_blob(blobs, root, &manifest.digest)?;
    link(&repository.join("_manifests/revisions/sha256").join(manifest.digest.hex()), &manifest.digest)?;
    let bytes = blobs.read(&manifest.digest)?;
    let wrong = |e: serde_json::Error| Error::Format {
        what: blobs.path(&manifest.digest).display().to_string(),
        why: format!("is no OCI manifest ({e}); write its group again as an OCI layout"),
    };
    if let Ok(index) = serde_json::from_slice::<Index>(&bytes)
        && !index.manifests.is_empty()
    {
        for one in &index.manifests {
            // A layout may carry one processor's image of several.
            if blobs.has(&one.digest, one.size) {
                add_manifest(blobs, root, repository, one)?;
            }
        }
        return Ok(());
    }
    let document: Manifest = serde_json::from_slice(&bytes).map_err(wrong)?;
    for blob in document.layers.iter().chain([&document.config]) {
        add_blob(blobs, root, &blob.digest)?;
        link(&repository.join("_layers/sha256").join(blob.digest.hex()), &blob.digest)?;
    }
    Ok(())
}

fn add_blob(blobs: &Blobs, root: &Path, digest: &Digest) -> Result<()> {
    let hex = digest.hex();
    let dir = root.join("blobs/sha256").join(hex.get(..2).unwrap_or_default()).join(hex);
    let data = dir.join("data");
    if data.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(&dir).on("making", &dir)?;
    // Linked under another name first: a half-copied blob must not be served.
    let new = dir.join(".new");
    let _ = std::fs::remove_file(&new);
    link_or_copy(&blobs.path(digest), &new)?;
    std::fs::rename(&new, &data).on("writing", &data)
}

fn link(dir: &Path, digest: &Digest) -> Result<()> {
    std::fs::create_dir_all(dir).on("making", dir)?;
    let path = dir.join("link");
    std::fs::write(&path, digest.to_string()).on("writing", &path)
}
