//! What becomes of a request: who sent it, what it asks for, and then on to the
//! API server under the caller's name, or narrowed to what is the caller's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, UPGRADE, USER_AGENT,
};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use identity::token::{Claims, Verifier};
use secrecy::ExposeSecret as _;

use crate::across::{self, Plan};
use crate::body::{Body, Guarded};
use crate::caller::{self, Caller};
use crate::directory::{Directory, Standing};
use crate::headers;
use crate::metrics::Metrics;
use crate::open::{Open, Ticket, Who};
use crate::refusal::Refusal;
use crate::request::{Asked, Resource, classify};
use crate::upstream::{As, Sender, empty, read};
use crate::visible::{Query, json_only};
use crate::watching::Watching;

/// What a body is copied by, between the two ends of an upgraded connection.
const PIECE: usize = 16 << 10;

/// What all requests share.
pub(crate) struct Proxy {
    pub sender: Sender,
    pub verifier: Arc<Verifier>,
    pub directory: Arc<dyn Directory>,
    pub issuer: String,
    pub open: Arc<Open>,
    pub metrics: Arc<Metrics>,
}

/// A kind without a namespace of which callers see their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    Namespaces,
    Workspaces,
}

impl Own {
    const fn path(self) -> &'static str {
        match self {
            Self::Namespaces => "/api/v1/namespaces",
            Self::Workspaces => "/apis/atoll.dev/v1alpha1/workspaces",
        }
    }

    const fn full_name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Workspaces => "workspaces.atoll.dev",
        }
    }

    /// The kind that is read, if it is one of these and is only read.
    fn of(asked: &Asked) -> Option<(Self, &Resource)> {
        let reads = matches!(asked.verb.as_str(), "get" | "list" | "watch");
        let namespaces = asked.plain("", "namespaces").map(|resource| (Self::Namespaces, resource));
        let own = namespaces.or_else(|| {
            asked.plain(api::names::GROUP, "workspaces").map(|resource| (Self::Workspaces, resource))
        });
        own.filter(|(_, resource)| reads && matches!(resource.version.as_str(), "v1" | "v1alpha1"))
    }

    /// The names of the caller's objects of this kind, and each one's workspace.
    pub fn names(self, standing: &Standing) -> impl Iterator<Item = (&str, &str)> {
        standing.workspaces.iter().filter_map(move |(workspace, membership)| {
            let name = match self {
                Self::Namespaces => membership.namespace.as_deref()?,
                Self::Workspaces => workspace,
            };
            Some((name, workspace.as_str()))
        })
    }

    /// The resource version before which what was listed of this kind is out of date.
    pub const fn changed(self, standing: &Standing) -> u64 {
        match self {
            Self::Namespaces => standing.changed.namespaces,
            Self::Workspaces => standing.changed.workspaces,
        }
    }

    /// Path and query of a list or a watch of these workspaces' objects.
    pub fn target<'a>(self, query: &Query, workspaces: impl IntoIterator<Item = &'a str>) -> String {
        format!("{}?{}", self.path(), query.narrowed(workspaces).encode())
    }
}

impl Proxy {
    pub async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<Body>, Infallible> {
        Ok(self.answer(request, peer).await.unwrap_or_else(|refusal| {
            if refusal.code() == StatusCode::UNAUTHORIZED {
                self.metrics.unauthenticated.fetch_add(1, Ordering::Relaxed);
            }
            tracing::info!(target: "front::access", %peer, status = refusal.code().as_u16(), %refusal, "refused");
            refusal.response()
        }))
    }

    async fn answer(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<Body>, Refusal> {
        let now = identity::now();
        let token = headers::take_token(request.headers_mut())?;
        let caller = caller::identify(token, &self.verifier, &*self.directory, &self.issuer, now)?;
        if headers::impersonates(request.headers()) {
            return Err(Refusal::Impersonation);
        }
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return Err(Refusal::Bad("this method is not served: Kubernetes has none of the kind"));
        }
        let uri = request.uri();
        let asked = classify(request.method().as_str(), uri.path(), uri.query().unwrap_or_default())?;
        match caller {
            Caller::Pod(token) => {
                let ticket = self.open.enter(Who::Address(peer.ip()), None, asked)?;
                self.forward(request, ticket, As::Bearer(token.expose_secret()), |_| Ok(())).await
            }
            Caller::Account(claims, standing) => {
                let who = Who::Account(claims.account.clone());
                // A namespace that isn't the caller's is for RBAC to refuse, or
                // an operator has bound a role there.
                let namespace = asked.resource.as_ref().map(|resource| resource.namespace.clone());
                let namespace = namespace.filter(|namespace| standing.has_namespace(namespace));
                let ticket = self.open.enter(who, Some((claims.clone(), namespace)), asked.clone())?;
                // What has changed before the request could be swept.
                let standing = self.recheck(&claims)?;
                refuse_others(&asked, &standing)?;
                match Own::of(&asked) {
                    Some((own, resource)) if !standing.operator => {
                        self.own(&request, ticket, (own, resource), &asked.verb, claims, standing).await
                    }
                    None if !standing.operator && lists_across(&asked, &request) => {
                        self.across(request, ticket, &asked, claims, &standing).await
                    }
                    _ => {
                        let say = |headers: &mut HeaderMap| {
                            headers::impersonate(headers, &claims.account, standing.operator)
                        };
                        self.forward(request, ticket, As::Front, say).await
                    }
                }
            }
        }
    }

    fn recheck(&self, claims: &Claims) -> Result<Arc<Standing>, Refusal> {
        self.verifier.recheck(claims, identity::now())?;
        caller::standing(claims, &*self.directory)
    }

    /// Ends what may not go on; called whenever tokens, accounts or memberships change.
    pub fn sweep(&self) {
        self.open.sweep(|claims, namespace| {
            let Ok(standing) = self.recheck(claims) else { return false };
            standing.operator || namespace.is_none_or(|namespace| standing.has_namespace(namespace))
        });
    }

    /// Sends a request on as it is, but for who it says it is from.
    async fn forward(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        ticket: Ticket,
        by: As<'_>,
        say: impl FnOnce(&mut HeaderMap) -> Result<(), Refusal>,
    ) -> Result<Response<Body>, Refusal> {
        let upgrade = headers::upgrade(request.headers());
        if let Some(protocol) = &upgrade {
            check_upgrade(protocol, &request)?;
        }
        let downstream = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        headers::clean_request(&mut parts.headers);
        say(&mut parts.headers)?;
        if let Some(protocol) = &upgrade {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            parts.headers.insert(UPGRADE, protocol.clone());
        }
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let body = body.map_err(Into::into).boxed_unsync();
        let in_time = !ticket.is_long() && upgrade.is_none();
        let sent = self.sender.send(by, parts.method, &target, parts.headers, body, in_time);
        let cut = ticket.cut();
        let mut answer = tokio::select! {
            answer = sent => answer?,
            () = cut.cancelled() => {
                ticket.note_cut();
                return Err(Refusal::BadToken);
            }
        };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(downstream), Some(protocol)) = (downstream, headers::upgrade(answer.headers())) else {
                return Err(Refusal::Unreachable);
            };
            let upstream = hyper::upgrade::on(&mut answer);
            ticket.set_status(answer.status());
            tokio::spawn(tunnel(downstream, upstream, ticket));
            let (mut head, _) = answer.into_parts();
            headers::clean_hop(&mut head.headers);
            head.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            head.headers.insert(UPGRADE, protocol);
            return Ok(Response::from_parts(head, empty()));
        }
        if answer.status() != StatusCode::INTERNAL_SERVER_ERROR {
            return Ok(pass(answer, ticket));
        }
        let (head, body) = answer.into_parts();
        let body = read(body).await?;
        if is_undecided(&body) {
            ticket.set_status(Refusal::Undecided.code());
            return Err(Refusal::Undecided);
        }
        Ok(pass(Response::from_parts(head, Full::new(body)), ticket))
    }

    /// A list over all namespaces: the caller's, each read under their name. A
    /// kind that none of them gives goes on as it was asked for.
    async fn across(
        self: &Arc<Self>,
        request: Request<Incoming>,
        ticket: Ticket,
        asked: &Asked,
        claims: Claims,
        standing: &Standing,
    ) -> Result<Response<Body>, Refusal> {
        let say = |headers: &mut HeaderMap| headers::impersonate(headers, &claims.account, false);
        let Some(resource) = &asked.resource else {
            return self.forward(request, ticket, As::Front, say).await;
        };
        let mut headers = kept(request.headers());
        let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let accepts = accepts.collect::<Vec<_>>().join(",");
        let accept = json_only(Some(accepts.as_str()).filter(|accepts| !accepts.is_empty()))
            .and_then(|accept| HeaderValue::try_from(accept).ok())
            .ok_or(Refusal::NotAcceptable("lists across namespaces are served as application/json only"))?;
        headers.insert(ACCEPT, accept);
        headers.remove(ACCEPT_ENCODING);
        say(&mut headers)?;
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let namespaces = standing.workspaces.values().filter_map(|place| place.namespace.clone()).collect();
        let mut plan = Plan::new(query, namespaces)
            .map_err(|_| Refusal::Bad("the continue token is not valid: list from the beginning"))?;
        let root = if resource.group.is_empty() {
            format!("/api/{}", resource.version)
        } else {
            format!("/apis/{}/{}", resource.group, resource.version)
        };
        let mut bytes = 0;
        while let Some((namespace, query)) = plan.step() {
            let target = format!("{root}/namespaces/{namespace}/{}?{}", resource.resource, query.encode());
            let sent = self.sender.send(As::Front, Method::GET, &target, headers.clone(), empty(), true);
            let answer = sent.await?;
            match answer.status() {
                StatusCode::OK => {
                    let list = read(answer.into_body()).await?;
                    bytes += list.len();
                    if bytes > across::MOST {
                        return Err(Refusal::Bad(
                            "too much for one answer: list by pages, such as ?limit=500",
                        ));
                    }
                    let list = serde_json::from_slice(&list).ok();
                    list.and_then(|list| plan.take(list)).ok_or(Refusal::Unreachable)?;
                }
                // Not for the caller's role, or a kind that has no namespace.
                StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => plan.skip(),
                _ => return Ok(pass(answer, ticket)),
            }
        }
        match plan.finish() {
            Some(list) => {
                ticket.set_status(StatusCode::OK);
                let text = Bytes::from(list.to_string());
                let body = Full::new(text).map_err(|never| match never {}).boxed_unsync();
                let mut response = Response::new(Guarded::new(body, ticket).boxed_unsync());
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Ok(response)
            }
            None => self.forward(request, ticket, As::Front, say).await,
        }
    }

    /// Namespaces and workspaces: read as front, narrowed to the caller's.
    async fn own(
        self: &Arc<Self>,
        request: &Request<Incoming>,
        ticket: Ticket,
        (own, resource): (Own, &Resource),
        verb: &str,
        claims: Claims,
        standing: Arc<Standing>,
    ) -> Result<Response<Body>, Refusal> {
        if resource.watch_path {
            return Err(Refusal::Bad("this old form of a watch is not served here: use ?watch=true"));
        }
        if headers::upgrade(request.headers()).is_some() {
            return Err(Refusal::Bad("this watch is not served over WebSocket: use a plain GET"));
        }
        // A name may come in the path, or, in Kubernetes' reading, from nowhere else.
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let mut headers = kept(request.headers());
        if verb == "watch" {
            return Watching::begin(self.clone(), own, query, headers, claims, standing, ticket).await;
        }
        let target = if verb == "get" {
            if !own.names(&standing).any(|(name, _)| name == resource.name) {
                return Err(Refusal::NotFound { resource: own.full_name(), name: resource.name.clone() });
            }
            format!("{}/{}", own.path(), resource.name)
        } else {
            own.target(&query, standing.workspaces.keys().map(String::as_str))
        };
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let method = request.method().clone();
        let answer = self.sender.send(As::Front, method, &target, headers, empty(), true).await?;
        Ok(pass(answer, ticket))
    }
}

/// Every account may ask to change workspaces, and a policy says which: for whom a
/// workspace isn't there, it isn't there to be changed either.
fn refuse_others(asked: &Asked, standing: &Standing) -> Result<(), Refusal> {
    let Some(resource) = &asked.resource else { return Ok(()) };
    let own = Own::Workspaces;
    let is_one =
        resource.group == api::names::GROUP && resource.resource == "workspaces" && !resource.name.is_empty();
    if is_one && !standing.operator && !own.names(standing).any(|(name, _)| name == resource.name) {
        return Err(Refusal::NotFound { resource: own.full_name(), name: resource.name.clone() });
    }
    Ok(())
}

/// Whether it lists a kind over all namespaces. The first page says so by its
/// form; whether the kind has namespaces at all only the API server knows.
fn lists_across(asked: &Asked, request: &Request<Incoming>) -> bool {
    asked.verb == "list"
        && asked.is_across()
        && asked.resource.as_ref().is_some_and(|resource| {
            let Resource { group, version, resource, .. } = resource;
            (group.is_empty() || is_segment(group)) && is_segment(version) && is_segment(resource)
        })
        && request.method() == Method::GET
        && headers::upgrade(request.headers()).is_none()
}

/// Whether a decoded name can stand in a path as it is.
fn is_segment(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !text.is_empty() && text.bytes().all(fits)
}

/// What of a caller's headers goes along where front reads for itself.
fn kept(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in [ACCEPT, ACCEPT_ENCODING, USER_AGENT] {
        for value in headers.get_all(&name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// Whether an error is that a webhook of ours couldn't be asked. The API server calls that
/// its own fault, by a code that clients don't try again after. It says so in any encoding
/// in the same words.
fn is_undecided(error: &[u8]) -> bool {
    let text = String::from_utf8_lossy(error);
    let of = text.split_once("failed calling webhook ").map_or("", |(_, rest)| rest);
    // JSON has a backslash before each quote.
    let name = of.trim_start_matches(['\\', '"']).split(['\\', '"']).next().unwrap_or_default();
    name.ends_with(".admission.atoll.dev")
}

/// The API server's answer, streamed.
pub(crate) fn pass<B>(answer: Response<B>, ticket: Ticket) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut head, body) = answer.into_parts();
    headers::clean_hop(&mut head.headers);
    head.version = Version::HTTP_11;
    ticket.set_status(head.status);
    let body = Guarded::new(body.map_err(Into::into).boxed_unsync(), ticket);
    Response::from_parts(head, body.boxed_unsync())
}

fn check_upgrade(protocol: &HeaderValue, request: &Request<Incoming>) -> Result<(), Refusal> {
    let name = protocol.as_bytes().to_ascii_lowercase();
    if !matches!(name.as_slice(), b"spdy/3.1" | b"websocket") {
        return Err(Refusal::Bad("upgrades are to SPDY/3.1 or websocket"));
    }
    if request.version() != Version::HTTP_11 {
        return Err(Refusal::Bad("upgrades need HTTP/1.1"));
    }
    Ok(())
}

/// Copies both ways until one end is gone, the caller is shut out, or front has
/// stopped for good.
async fn tunnel(downstream: hyper::upgrade::OnUpgrade, upstream: hyper::upgrade::OnUpgrade, ticket: Ticket) {
    let (downstream, upstream) = match tokio::try_join!(downstream, upstream) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade did not come about");
            return;
        }
    };
    let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
    let copied = tokio::io::copy_bidirectional_with_sizes(&mut downstream, &mut upstream, PIECE, PIECE);
    let cut = ticket.cut();
    tokio::select! {
        copied = copied => {
            if let Ok((sent, received)) = copied {
                ticket.count(usize::try_from(sent + received).unwrap_or(usize::MAX));
            }
        }
        () = cut.cancelled() => ticket.note_cut(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_webhook_of_ours_leaves_a_request_undecided() {
        let status = |message: &str| {
            serde_json::json!({ "kind": "Status", "message": message, "code": 500 }).to_string()
        };
        let ours = r#"Internal error occurred: failed calling webhook "quota.admission.atoll.dev": failed to call webhook: connection refused"#;
        assert!(is_undecided(status(ours).as_bytes()));
        // As protobuf has it.
        assert!(is_undecided(&[b"k8s\0\n\xff\x12", ours.as_bytes()].concat()));
        for other in [
            "etcdserver: request timed out",
            r#"Internal error occurred: failed calling webhook "example.com": failed to call"#,
            r#"Internal error occurred: failed calling webhook "quota.admission.atoll.dev.example.com": no"#,
            r#"pods "quota.admission.atoll.dev" failed"#,
        ] {
            assert!(!is_undecided(status(other).as_bytes()), "{other}");
        }
    }
}
