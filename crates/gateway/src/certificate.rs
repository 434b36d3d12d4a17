//! A certificate with its key, made from the two PEM texts of a Secret.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::error::CertificateError;

pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// Lower case; `*.rest` stands for one label.
    names: Vec<String>,
}

impl Certificate {
    pub fn parse(certificate: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| CertificateError::BadCertificate)?;
        let leaf = chain.first().ok_or(CertificateError::NoCertificate)?;
        let names = webpki::EndEntityCert::try_from(leaf)
            .map_err(|_| CertificateError::BadCertificate)?
            .valid_dns_names()
            .map(str::to_ascii_lowercase)
            .collect();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey)?;
        let key = ring::sign::any_supported_type(&key).map_err(|_| CertificateError::BadKey)?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(CertificateError::Mismatch),
            Err(_) => return Err(CertificateError::BadCertificate),
        }
        Ok(Self { key: Arc::new(key), names })
    }

    /// Whether a client may be shown this certificate for `host`, which may
    /// itself be a wildcard.
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| covers(name, host))
    }
}

/// Whether `pattern` (a name or `*.rest`) stands for `host`.
pub(crate) fn covers(pattern: &str, host: &str) -> bool {
    pattern == host
        || pattern.strip_prefix("*.").is_some_and(|rest| {
            host.split_once('.')
                .is_some_and(|(label, parent)| parent == rest && !label.is_empty() && label != "*")
        })
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Shows the one certificate that was chosen by the name in the ClientHello,
/// or none, which ends the handshake with an alert.
#[derive(Debug)]
pub(crate) struct Chosen(pub Option<Arc<Certificate>>);

impl ResolvesServerCert for Chosen {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.as_ref().map(|certificate| certificate.key.clone())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A self-signed pair for tests: certificate and key in PEM.
    pub(crate) fn pair(names: &[&str]) -> (Vec<u8>, Vec<u8>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes())
    }

    #[test]
    fn covers_one_label_and_no_more() {
        let (certificate, key) = pair(&["a.example", "*.b.example"]);
        let certificate = Certificate::parse(&certificate, &key).unwrap();
        let check = |host: &str, wanted: bool| assert_eq!(certificate.covers(host), wanted, "{host}");
        check("a.example", true);
        check("x.b.example", true);
        check("*.b.example", true);
        check("b.example", false);
        check("x.y.b.example", false);
        check(".b.example", false);
        check("x.a.example", false);
        check("", false);
    }

    #[test]
    fn broken_pairs_say_what_is_wrong() {
        let (certificate, key) = pair(&["a.example"]);
        let (_, other) = pair(&["a.example"]);
        let check = |certificate: &[u8], key: &[u8], wanted: CertificateError| {
            assert_eq!(Certificate::parse(certificate, key).unwrap_err(), wanted);
        };
        check(b"", &key, CertificateError::NoCertificate);
        check(b"nonsense", &key, CertificateError::NoCertificate);
        check(&certificate, b"", CertificateError::NoKey);
        check(&certificate, &other, CertificateError::Mismatch);
        check(
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &key,
            CertificateError::BadCertificate,
        );
    }

    #[test]
    fn keys_are_not_printed() {
        let (certificate, key) = pair(&["a.example"]);
        let printed = format!("{:?}", Chosen(Certificate::parse(&certificate, &key).ok().map(Arc::new)));
        assert_eq!(printed, r#"Chosen(Some(Certificate { names: ["a.example"], .. }))"#);
    }
}
