//! What can stop the gateway as a whole. A broken object never does: see
//! [`crate::index::Problem`].

use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address could not be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    /// The snapshot could not be written or read.
    #[error("can't use the snapshot {path}: {source}")]
    Snapshot { path: PathBuf, source: std::io::Error },
    /// The snapshot is not one of ours.
    #[error("the snapshot {path} can't be parsed: {source}")]
    SnapshotFormat { path: PathBuf, source: serde_json::Error },
    /// A certificate or its key is not usable.
    #[error("certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The access log has no thread to be written by.
    #[error("can't write an access log: {0}")]
    AccessLog(std::io::Error),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: start the gateway again")]
    NoRandomness,
    /// rustls refused its own defaults.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why a `kubernetes.io/tls` Secret can't be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("data[\"tls.crt\"] holds no PEM certificate")]
    NoCertificate,
    #[error("data[\"tls.key\"] holds no PEM private key")]
    NoKey,
    #[error("data[\"tls.crt\"]: the first certificate can't be parsed")]
    BadCertificate,
    #[error("data[\"tls.key\"]: not a key that can sign")]
    BadKey,
    #[error("data[\"tls.key\"] is not the key of the certificate in data[\"tls.crt\"]")]
    Mismatch,
}
