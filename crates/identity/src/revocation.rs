//! Which tokens are refused although they are signed and have not expired.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::token::{Claims, LONGEST};

/// One Secret holds at most a mebibyte, and an entry takes about forty bytes.
const MOST: usize = 16_384;

/// The revocations: a value that is replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    /// Tokens by id, and when they would expire anyway, in ms since 1970.
    #[serde(default)]
    tokens: BTreeMap<String, u64>,
    /// Accounts, and until when what was issued to them is refused, in ms.
    #[serde(default)]
    accounts: BTreeMap<String, u64>,
}

impl Revocations {
    /// Refuses one token, until `expires` (ms), when it would be refused anyway.
    ///
    /// # Errors
    /// [`Error::TooManyRevocations`] when there is no room for it.
    pub fn revoke_token(&mut self, id: &str, expires: u64) -> Result<(), Error> {
        if self.tokens.len() >= MOST && !self.tokens.contains_key(id) {
            return Err(Error::TooManyRevocations);
        }
        self.tokens.insert(id.to_owned(), expires);
        Ok(())
    }

    /// Refuses every token that was issued to the account up to `now` (ms).
    pub fn revoke_account(&mut self, account: &str, now: u64) {
        let until = self.accounts.entry(account.to_owned()).or_default();
        *until = now.max(*until);
    }

    /// Whether a token with these claims is refused.
    pub fn refuse(&self, claims: &Claims) -> bool {
        self.tokens.contains_key(&claims.id)
            || self.accounts.get(&claims.account).is_some_and(|until| claims.issued <= *until)
    }

    /// Forgets what has no effect any more; says whether there was any.
    pub fn prune(&mut self, now: u64) -> bool {
        let before = self.tokens.len() + self.accounts.len();
        self.tokens.retain(|_, expires| *expires > now);
        self.accounts.retain(|_, until| until.saturating_add(LONGEST) > now);
        before != self.tokens.len() + self.accounts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Kind;

    fn claims(account: &str, id: &str, issued: u64) -> Claims {
        let (account, id, audience) = (account.to_owned(), id.to_owned(), "front".to_owned());
        Claims {
            account,
            id,
            audience,
            kind: Kind::Access,
            issued,
            expires: issued + 100,
            key: String::new(),
        }
    }

    #[test]
    fn by_token_and_by_account() {
        let mut revoked = Revocations::default();
        revoked.revoke_token("one", 200).unwrap();
        revoked.revoke_account("bob", 50);
        revoked.revoke_account("bob", 40);
        let check = |account, id, issued, wanted| {
            assert_eq!(revoked.refuse(&claims(account, id, issued)), wanted, "{account} {id} {issued}");
        };
        check("ada", "one", 1, true);
        check("ada", "two", 1, false);
        check("bob", "three", 49, true);
        check("bob", "three", 50, true);
        check("bob", "three", 51, false);
    }

    #[test]
    fn what_has_no_effect_is_forgotten() {
        let mut revoked = Revocations::default();
        revoked.revoke_token("one", 200).unwrap();
        revoked.revoke_account("bob", 50);
        assert!(!revoked.prune(199));
        assert!(revoked.prune(200));
        assert!(!revoked.refuse(&claims("ada", "one", 1)));
        assert!(revoked.refuse(&claims("bob", "x", 1)));
        assert!(revoked.prune(50 + LONGEST));
        assert_eq!(revoked, Revocations::default());
    }

    #[test]
    fn there_is_an_end_to_it() {
        let mut revoked = Revocations::default();
        for number in 0..MOST {
            revoked.revoke_token(&number.to_string(), 1).unwrap();
        }
        assert!(matches!(revoked.revoke_token("more", 1), Err(Error::TooManyRevocations)));
        assert!(revoked.revoke_token("0", 2).is_ok());
        let size = serde_json::to_vec(&revoked).unwrap().len();
        assert!(size < 1 << 20, "{size}");
    }
}
