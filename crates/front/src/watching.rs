//! A watch of the caller's own namespaces or workspaces. The API server filters
//! it by label; when the caller's memberships change, what is gained is told as
//! added, what is lost as deleted, and the watch goes on upstream from where it
//! was with the new selector. No client has to list again for that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use identity::token::Claims;
use tokio::sync::{mpsc, watch};

use crate::body::{Body, BoxError, Written};
use crate::directory::Standing;
use crate::event::{Event, Lines, Listed, expired};
use crate::open::Ticket;
use crate::proxy::{Own, Proxy, pass};
use crate::refusal::Refusal;
use crate::upstream::{As, empty};
use crate::visible::{Query, json_only};

/// Pieces that wait for a client that reads slowly; then upstream waits too.
const WAITING: usize = 16;

pub(crate) struct Watching {
    proxy: Arc<Proxy>,
    own: Own,
    query: Query,
    headers: HeaderMap,
    claims: Claims,
    ticket: Ticket,
    /// The caller's objects by name, and each one's workspace.
    names: BTreeMap<String, String>,
    /// Lost, and already gone when we looked: upstream still owes their end.
    leaving: BTreeMap<String, String>,
    /// Told already, up to this version.
    told: BTreeMap<String, u64>,
    /// Up to where the client has seen everything; None: not known yet.
    seen: Option<u64>,
    wants_bookmarks: bool,
    began: Instant,
    to: mpsc::Sender<Result<Bytes, BoxError>>,
}

/// How a step of a watch went.
enum Next {
    Go,
    End,
}

impl Watching {
    pub async fn begin(
        proxy: Arc<Proxy>,
        own: Own,
        mut query: Query,
        mut headers: HeaderMap,
        claims: Claims,
        standing: Arc<Standing>,
        ticket: Ticket,
    ) -> Result<Response<Body>, Refusal> {
        let accepts: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
        let accepts = (!accepts.is_empty()).then(|| accepts.join(","));
        let accept = json_only(accepts.as_deref())
            .and_then(|accept| HeaderValue::try_from(accept).ok())
            .ok_or(Refusal::NotAcceptable("this watch is served as application/json only"))?;
        headers.insert(ACCEPT, accept);
        // Events are looked into.
        headers.remove(ACCEPT_ENCODING);
        if query.get("includeObject").is_some_and(|what| what != "Object") {
            query.remove("includeObject");
        }
        let seen = query.get("resourceVersion").and_then(|text| text.parse().ok()).filter(|seen| *seen > 0);
        if seen.is_some_and(|seen: u64| seen < own.changed(&standing)) {
            return Err(Refusal::Expired);
        }
        let truth = |value: &str| value != "0" && !value.eq_ignore_ascii_case("false");
        let wants_bookmarks = query.get("allowWatchBookmarks").is_some_and(truth);
        query.set("watch", "true");
        // They say how far upstream is, which is what a change goes on from.
        query.set("allowWatchBookmarks", "true");

        let changes = proxy.directory.changes();
        let target = own.target(&query, standing.workspaces.keys().map(String::as_str));
        let answer =
            proxy.sender.send(As::Front, Method::GET, &target, headers.clone(), empty(), false).await?;
        if answer.status() != StatusCode::OK {
            return Ok(pass(answer, ticket));
        }
        let (mut head, upstream) = answer.into_parts();
        crate::headers::clean_hop(&mut head.headers);
        head.headers.remove(http::header::CONTENT_LENGTH);
        ticket.set_status(head.status);
        let (to, from) = mpsc::channel(WAITING);
        let body = Written::new(from, &ticket);
        let names = names(own, &standing);
        let watching = Self {
            proxy,
            own,
            query,
            headers,
            claims,
            ticket,
            names,
            leaving: BTreeMap::new(),
            told: BTreeMap::new(),
            seen,
            wants_bookmarks,
            began: Instant::now(),
            to,
        };
        tokio::spawn(watching.run(upstream, changes));
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }

    async fn run(mut self, mut upstream: Incoming, mut changes: watch::Receiver<u64>) {
        let (cut, stop) = (self.ticket.cut(), self.ticket.stopping());
        let mut lines = Lines::default();
        // What has changed between the request and here is looked at at once.
        changes.mark_changed();
        loop {
            let next = tokio::select! {
                biased;
                () = cut.cancelled() => {
                    // The body ends by itself.
                    self.ticket.note_cut();
                    return;
                }
                () = stop.cancelled() => return,
                () = self.to.closed() => return,
                changed = changes.changed() => match changed {
                    Ok(()) => match self.turn().await {
                        Ok(None) => Next::Go,
                        Ok(Some(new)) => {
                            upstream = new;
                            lines = Lines::default();
                            Next::Go
                        }
                        Err(()) => {
                            self.tell(expired()).await;
                            Next::End
                        }
                    },
                    Err(_) => Next::End,
                },
                frame = upstream.frame() => match frame {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => self.events(&mut lines, &data).await,
                        Err(_) => Next::Go,
                    },
                    Some(Err(error)) => {
                        let _ = self.to.send(Err(error.into())).await;
                        Next::End
                    }
                    None => Next::End,
                },
            };
            if matches!(next, Next::End) {
                return;
            }
        }
    }

    async fn tell(&self, line: Bytes) {
        self.ticket.count(line.len());
        let _ = self.to.send(Ok(line)).await;
    }

    async fn events(&mut self, lines: &mut Lines, data: &[u8]) -> Next {
        if let Err(error) = lines.push(data) {
            let _ = self.to.send(Err(error.into())).await;
            return Next::End;
        }
        for line in lines.by_ref() {
            let Some(event) = Event::parse(&line) else {
                tracing::warn!(account = self.claims.account, "an event of the API server can't be read");
                return Next::End;
            };
            let passes = self.passes(&event);
            // The client has seen it only once it is told.
            if passes {
                self.tell(line).await;
            }
            if event.kind != "ERROR" {
                self.seen = self.seen.max(event.version);
            }
        }
        Next::Go
    }

    /// Whether the client is told of an event. The selector has kept others'
    /// objects away; this doesn't rely on it.
    fn passes(&mut self, event: &Event) -> bool {
        match event.kind.as_str() {
            "BOOKMARK" => return self.wants_bookmarks,
            "ERROR" => return true,
            _ => {}
        }
        let Some(names) = &event.names else { return false };
        let Some(name) = names.first() else { return false };
        if event.kind == "DELETED" && self.leaving.remove(name).is_some() {
            return true;
        }
        let known =
            event.version.is_some_and(|version| self.told.get(name).is_some_and(|told| version <= *told));
        !known && names.iter().all(|name| self.names.contains_key(name))
    }

    /// The caller's memberships may have changed: tells the difference and goes
    /// on upstream with the new ones. Err: the client must list again.
    async fn turn(&mut self) -> Result<Option<Incoming>, ()> {
        let Some(standing) = self.proxy.directory.account(&self.claims.account) else { return Ok(None) };
        let now = names(self.own, &standing);
        if standing.operator {
            return Err(());
        }
        if now == self.names {
            return Ok(None);
        }
        let seen = self.seen.ok_or(())?;
        let before = std::mem::replace(&mut self.names, now);
        let lost = before.iter().filter(|(name, _)| !self.names.contains_key(*name));
        for (name, workspace) in lost {
            self.told.remove(name);
            match self.fetch(workspace).await? {
                Some(object) if object.name == *name => self.tell(object.deleted(seen)).await,
                _ => {
                    self.leaving.insert(name.clone(), workspace.clone());
                }
            }
        }
        let gained = self.names.iter().filter(|(name, _)| !before.contains_key(*name));
        let gained: Vec<_> = gained.map(|(name, workspace)| (name.clone(), workspace.clone())).collect();
        for (name, workspace) in gained {
            self.leaving.remove(&name);
            if let Some(object) = self.fetch(&workspace).await?
                && object.name == name
            {
                self.told.insert(name, object.version);
                self.tell(object.added()).await;
            }
        }
        self.again(seen).await.map(Some)
    }

    /// The workspace's object, if the caller's own selectors fit it.
    async fn fetch(&self, workspace: &str) -> Result<Option<Listed>, ()> {
        let mut query = Query::default();
        for key in ["labelSelector", "fieldSelector"] {
            if let Some(value) = self.query.get(key) {
                query.set(key, value);
            }
        }
        let target = self.own.target(&query, [workspace]);
        match self.proxy.sender.read(&target, self.headers.clone()).await {
            Ok((StatusCode::OK, list)) => Ok(Listed::first(&list)),
            _ => Err(()),
        }
    }

    /// Upstream's watch from where the client is.
    async fn again(&self, seen: u64) -> Result<Incoming, ()> {
        let mut query = self.query.clone();
        query.set("resourceVersion", seen.to_string());
        query.remove("resourceVersionMatch");
        query.remove("sendInitialEvents");
        if let Some(seconds) = query.get("timeoutSeconds").and_then(|text| text.parse().ok()) {
            let left = Duration::from_secs(seconds).saturating_sub(self.began.elapsed());
            query.set("timeoutSeconds", left.as_secs().max(1).to_string());
        }
        let workspaces: BTreeSet<&str> =
            self.names.values().chain(self.leaving.values()).map(String::as_str).collect();
        let target = self.own.target(&query, workspaces);
        let sent =
            self.proxy.sender.send(As::Front, Method::GET, &target, self.headers.clone(), empty(), false);
        match sent.await {
            Ok(answer) if answer.status() == StatusCode::OK => Ok(answer.into_body()),
            _ => Err(()),
        }
    }
}

fn names(own: Own, standing: &Standing) -> BTreeMap<String, String> {
    own.names(standing).map(|(name, workspace)| (name.to_owned(), workspace.to_owned())).collect()
}
