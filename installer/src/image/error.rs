//! What can go wrong with a cluster image. Each message is one line, names the
//! thing and says what to do.

use std::path::{Path, PathBuf};

/// The result of everything in [`crate::image`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something about a cluster image failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was attempted, for example "reading".
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a name that an image can have.
    #[error("{text:?} is not an image's name: {why}; write name[:tag] or sha256:<digest>")]
    Reference {
        /// As it was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The store has no such image.
    #[error(
        "no cluster image {reference:?} in the store; `atoll image list` shows what is there, `atoll image load FILE` adds one"
    )]
    NoSuchImage {
        /// What was asked for.
        reference: String,
    },
    /// A digest prefix means several images.
    #[error("{reference:?} means more than one cluster image ({}); give more of the digest", candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        reference: String,
        /// What it could mean.
        candidates: Vec<String>,
    },
    /// The image is in use by a cluster.
    #[error("the cluster image {reference} is in use by {owner}; run `atoll down` for it first")]
    InUse {
        /// The image.
        reference: String,
        /// Who holds it.
        owner: String,
    },
    /// A file that should be an archive of an image isn't one.
    #[error("{} is not a cluster image: {why}; give a file that `atoll image save` wrote", file.display())]
    NotAnArchive {
        /// The file.
        file: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// The archive ends too early.
    #[error("{} is incomplete: {what}; copy it again, and check that its size is the original's", file.display())]
    Truncated {
        /// The file.
        file: PathBuf,
        /// What is missing.
        what: String,
    },
    /// A blob's content doesn't have its digest.
    #[error("{} is damaged: {what}; fetch it again, or make it again with `atoll image save`", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Which part of it.
        what: String,
    },
    /// A blob in the store doesn't have its digest.
    #[error("the store's {} is damaged (its content is {actual}); remove the image with `atoll image remove` and load or build it again", path.display())]
    DamagedBlob {
        /// The blob's file.
        path: PathBuf,
        /// What its content's digest is.
        actual: String,
    },
    /// A file of the store can't be understood.
    #[error("the store's {} can't be read: {why}; remove the image with `atoll image remove` and load or build it again", path.display())]
    BadStore {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The image is for another kind of processor.
    #[error("{what} is for {is}, this machine is {wants}; get or build one for {wants}")]
    Architecture {
        /// The file or image.
        what: String,
        /// What it was made for.
        is: String,
        /// What is needed.
        wants: &'static str,
    },
    /// An OCI image, but not one of ours, or from a newer version.
    #[error("{what} {why}")]
    Format {
        /// The file or image.
        what: String,
        /// What is wrong, and the remedy.
        why: String,
    },
    /// An entry's path leaves the archive.
    #[error("{what} has an entry that leaves its place ({entry:?}); it was tampered with: don't use it")]
    Escape {
        /// The file or layer.
        what: String,
        /// The entry's path.
        entry: String,
    },
    /// An entry of a layer that can't be unpacked.
    #[error("the layer {layer} can't be unpacked at {entry:?}: {why}")]
    Layer {
        /// The layer's digest.
        layer: String,
        /// The entry's path.
        entry: String,
        /// What is wrong.
        why: String,
    },
    /// A Kubefile or Containerfile says something that it can't.
    #[error("{}:{line}: {why}", file.display())]
    Kubefile {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what to write instead.
        why: String,
    },
    /// A program that the build needs isn't there.
    #[error("`{program}` is not installed; install the package {package} (`apt-get install {package}`)")]
    MissingProgram {
        /// The program.
        program: String,
        /// Which Debian package has it.
        package: String,
    },
    /// A program that the build runs failed.
    #[error("{what} failed: {last}; all of its output is in {}", log.display())]
    Failed {
        /// What was being done.
        what: String,
        /// The last thing that it said.
        last: String,
        /// Where the rest is.
        log: PathBuf,
    },
    /// Something can't be built as it is.
    #[error("{what}: {why}")]
    Build {
        /// The thing.
        what: String,
        /// What is wrong, and the remedy.
        why: String,
    },
    /// The disk is too full.
    #[error("{} has {} MiB free, and {} MiB are needed; free some, or give another place with --cache", path.display(), free >> 20, needed >> 20)]
    Disk {
        /// The folder.
        path: PathBuf,
        /// How many bytes are free.
        free: u64,
        /// How many should be.
        needed: u64,
    },
    /// A part is missing and nothing may be fetched.
    #[error(
        "{part} is not in the cache and its sources may not be fetched; build where they may, or load a built image"
    )]
    Offline {
        /// The part.
        part: String,
    },
}

/// Adds what was done to which file to an error of the system.
pub(crate) trait Context<T> {
    /// "{doing} {path}: ..."
    fn on(self, doing: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Context<T> for std::result::Result<T, E> {
    fn on(self, doing: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { doing, path: path.to_owned(), source: source.into() })
    }
}
