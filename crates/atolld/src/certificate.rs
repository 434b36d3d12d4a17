//! What a role proves itself by, and whom it believes: a folder that a Secret is
//! mounted on.

use std::path::Path;

use anyhow::Context;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate with its key, and the authority it comes from.
pub struct Certificate {
    /// `tls.crt`, the leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// `tls.key`.
    pub key: PrivateKeyDer<'static>,
    /// `ca.crt`.
    pub authority: Vec<CertificateDer<'static>>,
    /// The authority, as what is believed.
    pub roots: RootCertStore,
}

impl Certificate {
    /// Reads a folder.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        let certificates = |name: &'static str| {
            let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(name)?).collect();
            parsed.context(name)
        };
        let authority = certificates("ca.crt")?;
        let mut roots = RootCertStore::empty();
        for certificate in &authority {
            roots.add(certificate.clone())?;
        }
        let key = PrivateKeyDer::from_pem_slice(&read("tls.key")?).context("tls.key")?;
        Ok(Self { chain: certificates("tls.crt")?, key, authority, roots })
    }
}
