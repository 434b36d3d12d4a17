//! The store: cluster images in an OCI layout, and their unpacked layers.
//!
//! ```text
//! <cache>/images/       oci-layout, index.json, blobs/sha256/<digest>
//! <cache>/layers/       <digest>/: a layer unpacked
//! <cache>/parts/        what images are made of, by key
//! <cache>/in-use/       one file for each cluster: the digest of its image
//! <cache>/lock          held while something of this is changed
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::blobs::{Blobs, write_atomically};
use super::error::Context as _;
use super::oci::{self, Config, Descriptor, Digest, Index, Manifest};
use super::{Error, FORMAT, LABEL_ARCH, LABEL_FORMAT, LABEL_IMAGE, Lock, Reference, Result, layer, lock};

/// A cluster image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Its name and tag.
    pub reference: String,
    /// Its manifest's digest.
    pub digest: Digest,
    /// What its Kubefile's LABEL says, documented in docs/cluster-image.md.
    pub labels: BTreeMap<String, String>,
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// Of all its blobs, in bytes.
    pub size: u64,
    /// When it came into the store, in RFC 3339.
    pub created: Option<String>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The instruction that made it, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
}

/// The annotation of a layer with the instruction that made it.
pub(crate) const MADE_BY: &str = "dev.atoll.made-by";

/// Where images are kept.
#[derive(Debug, Clone)]
pub struct Store {
    cache: PathBuf,
    blobs: Blobs,
}

/// The cache's place unless it is said otherwise: `$XDG_CACHE_HOME/atoll`, else
/// `~/.cache/atoll`.
pub fn default_cache_dir() -> PathBuf {
    let home = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    home("XDG_CACHE_HOME")
        .or_else(|| home("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(|| PathBuf::from("/var/cache"))
        .join("atoll")
}

impl Store {
    /// Opens the store in a cache folder, and makes it when it isn't there.
    pub fn open(cache: impl Into<PathBuf>) -> Result<Self> {
        let cache = std::path::absolute(cache.into()).on("finding", Path::new("the cache"))?;
        let images = cache.join("images");
        let store = Self { blobs: Blobs::of_layout(&images), cache };
        for dir in [images.join("blobs/sha256"), store.cache.join("layers")] {
            std::fs::create_dir_all(&dir).on("making", &dir)?;
        }
        let layout = images.join("oci-layout");
        if !layout.exists() {
            write_atomically(&layout, oci::LAYOUT.as_bytes())?;
        }
        Ok(store)
    }

    /// The cache folder.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    pub(crate) fn images_dir(&self) -> PathBuf {
        self.cache.join("images")
    }

    fn index_path(&self) -> PathBuf {
        self.cache.join("images/index.json")
    }

    pub(crate) fn index(&self) -> Result<Index> {
        let path = self.index_path();
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| Error::BadStore { path, why: e.to_string() })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Index::default()),
            Err(error) => Err(error).on("reading", &path),
        }
    }

    pub(crate) fn write_index(&self, index: &Index) -> Result<()> {
        let path = self.index_path();
        let bytes = serde_json::to_vec_pretty(index)
            .map_err(|e| Error::BadStore { path: path.clone(), why: e.to_string() })?;
        write_atomically(&path, &bytes)
    }

    /// Waits until nobody else changes the store. `waiting` is told who does.
    pub fn lock(&self, waiting: impl Fn(&str)) -> Result<Lock> {
        lock::lock(&self.cache.join("lock"), waiting)
    }

    /// All cluster images, by name.
    pub fn list(&self) -> Result<Vec<Image>> {
        self.index()?.manifests.iter().map(|manifest| self.image(manifest)).collect()
    }

    /// The image that `name[:tag]` or a digest's beginning means.
    pub fn find(&self, reference: &str) -> Result<Image> {
        let descriptor = self.find_descriptor(reference)?;
        self.image(&descriptor)
    }

    fn find_descriptor(&self, reference: &str) -> Result<Descriptor> {
        let index = self.index()?;
        let found: Vec<_> = match Reference::parse(reference)? {
            Reference::Name(name) => index.named(&name).into_iter().collect(),
            Reference::Digest(hex) => {
                index.manifests.iter().filter(|m| m.digest.hex().starts_with(&hex)).collect()
            }
        };
        let digests: BTreeSet<_> = found.iter().map(|m| &m.digest).collect();
        match found.first() {
            None => Err(Error::NoSuchImage { reference: reference.to_owned() }),
            Some(_) if digests.len() > 1 => Err(Error::Ambiguous {
                reference: reference.to_owned(),
                candidates: digests.iter().map(|d| format!("sha256:{}", d.short())).collect(),
            }),
            Some(first) => Ok((*first).clone()),
        }
    }

    pub(crate) fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest> {
        let bytes = self.blobs.read(&descriptor.digest)?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::BadStore { path: self.blobs.path(&descriptor.digest), why: e.to_string() })
    }

    pub(crate) fn config(&self, manifest: &Manifest) -> Result<Config> {
        let bytes = self.blobs.read(&manifest.config.digest)?;
        serde_json::from_slice(&bytes).map_err(|e| Error::BadStore {
            path: self.blobs.path(&manifest.config.digest),
            why: e.to_string(),
        })
    }

    pub(crate) fn image(&self, descriptor: &Descriptor) -> Result<Image> {
        let manifest = self.manifest(descriptor)?;
        let config = self.config(&manifest)?;
        let layers: Vec<_> = manifest
            .layers
            .iter()
            .map(|l| Layer {
                digest: l.digest.clone(),
                size: l.size,
                made_by: l.annotations.get(MADE_BY).cloned(),
            })
            .collect();
        Ok(Image {
            reference: descriptor.name().unwrap_or_default().to_owned(),
            digest: descriptor.digest.clone(),
            labels: config.config.labels.unwrap_or_default(),
            size: layers.iter().map(|l| l.size).sum::<u64>() + descriptor.size + manifest.config.size,
            layers,
            created: descriptor.annotations.get(oci::CREATED).cloned(),
        })
    }

    /// Gives a name to a manifest whose blobs are all there. Needs the lock.
    pub(crate) fn put(&self, _lock: &Lock, name: &str, mut manifest: Descriptor) -> Result<Image> {
        let mut index = self.index()?;
        let known = index.named(name).filter(|m| m.digest == manifest.digest);
        let created = match known.and_then(|m| m.annotations.get(oci::CREATED)) {
            Some(created) => created.clone(),
            None => now(),
        };
        manifest.annotations.insert(oci::CREATED.to_owned(), created);
        index.put(name, manifest);
        self.write_index(&index)?;
        self.find(name)
    }

    /// Takes the name away, or all names where a digest is given, and deletes
    /// what no other image needs. Refused while a cluster uses the image.
    pub fn remove(&self, reference: &str) -> Result<Image> {
        let lock = self.lock(|_| {})?;
        let descriptor = self.find_descriptor(reference)?;
        let mut index = self.index()?;
        match Reference::parse(reference)? {
            Reference::Name(name) => index.manifests.retain(|m| m.name() != Some(&name)),
            Reference::Digest(_) => index.manifests.retain(|m| m.digest != descriptor.digest),
        }
        if !index.manifests.iter().any(|m| m.digest == descriptor.digest)
            && let Some(owner) = self.owners()?.remove(&descriptor.digest)
        {
            return Err(Error::InUse { reference: reference.to_owned(), owner });
        }
        // A damaged image must be removable, so what can't be read isn't shown.
        let image = self.image(&descriptor).unwrap_or_else(|_| Image {
            reference: descriptor.name().unwrap_or_default().to_owned(),
            digest: descriptor.digest.clone(),
            labels: BTreeMap::new(),
            layers: Vec::new(),
            size: 0,
            created: descriptor.annotations.get(oci::CREATED).cloned(),
        });
        self.write_index(&index)?;
        self.collect(&lock)?;
        Ok(image)
    }

    /// Says that a cluster uses an image, so that it is neither removed nor
    /// evicted. `owner` is the cluster's name.
    pub fn hold(&self, image: &Image, owner: &str) -> Result<()> {
        let path = self.in_use(owner)?;
        write_atomically(&path, image.digest.to_string().as_bytes())
    }

    /// Says that a cluster uses its image no longer.
    pub fn release(&self, owner: &str) -> Result<()> {
        let path = self.in_use(owner)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).on("removing", &path),
            _ => Ok(()),
        }
    }

    fn in_use(&self, owner: &str) -> Result<PathBuf> {
        match Path::new(owner).file_name() {
            Some(name) if name == owner => Ok(self.cache.join("in-use").join(name)),
            _ => Err(Error::Build {
                what: format!("the cluster {owner:?}"),
                why: "its name can't be a file's; rename it".to_owned(),
            }),
        }
    }

    /// Which clusters hold which images.
    pub(crate) fn owners(&self) -> Result<BTreeMap<Digest, String>> {
        let dir = self.cache.join("in-use");
        let mut owners = BTreeMap::new();
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(owners),
            Err(error) => return Err(error).on("reading", &dir),
        };
        for entry in entries {
            let entry = entry.on("reading", &dir)?;
            let text = std::fs::read_to_string(entry.path()).on("reading", &entry.path())?;
            if let Ok(digest) = Digest::try_from(text.trim().to_owned()) {
                owners.insert(digest, format!("the cluster {}", entry.file_name().to_string_lossy()));
            }
        }
        Ok(owners)
    }

    /// Fails unless the image is a cluster image for this machine, in a format
    /// that this version reads. `what` names it in the message.
    pub fn check(labels: &BTreeMap<String, String>, architecture: &str, what: &str) -> Result<()> {
        let wrong = |why: &str| Err(Error::Format { what: what.to_owned(), why: why.to_owned() });
        if labels.get(LABEL_IMAGE).map(String::as_str) != Some("cluster") {
            return wrong(&format!(
                "is an OCI image, but not a cluster image (its label {LABEL_IMAGE} is not \"cluster\"); give one that `atoll image build` made"
            ));
        }
        match labels.get(LABEL_FORMAT).map(|f| f.parse::<u32>()) {
            Some(Ok(FORMAT)) => {}
            Some(Ok(newer)) if newer > FORMAT => {
                return wrong(&format!(
                    "has the format {newer}, this atoll reads {FORMAT}; use a newer atoll or an older image"
                ));
            }
            _ => {
                return wrong(&format!(
                    "has no format that this atoll reads (the label {LABEL_FORMAT} should be {FORMAT}); build it again"
                ));
            }
        }
        let wants = oci::this_architecture();
        let is = labels.get(LABEL_ARCH).map_or(architecture, String::as_str);
        for is in [is, architecture] {
            if is != wants {
                return Err(Error::Architecture { what: what.to_owned(), is: is.to_owned(), wants });
            }
        }
        Ok(())
    }

    /// Unpacks what isn't yet, and returns each layer's folder, lowest first.
    /// Stack `<folder>/node` of all of them for a node's root; read `images` and
    /// `manifests` of each.
    pub fn unpacked(&self, image: &Image) -> Result<Vec<PathBuf>> {
        self.unpacked_with(image, &crate::progress::Quiet)
    }

    /// As [`Store::unpacked`], and says how far it is.
    pub fn unpacked_with(
        &self,
        image: &Image,
        progress: &dyn crate::progress::Progress,
    ) -> Result<Vec<PathBuf>> {
        let _lock = self.lock(|why| progress.update(why, None, None))?;
        let total = image.layers.len() as u64;
        let mut folders = Vec::new();
        for (done, layer) in image.layers.iter().enumerate() {
            progress.update("layers unpacked", Some(done as u64), Some(total));
            folders.push(self.unpack(layer)?);
        }
        self.touch(&image.digest)?;
        Ok(folders)
    }

    fn unpack(&self, layer: &Layer) -> Result<PathBuf> {
        let dir = self.cache.join("layers");
        let folder = dir.join(layer.digest.hex());
        let marker = folder.join(MARKER);
        if std::fs::read_to_string(&marker).is_ok_and(|text| text == layer.digest.to_string()) {
            return Ok(folder);
        }
        if folder.exists() {
            std::fs::remove_dir_all(&folder).on("removing", &folder)?;
        }
        super::blobs::require_room(&dir, layer.size)?;
        let new = tempfile::Builder::new().prefix(".new-").tempdir_in(&dir).on("making a folder in", &dir)?;
        let blob = self.blobs.open(&layer.digest)?;
        // A damaged blob is told as such, not as the nonsense that it unpacks to.
        match layer::unpack(blob, new.path(), &layer.digest.to_string()) {
            Ok(blob) => {
                blob.finish()?;
            }
            Err(error) => {
                self.blobs.open(&layer.digest)?.finish()?;
                return Err(error);
            }
        }
        std::fs::write(new.path().join(MARKER), layer.digest.to_string()).on("writing", &marker)?;
        super::blobs::set_mode(new.path(), 0o755)?;
        std::fs::rename(new.path(), &folder).on("making", &folder)?;
        drop(new.keep());
        Ok(folder)
    }

    /// Remembers that the image was used now.
    pub(crate) fn touch(&self, digest: &Digest) -> Result<()> {
        let path = self.cache.join("used").join(digest.hex());
        write_atomically(&path, b"")
    }
}

/// In an unpacked layer's folder: the layer's digest, when it is complete.
const MARKER: &str = ".atoll-layer";

fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}
