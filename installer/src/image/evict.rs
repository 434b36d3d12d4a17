//! Keeping the cache within its size: what was used longest ago goes first, and
//! nothing that a cluster uses.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::error::Context as _;
use super::oci::Digest;
use super::{Error, Lock, Result, Store};

/// What eviction did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Evicted {
    /// The cache's size before, in bytes.
    pub before: u64,
    /// And after.
    pub after: u64,
    /// What went: images by name, folders by path.
    pub removed: Vec<String>,
}

enum What {
    Folder(PathBuf),
    Image(Digest, String),
}

impl Store {
    /// How much the cache may hold unless it is said otherwise: 20 GiB.
    pub const LIMIT: u64 = 20 << 30;

    /// Removes what was used longest ago until the cache is within `limit` bytes.
    /// Images in `keep` (by digest) and those that clusters hold stay, with their
    /// unpacked layers.
    pub fn evict(&self, limit: u64, keep: &[Digest]) -> Result<Evicted> {
        let lock = self.lock(|_| {})?;
        self.collect(&lock)?;
        let mut kept: BTreeSet<Digest> = self.owners()?.into_keys().collect();
        kept.extend(keep.iter().cloned());

        let index = self.index()?;
        let mut layers_kept = BTreeSet::new();
        let mut items = Vec::new();
        let mut seen = BTreeSet::new();
        for manifest in &index.manifests {
            if !seen.insert(manifest.digest.clone()) {
                continue;
            }
            let layers = self.manifest(manifest).map(|m| m.layers).unwrap_or_default();
            if kept.contains(&manifest.digest) {
                layers_kept.extend(layers.into_iter().map(|l| l.digest.hex().to_owned()));
            } else {
                let used = self.cache().join("used").join(manifest.digest.hex());
                let used = modified(&used).or_else(|| modified(&self.blobs().path(&manifest.digest)));
                let size = layers.iter().map(|l| l.size).sum();
                let name = manifest.name().unwrap_or_default().to_owned();
                items.push((
                    used.unwrap_or(SystemTime::UNIX_EPOCH),
                    size,
                    What::Image(manifest.digest.clone(), name),
                ));
            }
        }
        for folder in ["layers", "parts"] {
            for path in children(&self.cache().join(folder))? {
                // A dot begins what is just being made.
                let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                if layers_kept.contains(name) || name.starts_with('.') {
                    continue;
                }
                let size = size_of(&path)?;
                items.push((modified(&path).unwrap_or(SystemTime::UNIX_EPOCH), size, What::Folder(path)));
            }
        }
        for folder in ["go-build", "buildah"] {
            let path = self.cache().join(folder);
            if path.exists() {
                let size = size_of(&path)?;
                items.push((modified(&path).unwrap_or(SystemTime::UNIX_EPOCH), size, What::Folder(path)));
            }
        }

        items.sort_by_key(|(used, ..)| *used);
        let before = self.size()?;
        let mut evicted = Evicted { before, after: before, removed: Vec::new() };
        for (_, _, what) in items {
            if evicted.after <= limit {
                break;
            }
            match what {
                What::Folder(path) => {
                    remove(&path)?;
                    evicted.removed.push(path.display().to_string());
                }
                What::Image(digest, name) => {
                    let mut index = self.index()?;
                    index.manifests.retain(|m| m.digest != digest);
                    self.write_index(&index)?;
                    self.collect(&lock)?;
                    evicted.removed.push(name);
                }
            }
            evicted.after = self.size()?;
        }
        Ok(evicted)
    }

    /// What images and their making take on the disk. Cargo's folder beside them
    /// is cargo's own.
    fn size(&self) -> Result<u64> {
        let mut size = 0;
        for folder in ["images", "layers", "parts", "go-build", "buildah"] {
            size += size_of(&self.cache().join(folder))?;
        }
        Ok(size)
    }

    /// Deletes blobs and unpacked layers that no image needs, and what an
    /// interrupted run left. Needs the lock.
    pub(crate) fn collect(&self, _lock: &Lock) -> Result<()> {
        let mut needed = BTreeSet::new();
        let mut layers = BTreeSet::new();
        for manifest in &self.index()?.manifests {
            needed.insert(manifest.digest.hex().to_owned());
            // An unreadable manifest keeps nothing alive: it can't be used.
            let Ok(document) = self.manifest(manifest) else { continue };
            needed.insert(document.config.digest.hex().to_owned());
            for layer in document.layers {
                layers.insert(layer.digest.hex().to_owned());
            }
        }
        for digest in self.owners()?.into_keys() {
            let descriptor = super::oci::Descriptor::new(super::oci::MANIFEST, digest, 0);
            if let Ok(document) = self.manifest(&descriptor) {
                needed.insert(descriptor.digest.hex().to_owned());
                needed.insert(document.config.digest.hex().to_owned());
                layers.extend(document.layers.iter().map(|l| l.digest.hex().to_owned()));
            }
        }
        let unneeded = |path: &Path, needed: &[&BTreeSet<String>]| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            !needed.iter().any(|set| set.contains(name))
        };
        for path in children(&self.images_dir().join("blobs/sha256"))? {
            if unneeded(&path, &[&needed, &layers]) {
                remove(&path)?;
            }
        }
        for path in children(&self.cache().join("layers"))? {
            if unneeded(&path, &[&layers]) {
                remove(&path)?;
            }
        }
        for path in children(&self.cache().join("used"))? {
            if unneeded(&path, &[&needed]) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.symlink_metadata().and_then(|m| m.modified()).ok()
}

fn children(dir: &Path) -> Result<Vec<PathBuf>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.map(|e| e.map(|e| e.path()).on("reading", dir)).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).on("reading", dir),
    }
}

fn remove(path: &Path) -> Result<()> {
    let result = if path.is_dir() && !path.is_symlink() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { doing: "removing", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// The disk that a tree takes; a file that is linked twice counts once.
fn size_of(path: &Path) -> Result<u64> {
    fn walk(path: &Path, seen: &mut BTreeSet<(u64, u64)>) -> Result<u64> {
        let Ok(meta) = path.symlink_metadata() else {
            return Ok(0);
        };
        if !meta.is_dir() {
            let first = meta.nlink() == 1 || seen.insert((meta.dev(), meta.ino()));
            return Ok(if first { meta.blocks() * 512 } else { 0 });
        }
        let mut size = 0;
        for child in children(path)? {
            size += walk(&child, seen)?;
        }
        Ok(size)
    }
    walk(path, &mut BTreeSet::new())
}
