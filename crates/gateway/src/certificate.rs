//! A certificate with its key, made from the two PEM texts of a Secret.
//!
//! What rustls signs with is several times the size of those, and most
//! certificates are not asked for in a while: it is made when a client wants to
//! see one, and kept for those that were wanted last.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::error::CertificateError;
use crate::object::Object;

/// Certificates that are kept ready to be shown: some MiB at most.
const READY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

/// A pair that was found to belong together.
pub struct Certificate {
    /// The same object that the index has.
    secret: Arc<Object>,
    /// Lower case; `*.rest` stands for one label.
    names: Box<[Box<str>]>,
    /// Nothing else ever has this number.
    serial: u64,
}

impl Certificate {
    pub fn new(secret: Arc<Object>) -> Result<Self, CertificateError> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let pair = pair(&secret)?;
        let leaf = pair.cert.first().ok_or(CertificateError::NoCertificate)?;
        let names = webpki::EndEntityCert::try_from(leaf)
            .map_err(|_| CertificateError::BadCertificate)?
            .valid_dns_names()
            .map(|name| name.to_ascii_lowercase().into())
            .collect();
        match pair.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(CertificateError::Mismatch),
            Err(_) => return Err(CertificateError::BadCertificate),
        }
        Ok(Self { secret, names, serial: SERIAL.fetch_add(1, Ordering::Relaxed) })
    }

    /// What no other has, not even one that is made of the same Secret.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// Whether a client may be shown this certificate for `host`, which may
    /// itself be a wildcard.
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| covers(name, host))
    }
}

/// Reads a Secret's texts.
fn pair(secret: &Object) -> Result<CertifiedKey, CertificateError> {
    let Object::Secret(secret) = secret else { return Err(CertificateError::NoCertificate) };
    let chain = secret.certificate.certificates().map_err(|_| CertificateError::BadCertificate)?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate);
    }
    let key = secret.key.key().map_err(|_| CertificateError::NoKey)?;
    let key = ring::sign::any_supported_type(&key).map_err(|_| CertificateError::BadKey)?;
    Ok(CertifiedKey::new(chain, key))
}

/// The pairs that were wanted last, ready to sign with.
pub(crate) struct Ready(Mutex<LruCache<u64, Arc<CertifiedKey>>>);

impl Default for Ready {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(READY)))
    }
}

impl Ready {
    pub fn of(&self, certificate: &Certificate) -> Option<Arc<CertifiedKey>> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(&certificate.serial) {
            return Some(found.clone());
        }
        // Others go on meanwhile.
        let made = Arc::new(pair(&certificate.secret).ok()?);
        lock().put(certificate.serial, made.clone());
        Some(made)
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
pub(crate) struct Chosen(pub Option<Arc<CertifiedKey>>);

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chosen").field(&self.0.is_some()).finish()
    }
}

impl ResolvesServerCert for Chosen {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::object::{Id, Secret};

    fn parse(certificate: &[u8], key: &[u8]) -> Result<Certificate, CertificateError> {
        let (certificate, key) = (certificate.to_vec().into(), key.to_vec().into());
        Certificate::new(Arc::new(Object::Secret(Secret {
            id: Id::new("a", "b"),
            certificate,
            key,
            acme: false,
        })))
    }

    /// A self-signed pair for tests: certificate and key in PEM.
    pub(crate) fn pair(names: &[&str]) -> (Vec<u8>, Vec<u8>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes())
    }

    #[test]
    fn covers_one_label_and_no_more() {
        let (certificate, key) = pair(&["a.example", "*.b.example"]);
        let certificate = parse(&certificate, &key).unwrap();
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
            assert_eq!(parse(certificate, key).unwrap_err(), wanted);
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
        let certificate = parse(&certificate, &key).unwrap();
        assert_eq!(format!("{certificate:?}"), r#"Certificate { names: ["a.example"], .. }"#);
        assert_eq!(format!("{:?}", Chosen(Ready::default().of(&certificate))), "Chosen(true)");
    }

    #[test]
    fn a_pair_that_is_wanted_again_is_not_made_again() {
        let (certificate, key) = pair(&["a.example"]);
        let (one, other) = (parse(&certificate, &key).unwrap(), parse(&certificate, &key).unwrap());
        let ready = Ready::default();
        let first = ready.of(&one).unwrap();
        assert!(Arc::ptr_eq(&first, &ready.of(&one).unwrap()));
        assert!(!Arc::ptr_eq(&first, &ready.of(&other).unwrap()), "each Secret has its own");
        for _ in 0..READY.get() {
            ready.of(&parse(&certificate, &key).unwrap());
        }
        assert!(!Arc::ptr_eq(&first, &ready.of(&one).unwrap()), "what was not wanted for long is let go");
    }
}
