//! Parts: what an image is made of, kept by a key that is the hash of all their
//! inputs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::image::error::Context as _;
use crate::image::layer::tree_digest;
use crate::image::oci::Digest;
use crate::image::{Error, Lock, Result};

/// Hashes the inputs of a part: each by its name and its length, so that no two
/// lists of inputs have one key.
#[derive(Debug, Clone)]
pub(crate) struct Key(Sha256);

impl Key {
    /// `kind` names the recipe, with a number that grows when the recipe changes.
    pub fn new(kind: &str) -> Self {
        Self(Sha256::new()).with("kind", kind)
    }

    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for bytes in [name.as_bytes(), value.as_ref()] {
            self.0.update((bytes.len() as u64).to_le_bytes());
            self.0.update(bytes);
        }
        self
    }

    /// A file's content; absent is an input too.
    pub fn with_file(self, name: &str, path: &Path) -> Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(self.with(name, bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(self.with(name, "absent")),
            Err(error) => Err(error).on("reading", path),
        }
    }

    /// A folder's files by name and content, not their owners and times, which
    /// a checkout doesn't keep.
    pub fn with_folder(mut self, name: &str, dir: &Path) -> Result<Self> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir).on("reading", dir)? {
            entries.push(entry.on("reading", dir)?.path());
        }
        entries.sort();
        for path in entries {
            let name = format!("{name}/{}", path.file_name().unwrap_or_default().to_string_lossy());
            self =
                if path.is_dir() { self.with_folder(&name, &path)? } else { self.with_file(&name, &path)? };
        }
        Ok(self)
    }

    pub fn finish(self) -> Digest {
        Digest::from_hash(&self.0.finalize())
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: Digest,
    tree: Digest,
}

/// A part in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The hash of its inputs.
    pub key: Digest,
    /// The hash of its content.
    pub tree: Digest,
    folder: PathBuf,
}

impl Part {
    /// Its content, not checked: for what reads a line of it.
    pub fn content(&self) -> PathBuf {
        self.folder.join("content")
    }

    /// Its content, after a check that it is what was built. A damaged part is
    /// thrown away, so that the next attempt builds it again.
    pub fn checked(&self) -> Result<PathBuf> {
        let content = self.content();
        let actual = tree_digest(&content)?;
        if actual != self.tree {
            std::fs::remove_dir_all(&self.folder).on("removing", &self.folder)?;
            return Err(Error::DamagedBlob { path: self.folder.clone(), actual: actual.to_string() });
        }
        Ok(content)
    }
}

/// The cache of parts.
#[derive(Debug)]
pub(crate) struct Parts {
    dir: PathBuf,
}

impl Parts {
    /// What must be free before a part is built; the largest take half of it.
    const ROOM: u64 = 2 << 30;

    pub fn new(cache: &Path) -> Result<Self> {
        let dir = cache.join("parts");
        std::fs::create_dir_all(&dir).on("making", &dir)?;
        Ok(Self { dir })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// One build at a time: two would build the same parts.
    pub fn lock(&self, waiting: impl Fn(&str)) -> Result<Lock> {
        let lock = crate::image::lock::lock(&self.dir.with_extension("lock"), waiting)?;
        // Nobody else builds, so what lies here unfinished was interrupted.
        for entry in std::fs::read_dir(&self.dir).on("reading", &self.dir)? {
            let path = entry.on("reading", &self.dir)?.path();
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(".new-")) {
                std::fs::remove_dir_all(&path).on("removing", &path)?;
            }
        }
        Ok(lock)
    }

    /// The part if it is there, and marks it as used now.
    pub fn find(&self, name: &str, key: &Digest) -> Option<Part> {
        let folder = self.folder(name, key);
        let record: Record = serde_json::from_slice(&std::fs::read(folder.join("part.json")).ok()?).ok()?;
        if record.key != *key || !folder.join("content").is_dir() {
            return None;
        }
        if let Ok(dir) = std::fs::File::open(&folder) {
            let _ = dir.set_modified(std::time::SystemTime::now());
        }
        Some(Part { key: record.key, tree: record.tree, folder })
    }

    fn folder(&self, name: &str, key: &Digest) -> PathBuf {
        self.dir.join(format!("{name}-{}", key.hex().get(..16).unwrap_or_default()))
    }

    /// The part, built into an empty folder if it isn't there.
    pub fn get(&self, name: &str, key: &Digest, build: impl FnOnce(&Path) -> Result<()>) -> Result<Part> {
        if let Some(part) = self.find(name, key) {
            return Ok(part);
        }
        crate::image::blobs::require_room(&self.dir, Self::ROOM)?;
        let new = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(&self.dir)
            .on("making a folder in", &self.dir)?;
        let content = new.path().join("content");
        std::fs::create_dir(&content).on("making", &content)?;
        build(&content)?;
        let tree = tree_digest(&content)?;
        let record = Record { key: key.clone(), tree: tree.clone() };
        let path = new.path().join("part.json");
        let bytes = serde_json::to_vec(&record)
            .map_err(|e| Error::BadStore { path: path.clone(), why: e.to_string() })?;
        std::fs::write(&path, bytes).on("writing", &path)?;
        let folder = self.folder(name, key);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).on("removing", &folder)?;
        }
        std::fs::rename(new.path(), &folder).on("making", &folder)?;
        drop(new.keep());
        Ok(Part { key: key.clone(), tree, folder })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_that_look_alike_have_different_keys() {
        let key = |pairs: &[(&str, &str)]| {
            pairs.iter().fold(Key::new("test"), |key, (n, v)| key.with(n, v)).finish()
        };
        assert_eq!(key(&[("a", "b")]), key(&[("a", "b")]));
        assert_ne!(key(&[("a", "bc")]), key(&[("ab", "c")]));
        assert_ne!(key(&[("a", "b"), ("c", "")]), key(&[("a", "b")]));
        assert_ne!(key(&[]), Key::new("test2").finish());
    }

    #[test]
    fn a_part_is_built_once_and_a_damaged_one_again() {
        let dir = tempfile::tempdir().unwrap();
        let parts = Parts::new(dir.path()).unwrap();
        let key = Key::new("test").finish();
        let builds = std::cell::Cell::new(0);
        let get = || {
            parts.get("thing", &key, |into| {
                builds.set(builds.get() + 1);
                std::fs::write(into.join("file"), "content").on("writing", into)
            })
        };
        let part = get().unwrap();
        get().unwrap().checked().unwrap();
        assert_eq!(builds.get(), 1);
        std::fs::write(part.content().join("file"), "damaged").unwrap();
        let error = get().unwrap().checked().unwrap_err();
        assert!(matches!(error, Error::DamagedBlob { .. }), "{error}");
        get().unwrap().checked().unwrap();
        assert_eq!(builds.get(), 2);
    }

    #[test]
    fn a_failed_build_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let parts = Parts::new(dir.path()).unwrap();
        let key = Key::new("test").finish();
        let failed = parts.get("thing", &key, |_| Err(Error::Offline { part: "thing".into() }));
        assert!(failed.is_err());
        assert_eq!(std::fs::read_dir(parts.dir()).unwrap().count(), 0);
    }
}
