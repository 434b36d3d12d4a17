//! One request: checked, looked up, answered or handed to a backend. pingora
//! does the protocols; this decides.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Version, header};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::access::{self, AccessLog, Line};
use crate::authority::{Authority, has_dot_segments};
use crate::certificate::{Certificate, Ready};
use crate::challenge::Place;
use crate::check::{Asked, Checked};
use crate::client_auth::{self, Guard, Mode, Refusal};
use crate::compress::{self, Compression};
use crate::cors::is_preflight;
use crate::decided::Decided;
use crate::extra::BackendSecurity;
use crate::head;
use crate::header::{edit, length, names_length};
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::object::{Kind, Protocol};
use crate::page::{Page, reason};
use crate::retry::{Attempt, Failure, RETRIED, Verdict};
use crate::route::{Redirect, Request, Route, SHARED, Target, View};
use crate::screen::{Screened, screen};
use crate::stream::Peer;
use crate::table::{Found, Table};
use crate::trace;
use crate::traffic::Passed;
use crate::upgrade::Connector;

const CONNECT: Duration = Duration::from_secs(5);
/// Between two reads from a backend, or two writes to it. Long enough for a
/// WebSocket with a slow heartbeat.
const IDLE: Duration = Duration::from_secs(300);
/// How long an unused connection to a backend is kept.
const KEPT: Duration = Duration::from_secs(60);

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// What a client may claim of how it came here, all of it for others to claim.
const CLAIMS: [HeaderName; 13] = [
    FORWARDED_FOR,
    FORWARDED_PROTO,
    FORWARDED_HOST,
    REAL_IP,
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-original-forwarded-for"),
    HeaderName::from_static("x-forwarded-client-cert"),
    client_auth::CERTIFICATE,
    client_auth::VERIFY,
    client_auth::SUBJECT,
    client_auth::ISSUER,
];

/// What is said to browsers of other origins.
const CORS: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

pub struct Proxy {
    pub table: Arc<Table>,
    pub metrics: Arc<Metrics>,
    /// The port of `https://` as clients see it.
    pub https_port: u16,
    /// Whether answers are compressed where a route doesn't say.
    pub compress: bool,
    pub access_log: Option<Arc<AccessLog>>,
    pub(crate) traces: trace::Numbers,
    /// What Gateways show to backends.
    pub ready: Ready,
}

impl Proxy {
    /// A page to answer with at once, or None: a backend was chosen.
    fn decide(&self, session: &Session, decided: &mut Decided) -> Result<Option<Page>> {
        let head = session.req_header();
        let Some(peer) = peer(session) else {
            return Error::e_explain(ErrorType::InternalError, "a connection that isn't ours");
        };
        if let Some(reason) = head::refusal(head) {
            return Page::new(400, reason).map(Some);
        }
        if head.headers.contains_key(header::TRANSFER_ENCODING)
            && head.version != Version::HTTP_2
            && names_length(&session.to_h1_raw())
        {
            return Page::new(400, "The request has both a Transfer-Encoding and a Content-Length.")
                .map(Some);
        }
        let authority = match head.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => head.headers.get(header::HOST).and_then(|host| host.to_str().ok()),
        };
        let Some(authority) = authority.and_then(Authority::parse) else {
            return Page::new(400, "The request names no host that could be read.").map(Some);
        };
        decided.authority = authority.text.to_owned();
        decided.host = authority.host;
        let path = head.uri.path();
        if !head.raw_path_is_utf8() || has_dot_segments(path) {
            return Page::new(400, "The path is not in its plain form.").map(Some);
        }
        // Of the host itself, not of whoever serves it: nothing of theirs comes before.
        if peer.tls.is_none()
            && let Some(answer) = self.challenge(peer, &decided.host, path)
        {
            return Page::challenge(answer).map(Some);
        }
        // At the shared address no tenant's connection is used for another's host.
        // A Gateway's own listeners say themselves whom they are for.
        if let (Some(tls), Some(_)) = (&peer.tls, peer.port.shared) {
            let covered = tls.name.as_ref() == Some(&decided.host)
                || tls.certificate.as_ref().is_some_and(|certificate| certificate.covers(&decided.host));
            if !covered {
                let message = format!("This connection was not made for {}.", decided.host);
                return Page::new(421, &message).map(Some);
            }
        }
        let Some(view) = self.view(peer, &decided.host) else {
            let message = format!("This connection was not made for {}.", decided.host);
            return Page::new(421, &message).map(Some);
        };
        let request = Request {
            host: &decided.host,
            path,
            query: head.uri.query(),
            method: &head.method,
            headers: &head.headers,
            secure: peer.tls.is_some(),
            view,
        };
        let (found, guard) = self.table.find_guarded(&request);
        let route = match found {
            Found::Route(route) => route,
            Found::NoRoute => {
                return Page::new(404, &format!("{} serves nothing at this path.", decided.host)).map(Some);
            }
            Found::NoHost => {
                return Page::new(404, &format!("There is no app at {}.", decided.host)).map(Some);
            }
        };
        decided.route = Some(route.clone());
        if let Some(page) =
            self.identify(&route, guard.as_deref(), (peer, &decided.authority), &request, &mut decided.told)?
        {
            return Ok(Some(page));
        }
        match route.owner.tenant.admit() {
            Ok(admitted) => decided._share = Some(admitted),
            Err(wait) => {
                let message = format!("{} is asked for more than it may serve.", decided.host);
                return Page::later(wait, &message).map(Some);
            }
        }
        let action = &route.action;
        if action.to_https && !request.secure {
            let redirect =
                Redirect { scheme: Some("https".into()), port: Some(self.https_port), ..Redirect::default() };
            return Page::redirect(308, &redirect.location(&route.path, &request, None)).map(Some);
        }
        if let Some(redirect) = &action.redirect {
            let location = redirect.location(&route.path, &request, authority.port);
            return Page::redirect(redirect.status, &location).map(Some);
        }
        if let Some(extra) = &action.extra {
            match screen(extra, &route, &request, peer, &decided.authority)? {
                Screened::Answered(page) => return Ok(Some(*page)),
                Screened::Passed(place) => decided._place = place,
            }
        }
        if action.limits.body.is_some_and(|limit| length(&head.headers).is_some_and(|length| length > limit))
        {
            return Page::new(413, "The request's body is larger than this app takes.").map(Some);
        }
        if let Some(cors) = &action.cors {
            let preflight = is_preflight(&head.method, &head.headers);
            decided.cors = cors.answer(&head.headers, preflight);
            if preflight {
                return Page::empty(204, &decided.cors).map(Some);
            }
        }
        decided.deadline = action.timeout.map(|timeout| Instant::now() + timeout);
        match action.targets.pick() {
            Some(Target::Service(backend, edits)) => {
                let facts = backend.facts();
                if let Some(reason) = &facts.refused {
                    let message = format!("{} is not set up to be served: {reason}.", decided.host);
                    return Page::new(502, &message).map(Some);
                }
                if !facts.exists {
                    let message = format!("{} is not set up to be served: it has no backend.", decided.host);
                    return Page::new(500, &message).map(Some);
                }
                let by_policy = action
                    .extra
                    .as_ref()
                    .is_some_and(|extra| matches!(extra.backend_tls, Some(BackendSecurity::ByPolicy)));
                if by_policy && facts.tls.is_none() {
                    let reason = "no BackendTLSPolicy says how its backend proves who it is";
                    let message = format!("{} is not set up to be served: {reason}.", decided.host);
                    return Page::new(502, &message).map(Some);
                }
                decided.backend = Some(backend.clone());
                decided.edits.clone_from(edits);
                Ok(None)
            }
            Some(Target::Refused(reason)) => {
                Page::new(500, &format!("{} is not set up to be served: {reason}.", decided.host)).map(Some)
            }
            None => Page::new(503, &format!("{} has no backend.", decided.host)).map(Some),
        }
    }

    fn challenge(&self, peer: &Peer, host: &str, path: &str) -> Option<Bytes> {
        let entry = self.table.entries.get(&peer.port.number);
        let place =
            Place { shared: peer.port.shared.is_some(), gateway: entry.as_ref().map(|entry| &entry.gateway) };
        self.table.challenges.answer(place, host, path)
    }

    /// What a Gateway shows to backends that ask who it is.
    fn identity(&self, session: &Session, decided: &Decided) -> Option<Arc<Certificate>> {
        let route = decided.route.as_ref().filter(|route| route.owner.kind != Kind::Ingress)?;
        let entry = self.table.entries.get(&peer(session)?.port.number)?;
        let by_it = entry.listeners.iter().any(|listener| route.listeners & 1 << listener.slot != 0);
        entry.identity.clone().filter(|_| by_it)
    }

    /// What of the table a request sees; None: the connection was made for
    /// another listener.
    fn view(&self, peer: &Peer, host: &str) -> Option<View> {
        let secure = peer.tls.is_some();
        let entry = self.table.entries.get(&peer.port.number);
        if let (Some(entry), Some(name)) = (&entry, peer.tls.as_ref().and_then(|tls| tls.name.as_ref()))
            && entry.listener(host).map(|listener| listener.slot)
                != entry.listener(name).map(|listener| listener.slot)
        {
            return None;
        }
        let own = entry.and_then(|entry| entry.view(host, secure));
        match (own, peer.port.shared) {
            (Some(own), None) => Some(own),
            (Some(own), Some(_)) => Some(own.and_shared(secure)),
            (None, Some(_)) => Some(View::shared(secure)),
            // No listener: nothing is found.
            (None, None) => Some(View { zone: SHARED, listeners: 0 }),
        }
    }

    /// Holds what a connection's client has shown against what the host, or the
    /// Gateway, asks for now.
    fn identify(
        &self,
        route: &Route,
        guard: Option<&Guard>,
        (peer, authority): (&Peer, &str),
        request: &Request<'_>,
        told: &mut Vec<(HeaderName, HeaderValue)>,
    ) -> Result<Option<Page>> {
        let elsewhere = || {
            let message = format!("This connection was not made for {}.", request.host);
            Page::new(421, &message).map(Some)
        };
        let shown = peer.tls.as_ref().and_then(|tls| tls.client.as_deref());
        if let Some(guard) = guard {
            let own = route.action.extra.as_ref().and_then(|extra| extra.guard.as_deref()).unwrap_or(guard);
            if own.auth.is_none() || !own.asks_as(guard) {
                let reason = if own.auth.is_none() {
                    "whose client certificates it takes is not known"
                } else {
                    "it asks for two kinds of client certificates"
                };
                let message = format!("{} is not set up to be served: {reason}.", request.host);
                return Page::new(500, &message).map(Some);
            }
            let Some(tls) = &peer.tls else {
                let port = Some(self.https_port);
                let redirect = Redirect { scheme: Some("https".into()), port, ..Redirect::default() };
                return Page::redirect(308, &redirect.location(&route.path, request, None)).map(Some);
            };
            if tls.name.as_deref() != Some(request.host) {
                return elsewhere();
            }
            let refused = match own.admit(shown) {
                Ok(known) => {
                    *told = known;
                    None
                }
                Err(Refusal::Connection | Refusal::Everybody) => return elsewhere(),
                Err(Refusal::Subject) => {
                    return Page::new(403, "This app is not open to who your certificate says you are.")
                        .map(Some);
                }
                Err(Refusal::Missing) => Some("This app asks for a client certificate.".to_owned()),
                Err(Refusal::Bad(reason)) => {
                    Some(format!("Your client certificate is not one that this app takes: {reason}."))
                }
            };
            return match (refused, &own.error_page) {
                (None, _) => Ok(None),
                (Some(_), Some(page)) => Page::redirect(302, &page.fill(request, authority)).map(Some),
                (Some(reason), None) => Page::new(400, &reason).map(Some),
            };
        }
        if request.secure && route.owner.kind != Kind::Ingress {
            let entry = self.table.entries.get(&peer.port.number);
            let asked = entry.as_ref().and_then(|entry| entry.listener(request.host)?.client.clone());
            let asked = asked.filter(|asked| asked.mode == Mode::Connection);
            if asked.is_some_and(|asked| shown.is_none_or(|shown| shown.fingerprint != asked.fingerprint)) {
                return elsewhere();
            }
        }
        Ok(None)
    }

    async fn answer(&self, session: &mut Session, page: Page, decided: &mut Decided) -> Result<()> {
        decided.status = page.head.status.as_u16();
        let head_only = page.body.is_empty() || session.req_header().method == http::Method::HEAD;
        session.write_response_header(Box::new(page.head), head_only).await?;
        if !head_only {
            session.write_response_body(Some(page.body), true).await?;
        }
        Ok(())
    }
}

fn peer(session: &Session) -> Option<&Peer> {
    session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
}

/// Tells the access log of a request that has ended.
fn tell(log: &AccessLog, session: &Session, decided: &Decided, passed: &Passed) {
    let (head, peer) = (session.req_header(), peer(session));
    let owner = decided.route.as_ref().map(|route| &route.owner);
    let tls = session.digest().and_then(|digest| digest.ssl_digest.as_ref());
    log.write(&Line {
        trace: decided.trace.as_str(),
        client: peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.address.ip().to_canonical()),
        namespace: owner.map(|owner| &*owner.id.namespace),
        kind: owner.map(|owner| owner.kind.as_str()),
        route: owner.map(|owner| owner.id.name.as_str()),
        protocol: if head.version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" },
        tls: tls.map(|tls| tls.version.as_ref()),
        host: &decided.host,
        method: head.method.as_str(),
        path: access::shortened(head.uri.path()),
        status: passed.status,
        received: passed.received,
        sent: passed.sent,
        seconds: access::seconds(passed.took),
        upstream_seconds: decided.upstream.map(access::seconds),
        endpoint: decided.tried.last().copied(),
        attempts: decided.tried.len(),
    });
}

fn wants_websocket(head: &RequestHeader) -> bool {
    let upgrade = head.headers.get(header::UPGRADE);
    head.version == Version::HTTP_11
        && upgrade.is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Decided;

    fn new_ctx(&self) -> Self::CTX {
        Decided::default()
    }

    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        modules.add_module(Box::new(compress::Builder));
    }

    async fn request_filter(&self, session: &mut Session, decided: &mut Decided) -> Result<bool> {
        decided.started = Some(Instant::now());
        decided.trace = trace::settle(session.req_header_mut(), &self.traces)?;
        let mut page = self.decide(session, decided)?;
        if page.is_none()
            && let Some(login) = decided.extra().and_then(|extra| extra.login.clone())
            && !login.users.admit(&session.req_header().headers).await
        {
            page = Some(Page::login(&login.challenge)?);
        }
        if page.is_none()
            && let Some(check) = decided.extra().and_then(|extra| extra.check.clone())
            && let Some(peer) = peer(session)
        {
            let (host, authority) = (&decided.host, &decided.authority);
            let asked = Asked { peer, host, authority, claims: &CLAIMS };
            match check.ask(session.req_header(), &asked).await? {
                Checked::Passed(headers) => decided.passed = headers,
                Checked::Answered(answer) => page = Some(*answer),
            }
        }
        match page {
            Some(page) => {
                let status = page.head.status;
                if status == http::StatusCode::BAD_REQUEST || status == http::StatusCode::MISDIRECTED_REQUEST
                {
                    session.set_keepalive(None);
                }
                self.answer(session, page, decided).await?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn upstream_peer(&self, session: &mut Session, decided: &mut Decided) -> Result<Box<HttpPeer>> {
        if decided.tried.is_empty() {
            decided.stays = decided
                .extra()
                .and_then(|extra| extra.affinity.as_ref())
                .and_then(|affinity| affinity.find(&session.req_header().headers, decided.backend.as_ref()?));
        }
        let stays = decided.stays.filter(|_| decided.tried.is_empty());
        let endpoint =
            stays.or_else(|| decided.backend.as_ref().and_then(|backend| backend.pick(&decided.tried)));
        let Some(endpoint) = endpoint else {
            return Error::e_explain(ErrorType::HTTPStatus(503), "no endpoint is ready");
        };
        if !decided.tried.is_empty()
            && let Some(retry) = decided.route.as_ref().and_then(|route| route.action.retry.as_ref())
            && !retry.backoff.is_zero()
        {
            tokio::time::sleep(retry.backoff).await;
        }
        decided.tried.push(endpoint);
        let now = Instant::now();
        decided.asked = Some(now);
        decided.first.get_or_insert(now);
        decided.upstream = None;
        // What there is of the body is sent once more.
        decided.received = 0;
        let limits = decided.route.as_ref().map(|route| route.action.limits.clone()).unwrap_or_default();
        let mut peer = HttpPeer::new(endpoint, false, String::new());
        peer.options.connection_timeout = Some(limits.connect.unwrap_or(CONNECT));
        peer.options.read_timeout = Some(limits.read.unwrap_or(IDLE));
        peer.options.write_timeout = Some(limits.send.unwrap_or(IDLE));
        peer.options.idle_timeout = Some(KEPT);
        if let Some(deadline) = decided.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Error::e_explain(ErrorType::HTTPStatus(504), "the time for the request is over");
            }
            let read = peer.options.read_timeout.map_or(left, |read| read.min(left));
            peer.options.read_timeout = Some(read);
        }
        let facts = decided.backend.as_ref().map(|backend| backend.facts()).unwrap_or_default();
        let unverified = match decided.extra().and_then(|extra| extra.backend_tls.as_ref()) {
            Some(BackendSecurity::Unverified(tls)) => Some(tls.clone()),
            Some(BackendSecurity::ByPolicy) | None => None,
        };
        // A policy comes before an annotation.
        let tls = facts.tls.clone().or(unverified);
        let identity = facts.tls.as_ref().and_then(|_| self.identity(session, decided));
        let grpc = decided.route.as_ref().is_some_and(|route| route.action.grpc);
        let websocket = wants_websocket(session.req_header());
        let http2 = (grpc || facts.protocol == Protocol::H2c) && !websocket;
        if http2 {
            peer.options.set_http_version(2, 2);
        }
        if websocket {
            decided.gate = Some(Arc::default());
            // Never a connection that is kept for other requests.
            peer.group_key = 1;
        }
        if websocket || tls.is_some() {
            // Connections are shared only where the same was proven.
            let proven = tls.as_ref().map_or(0, |tls| tls.fingerprint << 2 | 2);
            // And where the same was shown.
            let shown = identity.as_ref().map_or(0, |identity| identity.serial().wrapping_add(1) << 2);
            peer.group_key |= proven ^ shown.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            peer.options.custom_l4 = Some(Arc::new(Connector {
                gate: decided.gate.clone(),
                tls,
                identity: identity.and_then(|identity| self.ready.of(&identity)),
                alpn: if http2 { b"h2" } else { b"http/1.1" },
                timeout: limits.connect.unwrap_or(CONNECT),
            }));
        }
        Ok(Box::new(peer))
    }

    /// Nothing was sent yet, so any request may go to another endpoint.
    fn fail_to_connect(
        &self,
        session: &mut Session,
        peer: &HttpPeer,
        decided: &mut Decided,
        mut error: Box<Error>,
    ) -> Box<Error> {
        tracing::debug!(%error, %peer, host = %decided.host, "a backend can't be reached");
        let failure = Failure::of(&error).unwrap_or(Failure::Error);
        let attempt = Attempt { sent: false, ..decided.attempt(failure, session) };
        error.set_retry(decided.sends_again(&attempt));
        error
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        decided: &mut Decided,
        reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("Peer: {peer}"));
        error.retry.decide_reuse(reused);
        let again = Failure::of(&error).is_some_and(|failure| {
            let attempt = Attempt { stale: error.retry(), ..decided.attempt(failure, session) };
            decided.sends_again(&attempt)
        });
        error.set_retry(again);
        error
    }

    /// A route may want another try after some of its backends' answers.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        decided: &mut Decided,
    ) -> Result<()> {
        decided.upstream = decided.asked.map(|asked| asked.elapsed());
        let status = response.status.as_u16();
        let retry = decided.route.as_ref().and_then(|route| route.action.retry.as_ref());
        if retry.is_some_and(|retry| retry.codes.contains(&status))
            && decided.verdict(&decided.attempt(Failure::Status(status), session)) == Verdict::Counted
        {
            let error = ErrorType::CustomCode(RETRIED, status);
            return Error::e_explain(error, "its status is one to be tried again");
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        decided: &mut Decided,
    ) -> Result<Option<Duration>> {
        if decided.deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Error::e_explain(ErrorType::HTTPStatus(504), "the time for the request is over");
        }
        decided.count(0, body.as_ref().map_or(0, Bytes::len));
        Ok(decided.delay(body.as_ref()))
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        decided: &mut Decided,
    ) -> Result<()> {
        if end && let Some(gate) = &decided.gate {
            gate.open();
        }
        if let (Some(mirrors), Some(body)) = (&mut decided.mirrors, &body)
            && decided.retries == 0
        {
            mirrors.retain(|mirror| mirror.body(body.clone()));
        }
        if end && let Some(mirrors) = &mut decided.mirrors {
            mirrors.clear();
        }
        decided.received += body.as_ref().map_or(0, |body| body.len() as u64);
        decided.count(body.as_ref().map_or(0, Bytes::len), 0);
        let limit = decided.route.as_ref().and_then(|route| route.action.limits.body);
        if limit.is_some_and(|limit| decided.received > limit) {
            let mut error = Error::explain(ErrorType::HTTPStatus(413), "the body is too large");
            error.as_down();
            error.set_retry(false);
            return Err(error);
        }
        // The empty frame by which HTTP/2 ends a body would be written as a chunk, and so as
        // an end before the end: the rest would be read as the next request's begin.
        if end && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        if let Some(wait) = decided.delay(body.as_ref()) {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        decided: &mut Decided,
    ) -> Result<()> {
        let Some(route) = &decided.route else { return Ok(()) };
        let action = &route.action;
        let rewritten =
            action.rewrite_path.as_ref().map(|rewrite| rewrite.apply(&route.path, request.uri.path()));
        // An absolute-form target goes on as a path: the backend sees what was routed.
        if rewritten.is_some() || !request.raw_path().starts_with(b"/") {
            let path = rewritten.unwrap_or_else(|| request.uri.path().to_owned());
            let query = request.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            if path.starts_with('/') {
                request.set_raw_path(format!("{path}{query}").as_bytes())?;
            }
        }
        for claim in head::claimed(&request.headers, &CLAIMS) {
            request.remove_header(&claim);
        }
        if let Some(peer) = peer(session) {
            let address = peer.address.ip().to_canonical().to_string();
            request.insert_header(FORWARDED_FOR, &address)?;
            request.insert_header(REAL_IP, address)?;
            let scheme = if peer.tls.is_some() { "https" } else { "http" };
            request.insert_header(FORWARDED_PROTO, HeaderValue::from_static(scheme))?;
        }
        request.insert_header(FORWARDED_HOST, &decided.authority)?;
        for (name, value) in &decided.told {
            request.insert_header(name.clone(), value.clone())?;
        }
        edit(&action.request_headers, request)?;
        if let Some(check) = action.extra.as_ref().and_then(|extra| extra.check.as_ref()) {
            for name in &check.pass {
                request.remove_header(name);
            }
            for (name, value) in &decided.passed {
                request.insert_header(name.clone(), value.clone())?;
            }
        }
        if let Some(edits) = &decided.edits {
            edit(&edits.request, request)?;
        }
        if let Some(host) = &action.rewrite_host {
            request.insert_header(header::HOST, host)?;
        }
        if decided.mirrors.is_none() {
            let mut mirrors = Vec::new();
            for mirror in action.mirrors.iter().filter(|mirror| mirror.takes()) {
                let endpoint = mirror.backend.pick(&[]);
                mirrors.extend(endpoint.and_then(|endpoint| Mirror::start(endpoint, request)));
            }
            decided.mirrors = Some(mirrors);
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        decided: &mut Decided,
    ) -> Result<()> {
        let Some(route) = &decided.route else { return Ok(()) };
        edit(&route.action.response_headers, response)?;
        if let Some(edits) = &decided.edits {
            edit(&edits.response, response)?;
        }
        if let Some(extra) = decided.extra() {
            let (asked, status) = (&session.req_header().uri, response.status);
            for rule in extra.responses.iter().filter(|rule| rule.applies(asked, status)) {
                edit(&rule.edit, response)?;
            }
            let tls = peer(session).is_some_and(|peer| peer.tls.is_some());
            if let Some(cookie) = decided.stay(tls) {
                response.append_header(header::SET_COOKIE, cookie)?;
            }
        }
        if route.action.cors.is_some() {
            // What the app says of it, the route overrules.
            for name in CORS {
                response.remove_header(&name);
            }
            for (name, value) in &decided.cors {
                response.append_header(name.clone(), value.clone())?;
            }
        }
        if route.action.compress.unwrap_or(self.compress) && !route.action.grpc && decided.gate.is_none() {
            let Session { downstream_session, downstream_modules_ctx, .. } = session;
            if let Some(compression) = downstream_modules_ctx.get_mut::<Compression>() {
                compression.want(downstream_session.req_header(), &route.owner.tenant);
            }
        }
        Ok(())
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        decided: &mut Decided,
    ) -> FailToProxy {
        let (status, message) = reason(error, &decided.host);
        if status > 0
            && let Ok(page) = Page::new(status, &message)
        {
            let body =
                if session.req_header().method == http::Method::HEAD { Bytes::new() } else { page.body };
            if let Err(error) = session.write_error_response(page.head, body).await {
                tracing::debug!(%error, "an error page was not taken");
            }
        }
        decided.status = status;
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _: &Session, _: &Decided, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Decided, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, decided: &mut Decided) {
        let written = session.response_written().map(|head| head.status.as_u16());
        // A client that left before an answer: nginx's number for it.
        let status = written.unwrap_or(if decided.status > 0 { decided.status } else { 499 });
        self.metrics.request(status);
        let route = decided.route.as_ref().map(|route| &route.owner);
        let passed = Passed {
            status,
            received: session.body_bytes_read() as u64,
            sent: session.body_bytes_sent() as u64,
            took: decided.started.map(|started| started.elapsed()).unwrap_or_default(),
        };
        if let Some(owner) = route {
            owner.count(&passed);
            let (received, sent) = decided.counted;
            owner.tenant.carry(passed.received.saturating_sub(received), passed.sent.saturating_sub(sent));
        }
        if let Some(log) = &self.access_log {
            tell(log, session, decided, &passed);
        }
        if let Some(error) = error {
            let route = route.map(|owner| format!("{} {}", owner.kind, owner.id)).unwrap_or_default();
            tracing::info!(host = %decided.host, %route, status, %error, "a request failed");
        }
    }
}
