//! Sessions of the desktop: what is kept of one, and when it ends.
//!
//! The browser holds `<account>.<random>`; kept is only its hash, so that who
//! reads the Secrets can't act for anybody.

use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::account::is_name;
use crate::error::Error;
use crate::random;

/// How long sessions last, all in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// It ends when nothing was heard for this long.
    pub idle: u64,
    /// It ends this long after the login, whatever happens.
    pub absolute: u64,
    /// That it was used is written down at most this often.
    pub touch: u64,
}

impl Default for Rules {
    fn default() -> Self {
        const HOUR: u64 = 3_600_000;
        Self { idle: 12 * HOUR, absolute: 7 * 24 * HOUR, touch: HOUR / 4 }
    }
}

/// What is kept of a session. Times are ms since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// SHA-256 of what the browser holds, in hex.
    pub hash: String,
    /// Whose it is.
    pub account: String,
    /// When it began.
    pub created: u64,
    /// When it was last used, as far as was written down.
    pub last_seen: u64,
    /// When it ends at the latest.
    pub expires: u64,
}

/// What a look at a session found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Open,
    /// It goes on, and its use is to be written down: set `last_seen`.
    Touch,
    /// It was not used for too long.
    Idle,
    /// It has lasted long enough.
    Expired,
}

/// Begins a session: what the browser gets, and what is kept.
///
/// # Errors
/// When the account's name is none.
pub fn begin(account: &str, now: u64, rules: &Rules) -> Result<(SecretString, SessionRecord), Error> {
    if !is_name(account) {
        return Err(Error::Name(account.to_owned()));
    }
    let id: SecretString = format!("{account}.{}", random::text::<32>()?).into();
    let record = SessionRecord {
        hash: hash(&id),
        account: account.to_owned(),
        created: now,
        last_seen: now,
        expires: now.saturating_add(rules.absolute),
    };
    Ok((id, record))
}

/// The hash under which a session is kept.
pub fn hash(id: &SecretString) -> String {
    let hash = digest(&SHA256, id.expose_secret().as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The account that a browser says its session is of, to find the record by;
/// it is not to be believed before the hash is found there.
pub fn claimed_account(id: &SecretString) -> Option<&str> {
    let (account, secret) = id.expose_secret().split_once('.')?;
    (is_name(account) && secret.len() == 43).then_some(account)
}

impl SessionRecord {
    /// Whether it goes on at `now` (ms).
    pub fn state(&self, now: u64, rules: &Rules) -> State {
        if now >= self.expires {
            State::Expired
        } else if now >= self.last_seen.saturating_add(rules.idle) {
            State::Idle
        } else if now >= self.last_seen.saturating_add(rules.touch) {
            State::Touch
        } else {
            State::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_idle_or_old() {
        let rules = Rules { idle: 100, absolute: 250, touch: 10 };
        let (id, mut record) = begin("ada", 1000, &rules).unwrap();
        assert_eq!(claimed_account(&id), Some("ada"));
        assert_eq!(record.hash, hash(&id));
        let check =
            |record: &SessionRecord, now, wanted| assert_eq!(record.state(now, &rules), wanted, "{now}");
        check(&record, 1000, State::Open);
        check(&record, 1009, State::Open);
        check(&record, 1010, State::Touch);
        check(&record, 1099, State::Touch);
        check(&record, 1100, State::Idle);
        check(&record, 990, State::Open);
        record.last_seen = 1240;
        check(&record, 1249, State::Open);
        check(&record, 1250, State::Expired);
    }

    #[test]
    fn ids_differ_are_not_printed_and_not_kept() {
        let rules = Rules::default();
        let (id, record) = begin("ada", 0, &rules).unwrap();
        let (other, _) = begin("ada", 0, &rules).unwrap();
        assert_ne!(hash(&id), hash(&other));
        assert!(!format!("{id:?}").contains("ada"));
        assert!(!serde_json::to_string(&record).unwrap().contains(id.expose_secret()));
        assert!(begin("system:x", 0, &rules).is_err());
    }

    #[test]
    fn odd_ids_name_nobody() {
        for odd in ["", ".", "ada", "ada.", "ada.short", &format!("system:x.{}", "a".repeat(43))] {
            assert_eq!(claimed_account(&odd.into()), None, "{odd}");
        }
    }
}
