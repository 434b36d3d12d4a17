//! Front on a real socket before an API server that is only pretended: it keeps
//! namespaces, streams, upgrades, and records what it was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::tree::Node;
use bytes::Bytes;
use front::directory::{Index, Published};
use front::{Config, Credentials, Files, Limits, Upstream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity::ExposeSecret;
use identity::key::{Keyring, SigningKey};
use identity::token::{AUDIENCE, Claims, Kind, Verifier, issue};
use rcgen::{CertifiedIssuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
type ServerBody = UnsyncBoxBody<Bytes, Infallible>;

/// What the API server was sent.
#[derive(Clone, Debug)]
pub struct Seen {
    pub target: String,
    pub headers: HeaderMap,
    pub certificate: bool,
    pub body: Bytes,
}

impl Seen {
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }
}

#[derive(Clone, Debug)]
struct Change {
    version: u64,
    kind: &'static str,
    name: String,
    workspace: String,
    since: u64,
}

#[derive(Default)]
struct Store {
    version: u64,
    /// Name to workspace and version.
    namespaces: BTreeMap<String, (String, u64)>,
    history: Vec<Change>,
}

/// The pretended API server.
pub struct Api {
    pub seen: Mutex<Vec<Seen>>,
    store: Mutex<Store>,
    changes: broadcast::Sender<Change>,
    /// What streams send, and whether they end.
    pub chunks: broadcast::Sender<&'static str>,
    /// Streams and upgrades that are open.
    pub streams: AtomicUsize,
    pub hold: tokio::sync::Semaphore,
    pub refuse: Mutex<Option<&'static str>>,
}

struct Stream {
    from: mpsc::UnboundedReceiver<Bytes>,
    api: Arc<Api>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.api.streams.fetch_sub(1, Ordering::SeqCst);
    }
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.from.poll_recv(cx).map(|item| item.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Api {
    fn stream(self: &Arc<Self>) -> (mpsc::UnboundedSender<Bytes>, Stream) {
        self.streams.fetch_add(1, Ordering::SeqCst);
        let (to, from) = mpsc::unbounded_channel();
        (to, Stream { from, api: self.clone() })
    }

    /// A namespace comes, changes or goes; returns the version.
    pub fn put(&self, name: &str, workspace: &str) -> u64 {
        let mut store = self.store.lock().unwrap();
        store.version += 1;
        let version = store.version;
        let before = store.namespaces.insert(name.to_owned(), (workspace.to_owned(), version));
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.tell(&mut store, kind, name, workspace, version);
        version
    }

    pub fn remove(&self, name: &str) -> u64 {
        let mut store = self.store.lock().unwrap();
        store.version += 1;
        let version = store.version;
        let (workspace, _) = store.namespaces.remove(name).unwrap();
        self.tell(&mut store, "DELETED", name, &workspace, version);
        version
    }

    /// Something else has happened, such as a Member's change.
    pub fn tick(&self) -> u64 {
        let mut store = self.store.lock().unwrap();
        store.version += 1;
        store.version
    }

    fn tell(&self, store: &mut Store, kind: &'static str, name: &str, workspace: &str, version: u64) {
        let (name, workspace) = (name.to_owned(), workspace.to_owned());
        let change = Change { version, kind, name, workspace, since: version };
        store.history.push(change.clone());
        let _ = self.changes.send(change);
    }

    async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        certificate: bool,
    ) -> Response<ServerBody> {
        let upgrade = request.headers().get("upgrade").cloned();
        let upgraded = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().unwrap().to_string();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let watch = query.contains("watch=");
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        self.seen.lock().unwrap().push(Seen {
            target: target.clone(),
            headers: parts.headers.clone(),
            certificate,
            body: body.clone(),
        });
        let token = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
        if self.refuse.lock().unwrap().is_some_and(|bad| token == Some(bad)) {
            return plain(401, "who are you".to_owned());
        }
        if let (Some(protocol), Some(upgraded)) = (upgrade, upgraded) {
            let api = self.clone();
            api.streams.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgraded.await.unwrap());
                let mut buffer = [0; 4096];
                while let Ok(count) = stream.read(&mut buffer).await {
                    if count == 0 || stream.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                    let _ = stream.flush().await;
                }
                api.streams.fetch_sub(1, Ordering::SeqCst);
            });
            let response =
                Response::builder().status(101).header("connection", "Upgrade").header("upgrade", protocol);
            let response = match parts.headers.get("sec-websocket-protocol") {
                Some(protocols) => response.header("sec-websocket-protocol", protocols),
                None => response,
            };
            return response.body(Full::default().boxed_unsync()).unwrap();
        }
        if path == "/api/v1/namespaces" {
            let table = parts.headers["accept"].to_str().unwrap().contains("as=Table");
            return if watch { self.watch(query, table) } else { self.list(query, table) };
        }
        if watch || path.ends_with("/log") {
            let (to, stream) = self.stream();
            let mut chunks = self.chunks.subscribe();
            tokio::spawn(async move {
                while let Ok(chunk) = chunks.recv().await {
                    if chunk == "END" || to.send(chunk.into()).is_err() {
                        return;
                    }
                }
            });
            return Response::new(stream.boxed_unsync());
        }
        if path.contains("/nodes") || path.contains("closed-x") {
            return plain(403, r#"{"kind":"Status","reason":"Forbidden"}"#.to_owned());
        }
        if let Some(namespace) =
            path.strip_suffix("/pods").and_then(|path| path.strip_prefix("/api/v1/namespaces/"))
        {
            let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "77"},
                "items": [{"metadata": {"name": "p", "namespace": namespace}}]});
            return plain(200, list.to_string());
        }
        if path.contains("slow") {
            self.hold.acquire().await.unwrap().forget();
        }
        let code = if path.contains("teapot") { 418 } else { 200 };
        plain(code, String::from_utf8_lossy(&body).into_owned())
    }

    fn list(&self, query: &str, table: bool) -> Response<ServerBody> {
        let selected = selected(query);
        let store = self.store.lock().unwrap();
        let found = store.namespaces.iter().filter(|(_, (workspace, _))| selects(&selected, workspace));
        let version = store.version.to_string();
        let list = if table {
            let rows: Vec<_> =
                found.map(|(name, (workspace, version))| row(name, workspace, *version)).collect();
            json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version},
                "columnDefinitions": [{"name": "Name"}], "rows": rows})
        } else {
            let items: Vec<_> = found
                .map(|(name, (workspace, version))| json!({"metadata": metadata(name, workspace, *version)}))
                .collect();
            json!({"kind": "NamespaceList", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items})
        };
        plain(200, list.to_string())
    }

    fn watch(self: &Arc<Self>, query: &str, table: bool) -> Response<ServerBody> {
        let selected = selected(query);
        let from: u64 =
            param(query, "resourceVersion").and_then(|text| text.parse().ok()).unwrap_or_default();
        let store = self.store.lock().unwrap();
        let mut changes = self.changes.subscribe();
        let past: Vec<Change> =
            store.history.iter().filter(|change| change.version > from).cloned().collect();
        drop(store);
        let (to, stream) = self.stream();
        let event = move |change: &Change| {
            let object = if table {
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"resourceVersion": change.since.to_string()},
                    "rows": [row(&change.name, &change.workspace, change.since)]})
            } else {
                json!({"kind": "Namespace", "apiVersion": "v1",
                    "metadata": metadata(&change.name, &change.workspace, change.since)})
            };
            Bytes::from(format!("{}\n", json!({"type": change.kind, "object": object})))
        };
        tokio::spawn(async move {
            for change in past {
                if selects(&selected, &change.workspace) && to.send(event(&change)).is_err() {
                    return;
                }
            }
            loop {
                tokio::select! {
                    change = changes.recv() => {
                        let Ok(change) = change else { return };
                        if selects(&selected, &change.workspace) && to.send(event(&change)).is_err() {
                            return;
                        }
                    }
                    () = to.closed() => return,
                }
            }
        });
        Response::new(stream.boxed_unsync())
    }
}

fn metadata(name: &str, workspace: &str, version: u64) -> Value {
    json!({"name": name, "resourceVersion": version.to_string(), "labels": {"atoll.dev/workspace": workspace}})
}

fn row(name: &str, workspace: &str, version: u64) -> Value {
    json!({"cells": [name], "object": {"metadata": metadata(name, workspace, version)}})
}

fn param(query: &str, key: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(found, _)| found == key)
        .map(|(_, value)| value.into_owned())
}

/// The workspaces of the first requirement; None: all.
fn selected(query: &str) -> Option<BTreeSet<String>> {
    let selector = param(query, "labelSelector")?;
    let Some(rest) = selector.strip_prefix("atoll.dev/workspace in (") else { return Some(BTreeSet::new()) };
    Some(rest.split(')').next().unwrap().split(',').map(str::to_owned).collect())
}

fn selects(selected: &Option<BTreeSet<String>>, workspace: &str) -> bool {
    selected.as_ref().is_none_or(|selected| selected.contains(workspace))
}

fn plain(code: u16, text: String) -> Response<ServerBody> {
    let mut response = Response::new(Full::from(text).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

/// Front, its surroundings, and who may come.
pub struct World {
    pub api: Arc<Api>,
    pub index: Mutex<Index>,
    pub verifier: Arc<Verifier>,
    pub key: SigningKey,
    pub token_file: PathBuf,
    pub admin: SocketAddr,
    #[allow(dead_code)] // The bench asks it directly.
    pub upstream: SocketAddr,
    address: SocketAddr,
    roots: RootCertStore,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<Result<(), front::Error>>>,
    _directory: tempfile::TempDir,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    Token,
    Certificate,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Limits::default(), Proof::Token).await
    }

    pub async fn with(limits: Limits, proof: Proof) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let pair = || {
            let key = KeyPair::generate().unwrap();
            let params =
                rcgen::CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
            (params.signed_by(&key, &ca).unwrap(), key)
        };

        let api = Arc::new(Api {
            seen: Mutex::default(),
            store: Mutex::default(),
            changes: broadcast::channel(64).0,
            chunks: broadcast::channel(64).0,
            streams: AtomicUsize::new(0),
            hold: tokio::sync::Semaphore::new(0),
            refuse: Mutex::default(),
        });
        let (certificate, key) = pair();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream_address = listener.local_addr().unwrap();
        tokio::spawn(serve_api(api.clone(), listener, TlsAcceptor::from(Arc::new(tls))));

        let (certificate, key) = pair();
        let files = Files { chain: directory.path().join("tls.crt"), key: directory.path().join("tls.key") };
        std::fs::write(&files.chain, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        let token_file = directory.path().join("token");
        std::fs::write(&token_file, "front-1\n").unwrap();
        let credentials = match proof {
            Proof::Token => Credentials::TokenFile(token_file.clone()),
            Proof::Certificate => {
                let (certificate, key) = pair();
                Credentials::Certificate { chain: certificate.pem().into(), key: key.serialize_pem().into() }
            }
        };
        let upstream =
            Upstream { address: format!("https://{upstream_address}"), ca: ca.pem().into(), credentials };
        let signing = SigningKey::generate().unwrap();
        let verifier = Verifier::new(AUDIENCE);
        verifier.set_keys(Keyring::from_iter([signing.verification_key()]));
        let (mut index, published): (Index, Arc<Published>) = Index::new();
        index.set_ready();
        let https = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, admin_address) = (https.local_addr().unwrap(), admin.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let mut config = Config::new(files);
        config.limits = limits;
        config.patience = Duration::from_millis(500);
        let verifying = verifier.clone();
        let running = tokio::spawn(async move {
            front::serve(https, admin, config, upstream, verifying, published, async {
                let _ = stopped.await;
            })
            .await
        });
        Self {
            api,
            index: Mutex::new(index),
            verifier,
            key: signing,
            token_file,
            admin: admin_address,
            upstream: upstream_address,
            address,
            roots,
            stop: Some(stop),
            running: Some(running),
            _directory: directory,
        }
    }

    /// An account and a token of its.
    pub fn account(&self, name: &str) -> String {
        self.index.lock().unwrap().set_account(name, false, false);
        self.token(name).0
    }

    pub fn operator(&self, name: &str) -> String {
        self.index.lock().unwrap().set_account(name, true, false);
        self.token(name).0
    }

    pub fn token(&self, name: &str) -> (String, Claims) {
        let (token, claims) =
            issue(&self.key, name, Kind::Access, AUDIENCE, identity::now(), 60_000).unwrap();
        (token.expose_secret().to_owned(), claims)
    }

    /// A workspace with its namespace, `<name>-x`.
    pub fn workspace(&self, name: &str, owner: &str) {
        let namespace = format!("{name}-x");
        let version = self.api.put(&namespace, name);
        self.index.lock().unwrap().set_workspace(name, Node::of(owner), Some(&namespace), version);
    }

    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.api.seen.lock().unwrap())
    }

    pub async fn streams(&self, wanted: usize) {
        let reached = async {
            while self.api.streams.load(Ordering::SeqCst) != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let count = || self.api.streams.load(Ordering::SeqCst);
        if tokio::time::timeout(Duration::from_secs(3), reached).await.is_err() {
            panic!("{} streams are open, not {wanted}", count());
        }
    }

    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub async fn stopped(&mut self) {
        let running = self.running.take().unwrap();
        tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap().unwrap();
    }

    pub async fn connect(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        self.connect_to(self.address, protocol).await
    }

    pub async fn connect_to(&self, address: SocketAddr, protocol: &[u8]) -> TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        tls.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        TlsConnector::from(Arc::new(tls))
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
            .unwrap()
    }

    /// Sends a text as it is, over HTTP/1.1.
    pub async fn raw(&self, text: &str) -> Raw {
        let mut stream = self.connect(b"http/1.1").await;
        // Who is refused early may not read all of it.
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.flush().await;
        Raw { stream, buffer: Vec::new() }
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.connect(b"http/1.1").await))
                .await
                .unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    pub async fn send_h2(&self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        let io = TokioIo::new(self.connect(b"h2").await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await
    }

    pub async fn get(&self, target: &str, token: &str) -> (u16, Value) {
        read(self.send(get(target, token)).await).await
    }
}

pub fn get(target: &str, token: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .uri(target)
        .header("host", "localhost")
        .header("authorization", format!("Bearer {token}"))
        .header("accept", "application/json")
        .body(Full::default())
        .unwrap()
}

pub async fn read(response: Response<Incoming>) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (
        status,
        serde_json::from_slice(&body).unwrap_or(Value::String(String::from_utf8_lossy(&body).into_owned())),
    )
}

/// One end of a connection, to be written and read by hand.
pub struct Raw {
    pub stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Raw {
    /// What comes up to and with `end`.
    pub async fn until(&mut self, end: &str) -> String {
        let read = async {
            loop {
                if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end.as_bytes()) {
                    let rest = self.buffer.split_off(at + end.len());
                    let text = std::mem::replace(&mut self.buffer, rest);
                    return String::from_utf8(text).unwrap();
                }
                if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                    panic!("ended after {:?}", String::from_utf8_lossy(&self.buffer));
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(3), read).await.unwrap_or_else(|_| panic!("no {end:?} came"))
    }

    /// Everything until the end.
    pub async fn rest(mut self) -> String {
        let read = async {
            while let Ok(count) = self.stream.read_buf(&mut self.buffer).await {
                if count == 0 {
                    break;
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(3), read).await;
        let text = String::from_utf8(self.buffer).unwrap();
        assert!(ended.is_ok(), "the connection goes on after {text:?}");
        text
    }
}

async fn serve_api(api: Arc<Api>, listener: TcpListener, tls: TlsAcceptor) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (api, tls) = (api.clone(), tls.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let certificate = stream.get_ref().1.peer_certificates().is_some();
            let service = hyper::service::service_fn(move |request| {
                let api = api.clone();
                async move { Ok::<_, Infallible>(api.answer(request, certificate).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}
