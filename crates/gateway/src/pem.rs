//! PEM, kept as what it means: three quarters of the text. A chain's further
//! certificates, which are the same few for everybody, are kept once.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The sections of a PEM text that are certificates or keys. Two texts are equal
/// if those are.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(Held);

#[derive(Clone, PartialEq, Eq)]
enum Held {
    One(Section),
    /// A certificate, most often, and those of the authorities behind it.
    Chain(Section, Arc<[Section]>),
    /// Nothing was found in it, or it can't be read: whoever wants to use it is
    /// told why.
    Text(Box<[u8]>),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Section {
    kind: Kind,
    der: Box<[u8]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Certificate,
    Pkcs8,
    Pkcs1,
    Sec1,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Certificate => "CERTIFICATE",
            Self::Pkcs8 => "PRIVATE KEY",
            Self::Pkcs1 => "RSA PRIVATE KEY",
            Self::Sec1 => "EC PRIVATE KEY",
        }
    }
}

impl From<Vec<u8>> for Pem {
    fn from(text: Vec<u8>) -> Self {
        let mut sections = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text) {
            let (kind, der) = match section {
                Ok((SectionKind::Certificate, der)) => (Kind::Certificate, der),
                Ok((SectionKind::PrivateKey, der)) => (Kind::Pkcs8, der),
                Ok((SectionKind::RsaPrivateKey, der)) => (Kind::Pkcs1, der),
                Ok((SectionKind::EcPrivateKey, der)) => (Kind::Sec1, der),
                Ok(_) => continue,
                Err(_) => return Self(Held::Text(text.into())),
            };
            sections.push(Section { kind, der: der.into() });
        }
        let mut sections = sections.into_iter();
        Self(match (sections.next(), sections.len()) {
            (None, _) => Held::Text(text.into()),
            (Some(only), 0) => Held::One(only),
            (Some(first), _) => Held::Chain(first, shared(sections.collect())),
        })
    }
}

/// The one copy of what many have.
fn shared(sections: Arc<[Section]>) -> Arc<[Section]> {
    #[derive(Default)]
    struct Known {
        all: HashSet<Arc<[Section]>>,
        /// At this length those that nobody else holds any more are let go.
        full: usize,
    }
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    // A key is nobody else's.
    if sections.iter().any(|section| section.kind != Kind::Certificate) {
        return sections;
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.all.get(&sections) {
        return found.clone();
    }
    if known.all.len() >= known.full {
        known.all.retain(|sections| Arc::strong_count(sections) > 1);
        known.full = known.all.len() * 2 + 64;
    }
    known.all.insert(sections.clone());
    sections
}

impl Pem {
    fn sections(&self) -> impl Iterator<Item = &Section> {
        let (first, others): (_, &[Section]) = match &self.0 {
            Held::One(section) => (Some(section), &[]),
            Held::Chain(section, others) => (Some(section), others),
            Held::Text(_) => (None, &[]),
        };
        first.into_iter().chain(others)
    }

    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
        if let Held::Text(text) = &self.0 {
            return CertificateDer::pem_slice_iter(text).collect();
        }
        let certificates = self.sections().filter(|section| section.kind == Kind::Certificate);
        Ok(certificates.map(|section| CertificateDer::from(section.der.to_vec())).collect())
    }

    /// The first key.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, pem::Error> {
        if let Held::Text(text) = &self.0 {
            return PrivateKeyDer::from_pem_slice(text);
        }
        let mut keys = self.sections().filter_map(|section| {
            let der = section.der.to_vec();
            match section.kind {
                Kind::Certificate => None,
                Kind::Pkcs8 => Some(PrivatePkcs8KeyDer::from(der).into()),
                Kind::Pkcs1 => Some(PrivatePkcs1KeyDer::from(der).into()),
                Kind::Sec1 => Some(PrivateSec1KeyDer::from(der).into()),
            }
        });
        keys.next().ok_or(pem::Error::NoItemsFound)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for section in self.sections() {
            let label = section.kind.label();
            let lines = STANDARD.encode(&*section.der);
            text.push_str(&format!("-----BEGIN {label}-----\n"));
            for line in lines.as_bytes().chunks(64) {
                text.push_str(&String::from_utf8_lossy(line));
                text.push('\n');
            }
            text.push_str(&format!("-----END {label}-----\n"));
        }
        text
    }
}

/// As the text it is. What is no text is a list of bytes; so are all in the
/// snapshots of earlier versions.
impl Serialize for Pem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Held::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => text.serialize(serializer),
                Err(_) => bytes.serialize(serializer),
            },
            _ => self.text().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Pem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Read {
            Text(String),
            Bytes(Vec<u8>),
        }
        Read::deserialize(deserializer).map(|read| match read {
            Read::Text(text) => text.into_bytes().into(),
            Read::Bytes(bytes) => bytes.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::pair;

    fn joined(texts: &[&[u8]]) -> Pem {
        texts.concat().into()
    }

    #[test]
    fn comes_back_as_the_same_text() {
        let (certificate, key) = pair(&["a.example"]);
        let (other, _) = pair(&["b.example"]);
        for text in [certificate.clone(), key.clone(), [certificate, other].concat()] {
            let text = String::from_utf8(text).unwrap().replace("\r\n", "\n");
            assert_eq!(Pem::from(text.clone().into_bytes()).text(), text);
        }
    }

    #[test]
    fn what_is_between_the_sections_makes_no_difference() {
        let (certificate, key) = pair(&["a.example"]);
        let (other, _) = pair(&["a.example"]);
        let plain = joined(&[&certificate, &key]);
        let parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        assert!(plain == joined(&[b"# mine\n", &certificate, b"\n\n", parameters, &key, b"end\n"]));
        assert!(plain != joined(&[&other, &key]));
        assert!(plain != joined(&[&key, &certificate]));
        assert!(plain.key().is_ok() && joined(&[&certificate]).key().is_err());
        assert_eq!(joined(&[&certificate, &key, &other]).certificates().unwrap().len(), 2);
        assert!(joined(&[&certificate, b"-----BEGIN CERTIFICATE-----\nAA"]).certificates().is_err());
    }

    #[test]
    fn chains_of_one_authority_share_it() {
        let (authority, _) = pair(&["authority.example"]);
        let chain = || {
            let pem = joined(&[&pair(&["a.example"]).0, &authority]);
            assert_eq!(pem.certificates().unwrap().len(), 2);
            pem
        };
        let (one, two) = (chain(), chain());
        assert!(one != two);
        let at = |pem: &Pem, place| pem.sections().nth(place).unwrap().der.as_ptr();
        assert_eq!(at(&one, 1), at(&two, 1));
        assert_ne!(at(&one, 0), at(&two, 0));
    }
}
