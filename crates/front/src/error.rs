//! What can stop front as a whole. What is wrong with one request is a
//! [`crate::refusal::Refusal`].

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why front can't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address could not be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The API server's address, CA or our proof for it is not usable.
    #[error("the API server {address} {reason}")]
    Upstream {
        /// The address.
        address: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file of front's own certificate is not usable.
    #[error("certificate {path}: {reason}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// rustls refused its own defaults.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}
