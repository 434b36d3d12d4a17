//! How credentials are kept: as data of Kubernetes Secrets in `atoll-system`.
//!
//! | Secret | data | who reads it |
//! |---|---|---|
//! | `credentials-<account>` | `password`, `tokens.json`, `sessions.json` | server |
//! | `token-signing-key` | `current`, `next`: PKCS #8 | server |
//! | `token-verification-keys` | `<key id>`: 32 bytes | server, front |
//! | `token-revocations` | `revocations.json` | server, front |
//!
//! The public keys lie apart from the private one, so that front, which only
//! verifies, can't sign.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::account::is_name;
use crate::error::Error;
use crate::key::{Keyring, SigningKey, VerificationKey};
use crate::revocation::Revocations;
use crate::session::{Rules, SessionRecord, State};
use crate::token::{Claims, Kind};

/// A Secret's data: key to bytes.
pub type Data = BTreeMap<String, Vec<u8>>;

/// Label on every Secret of ours; its value is what the Secret is.
pub const LABEL: &str = "atoll.dev/credentials";
/// The Secret of the keys that sign.
pub const SIGNING_KEY: &str = "token-signing-key";
/// The Secret of the keys that verify.
pub const VERIFICATION_KEYS: &str = "token-verification-keys";
/// The Secret of the revocations.
pub const REVOCATIONS: &str = "token-revocations";
const PREFIX: &str = "credentials-";
const PASSWORD: &str = "password";
const TOKENS: &str = "tokens.json";
const SESSIONS: &str = "sessions.json";
const CURRENT: &str = "current";
const NEXT: &str = "next";
const LIST: &str = "revocations.json";

/// The Secret of an account's credentials.
///
/// # Errors
/// When it is no account's name.
pub fn secret_name(account: &str) -> Result<String, Error> {
    if is_name(account) { Ok(format!("{PREFIX}{account}")) } else { Err(Error::Name(account.to_owned())) }
}

/// The account whose credentials a Secret of that name holds.
pub fn account_of(secret: &str) -> Option<&str> {
    secret.strip_prefix(PREFIX).filter(|account| is_name(account))
}

/// What is kept of a token: enough to show and revoke it, not to use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its id.
    pub id: String,
    /// Who uses it.
    pub kind: Kind,
    /// What its owner calls it.
    #[serde(default)]
    pub label: String,
    /// When it was issued, in ms since 1970.
    pub issued: u64,
    /// When it expires, in ms since 1970.
    pub expires: u64,
}

impl TokenRecord {
    /// What to keep of a token just issued.
    pub fn of(claims: &Claims, label: impl Into<String>) -> Self {
        let Claims { id, kind, issued, expires, .. } = claims.clone();
        Self { id, kind, label: label.into(), issued, expires }
    }
}

/// What an account proves itself by.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The password's hash; without one nobody can log in.
    pub password: Option<SecretString>,
    /// Its tokens.
    pub tokens: Vec<TokenRecord>,
    /// Its sessions.
    pub sessions: Vec<SessionRecord>,
}

impl Credentials {
    /// As a Secret's data.
    pub fn encode(&self) -> Data {
        let mut data = Data::new();
        if let Some(hash) = &self.password {
            data.insert(PASSWORD.to_owned(), hash.expose_secret().as_bytes().to_vec());
        }
        data.insert(TOKENS.to_owned(), json(&self.tokens));
        data.insert(SESSIONS.to_owned(), json(&self.sessions));
        data
    }

    /// From the data of the Secret `name`. What belongs to another account is an
    /// error: a Secret that was copied must not let anybody in.
    ///
    /// # Errors
    /// [`Error::Record`], naming the key that can't be read.
    pub fn decode(name: &str, data: &Data) -> Result<Self, Error> {
        let account = account_of(name).ok_or_else(|| Error::Name(name.to_owned()))?;
        let password = match data.get(PASSWORD) {
            None => None,
            Some(bytes) => Some(
                std::str::from_utf8(bytes)
                    .map_err(|_| damaged(name, PASSWORD, "not text; set the password again"))?
                    .into(),
            ),
        };
        let sessions: Vec<SessionRecord> = parse(name, SESSIONS, data)?;
        if sessions.iter().any(|session| session.account != account) {
            return Err(damaged(name, SESSIONS, "holds another account's session; delete the key"));
        }
        Ok(Self { password, tokens: parse(name, TOKENS, data)?, sessions })
    }

    /// Forgets tokens and sessions that are over; says whether there were any.
    pub fn prune(&mut self, now: u64, rules: &Rules) -> bool {
        let before = self.tokens.len() + self.sessions.len();
        self.tokens.retain(|token| token.expires > now);
        self.sessions.retain(|session| matches!(session.state(now, rules), State::Open | State::Touch));
        before != self.tokens.len() + self.sessions.len()
    }

    /// The session of that hash.
    pub fn session(&mut self, hash: &str) -> Option<&mut SessionRecord> {
        self.sessions.iter_mut().find(|session| session.hash == hash)
    }
}

/// The key that signs, and the one that will.
#[derive(Debug)]
pub struct SigningKeys {
    /// Signs.
    pub current: SigningKey,
    /// Is made known already and will sign next.
    pub next: Option<SigningKey>,
}

impl SigningKeys {
    /// As a Secret's data.
    pub fn encode(&self) -> Data {
        let mut data = Data::from([(CURRENT.to_owned(), self.current.to_pkcs8().to_vec())]);
        if let Some(next) = &self.next {
            data.insert(NEXT.to_owned(), next.to_pkcs8().to_vec());
        }
        data
    }

    /// From a Secret's data.
    ///
    /// # Errors
    /// [`Error::NoKey`] when there is none, [`Error::Key`] when one is damaged.
    pub fn decode(data: &Data) -> Result<Self, Error> {
        let current = data.get(CURRENT).ok_or(Error::NoKey)?;
        let next = data.get(NEXT).map(|bytes| SigningKey::from_pkcs8(bytes)).transpose()?;
        Ok(Self { current: SigningKey::from_pkcs8(current)?, next })
    }
}

/// Public keys as a Secret's data.
pub fn encode_keyring(ring: &Keyring) -> Data {
    ring.iter().map(|(id, key)| (id.to_owned(), key.as_bytes().to_vec())).collect()
}

/// Public keys from a Secret's data.
///
/// # Errors
/// [`Error::Record`] or [`Error::Key`] when a key is damaged or not under its own id.
pub fn decode_keyring(data: &Data) -> Result<Keyring, Error> {
    data.iter()
        .map(|(id, bytes)| {
            let key = VerificationKey::from_bytes(bytes)?;
            if key.id() == *id { Ok(key) } else { Err(Error::Key(id.clone())) }
        })
        .collect()
}

/// Revocations as a Secret's data.
pub fn encode_revocations(revocations: &Revocations) -> Data {
    Data::from([(LIST.to_owned(), json(revocations))])
}

/// Revocations from a Secret's data. What can't be read is an error, never "none".
///
/// # Errors
/// [`Error::Record`].
pub fn decode_revocations(data: &Data) -> Result<Revocations, Error> {
    let bytes = data.get(LIST).ok_or_else(|| damaged(REVOCATIONS, LIST, "is missing"))?;
    serde_json::from_slice(bytes).map_err(|error| damaged(REVOCATIONS, LIST, &error.to_string()))
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    // Strings, numbers and lists of them always become JSON.
    serde_json::to_vec(value).unwrap_or_default()
}

fn parse<T: DeserializeOwned + Default>(name: &str, key: &'static str, data: &Data) -> Result<T, Error> {
    let Some(bytes) = data.get(key) else { return Ok(T::default()) };
    serde_json::from_slice(bytes).map_err(|error| damaged(name, key, &error.to_string()))
}

fn damaged(name: &str, key: &'static str, reason: &str) -> Error {
    Error::Record { name: name.to_owned(), key, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session;

    #[test]
    fn credentials_come_back_as_they_were_kept() {
        let rules = Rules::default();
        let (_, session) = session::begin("ada", 5, &rules).unwrap();
        let token =
            TokenRecord { id: "t".into(), kind: Kind::Robot, label: "ci".into(), issued: 1, expires: 9 };
        let mut kept = Credentials {
            password: Some("$argon2id$...".into()),
            tokens: vec![token],
            sessions: vec![session.clone()],
        };
        let again = Credentials::decode("credentials-ada", &kept.encode()).unwrap();
        assert_eq!(again.tokens, kept.tokens);
        assert_eq!(again.sessions, kept.sessions);
        assert_eq!(again.password.unwrap().expose_secret(), "$argon2id$...");
        assert!(!format!("{kept:?}").contains("argon2id"), "hashes are not printed");
        assert!(kept.session(&session.hash).is_some());
        assert!(kept.session("other").is_none());
        assert!(!kept.prune(8, &rules));
        assert!(kept.prune(9, &rules));
        assert!(kept.tokens.is_empty());
        assert!(kept.prune(5 + rules.absolute, &rules));
        assert!(kept.sessions.is_empty());
    }

    #[test]
    fn an_empty_secret_lets_nobody_in() {
        let none = Credentials::decode("credentials-ada", &Data::new()).unwrap();
        assert!(none.password.is_none() && none.tokens.is_empty() && none.sessions.is_empty());
    }

    #[test]
    fn what_is_damaged_is_named() {
        let check = |name: &str, key: &str, bytes: &[u8], wanted: &str| {
            let error =
                Credentials::decode(name, &Data::from([(key.to_owned(), bytes.to_vec())])).unwrap_err();
            assert!(error.to_string().contains(wanted), "{error}");
        };
        check("credentials-ada", "password", b"\xff", "Secret credentials-ada, password");
        check("credentials-ada", "tokens.json", b"{", "Secret credentials-ada, tokens.json");
        let other = br#"[{"hash":"h","account":"bob","created":0,"last_seen":0,"expires":9}]"#;
        check("credentials-ada", "sessions.json", other, "another account's session");
        check("something-else", "password", b"x", "something-else");
        assert!(decode_revocations(&Data::new()).is_err(), "a missing list is not an empty one");
    }

    #[test]
    fn keys_and_revocations_come_back() {
        let keys = SigningKeys {
            current: SigningKey::generate().unwrap(),
            next: Some(SigningKey::generate().unwrap()),
        };
        let again = SigningKeys::decode(&keys.encode()).unwrap();
        assert_eq!(again.current.id(), keys.current.id());
        assert_eq!(again.next.unwrap().id(), keys.next.unwrap().id());
        assert!(matches!(SigningKeys::decode(&Data::new()), Err(Error::NoKey)));

        let ring = Keyring::from_iter([keys.current.verification_key()]);
        let mut data = encode_keyring(&ring);
        assert_eq!(decode_keyring(&data).unwrap(), ring);
        let bytes = data.remove(keys.current.id()).unwrap();
        data.insert("0011223344556677".to_owned(), bytes);
        assert!(decode_keyring(&data).is_err(), "a key under another's id");

        let mut revocations = Revocations::default();
        revocations.revoke_account("ada", 7);
        assert_eq!(decode_revocations(&encode_revocations(&revocations)).unwrap(), revocations);
    }

    #[test]
    fn names_of_secrets() {
        assert_eq!(secret_name("ada").unwrap(), "credentials-ada");
        assert!(secret_name("../x").is_err());
        assert_eq!(account_of("credentials-ada"), Some("ada"));
        assert_eq!(account_of("credentials-"), None);
        assert_eq!(account_of("token-revocations"), None);
    }
}
