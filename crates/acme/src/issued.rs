//! What an authority has signed.

use std::collections::BTreeSet;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::Error;
use crate::plan::Validity;

/// A certificate with its key, both in PEM. The key is not printed.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The leaf first.
    pub chain: String,
    pub validity: Validity,
    key: SecretString,
}

impl Issued {
    /// Takes what came for a key if it is for just these hosts.
    pub fn new(chain: String, key: &rcgen::KeyPair, hosts: &[String]) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Wrong(reason.to_owned());
        let leaf = leaf(chain.as_bytes()).ok_or_else(|| wrong("it can't be read"))?;
        let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|_| wrong("it can't be read"))?;
        if parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(key) {
            return Err(wrong("it is for another key"));
        }
        let validity = validity(chain.as_bytes()).ok_or_else(|| wrong("it can't be read"))?;
        if !validity.hosts.iter().eq(hosts.iter().collect::<BTreeSet<_>>()) {
            return Err(wrong("it is for other hosts"));
        }
        Ok(Self { chain, validity, key: key.serialize_pem().into() })
    }

    /// To be kept where only who serves the host reads.
    pub fn expose_key(&self) -> &str {
        self.key.expose_secret()
    }
}

fn leaf(chain: &[u8]) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(chain).ok()
}

/// What the first certificate of a chain in PEM is for, and from when until when.
pub fn validity(chain: &[u8]) -> Option<Validity> {
    validity_of_der(&leaf(chain)?)
}

/// The same of one certificate in DER.
pub fn validity_of_der(leaf: &[u8]) -> Option<Validity> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let hosts = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    Some(Validity {
        hosts: hosts.collect(),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(all: &[&str]) -> Vec<String> {
        all.iter().map(|host| (*host).to_owned()).collect()
    }

    #[test]
    fn only_what_was_ordered_is_taken() {
        let (key, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let params = rcgen::CertificateParams::new(hosts(&["b.example", "a.example"])).unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        let issued = Issued::new(chain.clone(), &key, &hosts(&["a.example", "b.example"])).unwrap();
        assert!(issued.validity.not_before < issued.validity.not_after);
        assert!(issued.expose_key().contains("PRIVATE KEY"));
        assert!(!format!("{issued:?}").contains("PRIVATE KEY"));
        let refused = |chain: &str, key, names: &[&str]| {
            Issued::new(chain.to_owned(), key, &hosts(names)).unwrap_err().to_string()
        };
        assert!(refused(&chain, &other, &["a.example", "b.example"]).ends_with("another key"));
        assert!(refused(&chain, &key, &["a.example"]).ends_with("other hosts"));
        assert!(refused(&chain, &key, &["a.example", "c.example"]).ends_with("other hosts"));
        assert!(refused("nonsense", &key, &["a.example"]).ends_with("can't be read"));
    }
}
