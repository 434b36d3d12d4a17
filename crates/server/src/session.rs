//! Sessions of the desktop: a random id in a cookie, of which only the hash is
//! kept.

use std::fmt;
use std::time::Duration;

use api::http::SESSION_COOKIE;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use rand::TryRngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// When sessions end.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// After this long without a request.
    pub idle: Duration,
    /// After this long in any case.
    pub absolute: Duration,
}

impl Default for Lifetimes {
    /// A working day without a request, a week in any case.
    fn default() -> Self {
        Self { idle: Duration::from_secs(8 * 3600), absolute: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// What a session's cookie holds: 256 random bits. It is not printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionId([u8; 32]);

impl fmt::Debug for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SessionId(..)")
    }
}

impl SessionId {
    pub fn random() -> Result<Self, Error> {
        let mut bytes = [0; 32];
        // Without randomness there are no sessions.
        rand::rngs::OsRng
            .try_fill_bytes(&mut bytes)
            .map_err(|error| Error::Internal(format!("the system gives no randomness: {error}")))?;
        Ok(Self(bytes))
    }

    /// The id in a request's cookies.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut found = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .filter(|(name, _)| *name == SESSION_COOKIE);
        // Of two, somebody put one there.
        let (Some((_, value)), None) = (found.next(), found.next()) else { return None };
        let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    pub fn hash(&self) -> SessionHash {
        SessionHash(Sha256::digest(self.0).into())
    }

    /// The cookie that gives a browser the session. A session's, not a lasting
    /// one: the server knows when it ends.
    pub fn cookie(&self) -> HeaderValue {
        cookie(&URL_SAFE_NO_PAD.encode(self.0), "")
    }
}

/// The cookie that takes a session away.
pub(crate) fn no_cookie() -> HeaderValue {
    cookie("", "; Max-Age=0")
}

fn cookie(value: &str, more: &str) -> HeaderValue {
    let text = format!("{SESSION_COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Strict{more}");
    let mut value = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// By what a session is kept: the SHA-256 of its id, from which nobody finds the
/// id. It prints as hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionHash(pub [u8; 32]);

impl fmt::Display for SessionHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// What is kept of a session. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRecord {
    /// Whose it is.
    pub account: String,
    /// When it began.
    pub created: u64,
    /// When it was last used, give or take a minute.
    pub used: u64,
}

impl SessionRecord {
    /// Whether the session goes on at that time.
    pub fn lives(&self, now: u64, lifetimes: Lifetimes) -> bool {
        now.saturating_sub(self.used) < lifetimes.idle.as_secs()
            && now.saturating_sub(self.created) < lifetimes.absolute.as_secs()
    }

    /// Whether its use is worth writing down: not at every request.
    pub(crate) fn worth_touching(&self, now: u64) -> bool {
        now.saturating_sub(self.used) >= 60
    }
}

/// Where sessions are kept. The server reads at every request: from memory, if
/// it can be.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// Keeps a new session. What has ended may be swept at this occasion.
    async fn create(&self, hash: SessionHash, record: SessionRecord) -> Result<(), Error>;
    /// The session, if there is one, whether it has ended or not.
    async fn get(&self, hash: SessionHash) -> Result<Option<SessionRecord>, Error>;
    /// It was used now.
    async fn touch(&self, hash: SessionHash, used: u64) -> Result<(), Error>;
    /// It is over. It may not be there.
    async fn remove(&self, hash: SessionHash) -> Result<(), Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookies: &[&str]) -> HeaderMap {
        cookies.iter().map(|cookie| (header::COOKIE, cookie.parse().unwrap())).collect()
    }

    #[test]
    fn the_cookie_holds_the_id_and_the_store_does_not() {
        let id = SessionId::random().unwrap();
        let cookie = id.cookie();
        let text = cookie.to_str().unwrap();
        let pair = text.split(';').next().unwrap();
        assert_eq!(SessionId::from_headers(&headers(&[&format!("theme=x; {pair}")])), Some(id));
        for attribute in ["; Path=/;", "; Secure;", "; HttpOnly;", "; SameSite=Strict"] {
            assert!(text.contains(attribute), "{text}");
        }
        assert!(!text.contains("Domain"), "a __Host- cookie has none");
        let value = pair.split_once('=').unwrap().1;
        assert_eq!(value.len(), 43);
        assert_ne!(id.hash().0, id.0);
        assert!(!format!("{id:?} {}", id.hash()).contains(value));
        assert_ne!(id, SessionId::random().unwrap());
    }

    #[test]
    fn what_is_no_id_is_none() {
        let good = SessionId::random().unwrap().cookie();
        let good = good.to_str().unwrap().split(';').next().unwrap();
        assert!(SessionId::from_headers(&headers(&[good])).is_some());
        let short = format!("{SESSION_COOKIE}=AAAA");
        let twice = format!("{good}; {good}");
        let other = good.replace("__Host-", "");
        for bad in [short.as_str(), &twice, &other, "", "=", &format!("{good}!")] {
            assert_eq!(SessionId::from_headers(&headers(&[bad])), None, "{bad}");
        }
        assert_eq!(SessionId::from_headers(&headers(&[good, good])), None, "two headers");
    }

    #[test]
    fn a_session_ends_by_idleness_and_by_age() {
        let lifetimes = Lifetimes { idle: Duration::from_secs(100), absolute: Duration::from_secs(1000) };
        let record = |created, used| SessionRecord { account: "ada".to_owned(), created, used };
        assert!(record(0, 0).lives(99, lifetimes));
        assert!(!record(0, 0).lives(100, lifetimes));
        assert!(record(0, 950).lives(999, lifetimes));
        assert!(!record(0, 999).lives(1000, lifetimes));
        // The clock was put back: it isn't older than new.
        assert!(record(500, 500).lives(400, lifetimes));
    }
}
