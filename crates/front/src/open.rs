//! Requests that are under way: how many one caller may have, whose they are,
//! so that they end when the caller is shut out, and what is written down of
//! each when it ends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use identity::token::Claims;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::request::Asked;

/// How many requests one caller may have under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Those that end by themselves.
    pub short: u32,
    /// Watches, logs, and sessions in pods.
    pub long: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { short: 64, long: 256 }
    }
}

/// Who is counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// An account.
    Account(String),
    /// An address: what a pod's token says isn't verified here, so its address
    /// is what can't be forged.
    Address(IpAddr),
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Account(account) => f.write_str(account),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

#[derive(Default)]
struct State {
    /// Short and long requests under way.
    counts: HashMap<Who, [u32; 2]>,
    entries: HashMap<u64, Entry>,
    next: u64,
}

struct Entry {
    claims: Claims,
    /// The caller's namespace that it looks into, if it is the caller's.
    namespace: Option<String>,
    cut: CancellationToken,
}

/// All requests under way.
pub struct Open {
    limits: Limits,
    state: Mutex<State>,
    stopping: CancellationToken,
    metrics: Arc<Metrics>,
}

impl Open {
    pub(crate) fn new(limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default(), stopping: CancellationToken::new(), metrics })
    }

    /// Lets a request in, if its caller has room. The claims, and that the
    /// namespace is still the caller's, are looked at again by [`Open::sweep`];
    /// a pod's are the API server's to judge.
    pub(crate) fn enter(
        self: &Arc<Self>,
        who: Who,
        claims: Option<(Claims, Option<String>)>,
        asked: Asked,
    ) -> Result<Ticket, Refusal> {
        let long = asked.is_long();
        let limit = if long { self.limits.long } else { self.limits.short };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = &mut state.counts.entry(who.clone()).or_default()[usize::from(long)];
        if *count >= limit {
            self.metrics.limited.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::TooMany(who.to_string()));
        }
        *count += 1;
        state.next += 1;
        let number = state.next;
        let cut = CancellationToken::new();
        // What is being written is the API server's by now: to cut it would undo nothing, and
        // who leaves a workspace would not hear that they have.
        if let Some((claims, namespace)) = claims
            && !asked.is_write()
        {
            state.entries.insert(number, Entry { claims, namespace, cut: cut.clone() });
        }
        self.metrics.open.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket {
            open: self.clone(),
            number,
            who,
            long,
            cut,
            asked,
            began: Instant::now(),
            status: AtomicU16::new(0),
            bytes: AtomicU64::new(0),
            was_cut: AtomicBool::new(false),
        };
        Ok(ticket)
    }

    /// Ends every request that may not go on.
    pub(crate) fn sweep(&self, may_go_on: impl Fn(&Claims, Option<&str>) -> bool) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in state.entries.values() {
            if !may_go_on(&entry.claims, entry.namespace.as_deref()) {
                entry.cut.cancel();
            }
        }
    }

    /// Front stops: what would never end by itself ends now.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }
}

/// One request under way; dropping it ends it and writes its line in the log.
pub(crate) struct Ticket {
    open: Arc<Open>,
    number: u64,
    who: Who,
    long: bool,
    cut: CancellationToken,
    asked: Asked,
    began: Instant,
    status: AtomicU16,
    bytes: AtomicU64,
    was_cut: AtomicBool,
}

impl Ticket {
    /// Cancelled when the caller is shut out.
    pub fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Cancelled when front stops.
    pub fn stopping(&self) -> CancellationToken {
        self.open.stopping.clone()
    }

    /// Whether the client decides how long it takes.
    pub fn is_long(&self) -> bool {
        self.long
    }

    /// Whether it would go on for ever, and a client begins it anew.
    pub fn is_endless(&self) -> bool {
        self.asked.verb == "watch"
    }

    pub fn set_status(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
    }

    pub fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn note_cut(&self) {
        if !self.was_cut.swap(true, Ordering::Relaxed) {
            self.open.metrics.cut.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.open.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.entries.remove(&self.number);
        if let Some(counts) = state.counts.get_mut(&self.who) {
            let count = &mut counts[usize::from(self.long)];
            *count = count.saturating_sub(1);
            if *counts == [0, 0] {
                state.counts.remove(&self.who);
            }
        }
        drop(state);
        let status = self.status.load(Ordering::Relaxed);
        self.open.metrics.open.fetch_sub(1, Ordering::Relaxed);
        self.open.metrics.request(status, self.began.elapsed());
        let resource = self.asked.resource.as_ref();
        // Never the query: it holds commands and file names.
        tracing::info!(
            target: "front::access",
            who = %self.who,
            verb = self.asked.verb,
            group = resource.map(|r| r.group.as_str()),
            resource = resource.map(|r| r.resource.as_str()),
            subresource = resource.map(|r| r.subresource.as_str()),
            namespace = resource.map(|r| r.namespace.as_str()),
            name = resource.map(|r| r.name.as_str()),
            status,
            bytes = self.bytes.load(Ordering::Relaxed),
            cut = self.was_cut.load(Ordering::Relaxed),
            ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::classify;
    use identity::token::Kind;

    fn claims(account: &str) -> Claims {
        Claims {
            account: account.to_owned(),
            id: "t".to_owned(),
            audience: String::new(),
            kind: Kind::Access,
            issued: 0,
            expires: 1,
            key: String::new(),
        }
    }

    #[test]
    fn one_caller_takes_no_others_room() {
        let open = Open::new(Limits { short: 2, long: 1 }, Arc::default());
        let enter = |who: &str, path: &str, query: &str| {
            let asked = classify("GET", path, query).unwrap();
            open.enter(Who::Account(who.to_owned()), Some((claims(who), None)), asked)
        };
        let one = enter("ada", "/api/v1/pods", "").unwrap();
        let _two = enter("ada", "/version", "").unwrap();
        assert_eq!(enter("ada", "/version", "").err(), Some(Refusal::TooMany("ada".to_owned())));
        let _watch = enter("ada", "/api/v1/pods", "watch=1").unwrap();
        assert!(enter("ada", "/api/v1/pods", "watch=1").is_err());
        assert!(enter("bob", "/version", "").is_ok());
        drop(one);
        assert!(enter("ada", "/version", "").is_ok());
    }

    #[test]
    fn a_sweep_cuts_what_may_not_go_on() {
        let open = Open::new(Limits::default(), Arc::default());
        let enter_by = |method: &str, who: &str, path: &str| {
            let asked = classify(method, path, "").unwrap();
            let namespace = asked.resource.as_ref().map(|resource| resource.namespace.clone());
            open.enter(Who::Account(who.to_owned()), Some((claims(who), namespace)), asked).unwrap()
        };
        let enter = |who: &str, path: &str| enter_by("GET", who, path);
        let ada = enter("ada", "/api/v1/namespaces/a/pods");
        let bob = enter("bob", "/api/v1/namespaces/b/pods");
        let leaves = enter_by("DELETE", "bob", "/apis/atoll.dev/v1alpha1/namespaces/b/members/bob");
        let runs = enter_by("POST", "bob", "/api/v1/namespaces/b/pods/p/exec");
        open.sweep(|claims, namespace| claims.account == "ada" && namespace == Some("a"));
        assert!(!ada.cut().is_cancelled());
        assert!(bob.cut().is_cancelled() && runs.cut().is_cancelled());
        assert!(!leaves.cut().is_cancelled());
        drop((ada, bob, leaves, runs));
        assert!(open.state.lock().unwrap().entries.is_empty());
        assert!(open.state.lock().unwrap().counts.is_empty());
    }
}
