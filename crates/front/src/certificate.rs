//! The certificate a server shows, from two files that somebody else renews.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::error::Error;

/// How often the files are looked at.
const REREAD: Duration = Duration::from_secs(60);

/// Where certificate and key are, both in PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// The chain, the leaf first.
    pub chain: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Files {
    fn load(&self) -> Result<CertifiedKey, Error> {
        let bad = |path: &PathBuf, reason: String| Error::Certificate { path: path.clone(), reason };
        let chain = std::fs::read(&self.chain).map_err(|error| bad(&self.chain, error.to_string()))?;
        let chain = CertificateDer::pem_slice_iter(&chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| bad(&self.chain, "is no PEM".to_owned()))?;
        if chain.is_empty() {
            return Err(bad(&self.chain, "holds no certificate".to_owned()));
        }
        let key = std::fs::read(&self.key).map_err(|error| bad(&self.key, error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| bad(&self.key, "holds no PEM private key".to_owned()))?;
        let key = ring::sign::any_supported_type(&key)
            .map_err(|_| bad(&self.key, "is not a key that can sign".to_owned()))?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(pair),
            Err(_) => Err(bad(&self.key, format!("is not the key of {}", self.chain.display()))),
        }
    }
}

/// The certificate that is shown now.
#[derive(Debug)]
pub struct Shown {
    files: Files,
    pair: ArcSwap<CertifiedKey>,
}

impl Shown {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// Which of the two files can't be used.
    pub fn new(files: Files) -> Result<Arc<Self>, Error> {
        let pair = ArcSwap::from_pointee(files.load()?);
        Ok(Arc::new(Self { files, pair }))
    }

    /// Takes a renewed pair in. What can't be used leaves the old one.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            tokio::time::sleep(REREAD).await;
            self.reload();
        }
    }

    /// Reads it again.
    pub fn reload(&self) {
        match self.files.load() {
            Ok(pair) if pair.cert != self.pair.load().cert => {
                self.pair.store(Arc::new(pair));
                tracing::info!(path = %self.files.chain.display(), "the certificate was renewed");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "the certificate can't be renewed; the old one goes on");
            }
        }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair.load_full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_pair_is_shown_and_a_broken_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files { chain: directory.path().join("tls.crt"), key: directory.path().join("tls.key") };
        let write = || {
            let made = rcgen::generate_simple_self_signed(["front".to_owned()]).unwrap();
            std::fs::write(&files.chain, made.cert.pem()).unwrap();
            std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        };
        write();
        let shown = Shown::new(files.clone()).unwrap();
        let first = shown.pair.load_full();
        write();
        shown.reload();
        let second = shown.pair.load_full();
        assert_ne!(first.cert, second.cert);
        std::fs::write(&files.key, "nonsense").unwrap();
        shown.reload();
        assert_eq!(second.cert, shown.pair.load().cert);
        assert!(Shown::new(files).is_err());
    }
}
