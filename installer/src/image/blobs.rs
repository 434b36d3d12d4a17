//! Content under its digest: written whole or not at all, checked when used.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::error::Context as _;
use super::oci::Digest;
use super::{Error, Result};

/// A folder `blobs/sha256`.
#[derive(Debug, Clone)]
pub struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    /// In a layout's folder.
    pub fn of_layout(layout: &Path) -> Self {
        Self { dir: layout.join("blobs/sha256") }
    }

    /// Where a blob is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    /// Whether it is there with this length.
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        std::fs::metadata(self.path(digest)).is_ok_and(|m| m.is_file() && m.len() == size)
    }

    /// A small blob's content, checked.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.path(digest);
        let bytes = std::fs::read(&path).on("reading", &path)?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(Error::DamagedBlob { path, actual: actual.to_string() });
        }
        Ok(bytes)
    }

    /// A large blob's content; [`Checked::finish`] tells whether it was right.
    pub fn open(&self, digest: &Digest) -> Result<Checked<BufReader<File>>> {
        let path = self.path(digest);
        let file = File::open(&path).on("opening", &path)?;
        Ok(Checked {
            inner: Hashing::new(BufReader::with_capacity(1 << 20, file)),
            digest: digest.clone(),
            path,
        })
    }

    /// Begins a new blob, whose digest is known when it is finished.
    pub fn create(&self) -> Result<NewBlob> {
        std::fs::create_dir_all(&self.dir).on("making", &self.dir)?;
        let file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(&self.dir)
            .on("making a file in", &self.dir)?;
        Ok(NewBlob { inner: Hashing::new(BufWriter::with_capacity(1 << 20, file)), dir: self.dir.clone() })
    }

    /// Writes a small blob.
    pub fn write(&self, bytes: &[u8]) -> Result<(Digest, u64)> {
        let mut blob = self.create()?;
        blob.write_all(bytes).on("writing in", &self.dir)?;
        blob.finish()
    }
}

/// A blob that is being written; gone when it is dropped unfinished.
#[derive(Debug)]
pub struct NewBlob {
    inner: Hashing<BufWriter<tempfile::NamedTempFile>>,
    dir: PathBuf,
}

impl NewBlob {
    /// Gives the blob its name.
    pub fn finish(self) -> Result<(Digest, u64)> {
        let (writer, digest, size) = self.inner.finish();
        let path = self.dir.join(digest.hex());
        let file = writer.into_inner().map_err(std::io::IntoInnerError::into_error).on("writing", &path)?;
        set_mode(file.path(), 0o644)?;
        file.persist(&path).map_err(|e| e.error).on("writing", &path)?;
        Ok((digest, size))
    }
}

impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Hashes and counts what passes through.
#[derive(Debug)]
pub struct Hashing<T> {
    inner: T,
    hash: Sha256,
    count: u64,
}

impl<T> Hashing<T> {
    /// Around a reader or a writer.
    pub fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    /// What was inside, and the digest and length of what has passed.
    pub fn finish(self) -> (T, Digest, u64) {
        (self.inner, Digest::from_hash(&self.hash.finalize()), self.count)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if let Some(read) = buffer.get(..n) {
            self.hash.update(read);
        }
        self.count += n as u64;
        Ok(n)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(bytes)?;
        if let Some(written) = bytes.get(..n) {
            self.hash.update(written);
        }
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// A blob that is being read.
#[derive(Debug)]
pub struct Checked<R> {
    inner: Hashing<R>,
    digest: Digest,
    path: PathBuf,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl<R: Read> Checked<R> {
    /// Reads the rest, and fails if the whole wasn't what its name says.
    pub fn finish(mut self) -> Result<u64> {
        std::io::copy(&mut self.inner, &mut std::io::sink()).on("reading", &self.path)?;
        let (_, actual, size) = self.inner.finish();
        if actual != self.digest {
            return Err(Error::DamagedBlob { path: self.path, actual: actual.to_string() });
        }
        Ok(size)
    }
}

/// Writes a file whole or not at all, and on the disk when this returns.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).on("making", dir)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir).on("making a file in", dir)?;
    file.write_all(bytes).on("writing", path)?;
    file.as_file().sync_all().on("writing", path)?;
    set_mode(file.path(), 0o644)?;
    file.persist(path).map_err(|e| e.error).on("writing", path)?;
    Ok(())
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).on("setting the mode of", path)
}

/// Fails when a folder's disk has less than this free.
pub(crate) fn require_room(dir: &Path, needed: u64) -> Result<()> {
    let disk = rustix::fs::statvfs(dir).on("asking for the room of", dir)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < needed {
        return Err(Error::Disk { path: dir.to_owned(), free, needed });
    }
    Ok(())
}

/// Links a file, or copies it where it can't be linked.
pub(crate) fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    if std::fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    std::fs::copy(from, to).map(drop).on("writing", to)
}
