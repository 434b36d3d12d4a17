//! Keys that sign tokens (Ed25519), and the public halves that verify them.
//!
//! There is one signing key at a time and any number that verify: a new key is
//! made known first, signs later, and the old one goes when its last token has
//! expired.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::error::Error;

/// Signs tokens. Only the server has it.
pub struct SigningKey {
    id: String,
    pair: Ed25519KeyPair,
    document: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| Error::Random)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// A key as [`SigningKey::to_pkcs8`] gave it.
    ///
    /// # Errors
    /// [`Error::Key`] when it is not one.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, Error> {
        let pair =
            Ed25519KeyPair::from_pkcs8(document).map_err(|_| Error::Key("that signs tokens".to_owned()))?;
        let id = id(pair.public_key().as_ref());
        Ok(Self { id, pair, document: Zeroizing::new(document.to_vec()) })
    }

    /// The key to be kept: PKCS #8, DER.
    pub fn to_pkcs8(&self) -> &[u8] {
        &self.document
    }

    /// By which a token names its key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its public half.
    pub fn verification_key(&self) -> VerificationKey {
        VerificationKey { bytes: self.pair.public_key().as_ref().to_vec() }
    }

    pub(crate) fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.pair.sign(text).as_ref().to_vec()
    }
}

/// The public half of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationKey {
    bytes: Vec<u8>,
}

impl VerificationKey {
    /// From its 32 bytes.
    ///
    /// # Errors
    /// [`Error::Key`] when there are more or fewer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() != 32 {
            return Err(Error::Key("that verifies tokens".to_owned()));
        }
        Ok(Self { bytes: bytes.to_vec() })
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// By which a token names it.
    pub fn id(&self) -> String {
        id(&self.bytes)
    }
}

fn id(public: &[u8]) -> String {
    digest(&SHA256, public).as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Every key whose tokens are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring {
    keys: BTreeMap<String, VerificationKey>,
}

impl Keyring {
    /// Adds a key.
    pub fn add(&mut self, key: VerificationKey) {
        self.keys.insert(key.id(), key);
    }

    /// Takes a key away: its tokens are refused from now on.
    pub fn remove(&mut self, id: &str) -> bool {
        self.keys.remove(id).is_some()
    }

    /// The keys, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &VerificationKey)> {
        self.keys.iter().map(|(id, key)| (id.as_str(), key))
    }

    /// Whether no token can be believed yet.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether it has a key of that id.
    pub fn contains(&self, id: &str) -> bool {
        self.keys.contains_key(id)
    }

    pub(crate) fn verifies(&self, id: &str, text: &[u8], signature: &[u8]) -> bool {
        self.keys
            .get(id)
            .is_some_and(|key| UnparsedPublicKey::new(&ED25519, &key.bytes).verify(text, signature).is_ok())
    }
}

impl FromIterator<VerificationKey> for Keyring {
    fn from_iter<T: IntoIterator<Item = VerificationKey>>(keys: T) -> Self {
        let mut ring = Self::default();
        keys.into_iter().for_each(|key| ring.add(key));
        ring
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_as_it_was_kept() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(key.to_pkcs8()).unwrap();
        assert_eq!(key.id(), again.id());
        let public = VerificationKey::from_bytes(key.verification_key().as_bytes()).unwrap();
        assert_eq!(public.id(), key.id());
        let ring = Keyring::from_iter([public]);
        assert!(ring.verifies(key.id(), b"text", &again.sign(b"text")));
        assert!(!ring.verifies(key.id(), b"texT", &again.sign(b"text")));
        assert!(!ring.verifies("other", b"text", &again.sign(b"text")));
    }

    #[test]
    fn keys_are_not_printed() {
        let key = SigningKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey {{ id: {:?}, .. }}", key.id()));
    }

    #[test]
    fn damaged_keys_are_refused() {
        assert!(SigningKey::from_pkcs8(b"no key").is_err());
        assert!(VerificationKey::from_bytes(&[0; 31]).is_err());
    }
}
