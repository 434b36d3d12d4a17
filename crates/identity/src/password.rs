//! Passwords, by argon2id. Hashing takes memory and time on purpose, so few run
//! at once, few wait, and the rest is told to come back.

use std::sync::Arc;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::random;

/// The fewest characters of a new password.
pub const MIN: usize = 8;
/// The most characters, and bytes, of a password.
pub const MAX: usize = 256;
/// More memory than this is not spent on a stored hash, in KiB.
const MOST_MEMORY: u32 = 256 << 10;

/// What a hash costs and how many are made at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory of one hash, in KiB.
    pub memory: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Hashes made at once; `memory` times this is the most that logins take.
    pub at_once: usize,
    /// Logins that wait for their turn; further ones get [`Error::Busy`].
    pub waiting: usize,
}

impl Default for Cost {
    /// 32 MiB and 3 passes, two at once: a guess costs an attacker about
    /// fifteen a second and core, a login flood costs us 64 MiB.
    fn default() -> Self {
        Self { memory: 32 << 10, passes: 3, at_once: 2, waiting: 64 }
    }
}

/// What a check of a password found.
#[derive(Debug)]
pub enum Checked {
    /// Not the account's password, or there is no such account.
    Wrong,
    /// The password is right.
    Right,
    /// The password is right, but its hash was made at another cost: store this
    /// one instead.
    Rehashed(SecretString),
}

/// Makes and checks hashes. Share one: it bounds what runs at once.
pub struct Passwords {
    hasher: Arc<Argon2<'static>>,
    /// Checked where there is no account, so that the answer takes as long.
    nobody: SecretString,
    running: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

impl Passwords {
    /// Makes one hash at once, to have something to check for unknown accounts.
    ///
    /// # Errors
    /// When argon2 refuses the cost.
    pub fn new(cost: Cost) -> Result<Self, Error> {
        let params =
            Params::new(cost.memory, cost.passes, 1, Some(Params::DEFAULT_OUTPUT_LEN)).map_err(failed)?;
        let hasher = Arc::new(Argon2::new(Algorithm::Argon2id, Version::V0x13, params));
        let nobody = hash(&hasher, &random::text::<32>()?.into())?;
        Ok(Self {
            hasher,
            nobody,
            running: Arc::new(Semaphore::new(cost.at_once.max(1))),
            queue: Arc::new(Semaphore::new(cost.at_once.max(1) + cost.waiting)),
        })
    }

    /// The hash of a new password, in the PHC format.
    ///
    /// # Errors
    /// [`Error::PasswordLength`] for a password that may not be chosen,
    /// [`Error::Busy`] when too many are waiting.
    pub async fn hash(&self, password: SecretString) -> Result<SecretString, Error> {
        let text = password.expose_secret();
        if text.chars().count() < MIN || text.len() > MAX {
            return Err(Error::PasswordLength);
        }
        let hasher = self.hasher.clone();
        self.on_its_turn(move || hash(&hasher, &password)).await
    }

    /// Whether `password` is the one that `stored` was made of. For an account
    /// that doesn't exist, or has no password, `stored` is None: the answer is
    /// [`Checked::Wrong`] after the same work.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many are waiting, [`Error::Hash`] when `stored`
    /// is not a hash of ours.
    pub async fn check(
        &self,
        password: SecretString,
        stored: Option<SecretString>,
    ) -> Result<Checked, Error> {
        let too_long = password.expose_secret().len() > MAX;
        let known = stored.is_some() && !too_long;
        let stored = stored.filter(|_| known).unwrap_or_else(|| self.nobody.clone());
        let password = if too_long { String::new().into() } else { password };
        let hasher = self.hasher.clone();
        self.on_its_turn(move || {
            let parsed = PasswordHash::new(stored.expose_secret()).map_err(|_| Error::Hash)?;
            let params = Params::try_from(&parsed).map_err(|_| Error::Hash)?;
            if parsed.algorithm != Algorithm::Argon2id.ident() || params.m_cost() > MOST_MEMORY {
                return Err(Error::Hash);
            }
            // argon2 takes the cost from the hash and compares in constant time.
            let right = hasher.verify_password(password.expose_secret().as_bytes(), &parsed).is_ok();
            if !(right && known) {
                return Ok(Checked::Wrong);
            }
            let ours = hasher.params();
            let same = (params.m_cost(), params.t_cost(), params.p_cost())
                == (ours.m_cost(), ours.t_cost(), ours.p_cost());
            if same { Ok(Checked::Right) } else { Ok(Checked::Rehashed(hash(&hasher, &password)?)) }
        })
        .await
    }

    async fn on_its_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let queued = self.queue.clone().try_acquire_owned().map_err(|_| Error::Busy)?;
        let running = self.running.clone().acquire_owned().await.map_err(|_| Error::Busy)?;
        // The permits go along: work that nobody waits for any more still counts.
        tokio::task::spawn_blocking(move || {
            let _permits = (queued, running);
            work()
        })
        .await
        .map_err(|error| Error::Argon2(error.to_string()))?
    }
}

fn hash(hasher: &Argon2<'_>, password: &SecretString) -> Result<SecretString, Error> {
    let salt = SaltString::encode_b64(&*random::bytes::<16>()?).map_err(failed)?;
    let hash = hasher.hash_password(password.expose_secret().as_bytes(), &salt).map_err(failed)?;
    Ok(hash.to_string().into())
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Argon2(error.to_string())
}

/// A password nobody has to remember: 24 letters and digits, none alike.
///
/// # Errors
/// When the system gives no random numbers.
pub fn generate() -> Result<SecretString, Error> {
    // 32 of them, so that five bits of a byte choose evenly.
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let bytes = random::bytes::<24>()?;
    let text: String =
        bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte & 31))).map(|&c| char::from(c)).collect();
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap(passes: u32) -> Passwords {
        Passwords::new(Cost { memory: 64, passes, at_once: 1, waiting: 1 }).unwrap()
    }

    #[tokio::test]
    async fn right_is_right_and_all_else_is_wrong() {
        let passwords = cheap(1);
        let stored = passwords.hash("correct horse".into()).await.unwrap();
        assert!(stored.expose_secret().starts_with("$argon2id$v=19$m=64,t=1,p=1$"));
        let check = async |password: &str, stored: Option<&SecretString>| {
            passwords.check(password.into(), stored.cloned()).await.unwrap()
        };
        assert!(matches!(check("correct horse", Some(&stored)).await, Checked::Right));
        assert!(matches!(check("correct hors", Some(&stored)).await, Checked::Wrong));
        assert!(matches!(check("", Some(&stored)).await, Checked::Wrong));
        assert!(matches!(check(&"x".repeat(MAX + 1), Some(&stored)).await, Checked::Wrong));
        assert!(matches!(check("correct horse", None).await, Checked::Wrong));
        let again = passwords.hash("correct horse".into()).await.unwrap();
        assert_ne!(stored.expose_secret(), again.expose_secret(), "each hash has its own salt");
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_is_made_anew() {
        let stored = cheap(1).hash("correct horse".into()).await.unwrap();
        let now = cheap(2);
        let Checked::Rehashed(new) = now.check("correct horse".into(), Some(stored)).await.unwrap() else {
            panic!("not rehashed");
        };
        assert!(new.expose_secret().contains("t=2"));
        assert!(matches!(now.check("correct horse".into(), Some(new)).await.unwrap(), Checked::Right));
    }

    #[tokio::test]
    async fn damaged_hashes_are_an_error_and_never_right() {
        let huge = format!("$argon2id$v=19$m={},t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo", u32::MAX / 2);
        for stored in [
            "",
            "plain",
            "$argon2id$v=19$m=64,t=1,p=1$",
            "$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
            &huge,
        ] {
            let checked = cheap(1).check("plain".into(), Some(stored.into())).await;
            assert!(!matches!(checked, Ok(Checked::Right | Checked::Rehashed(_))), "{stored}: {checked:?}");
        }
    }

    #[tokio::test]
    async fn a_flood_is_turned_away() {
        let passwords =
            Arc::new(Passwords::new(Cost { memory: 8 << 10, passes: 4, at_once: 1, waiting: 1 }).unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let passwords = passwords.clone();
            tasks.spawn(async move { passwords.check("guess".into(), None).await });
        }
        let results = tasks.join_all().await;
        let busy = results.iter().filter(|result| matches!(result, Err(Error::Busy))).count();
        assert_eq!(busy, 6, "one runs and one waits");
        assert!(
            matches!(passwords.check("guess".into(), None).await, Ok(Checked::Wrong)),
            "and then there is room"
        );
    }

    #[tokio::test]
    async fn new_passwords_have_a_length() {
        for bad in ["", "seven77", &"x".repeat(MAX + 1)] {
            assert!(matches!(cheap(1).hash(bad.into()).await, Err(Error::PasswordLength)), "{bad}");
        }
        assert!(cheap(1).hash("ääääääää".into()).await.is_ok());
    }

    #[test]
    fn generated_passwords_differ_and_are_not_printed() {
        let (one, two) = (generate().unwrap(), generate().unwrap());
        assert_eq!(one.expose_secret().len(), 24);
        assert_ne!(one.expose_secret(), two.expose_secret());
        assert!(!format!("{one:?}").contains(one.expose_secret()));
    }
}
