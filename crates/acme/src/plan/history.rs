//! What was tried: kept over restarts, so that none of them hammers an authority.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{HOUR, Key, Time};

/// The first wait after a failure.
const SHORTEST: Time = 60;
const LONGEST: Time = 12 * HOUR;
/// Of an error's text.
const LONGEST_ERROR: usize = 700;

/// The last try for one certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Since the last success, for these hosts.
    pub failures: u32,
    pub last: Time,
    /// What the authority has asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Time>,
    pub hosts: Vec<String>,
    #[serde(default)]
    pub error: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    #[serde(with = "pairs")]
    pub attempts: BTreeMap<Key, Attempt>,
    /// Whose orders were begun when.
    pub orders: Vec<(String, Time)>,
}

/// The orders of the last hour.
pub(super) struct Counted {
    pub workspaces: BTreeMap<String, Vec<Time>>,
    pub all: Vec<Time>,
}

impl Attempt {
    /// Until when nothing is tried, if it isn't time already.
    pub(super) fn wait(&self, hosts: &[String], now: Time) -> Option<Time> {
        // A clock that was set back must not make anybody wait for long.
        let last = self.last.min(now);
        let pause = if self.hosts == hosts { backoff(self.failures) } else { SHORTEST };
        let until = (last + pause).max(self.retry_after.unwrap_or(0));
        (until > now).then_some(until)
    }
}

/// Seconds after so many failures in a row. A success is not repeated at once
/// either: what was got may not be there yet for whoever looks.
pub(super) fn backoff(failures: u32) -> Time {
    let doubled = SHORTEST.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(LONGEST)
}

impl History {
    /// An order begins: it counts even if nobody ever hears how it ended.
    pub fn begun(&mut self, key: &Key, workspace: &str, hosts: &[String], now: Time) {
        self.orders.retain(|(_, at)| *at > now - HOUR && *at <= now);
        self.orders.push((workspace.to_owned(), now));
        let attempt = self.attempts.entry(key.clone()).or_default();
        if attempt.hosts != hosts {
            attempt.failures = 0;
            attempt.hosts = hosts.to_vec();
        }
        attempt.failures = attempt.failures.saturating_add(1);
        attempt.last = now;
        attempt.retry_after = None;
        attempt.error = "it was begun, and its end was not heard of".to_owned();
    }

    pub fn failed(&mut self, key: &Key, error: &str, retry_after: Option<Time>, now: Time) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        attempt.last = now;
        attempt.retry_after = retry_after;
        attempt.error = error.get(..error.floor_char_boundary(LONGEST_ERROR)).unwrap_or_default().to_owned();
    }

    pub fn succeeded(&mut self, key: &Key, now: Time) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        *attempt = Attempt { last: now, hosts: std::mem::take(&mut attempt.hosts), ..Attempt::default() };
    }

    /// Forgets what went well an hour ago, and what nobody wants any more and was not
    /// tried for a day.
    pub fn tidy(&mut self, wanted: impl Fn(&Key) -> bool, now: Time) {
        self.orders.retain(|(_, at)| *at > now - HOUR);
        self.attempts.retain(|key, attempt| {
            let patience = if attempt.failures == 0 { HOUR } else { 24 * HOUR };
            attempt.failures > 0 && wanted(key) || attempt.last > now - patience
        });
    }

    pub(super) fn counted(&self, since: Time) -> Counted {
        let mut counted = Counted { workspaces: BTreeMap::new(), all: Vec::new() };
        for (workspace, at) in self.orders.iter().filter(|(_, at)| *at > since) {
            counted.workspaces.entry(workspace.clone()).or_default().push(*at);
            counted.all.push(*at);
        }
        counted
    }
}

/// JSON's keys are texts.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Attempt, Key};

    pub fn serialize<S: Serializer>(map: &BTreeMap<Key, Attempt>, to: S) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Key, Attempt>, D::Error> {
        Ok(Vec::<(Key, Attempt)>::deserialize(from)?.into_iter().collect())
    }
}
