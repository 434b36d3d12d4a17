//! What requests are looked up in: hosts, certificates and objects, each behind
//! atomic pointers of their own.
//!
//! Readers never wait. A writer copies one shard of one map, whose size is the
//! table's divided by [`SHARDS`], and swaps it in; requests that are under way
//! keep the route they found.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;

use crate::certificate::Certificate;
use crate::challenge::Challenges;
use crate::client_auth::{ClientAuth, Guard};
use crate::object::{Id, Kind};
use crate::route::{Owner, PathMatch, Request, Route, SHARED, Slots, View, Zone};
use crate::tenant::Tenant;

/// At 100,000 hosts a shard has 12 entries.
const SHARDS: usize = 8192;

/// Of just the size it needs; so few entries are looked through one by one.
type Entries<K, V> = Box<[(K, Arc<V>)]>;
type Shard<K, V> = ArcSwap<Entries<K, V>>;

/// A map that is read without locks and changed one small piece at a time. One
/// writer at a time, which is the index.
pub struct Sharded<K, V> {
    shards: Box<[Shard<K, V>]>,
    hasher: RandomState,
    length: AtomicUsize,
}

impl<K: Clone + Eq + Hash, V> Default for Sharded<K, V> {
    fn default() -> Self {
        let empty: Arc<Entries<K, V>> = Arc::default();
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::new(empty.clone())).collect(),
            hasher: RandomState::new(),
            length: AtomicUsize::new(0),
        }
    }
}

impl<K: Clone + Eq + Hash, V> Sharded<K, V> {
    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> &Shard<K, V> {
        let hash = self.hasher.hash_one(key);
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or_default()]
    }

    pub fn get<Q>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let shard = self.shard(key).load();
        shard.iter().find(|(other, _)| other.borrow() == key).map(|(_, value)| value.clone())
    }

    pub fn set(&self, key: K, value: Option<Arc<V>>) {
        let shard = self.shard(&key);
        let old = shard.load();
        let mut new: Vec<_> = old.iter().filter(|(other, _)| *other != key).cloned().collect();
        let (had, has) = (new.len() < old.len(), value.is_some());
        new.extend(value.map(|value| (key, value)));
        shard.store(Arc::new(new.into()));
        match (had, has) {
            (false, true) => self.length.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.length.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    pub fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn for_each(&self, mut visit: impl FnMut(&K, &Arc<V>)) {
        for shard in &self.shards {
            for (key, value) in shard.load().iter() {
                visit(key, value);
            }
        }
    }
}

/// The routes of one host, in the order in which they are asked.
#[derive(Debug, Default)]
pub struct Host {
    /// The exact ones, sorted by path and then by precedence; from `prefixes` on
    /// those with a prefix, likewise; from `regexes` on those with an expression,
    /// the longest first.
    routes: Box<[Arc<Route>]>,
    prefixes: usize,
    regexes: usize,
    /// Some route takes a wildcard of several labels.
    deep: bool,
    listeners: Slots,
    /// What clients have to show over TLS, at any path.
    guard: Option<Arc<Guard>>,
}

impl Host {
    pub fn new(routes: impl IntoIterator<Item = Arc<Route>>) -> Self {
        let (mut exact, mut prefix, mut regex) = (Vec::new(), Vec::new(), Vec::new());
        let (mut deep, mut listeners) = (false, 0);
        let mut guard = None;
        for route in routes {
            deep |= !route.one_label;
            listeners |= route.listeners;
            // It is settled before a path is known: the oldest route that asks says what.
            if guard.is_none() {
                guard = route.action.extra.as_ref().and_then(|extra| extra.guard.clone());
            }
            match &route.path {
                PathMatch::Exact(_) => exact.push(route),
                PathMatch::Prefix(_) => prefix.push(route),
                PathMatch::Regex(_) => regex.push(route),
            }
        }
        let by_path = |a: &Arc<Route>, b: &Arc<Route>| {
            a.path.text().cmp(b.path.text()).then_with(|| a.precedence().cmp(&b.precedence()))
        };
        exact.sort_by(by_path);
        prefix.sort_by(by_path);
        regex.sort_by(|a, b| b.path.text().len().cmp(&a.path.text().len()).then_with(|| by_path(a, b)));
        let prefixes = exact.len();
        let regexes = prefixes + prefix.len();
        exact.append(&mut prefix);
        exact.append(&mut regex);
        Self { routes: exact.into(), prefixes, regexes, deep, listeners, guard }
    }

    #[cfg(test)]
    pub(crate) fn each(&self, visit: impl FnMut(&Arc<Route>)) {
        self.routes.iter().for_each(visit);
    }

    fn part(&self, start: usize, end: usize) -> &[Arc<Route>] {
        self.routes.get(start..end).unwrap_or_default()
    }

    fn find(&self, request: &Request<'_>, depth: usize) -> Option<&Arc<Route>> {
        let path = request.path;
        if let Some(route) = first(at(self.part(0, self.prefixes), path), request, depth) {
            return Some(route);
        }
        let mut regexes = self.part(self.regexes, self.routes.len()).iter().peekable();
        let prefixes = self.part(self.prefixes, self.regexes);
        let mut end = path.trim_end_matches('/').len();
        loop {
            let prefix = path.get(..end)?;
            // An expression and a prefix of one length: the expression.
            while let Some(route) = regexes.next_if(|route| route.path.text().len() >= end) {
                if regex_accepts(route, request, depth) {
                    return Some(route);
                }
            }
            if let Some(route) = first(at(prefixes, prefix), request, depth) {
                return Some(route);
            }
            match prefix.rfind('/') {
                Some(slash) => end = slash,
                None => break,
            }
        }
        regexes.find(|route| regex_accepts(route, request, depth))
    }
}

fn regex_accepts(route: &Route, request: &Request<'_>, depth: usize) -> bool {
    matches!(&route.path, PathMatch::Regex(regex) if regex.is_match(request.path))
        && route.accepts(request, depth)
}

/// The routes with exactly this path.
fn at<'a>(routes: &'a [Arc<Route>], path: &str) -> &'a [Arc<Route>] {
    let start = routes.partition_point(|route| route.path.text() < path);
    let rest = routes.get(start..).unwrap_or_default();
    let length = rest.partition_point(|route| route.path.text() == path);
    rest.get(..length).unwrap_or_default()
}

fn first<'a>(routes: &'a [Arc<Route>], request: &Request<'_>, depth: usize) -> Option<&'a Arc<Route>> {
    routes.iter().find(|route| route.accepts(request, depth))
}

/// A zone and a host of it.
pub type HostKey = (Zone, Arc<str>);

/// A [`HostKey`], or one that is only borrowed: looking up allocates nothing.
pub trait HostName {
    fn parts(&self) -> (Zone, &str);
}

impl HostName for HostKey {
    fn parts(&self) -> (Zone, &str) {
        (self.0, &self.1)
    }
}

impl HostName for (Zone, &str) {
    fn parts(&self) -> (Zone, &str) {
        *self
    }
}

impl PartialEq for dyn HostName + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn HostName + '_ {}

impl Hash for dyn HostName + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl<'a> Borrow<dyn HostName + 'a> for HostKey {
    fn borrow(&self) -> &(dyn HostName + 'a) {
        self
    }
}

/// The listeners of a Gateway behind one port.
#[derive(Debug)]
pub struct Entry {
    pub gateway: Id,
    /// The port as clients see it.
    pub port: u16,
    pub zone: Zone,
    pub listeners: Vec<Listener>,
    /// What backends are shown that ask for a certificate.
    pub identity: Option<Arc<Certificate>>,
}

#[derive(Debug, Clone)]
pub struct Listener {
    pub slot: u8,
    /// Empty: every host.
    pub hostname: String,
    pub protocol: Protocol,
    pub certificates: Vec<Arc<Certificate>>,
    /// What clients are asked for.
    pub client: Option<Arc<ClientAuth>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Https,
    /// A connection is handed on, without the TLS that was taken off.
    Tls,
    /// A connection is handed on as it is.
    Passthrough,
}

impl Entry {
    /// Whether clients speak TLS to it.
    pub fn secure(&self) -> bool {
        self.listeners.iter().any(|listener| listener.protocol != Protocol::Http)
    }

    /// The listener a host belongs to: the one that names it most closely.
    pub fn listener(&self, host: &str) -> Option<&Listener> {
        self.listeners
            .iter()
            .filter(|listener| within(&listener.hostname, host))
            .max_by_key(|listener| (listener.hostname == host, listener.hostname.len()))
    }

    /// What the host sees of the table: only what is attached to its listener.
    pub fn view(&self, host: &str, secure: bool) -> Option<View> {
        let wanted = if secure { Protocol::Https } else { Protocol::Http };
        let listener = self.listener(host).filter(|listener| listener.protocol == wanted)?;
        Some(View { zone: self.zone, listeners: 1 << listener.slot })
    }
}

impl Listener {
    /// The certificate for a name: the first that covers it, else the first.
    pub fn certificate(&self, name: Option<&str>) -> Option<&Arc<Certificate>> {
        let covers = |certificate: &&Arc<Certificate>| name.is_some_and(|name| certificate.covers(name));
        self.certificates.iter().find(covers).or_else(|| self.certificates.first())
    }
}

/// Whether a host name is another or below its wildcard, of any depth.
pub(crate) fn within(wide: &str, narrow: &str) -> bool {
    wide.is_empty()
        || wide == narrow
        || wide
            .strip_prefix('*')
            .is_some_and(|suffix| narrow.ends_with(suffix) && narrow.len() > suffix.len())
}

#[derive(Debug)]
pub enum Found {
    Route(Arc<Route>),
    /// The host is served, but not this path (or method, or header).
    NoRoute,
    NoHost,
}

#[derive(Default)]
pub struct Table {
    /// By zone and host, `*.rest` for a wildcard, empty for every host.
    pub hosts: Sharded<HostKey, Host>,
    /// By the port of ours that leads to them.
    pub entries: Sharded<u16, Entry>,
    /// Told when a port came or went.
    pub entries_changed: Notify,
    pub certificates: Sharded<Arc<str>, Certificate>,
    pub default_certificate: ArcSwapOption<Certificate>,
    pub owners: Sharded<(Kind, Id), Owner>,
    /// By namespace: what its objects share.
    pub tenants: Sharded<String, Tenant>,
    /// What authorities ask of hosts.
    pub challenges: Challenges,
}

impl Table {
    /// The most specific host that is served decides; a path it doesn't have is
    /// not looked for at a wildcard, which may be another tenant's.
    pub fn find(&self, request: &Request<'_>) -> Found {
        self.find_guarded(request).0
    }

    /// With what the host asks of its clients.
    pub fn find_guarded(&self, request: &Request<'_>) -> (Found, Option<Arc<Guard>>) {
        let Some((host, depth)) = self.decisive(request.view, request.host) else {
            return (Found::NoHost, None);
        };
        let found = host.find(request, depth).map_or(Found::NoRoute, |route| Found::Route(route.clone()));
        (found, host.guard.clone())
    }

    /// What the clients of a host are asked for.
    pub fn guard(&self, view: View, host: &str) -> Option<Arc<Guard>> {
        self.decisive(view, host)?.0.guard.clone()
    }

    /// The most specific host that is served, and how far above the name it is.
    fn decisive(&self, view: View, name: &str) -> Option<(Arc<Host>, usize)> {
        patterns(name).enumerate().find_map(|(depth, pattern)| {
            let host = self.host(view.zone, pattern.as_str())?;
            let depth = if pattern.as_str().is_empty() { 0 } else { depth };
            let served = host.listeners & view.listeners != 0 && (depth <= 1 || host.deep);
            served.then_some((host, depth))
        })
    }

    /// The routes of a host, which is not looked for at its wildcards.
    pub fn host(&self, zone: Zone, host: &str) -> Option<Arc<Host>> {
        self.hosts.get(&(zone, host) as &dyn HostName)
    }

    /// The certificate for a name: its own, or the default one. A wildcard's
    /// counts only for names that nobody serves, so that who has a wildcard
    /// can't put a certificate on others' hosts below it.
    pub fn certificate(&self, name: Option<&str>) -> Option<Arc<Certificate>> {
        self.own_certificate(name).or_else(|| self.default_certificate.load_full())
    }

    pub(crate) fn own_certificate(&self, name: Option<&str>) -> Option<Arc<Certificate>> {
        name.and_then(|name| {
            self.certificates.get(name).or_else(|| {
                let wildcard = patterns(name).nth(1).filter(|_| self.host(SHARED, name).is_none())?;
                self.certificates.get(wildcard.as_str())
            })
        })
    }
}

enum Pattern<'a> {
    Exact(&'a str),
    Wildcard(String),
}

impl Pattern<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Exact(host) => host,
            Self::Wildcard(pattern) => pattern,
        }
    }
}

/// `a.b.c`, `*.b.c`, `*.c`, and the empty one that takes every host.
fn patterns(host: &str) -> impl Iterator<Item = Pattern<'_>> {
    let dots = host.match_indices('.').map(|(dot, _)| dot);
    std::iter::once(Pattern::Exact(host))
        .chain(dots.map(move |dot| Pattern::Wildcard(format!("*{}", host.get(dot..).unwrap_or_default()))))
        .chain(std::iter::once(Pattern::Exact("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_go_from_narrow_to_wide() {
        let all: Vec<_> = patterns("a.b.c").map(|pattern| pattern.as_str().to_owned()).collect();
        assert_eq!(all, ["a.b.c", "*.b.c", "*.c", ""]);
    }

    #[test]
    fn a_sharded_map_counts_what_it_holds() {
        let map = Sharded::<String, u32>::default();
        map.set("a".into(), Some(Arc::new(1)));
        map.set("a".into(), Some(Arc::new(2)));
        map.set("b".into(), Some(Arc::new(3)));
        assert_eq!((map.len(), map.get("a").as_deref()), (2, Some(&2)));
        map.set("a".into(), None);
        map.set("a".into(), None);
        assert_eq!((map.len(), map.get("a")), (1, None));
        let mut seen = Vec::new();
        map.for_each(|key, value| seen.push((key.clone(), **value)));
        assert_eq!(seen, [("b".to_owned(), 3)]);
    }
}
