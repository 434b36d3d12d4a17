//! A compiled route: what it matches, in which order it is asked, and what it
//! does with a request. Ingress paths and HTTPRoute matches both become these.

use std::cmp::Reverse;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use regex::Regex;

use crate::backend::Backend;
use crate::client::Clients;
use crate::cors::Cors;
use crate::extra::Extra;
use crate::object::{Id, Kind};
use crate::rare::{Rare, Usual};
use crate::retry::Retry;
use crate::tenant::Tenant;
use crate::traffic::{Passed, Traffic};

/// The object a route comes from, with its counters; one for all its routes,
/// and the same one after an update.
#[derive(Debug)]
pub struct Owner {
    pub kind: Kind,
    pub id: Id,
    /// Whose it is.
    pub tenant: Arc<Tenant>,
    /// What has gone by; None: nothing yet.
    traffic: OnceLock<Box<Traffic>>,
    /// Who asks, where that is limited.
    pub(crate) clients: OnceLock<Box<Clients>>,
}

impl Owner {
    pub fn new(kind: Kind, id: Id, tenant: Arc<Tenant>) -> Self {
        Self { kind, id, tenant, traffic: OnceLock::new(), clients: OnceLock::new() }
    }

    pub fn count(&self, passed: &Passed) {
        self.traffic.get_or_init(Box::default).count(passed);
    }

    pub fn traffic(&self) -> Option<&Traffic> {
        self.traffic.get().map(Box::as_ref)
    }
}

/// What is asked of the table.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Lower case, without port and without a final dot.
    pub host: &'a str,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    /// Over TLS.
    pub secure: bool,
    pub view: View,
}

/// What of the table a connection may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    pub zone: Zone,
    /// The listeners the request came by.
    pub listeners: Slots,
}

/// The hosts of one Gateway, apart from those of every other.
pub type Zone = u32;
/// Listeners of one zone, one bit each; a Gateway has at most 64 and ours two.
pub type Slots = u128;

/// The zone of Ingresses and of the default Gateway.
pub const SHARED: Zone = 0;
/// By which Ingresses are served.
pub const CLEAR: Slots = 1;
/// By which Ingresses are served over TLS.
pub const SECURE: Slots = 2;
/// The first slot that is a Gateway's.
pub const FIRST_SLOT: u8 = 2;

impl View {
    /// What every cluster serves at its one shared address.
    pub fn shared(secure: bool) -> Self {
        Self { zone: SHARED, listeners: if secure { SECURE } else { CLEAR } }
    }

    /// What a listener of the default Gateway shows at the shared address.
    pub fn and_shared(self, secure: bool) -> Self {
        Self { listeners: self.listeners | Self::shared(secure).listeners, ..self }
    }
}

#[derive(Debug, Clone)]
pub enum PathMatch {
    Exact(String),
    /// Element by element; without a final slash, so `/` is empty.
    Prefix(String),
    Regex(Regex),
}

impl PathMatch {
    pub fn prefix(path: &str) -> Self {
        Self::Prefix(path.trim_end_matches('/').to_owned())
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Exact(path) | Self::Prefix(path) => path,
            Self::Regex(regex) => regex.as_str(),
        }
    }
}

#[derive(Debug, Clone)]
pub enum ValueMatch {
    Exact(String),
    Regex(Regex),
}

impl ValueMatch {
    fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// What a route wants of a request besides its host and path.
#[derive(Debug, Default)]
pub struct Conditions {
    pub method: Option<Method>,
    pub headers: Vec<(HeaderName, ValueMatch)>,
    pub query: Vec<(String, ValueMatch)>,
}

impl Usual for Conditions {
    fn usual() -> &'static Self {
        static USUAL: Conditions = Conditions { method: None, headers: Vec::new(), query: Vec::new() };
        &USUAL
    }

    fn is_usual(&self) -> bool {
        self.method.is_none() && self.headers.is_empty() && self.query.is_empty()
    }
}

#[derive(Debug)]
pub struct Route {
    pub owner: Arc<Owner>,
    pub path: PathMatch,
    pub conditions: Rare<Conditions>,
    pub created: i64,
    /// The place of the rule and of the match in the object.
    pub place: (u32, u32),
    /// A wildcard host stands for exactly one label (Ingress), not for one or
    /// more (Gateway API).
    pub one_label: bool,
    pub listeners: Slots,
    pub action: Arc<Action>,
}

impl Route {
    /// Which of two routes with the same path is asked first: the smaller one.
    pub(crate) fn precedence(&self) -> impl Ord + '_ {
        let Conditions { method, headers, query } = &*self.conditions;
        let conditions = (Reverse(method.is_some()), Reverse(headers.len()), Reverse(query.len()));
        (conditions, self.created, &self.owner.id, self.place)
    }

    /// Everything but the host and the path.
    pub(crate) fn accepts(&self, request: &Request<'_>, depth: usize) -> bool {
        (depth <= 1 || !self.one_label)
            && self.listeners & request.view.listeners != 0
            && self.conditions.method.as_ref().is_none_or(|method| method == request.method)
            && self.conditions.headers.iter().all(|(name, wanted)| {
                request
                    .headers
                    .get(name)
                    .and_then(|value| value.to_str().ok())
                    .is_some_and(|value| wanted.accepts(value))
            })
            && self.conditions.query.iter().all(|(name, wanted)| {
                query_value(request.query.unwrap_or_default(), name)
                    .is_some_and(|value| wanted.accepts(&value))
            })
    }
}

/// The first value of a query parameter, decoded.
fn query_value(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key) == name).then(|| decode(value))
    })
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = |digit: Option<&u8>| digit.and_then(|digit| char::from(*digit).to_digit(16));
        match (first, hex(tail.first()), hex(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = tail.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', ..) => bytes.push(b' '),
            _ => bytes.push(first),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Debug, Default)]
pub struct Action {
    pub targets: Targets,
    /// Clear-text requests are sent to `https://`.
    pub to_https: bool,
    pub request_headers: Rare<HeaderEdit>,
    pub response_headers: Rare<HeaderEdit>,
    pub limits: Rare<Limits>,
    /// Calls, which need HTTP/2 to the backend.
    pub grpc: bool,
    /// Whether answers are compressed; None: as the gateway is set.
    pub compress: Option<bool>,
    /// What only annotations ask for.
    pub extra: Option<Arc<Extra>>,
    pub seldom: Rare<Seldom>,
}

/// What few routes ask for.
#[derive(Debug, Default)]
pub struct Seldom {
    pub redirect: Option<Redirect>,
    pub rewrite_host: Option<String>,
    pub rewrite_path: Option<PathRewrite>,
    /// Backends that get a copy of the request, whose answers nobody sees.
    pub mirrors: Vec<Mirror>,
    pub cors: Option<Cors>,
    /// For the whole request, from its head to the end of the answer.
    pub timeout: Option<Duration>,
    pub retry: Option<Retry>,
}

impl Usual for Seldom {
    fn usual() -> &'static Self {
        static USUAL: Seldom = Seldom {
            redirect: None,
            rewrite_host: None,
            rewrite_path: None,
            mirrors: Vec::new(),
            cors: None,
            timeout: None,
            retry: None,
        };
        &USUAL
    }

    fn is_usual(&self) -> bool {
        let Self { redirect, rewrite_host, rewrite_path, mirrors, cors, timeout, retry } = self;
        redirect.is_none()
            && rewrite_host.is_none()
            && rewrite_path.is_none()
            && mirrors.is_empty()
            && cors.is_none()
            && timeout.is_none()
            && retry.is_none()
    }
}

impl Deref for Action {
    type Target = Seldom;

    fn deref(&self) -> &Seldom {
        &self.seldom
    }
}

#[derive(Debug)]
pub struct Mirror {
    pub backend: Arc<Backend>,
    /// So many of so many requests.
    pub share: (u32, u32),
    turn: AtomicU64,
}

impl Mirror {
    pub fn new(backend: Arc<Backend>, share: (u32, u32)) -> Self {
        Self { backend, share, turn: AtomicU64::new(0) }
    }

    /// Whether the next request is copied.
    pub fn takes(&self) -> bool {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (share, of) = (u64::from(self.share.0), u64::from(self.share.1));
        let before = |turn: u64| turn.wrapping_mul(share) / of;
        before(turn.wrapping_add(1)) > before(turn)
    }
}

/// What is changed for one of several backends.
#[derive(Debug, Default)]
pub struct Edits {
    pub request: Rare<HeaderEdit>,
    pub response: Rare<HeaderEdit>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes; None: any.
    pub body: Option<u64>,
    pub connect: Option<Duration>,
    pub read: Option<Duration>,
    pub send: Option<Duration>,
}

impl Usual for Limits {
    fn usual() -> &'static Self {
        static USUAL: Limits = Limits { body: None, connect: None, read: None, send: None };
        &USUAL
    }

    fn is_usual(&self) -> bool {
        self == Self::usual()
    }
}

#[derive(Debug, Default)]
pub struct Targets {
    targets: Vec<(u32, Target)>,
    total: u64,
    turn: AtomicUsize,
}

#[derive(Debug, Clone)]
pub enum Target {
    Service(Arc<Backend>, Option<Arc<Edits>>),
    /// The reference is not allowed or makes no sense: its share gets a 500
    /// that says this.
    Refused(String),
}

impl Targets {
    pub fn new(targets: Vec<(u32, Target)>) -> Self {
        let targets: Vec<_> = targets.into_iter().filter(|(weight, _)| *weight > 0).collect();
        let total = targets.iter().map(|(weight, _)| u64::from(*weight)).sum();
        Self { targets, total, turn: AtomicUsize::new(0) }
    }

    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.targets.iter().filter_map(|(_, target)| match target {
            Target::Service(backend, _) => Some(backend),
            Target::Refused(_) => None,
        })
    }

    /// One of the targets, as often as its weight says. Multiples of the golden
    /// ratio spread evenly, so ninety of a hundred don't come in a row.
    pub fn pick(&self) -> Option<&Target> {
        if let [(_, only)] = self.targets.as_slice() {
            return Some(only);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) as u64;
        let spread = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let mut at = (spread * self.total) >> 32;
        for (weight, target) in &self.targets {
            let weight = u64::from(*weight);
            if at < weight {
                return Some(target);
            }
            at -= weight;
        }
        None
    }
}

#[derive(Debug, Clone)]
pub enum PathRewrite {
    Full(String),
    /// What replaces the route's own prefix.
    Prefix(String),
    /// `$1` and the like stand for what the route's regex captured.
    Captures(String),
}

impl PathRewrite {
    /// The path to ask the backend for.
    pub fn apply(&self, route: &PathMatch, path: &str) -> String {
        let rewritten = match (self, route) {
            (Self::Full(full), _) => full.clone(),
            (Self::Prefix(replacement), PathMatch::Prefix(prefix) | PathMatch::Exact(prefix)) => {
                let rest = path.get(prefix.len()..).unwrap_or_default();
                format!("{}{rest}", replacement.trim_end_matches('/'))
            }
            (Self::Prefix(_), PathMatch::Regex(_)) => path.to_owned(),
            (Self::Captures(template), PathMatch::Regex(regex)) => match regex.captures(path) {
                Some(captures) => {
                    let mut expanded = String::with_capacity(path.len());
                    expand(template, &captures, &mut expanded);
                    expanded
                }
                None => path.to_owned(),
            },
            (Self::Captures(template), _) => template.clone(),
        };
        if rewritten.starts_with('/') { rewritten } else { format!("/{rewritten}") }
    }
}

/// As nginx reads it: a dollar sign and one digit, no braces and no names.
fn expand(template: &str, captures: &regex::Captures<'_>, into: &mut String) {
    let mut rest = template.chars().peekable();
    while let Some(next) = rest.next() {
        let digit = if next == '$' { rest.peek().and_then(|digit| digit.to_digit(10)) } else { None };
        match digit {
            Some(digit) => {
                rest.next();
                into.push_str(captures.get(digit as usize).map_or("", |group| group.as_str()));
            }
            None => into.push(next),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Redirect {
    pub scheme: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: Option<PathRewrite>,
    pub status: u16,
}

impl Redirect {
    /// The `Location` for a request.
    pub fn location(&self, route: &PathMatch, request: &Request<'_>, port: Option<u16>) -> String {
        let own = if request.secure { "https" } else { "http" };
        let scheme = self.scheme.as_deref().unwrap_or(own);
        let host = self.host.as_deref().unwrap_or(request.host);
        let usual = if scheme == "https" { 443 } else { 80 };
        // A changed scheme means its usual port, an unchanged one the port asked for.
        let port = self.port.or(if scheme == own { port } else { None }).filter(|port| *port != usual);
        let path = match &self.path {
            Some(rewrite) => rewrite.apply(route, request.path),
            None => request.path.to_owned(),
        };
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{scheme}://{host}{port}{path}{query}")
    }
}

#[derive(Debug, Clone, Default)]
pub struct HeaderEdit {
    pub remove: Vec<HeaderName>,
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl Usual for HeaderEdit {
    fn usual() -> &'static Self {
        static USUAL: HeaderEdit = HeaderEdit { remove: Vec::new(), set: Vec::new(), add: Vec::new() };
        &USUAL
    }

    fn is_usual(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept_and_spread() {
        let target = |name: &str| Target::Refused(name.to_owned());
        let targets = Targets::new(vec![(9, target("a")), (1, target("b")), (0, target("never"))]);
        let picks: Vec<_> = (0..1000)
            .filter_map(|_| match targets.pick() {
                Some(Target::Refused(name)) => Some(name.clone()),
                _ => None,
            })
            .collect();
        let b = picks.iter().filter(|name| *name == "b").count();
        assert!((95..=105).contains(&b), "{b} of 1000");
        assert!(picks.chunks(50).all(|some| some.iter().any(|name| name == "b")), "not in a row");
        assert!(Targets::new(vec![]).pick().is_none());
    }

    #[test]
    fn paths_are_rewritten() {
        let check = |rewrite: PathRewrite, route: PathMatch, path: &str, wanted: &str| {
            assert_eq!(rewrite.apply(&route, path), wanted, "{rewrite:?} {route:?} {path}");
        };
        let regex = |text: &str| PathMatch::Regex(Regex::new(text).unwrap());
        check(PathRewrite::Full("/x".into()), PathMatch::prefix("/a"), "/a/b", "/x");
        check(PathRewrite::Prefix("/x".into()), PathMatch::prefix("/a"), "/a/b", "/x/b");
        check(PathRewrite::Prefix("/x/".into()), PathMatch::prefix("/a/"), "/a/b", "/x/b");
        check(PathRewrite::Prefix("/".into()), PathMatch::prefix("/a"), "/a", "/");
        check(PathRewrite::Prefix("/".into()), PathMatch::prefix("/a"), "/a/", "/");
        check(PathRewrite::Prefix("/x".into()), PathMatch::prefix("/"), "/b", "/x/b");
        check(PathRewrite::Captures("/$2".into()), regex("^/a(/|$)(.*)"), "/a/b/c", "/b/c");
        check(PathRewrite::Captures("/$2".into()), regex("^/a(/|$)(.*)"), "/a", "/");
        check(PathRewrite::Captures("$1x".into()), regex("^(/a)"), "/a", "/ax");
        check(PathRewrite::Captures("/$9$".into()), regex("^/a"), "/a", "/$");
    }

    #[test]
    fn query_values_are_decoded() {
        let check = |query: &str, name: &str, wanted: Option<&str>| {
            assert_eq!(query_value(query, name).as_deref(), wanted, "{query} {name}");
        };
        check("a=1&b=2", "b", Some("2"));
        check("a=1&a=2", "a", Some("1"));
        check("a", "a", Some(""));
        check("a=x%20y+z", "a", Some("x y z"));
        check("a=%", "a", Some("%"));
        check("a=%4", "a", Some("%4"));
        check("ab=1", "a", None);
        check("", "a", None);
    }
}
