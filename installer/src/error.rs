//! What can go wrong, each with what to do about it.

use std::path::PathBuf;

/// An error of the installer. Every message is one line that names the thing
/// and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something on the command line can't be used.
    #[error("{0}")]
    Input(String),
    /// The machine lacks something.
    #[error("{what}; {remedy}")]
    Machine { what: String, remedy: String },
    /// A file or directory could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    /// A file of ours holds something else than we wrote.
    #[error("{} is damaged ({source}): run `atoll down` and `atoll up` to start afresh", path.display())]
    State { path: PathBuf, source: serde_json::Error },
    /// A program that we started failed.
    #[error("`{command}` failed: {reason}")]
    Command { command: String, reason: String },
    /// A system call failed.
    #[error("{action}: {source}")]
    System { action: String, source: nix::Error },
    /// Something didn't become ready.
    #[error("gave up after {seconds} s waiting for {what}; {remedy}")]
    Timeout { what: String, seconds: u64, remedy: String },
    /// There is no such cluster.
    #[error("there is no cluster `{0}`: `atoll up --name {0}` makes one")]
    NoCluster(String),
    /// The cluster image could not be found, built or read.
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    /// The cluster's API answered with an error.
    #[error("{action}: {}", said(cause))]
    Kubernetes { action: String, cause: Box<kube::Error> },
    /// A manifest could not be read.
    #[error("manifest {name}: {reason}")]
    Manifest { name: String, reason: String },
    /// A certificate could not be made.
    #[error("making the certificate for {what}: {source}")]
    Certificate { what: String, source: rcgen::Error },
}

impl Error {
    /// For `map_err` on file operations: keeps the path.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { action, path, source }
    }

    /// For `map_err` on system calls.
    pub fn system(action: impl Into<String>) -> impl FnOnce(nix::Error) -> Error {
        let action = action.into();
        move |source| Error::System { action, source }
    }

    /// For `map_err` on API calls.
    pub fn kubernetes(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
        let action = action.into();
        move |cause| Error::Kubernetes { action, cause: Box::new(cause) }
    }
}

/// What the API server said, without how the library frames it.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// The installer's results.
pub type Result<T> = std::result::Result<T, Error>;
