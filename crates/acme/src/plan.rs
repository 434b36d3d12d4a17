//! What to order now, what later, and what never: a function of what is wanted,
//! what there is, what was tried and the time.

mod history;
mod name;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use history::{Attempt, History};
pub use name::refusal;

/// Seconds since 1970.
pub type Time = i64;

/// Names in one certificate: what authorities take.
pub const MOST_NAMES: usize = 100;
const HOUR: Time = 3600;

/// The reason to wait where there is nothing to be done.
pub const VALID: &str = "it is valid";
/// The reason to wait after a success that is not seen yet.
pub const JUST_NOW: &str = "it was had just now";

/// The Secret that a certificate is kept in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub namespace: String,
    pub secret: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.secret)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub key: Key,
    /// Whose orders are counted together.
    pub workspace: String,
    pub hosts: Vec<String>,
}

/// What is in the place of a wanted certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Present {
    /// A Secret that somebody else has made.
    Foreign,
    /// One of ours; None: it holds no certificate that could be read.
    Ours(Option<Validity>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validity {
    pub hosts: BTreeSet<String>,
    pub not_before: Time,
    pub not_after: Time,
}

impl Validity {
    /// A third of the lifetime before its end.
    pub fn renewal(&self) -> Time {
        self.not_after - self.not_after.saturating_sub(self.not_before).max(0) / 3
    }
}

/// Orders in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub workspace: usize,
    pub cloud: usize,
}

impl Default for Limits {
    /// Less than what public authorities take of one account.
    fn default() -> Self {
        Self { workspace: 10, cloud: 60 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// To be ordered now, as far as whoever acts has hands for it.
    Order,
    /// Not before this time.
    Wait(Time),
    /// Nothing is to be done until what is wanted, or what there is, changes.
    Never,
}

/// What is to be done about one certificate, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub key: Key,
    pub workspace: String,
    /// Those that are ordered: sorted, each once.
    pub hosts: Vec<String>,
    pub decision: Decision,
    /// Whether there is a good certificate meanwhile.
    pub served: bool,
    pub reason: String,
    /// What is left out, each with its reason.
    pub left_out: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are to be done.
    pub certificates: Vec<Planned>,
    /// When to look again if nothing changes before.
    pub next: Option<Time>,
}

/// `now` is in seconds, as all times are.
pub fn plan(
    wanted: &[Wanted],
    present: &BTreeMap<Key, Present>,
    history: &History,
    limits: Limits,
    now: Time,
) -> Plan {
    let mut together: BTreeMap<&Key, (&str, BTreeSet<String>)> = BTreeMap::new();
    for one in wanted {
        let (_, hosts) = together.entry(&one.key).or_insert_with(|| (&one.workspace, BTreeSet::new()));
        hosts.extend(one.hosts.iter().map(|host| host.trim_end_matches('.').to_ascii_lowercase()));
    }
    let mut due: Vec<(Urgency, Planned)> = Vec::new();
    for (key, (workspace, hosts)) in together {
        let mut planned = Planned {
            key: key.clone(),
            workspace: workspace.to_owned(),
            hosts: Vec::new(),
            decision: Decision::Never,
            served: false,
            reason: String::new(),
            left_out: Vec::new(),
        };
        let urgency = consider(&mut planned, hosts, present.get(key), history, now);
        due.push((urgency, planned));
    }
    due.sort_by(|a, b| (a.0, &a.1.key).cmp(&(b.0, &b.1.key)));
    let mut counted = history.counted(now - HOUR);
    let mut certificates = Vec::with_capacity(due.len());
    for (_, mut planned) in due {
        if planned.decision == Decision::Order {
            ration(&mut planned, &mut counted, limits, now);
        }
        certificates.push(planned);
    }
    let next = certificates
        .iter()
        .filter_map(|planned| match planned.decision {
            Decision::Wait(until) => Some(until),
            Decision::Order | Decision::Never => None,
        })
        .min();
    Plan { certificates, next }
}

/// What there is comes before what there is not yet, and goes by its end; the
/// rest by when it was last tried: a flood of new ones lets none expire.
type Urgency = (bool, Time);

fn consider(
    planned: &mut Planned,
    hosts: BTreeSet<String>,
    present: Option<&Present>,
    history: &History,
    now: Time,
) -> Urgency {
    let never = (true, Time::MAX);
    if present == Some(&Present::Foreign) {
        planned.reason = "its Secret is there and was not made by ACME: it is left as it is".to_owned();
        return never;
    }
    for host in hosts {
        match refusal(&host) {
            Some(reason) => planned.left_out.push(format!("{host}: {reason}")),
            None => planned.hosts.push(host),
        }
    }
    if planned.hosts.len() > MOST_NAMES {
        let names = planned.hosts.len();
        planned.reason = format!("it has {names} names, and a certificate at most {MOST_NAMES}: use several");
        return never;
    }
    if planned.hosts.is_empty() {
        planned.reason = "it has no host for which a certificate can be had".to_owned();
        return never;
    }
    let attempt = history.attempts.get(&planned.key);
    let mut urgency = (true, attempt.map_or(0, |attempt| attempt.last));
    let reason = match present {
        Some(Present::Ours(Some(valid))) => {
            let missing: Vec<&str> = planned
                .hosts
                .iter()
                .filter(|host| !valid.hosts.contains(*host))
                .map(String::as_str)
                .collect();
            planned.served = valid.not_after > now && missing.is_empty();
            if missing.is_empty() {
                let renewal = valid.renewal();
                urgency = (false, valid.not_after);
                if now < renewal {
                    planned.decision = Decision::Wait(renewal);
                    planned.reason = VALID.to_owned();
                    return urgency;
                }
                if now < valid.not_after { "it expires soon" } else { "it has expired" }.to_owned()
            } else {
                format!("it lacks {}", missing.join(", "))
            }
        }
        Some(Present::Ours(None)) => "its Secret holds no certificate that could be read".to_owned(),
        Some(Present::Foreign) | None => "there is none yet".to_owned(),
    };
    match attempt.and_then(|attempt| attempt.wait(&planned.hosts, now)) {
        Some(until) => {
            let error = attempt.map(|attempt| attempt.error.as_str()).unwrap_or_default();
            planned.decision = Decision::Wait(until);
            planned.reason = if error.is_empty() { JUST_NOW.to_owned() } else { error.to_owned() };
        }
        None => {
            planned.decision = Decision::Order;
            planned.reason = reason;
        }
    }
    urgency
}

/// Takes one of the orders that are left in this hour.
fn ration(planned: &mut Planned, counted: &mut history::Counted, limits: Limits, now: Time) {
    let own = counted.workspaces.entry(planned.workspace.clone()).or_default();
    let whose = if own.len() >= limits.workspace.max(1) {
        Some(("its workspace has", limits.workspace.max(1), &mut *own))
    } else if counted.all.len() >= limits.cloud.max(1) {
        Some(("this cloud has", limits.cloud.max(1), &mut counted.all))
    } else {
        None
    };
    let Some((who, limit, orders)) = whose else {
        own.push(now);
        counted.all.push(now);
        return;
    };
    // Free again once the oldest of the last `limit` is an hour old.
    orders.sort_unstable();
    let oldest = orders.len().checked_sub(limit).and_then(|place| orders.get(place)).copied().unwrap_or(now);
    planned.decision = Decision::Wait((oldest + HOUR).max(now + 1));
    planned.reason = format!("{who} ordered {limit} certificates within an hour, as many as it may");
}
