//! An image as one file: an OCI layout in a tar.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::blobs::{Blobs, Hashing};
use super::error::Context as _;
use super::oci::{self, Config, Digest, Index, Manifest};
use super::{Error, Image, Result, Store, layer};

impl Store {
    /// Writes an image to a file: an OCI layout in a tar, that other tools read
    /// too. Every blob is checked as it is written; the file appears when it is
    /// complete.
    pub fn save(&self, reference: &str, file: &Path) -> Result<Image> {
        let image = self.find(reference)?;
        let _lock = self.lock(|_| {})?;
        let index = self.index()?;
        let Some(descriptor) = index.manifests.iter().find(|m| m.digest == image.digest) else {
            return Err(Error::NoSuchImage { reference: reference.to_owned() });
        };
        let manifest = self.manifest(descriptor)?;
        let dir = match file.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let new = tempfile::Builder::new().prefix(".atoll-").tempfile_in(dir).on("making a file in", dir)?;
        let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, new));
        let mut only = Index::default();
        only.put(
            &image.reference,
            oci::Descriptor::new(&descriptor.media_type, descriptor.digest.clone(), descriptor.size),
        );
        let only = serde_json::to_vec(&only)
            .map_err(|e| Error::BadStore { path: file.to_owned(), why: e.to_string() })?;
        append(&mut tar, "oci-layout", oci::LAYOUT.as_bytes(), oci::LAYOUT.len() as u64)
            .on("writing", file)?;
        append(&mut tar, "index.json", only.as_slice(), only.len() as u64).on("writing", file)?;
        let mut blobs: BTreeMap<&Digest, u64> = BTreeMap::new();
        blobs.insert(&descriptor.digest, descriptor.size);
        blobs.insert(&manifest.config.digest, manifest.config.size);
        blobs.extend(manifest.layers.iter().map(|l| (&l.digest, l.size)));
        for (digest, size) in blobs {
            let mut blob = self.blobs().open(digest)?;
            let path = self.blobs().path(digest);
            let length = path.metadata().on("reading", &path)?.len();
            if length != size {
                return Err(Error::DamagedBlob { path, actual: format!("{length} bytes long, not {size}") });
            }
            append(&mut tar, &format!("blobs/sha256/{}", digest.hex()), &mut blob, size)
                .on("writing", file)?;
            blob.finish()?;
        }
        let new = tar
            .into_inner()
            .and_then(|buffered| buffered.into_inner().map_err(std::io::IntoInnerError::into_error))
            .on("writing", file)?;
        new.as_file().sync_all().on("writing", file)?;
        super::blobs::set_mode(new.path(), 0o644)?;
        new.persist(file).map_err(|e| e.error).on("writing", file)?;
        Ok(image)
    }

    /// Takes an image from a file that [`Store::save`] or another OCI tool wrote.
    /// Everything is checked first; on any error the store stays as it was.
    pub fn load(&self, file: &Path) -> Result<Image> {
        let lock = self.lock(|_| {})?;
        let dir = self.images_dir();
        let length = file.metadata().on("reading", file)?.len();
        super::blobs::require_room(&dir, length)?;
        let incoming =
            tempfile::Builder::new().prefix(".load-").tempdir_in(&dir).on("making a folder in", &dir)?;
        let index = receive(file, incoming.path())?;
        let (name, descriptor) = match index.manifests.as_slice() {
            [one] => (one.name().unwrap_or_default().to_owned(), one.clone()),
            others => {
                return Err(Error::NotAnArchive {
                    file: file.to_owned(),
                    why: format!("it holds {} images, not one", others.len()),
                });
            }
        };
        let Ok(super::Reference::Name(name)) = super::Reference::parse(&name) else {
            return Err(Error::NotAnArchive {
                file: file.to_owned(),
                why: format!("its image has the name {name:?}"),
            });
        };
        let blobs = Blobs::of_layout(incoming.path());
        let missing = |digest: &Digest, size: u64| {
            if blobs.has(digest, size) {
                Ok(())
            } else {
                Err(Error::Truncated {
                    file: file.to_owned(),
                    what: format!("{digest} ({size} bytes) is not in it"),
                })
            }
        };
        let nonsense =
            |e: serde_json::Error| Error::NotAnArchive { file: file.to_owned(), why: e.to_string() };
        missing(&descriptor.digest, descriptor.size)?;
        let manifest: Manifest =
            serde_json::from_slice(&blobs.read(&descriptor.digest)?).map_err(nonsense)?;
        missing(&manifest.config.digest, manifest.config.size)?;
        let config: Config =
            serde_json::from_slice(&blobs.read(&manifest.config.digest)?).map_err(nonsense)?;
        let labels = config.config.labels.clone().unwrap_or_default();
        Self::check(&labels, &config.architecture, &file.display().to_string())?;
        for layer in &manifest.layers {
            if layer.media_type != oci::LAYER {
                return Err(Error::Format {
                    what: file.display().to_string(),
                    why: format!(
                        "has a layer of the type {}; save it with its layers uncompressed",
                        layer.media_type
                    ),
                });
            }
            missing(&layer.digest, layer.size)?;
        }
        let all = manifest.layers.iter().chain([&manifest.config, &descriptor]);
        for blob in all {
            let (from, to) = (blobs.path(&blob.digest), self.blobs().path(&blob.digest));
            if from.exists() {
                std::fs::rename(&from, &to).on("writing", &to)?;
            }
        }
        let plain = oci::Descriptor::new(oci::MANIFEST, descriptor.digest, descriptor.size);
        self.put(&lock, &name, plain)
    }
}

fn append<W: Write, R: Read>(
    tar: &mut tar::Builder<W>,
    name: &str,
    content: R,
    size: u64,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    tar.append_data(&mut header, name, content)
}

/// Unpacks an archive's layout into a folder, checking each blob's digest.
fn receive(file: &Path, into: &Path) -> Result<Index> {
    let not = |why: &str| Error::NotAnArchive { file: file.to_owned(), why: why.to_owned() };
    let opened = File::open(file).on("opening", file)?;
    if !opened.metadata().on("reading", file)?.is_file() {
        return Err(not("it is no file"));
    }
    let mut reader = BufReader::with_capacity(1 << 20, opened);
    let mut start = [0_u8; 4];
    let got = std::io::BufRead::fill_buf(&mut reader).on("reading", file)?;
    for (to, from) in start.iter_mut().zip(got) {
        *to = *from;
    }
    match start {
        [0x1f, 0x8b, ..] => return Err(not("it is compressed by gzip; run gunzip on it first")),
        [0x28, 0xb5, 0x2f, 0xfd] => return Err(not("it is compressed by zstd; run zstd -d on it first")),
        [0, 0, 0, 0] if got.is_empty() => return Err(not("it is empty")),
        _ => {}
    }
    let blobs = Blobs::of_layout(into);
    let mut index: Option<Index> = None;
    let mut layout = false;
    let mut entries = 0_u64;
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().on("reading", file)? {
        let mut entry = entry.map_err(|error| broken(file, entries, &error))?;
        entries += 1;
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = entry.path().map_err(|e| broken(file, entries, &e))?.into_owned();
        let Some(path) = layer::inside(&path).filter(|_| !path.is_absolute()) else {
            return Err(Error::Escape { what: file.display().to_string(), entry: shown });
        };
        match entry.header().entry_type() {
            tar::EntryType::Directory | tar::EntryType::XGlobalHeader => continue,
            tar::EntryType::Regular | tar::EntryType::Continuous => {}
            _ => return Err(Error::Escape { what: file.display().to_string(), entry: shown }),
        }
        let wanted = entry.size();
        let text = path.to_str().unwrap_or_default();
        if text == "oci-layout" {
            layout = true;
        } else if text == "index.json" {
            let mut bytes = Vec::new();
            entry.by_ref().take(1 << 20).read_to_end(&mut bytes).map_err(|e| broken(file, entries, &e))?;
            index = Some(serde_json::from_slice(&bytes).map_err(|e| not(&format!("its index.json: {e}")))?);
        } else if let Some(hex) = text.strip_prefix("blobs/sha256/") {
            let digest = Digest::from_hex(hex).ok_or_else(|| not(&format!("{shown:?} is no digest")))?;
            let mut blob = blobs.create()?;
            let mut hashing = Hashing::new(&mut blob);
            std::io::copy(&mut entry, &mut hashing).map_err(|e| broken(file, entries, &e))?;
            let (_, actual, size) = hashing.finish();
            if size != wanted {
                return Err(Error::Truncated {
                    file: file.to_owned(),
                    what: format!("it ends inside {shown}"),
                });
            }
            if actual != digest {
                return Err(Error::Damaged {
                    file: file.to_owned(),
                    what: format!("the content of {shown} is {actual}"),
                });
            }
            blob.finish()?;
        }
    }
    match index {
        Some(index) if layout => Ok(index),
        _ if entries == 0 => Err(not("it is no tar archive")),
        _ => Err(not("it has no oci-layout and index.json")),
    }
}

fn broken(file: &Path, entries: u64, error: &std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return Error::Truncated {
            file: file.to_owned(),
            what: "it ends in the middle of an entry".to_owned(),
        };
    }
    match error.raw_os_error() {
        Some(_) => Error::Io {
            doing: "unpacking",
            path: file.to_owned(),
            source: std::io::Error::other(error.to_string()),
        },
        None if entries == 0 => {
            Error::NotAnArchive { file: file.to_owned(), why: "it is no tar archive".to_owned() }
        }
        None => Error::Damaged { file: file.to_owned(), what: error.to_string() },
    }
}
