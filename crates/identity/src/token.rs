//! Signed tokens: `atoll1.<key id>.<claims>.<signature>`.
//!
//! The claims are JSON, and they and the signature are in base64 for URLs. The
//! signature is Ed25519 over everything before the last dot. There is no field
//! that chooses the algorithm: another algorithm would be another first word.

use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::account::is_name;
use crate::error::Error;
use crate::key::{Keyring, SigningKey};
use crate::random;
use crate::revocation::Revocations;

/// What every token of ours begins with.
pub const PREFIX: &str = "atoll1.";
/// The audience of tokens for the Kubernetes API and the server's.
pub const AUDIENCE: &str = "atoll";
/// The longest that any token lives, in ms.
pub const LONGEST: u64 = Kind::Robot.longest();
/// A token is not looked at past this length.
const MOST: usize = 1024;
/// Clocks of our own programs differ by less, in ms.
const SKEW: u64 = 60_000;
const DAY: u64 = 24 * 60 * 60 * 1000;

/// Who uses a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A person who logged in.
    Access,
    /// A program, such as a build that deploys.
    Robot,
}

impl Kind {
    /// The longest that a token of this kind lives, in ms.
    pub const fn longest(self) -> u64 {
        match self {
            Self::Access => 30 * DAY,
            Self::Robot => 366 * DAY,
        }
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The account that it speaks for.
    #[serde(rename = "sub")]
    pub account: String,
    /// The token's own id, by which it can be revoked.
    #[serde(rename = "jti")]
    pub id: String,
    /// For whom it is meant; others refuse it.
    #[serde(rename = "aud")]
    pub audience: String,
    /// Who uses it.
    #[serde(rename = "kind")]
    pub kind: Kind,
    /// When it was issued, in ms since 1970.
    #[serde(rename = "iat")]
    pub issued: u64,
    /// When it expires, in ms since 1970.
    #[serde(rename = "exp")]
    pub expires: u64,
    /// The id of the key that signed it.
    #[serde(skip)]
    pub key: String,
}

/// Makes a token that lives for `lifetime` ms from `now`.
///
/// # Errors
/// When the account's name is none, or the token would live too long.
pub fn issue(
    key: &SigningKey,
    account: &str,
    kind: Kind,
    audience: &str,
    now: u64,
    lifetime: u64,
) -> Result<(SecretString, Claims), Error> {
    if !is_name(account) {
        return Err(Error::Name(account.to_owned()));
    }
    if lifetime > kind.longest() {
        return Err(Error::Lifetime(kind.longest() / DAY));
    }
    let claims = Claims {
        account: account.to_owned(),
        id: random::text::<16>()?,
        audience: audience.to_owned(),
        kind,
        issued: now,
        expires: now.saturating_add(lifetime),
        key: key.id().to_owned(),
    };
    Ok((sign(key, &claims).into(), claims))
}

fn sign(key: &SigningKey, claims: &Claims) -> String {
    // Strings and numbers always become JSON.
    let json = serde_json::to_vec(claims).unwrap_or_default();
    let text = format!("{PREFIX}{}.{}", key.id(), URL_SAFE_NO_PAD.encode(json));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()));
    format!("{text}.{signature}")
}

/// Why a token is refused. The words are safe to tell: only who has a token
/// that we once signed learns more than that it is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not ours, changed, of an unknown key, or for somebody else.
    #[error("the token is not valid: log in again with `atoll login`")]
    Invalid,
    /// Its time is over.
    #[error("the token has expired: log in again with `atoll login`")]
    Expired,
    /// It was taken back.
    #[error("the token was revoked: log in again with `atoll login`")]
    Revoked,
}

/// What `token` says, if one of `keys` signed it for `audience` and it holds at
/// `now` (ms). Revocations are not looked at: see [`Verifier`].
///
/// # Errors
/// Why it is refused.
pub fn verify(keys: &Keyring, audience: &str, token: &str, now: u64) -> Result<Claims, Refusal> {
    let claims = signed(keys, token).ok_or(Refusal::Invalid)?;
    let lifetime = claims.expires.checked_sub(claims.issued).ok_or(Refusal::Invalid)?;
    if claims.audience != audience
        || !is_name(&claims.account)
        || lifetime > claims.kind.longest()
        || claims.issued > now.saturating_add(SKEW)
    {
        return Err(Refusal::Invalid);
    }
    if claims.expires <= now { Err(Refusal::Expired) } else { Ok(claims) }
}

fn signed(keys: &Keyring, token: &str) -> Option<Claims> {
    if token.len() > MOST {
        return None;
    }
    let (text, signature) = token.rsplit_once('.')?;
    let (key, claims) = text.strip_prefix(PREFIX)?.split_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    // Nothing of a token is parsed before its signature is known to be good.
    if !keys.verifies(key, text.as_bytes(), &signature) {
        return None;
    }
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    Some(Claims { key: key.to_owned(), ..claims })
}

/// Decides on tokens with what it was last told. Share one.
#[derive(Debug)]
pub struct Verifier {
    audience: String,
    keys: ArcSwap<Keyring>,
    revocations: ArcSwap<Revocations>,
    changes: watch::Sender<u64>,
}

impl Verifier {
    /// Refuses every token until it is told of keys.
    pub fn new(audience: impl Into<String>) -> Arc<Self> {
        Arc::new(Self {
            audience: audience.into(),
            keys: ArcSwap::default(),
            revocations: ArcSwap::default(),
            changes: watch::channel(0).0,
        })
    }

    /// Believes these keys from now on, and no others.
    pub fn set_keys(&self, keys: Keyring) {
        self.keys.store(Arc::new(keys));
        self.changes.send_modify(|count| *count += 1);
    }

    /// Refuses these tokens from now on, and no others.
    pub fn set_revocations(&self, revocations: Revocations) {
        self.revocations.store(Arc::new(revocations));
        self.changes.send_modify(|count| *count += 1);
    }

    /// Tells of every change of keys or revocations: who let somebody in looks
    /// again then, by [`Verifier::recheck`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What a token says, if it is to be believed at `now` (ms).
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, token: &str, now: u64) -> Result<Claims, Refusal> {
        let claims = verify(&self.keys.load(), &self.audience, token, now)?;
        self.recheck(&claims, now)?;
        Ok(claims)
    }

    /// Whether claims that were believed still are.
    ///
    /// # Errors
    /// Why they are not.
    pub fn recheck(&self, claims: &Claims, now: u64) -> Result<(), Refusal> {
        if !self.keys.load().contains(&claims.key) {
            Err(Refusal::Invalid)
        } else if claims.expires <= now {
            Err(Refusal::Expired)
        } else if self.revocations.load().refuse(claims) {
            Err(Refusal::Revoked)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const HOUR: u64 = 3_600_000;

    fn pair() -> (SigningKey, Keyring) {
        let key = SigningKey::generate().unwrap();
        let ring = Keyring::from_iter([key.verification_key()]);
        (key, ring)
    }

    fn token(key: &SigningKey) -> (String, Claims) {
        let (token, claims) = issue(key, "ada", Kind::Access, AUDIENCE, NOW, HOUR).unwrap();
        (token.expose_secret().to_owned(), claims)
    }

    #[test]
    fn what_was_issued_is_believed_until_it_expires() {
        let (key, ring) = pair();
        let (token, claims) = token(&key);
        let at = |now| verify(&ring, AUDIENCE, &token, now);
        assert_eq!(at(NOW), Ok(claims.clone()));
        assert_eq!(at(NOW + HOUR - 1), Ok(claims.clone()));
        assert_eq!(at(NOW + HOUR), Err(Refusal::Expired));
        assert_eq!(at(NOW - SKEW), Ok(claims));
        assert_eq!(at(NOW - SKEW - 1), Err(Refusal::Invalid), "not issued yet");
        assert_eq!(verify(&ring, "other", &token, NOW), Err(Refusal::Invalid), "for somebody else");
    }

    #[test]
    fn one_changed_character_makes_it_invalid() {
        let (key, ring) = pair();
        let (token, _) = token(&key);
        for index in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last character of base64 has bits that must be zero.
            assert_eq!(verify(&ring, AUDIENCE, &changed, NOW), Err(Refusal::Invalid), "at {index}");
        }
    }

    #[test]
    fn odd_tokens_are_invalid() {
        let (key, ring) = pair();
        let (token, claims) = token(&key);
        let (text, _) = token.rsplit_once('.').unwrap();
        let unsigned = format!("{text}.");
        let twice = format!("{token}.{token}");
        let spaced = format!(" {token}");
        let padded = format!("{token}=");
        let long = format!("{PREFIX}{}.{}", "a".repeat(MOST), "b");
        for odd in [
            "",
            ".",
            "..",
            "atoll1",
            PREFIX,
            "atoll1...",
            "a.b.c",
            &unsigned,
            &twice,
            &spaced,
            &padded,
            &long,
        ] {
            assert_eq!(verify(&ring, AUDIENCE, odd, NOW), Err(Refusal::Invalid), "{odd}");
        }
        let signed = |change: &dyn Fn(&mut Claims)| {
            let mut claims = claims.clone();
            change(&mut claims);
            verify(&ring, AUDIENCE, &sign(&key, &claims), NOW)
        };
        assert!(signed(&|_| {}).is_ok());
        assert_eq!(signed(&|claims| claims.account = "system:masters".to_owned()), Err(Refusal::Invalid));
        assert_eq!(signed(&|claims| claims.expires = u64::MAX), Err(Refusal::Invalid));
        assert_eq!(signed(&|claims| claims.expires = claims.issued - 1), Err(Refusal::Invalid));
    }

    #[test]
    fn keys_rotate() {
        let (old, mut ring) = pair();
        let new = SigningKey::generate().unwrap();
        let (of_old, _) = token(&old);
        let (of_new, _) = token(&new);
        assert_eq!(verify(&ring, AUDIENCE, &of_new, NOW), Err(Refusal::Invalid));
        ring.add(new.verification_key());
        assert!(verify(&ring, AUDIENCE, &of_new, NOW).is_ok());
        assert!(verify(&ring, AUDIENCE, &of_old, NOW).is_ok());
        assert!(ring.remove(old.id()));
        assert!(verify(&ring, AUDIENCE, &of_new, NOW).is_ok());
        assert_eq!(verify(&ring, AUDIENCE, &of_old, NOW), Err(Refusal::Invalid));
    }

    #[test]
    fn what_may_not_be_issued() {
        let (key, _) = pair();
        let issue = |account, kind, lifetime| issue(&key, account, kind, AUDIENCE, NOW, lifetime);
        assert!(matches!(issue("system:admin", Kind::Access, HOUR), Err(Error::Name(_))));
        assert!(matches!(issue("ada", Kind::Access, 31 * DAY), Err(Error::Lifetime(30))));
        assert!(issue("ada", Kind::Robot, 31 * DAY).is_ok());
        assert!(matches!(issue("ada", Kind::Robot, 367 * DAY), Err(Error::Lifetime(366))));
    }

    #[test]
    fn the_verifier_goes_by_what_it_was_last_told() {
        let (key, ring) = pair();
        let (token, claims) = token(&key);
        let verifier = Verifier::new(AUDIENCE);
        let mut changes = verifier.changes();
        assert_eq!(verifier.verify(&token, NOW), Err(Refusal::Invalid), "no keys yet");
        verifier.set_keys(ring);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(verifier.verify(&token, NOW), Ok(claims.clone()));
        let mut revocations = Revocations::default();
        revocations.revoke_token(&claims.id, claims.expires).unwrap();
        verifier.set_revocations(revocations);
        assert!(changes.has_changed().unwrap());
        assert_eq!(verifier.verify(&token, NOW), Err(Refusal::Revoked));
        assert_eq!(verifier.recheck(&claims, NOW), Err(Refusal::Revoked));
        verifier.set_revocations(Revocations::default());
        assert_eq!(verifier.recheck(&claims, NOW + HOUR), Err(Refusal::Expired));
        assert_eq!(verifier.recheck(&claims, NOW), Ok(()));
        verifier.set_keys(Keyring::default());
        assert_eq!(verifier.recheck(&claims, NOW), Err(Refusal::Invalid), "its key was taken away");
    }
}
