//! A gateway, a backend and clients on the loopback, with real sockets and TLS.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use gateway::index::{Index, Scope};
use gateway::listen::{Listener, Options, Server};
use gateway::metrics::Metrics;
use gateway::object::{
    EndpointSlice, Id, Ingress, IngressPath, IngressRule, IngressTls, Object, PathType, PortRef, Protocol,
    Secret, Service, ServicePort, ServiceRef,
};
use gateway::table::Table;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub type Body = BoxBody<Bytes, Infallible>;

pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

/// Answers with what it was asked; echoes bodies chunk by chunk at `/echo`, and
/// bytes after an upgrade.
pub struct Backend {
    pub address: SocketAddr,
    pub served: Arc<AtomicUsize>,
    /// Connections on which something else came than requests.
    pub misled: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    pub async fn start(name: &'static str) -> Self {
        Self::serve(name, None).await
    }

    /// Over TLS, with a certificate that nobody vouches for.
    pub async fn start_tls(name: &'static str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap().der().clone();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self::serve(name, Some(Arc::new(config).into())).await
    }

    /// Over TLS with a certificate of an authority, to clients that show one of it.
    pub async fn start_asking(name: &'static str, authority: &Authority) -> Self {
        let (chain, key) = authority.issue(&[name], rcgen::ExtendedKeyUsagePurpose::ServerAuth);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(authority.roots()),
            provider.clone(),
        );
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        Self::serve(name, Some(Arc::new(config).into())).await
    }

    async fn serve(name: &'static str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::new(AtomicUsize::new(0));
        let misled = Arc::new(AtomicUsize::new(0));
        let (count, wrong) = (served.clone(), misled.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (count, wrong, tls) = (count.clone(), wrong.clone(), tls.clone());
                tokio::spawn(async move {
                    let understood = match tls {
                        None => converse(stream, name, count).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => converse(stream, name, count).await,
                            Err(_) => true,
                        },
                    };
                    wrong.fetch_add(usize::from(!understood), Ordering::SeqCst);
                });
            }
        });
        Self { address, served, misled, task }
    }
}

/// Whether all that came were requests.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    name: &'static str,
    count: Arc<AtomicUsize>,
) -> bool {
    let service = hyper::service::service_fn(move |request| {
        let turn = count.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, Infallible>(answer(name, turn, request).await) }
    });
    let io = TokioIo::new(stream);
    let served =
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await;
    !served.is_err_and(|error| error.is_parse())
}

async fn answer(name: &str, turn: usize, mut request: Request<Incoming>) -> Response<Body> {
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut buffer = [0; 1024];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                stream.write_all(&buffer[..read]).await.unwrap();
            }
        });
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        response.headers_mut().insert("connection", "upgrade".parse().unwrap());
        return response;
    }
    let path = request.uri().path().to_owned();
    if let Some(kind) = path.strip_prefix("/text") {
        return texts(kind, request);
    }
    match path.as_str() {
        "/echo" => {
            let frames = request.into_body().into_data_stream().map(|data| Ok(Frame::data(data.unwrap())));
            Response::new(stream(frames))
        }
        "/every-third" if turn % 3 != 2 => {
            let mut response = Response::new(full("not now"));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        }
        "/check" => {
            let header = |name: &str| request.headers().get(name).map_or("", |value| value.to_str().unwrap());
            let mut response = Response::new(full(""));
            if header("authorization") == "let me in" {
                let words = ["x-original-method", "x-original-url", "x-forwarded-for"].map(header);
                response.headers_mut().insert("x-user", words.join(" ").parse().unwrap());
            } else {
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                response.headers_mut().insert("www-authenticate", "Ours".parse().unwrap());
            }
            response
        }
        "/slow" => {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            Response::new(full("slow"))
        }
        _ => {
            let mut text = format!("backend={name}\npath={}\n", request.uri());
            for (name, value) in request.headers() {
                text += &format!("{name}={}\n", value.to_str().unwrap());
            }
            let _ = request.into_body().collect().await;
            let mut response = Response::new(full(text));
            response.headers_mut().insert("x-frame-options", "DENY".parse().unwrap());
            response
        }
    }
}

/// Lines that are long enough to be compressed.
pub fn long() -> String {
    (0..400).map(|line| format!("line {line} of a text that says little\n")).collect()
}

/// Answers that differ in what may be done to them.
fn texts(kind: &str, request: Request<Incoming>) -> Response<Body> {
    let parts = |parts: Vec<&'static str>| {
        let mut all: Vec<Bytes> = long().into_bytes().chunks(1000).map(Bytes::copy_from_slice).collect();
        all.extend(parts.into_iter().map(Bytes::from));
        stream(futures::stream::iter(all.into_iter().map(|part| Ok(Frame::data(part)))))
    };
    let mut response = match kind {
        "-unknown-length" => Response::new(parts(Vec::new())),
        "-last-part-empty" => Response::new(parts(vec![""])),
        "-short" => Response::new(full("short")),
        "-echo" => {
            let frames = request.into_body().into_data_stream().map(|data| Ok(Frame::data(data.unwrap())));
            Response::new(stream(frames))
        }
        _ => Response::new(full(long())),
    };
    let plain = match kind {
        "-events" => "text/event-stream",
        "-image" => "image/png",
        _ => "text/plain; charset=utf-8",
    };
    let mut set =
        |name: &'static str, value: &str| response.headers_mut().insert(name, value.parse().unwrap());
    set("content-type", plain);
    set("etag", "\"a\"");
    match kind {
        "-no-transform" => drop(set("cache-control", "no-transform")),
        "-part" => drop(set("content-range", "bytes 0-1/2")),
        _ => {}
    }
    response
}

/// A body that comes in parts.
pub fn stream(
    frames: impl futures::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync + 'static,
) -> Body {
    BodyExt::boxed(SyncBody(StreamBody::new(Box::pin(frames))))
}

/// `boxed` wants `Sync`, which a body that one task reads has no need of.
struct SyncBody<B>(B);
impl<B> SyncBody<B> {}
impl<B: hyper::body::Body + Unpin> hyper::body::Body for SyncBody<B> {
    type Data = B::Data;
    type Error = B::Error;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }
}

/// A chain and its key.
pub type Identity = (Vec<CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>);

/// DER as a text.
pub fn pem(kind: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
}

/// An authority that tests trust.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    pub fn secret(&self, id: Id, names: &[&str]) -> Object {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        Object::Secret(Secret {
            id,
            certificate: certificate.pem().into_bytes().into(),
            key: key.serialize_pem().into_bytes().into(),
            acme: false,
        })
    }

    pub fn roots(&self) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        roots
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.root)
    }

    pub fn issue(&self, names: &[&str], purpose: rcgen::ExtendedKeyUsagePurpose) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, names[0].clone());
        params.extended_key_usages = vec![purpose];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![certificate], rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// What a client shows.
    pub fn identity(&self, name: &str) -> Identity {
        self.issue(&[name], rcgen::ExtendedKeyUsagePurpose::ClientAuth)
    }

    pub fn client(&self, alpn: &str) -> rustls::ClientConfig {
        self.client_as(alpn, None)
    }

    /// A client that shows a certificate where it is asked.
    pub fn client_as(&self, alpn: &str, identity: Option<&Identity>) -> rustls::ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                // Whatever the server would rather see.
                let provider = rustls::crypto::ring::default_provider();
                let key = provider.key_provider.load_private_key(key.clone_key()).unwrap();
                let key = rustls::sign::CertifiedKey::new(chain.clone(), key);
                config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        config
    }
}

pub struct World {
    pub index: Index,
    pub table: Arc<Table>,
    pub metrics: Arc<Metrics>,
    pub server: Arc<Server>,
    pub http: Option<Listener>,
    pub https: Option<Listener>,
    pub authority: Authority,
}

pub const DEFAULT: (&str, &str) = (api::names::SYSTEM_NAMESPACE, api::names::GATEWAY_CERTIFICATE);

impl World {
    /// More endpoints than any test gives a Service.
    const MOST_ENDPOINTS: usize = 16;

    pub async fn start() -> Self {
        Self::with(Scope::default(), &[]).await
    }

    /// Behind balancers of these networks.
    pub async fn with(scope: Scope, balancers: &[&str]) -> Self {
        let (table, metrics) = (Arc::new(Table::default()), Arc::new(Metrics::default()));
        let balancers = balancers.iter().map(|network| network.parse().unwrap()).collect();
        Self::serving(scope, Options { https_port: 443, balancers, ..Options::default() }, table, metrics)
            .await
    }

    /// With all that can be chosen.
    pub async fn serving(scope: Scope, options: Options, table: Arc<Table>, metrics: Arc<Metrics>) -> Self {
        let server = Server::with(table.clone(), metrics.clone(), options).unwrap();
        let bind = || TcpListener::bind("127.0.0.1:0");
        let http = Some(server.listen(bind().await.unwrap(), Some(false)).unwrap());
        let https = Some(server.listen(bind().await.unwrap(), Some(true)).unwrap());
        let authority = Authority::new();
        let mut index = Index::new(scope, table.clone());
        index.apply(authority.secret(Id::new(DEFAULT.0, DEFAULT.1), &["*.apps.test", "apps.test"]));
        Self { index, table, metrics, server, http, https, authority }
    }

    pub fn http(&self) -> SocketAddr {
        self.http.as_ref().unwrap().address
    }

    pub fn https(&self) -> SocketAddr {
        self.https.as_ref().unwrap().address
    }

    /// An app: an Ingress for the host, its Service and its endpoints.
    pub fn app(&mut self, name: &str, host: &str, annotations: &[(&str, &str)], endpoints: &[SocketAddr]) {
        self.app_in("a", name, host, annotations, endpoints);
    }

    /// An app in a namespace.
    pub fn app_in(
        &mut self,
        namespace: &str,
        name: &str,
        host: &str,
        annotations: &[(&str, &str)],
        endpoints: &[SocketAddr],
    ) {
        self.ingress_in(namespace, name, host, "/", annotations, false);
        self.index.apply(Object::Service(Service {
            id: Id::new(namespace, name),
            ports: vec![ServicePort { name: String::new(), number: 80, protocol: Protocol::Http1 }],
            entrance: None,
        }));
        self.endpoints_in(namespace, name, endpoints);
    }

    pub fn ingress(&mut self, name: &str, host: &str, annotations: &[(&str, &str)], tls: bool) {
        self.ingress_at(name, host, "/", annotations, tls);
    }

    /// An Ingress of a path.
    pub fn ingress_at(
        &mut self,
        name: &str,
        host: &str,
        path: &str,
        annotations: &[(&str, &str)],
        tls: bool,
    ) {
        self.ingress_in("a", name, host, path, annotations, tls);
    }

    fn ingress_in(
        &mut self,
        namespace: &str,
        name: &str,
        host: &str,
        path: &str,
        annotations: &[(&str, &str)],
        tls: bool,
    ) {
        let backend = Some(ServiceRef { name: name.to_owned(), port: PortRef::Number(80) });
        let path = IngressPath { path: path.to_owned(), path_type: PathType::Prefix, backend };
        let tls = IngressTls { hosts: vec![host.to_owned()], secret: tls.then(|| format!("{name}-tls")) };
        self.index.apply(Object::Ingress(Ingress {
            id: Id::new(namespace, name),
            created: 0,
            class: None,
            annotations: annotations
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            default_backend: None,
            rules: vec![IngressRule { host: host.to_owned(), paths: vec![path] }],
            tls: tls.secret.is_some().then_some(tls).into_iter().collect(),
        }));
    }

    pub fn endpoints(&mut self, service: &str, endpoints: &[SocketAddr]) {
        self.endpoints_in("a", service, endpoints);
    }

    fn endpoints_in(&mut self, namespace: &str, service: &str, endpoints: &[SocketAddr]) {
        assert!(endpoints.len() <= Self::MOST_ENDPOINTS);
        // One slice for each endpoint: their ports differ.
        for slot in 0..Self::MOST_ENDPOINTS {
            let name = format!("{service}-{slot}");
            match endpoints.get(slot) {
                Some(endpoint) => self.index.apply(Object::EndpointSlice(EndpointSlice {
                    id: Id::new(namespace, name),
                    service: service.to_owned(),
                    ports: vec![(String::new(), endpoint.port())],
                    addresses: vec![IpAddr::from([127, 0, 0, 1])],
                    zones: Vec::new(),
                    leaving: Vec::new(),
                })),
                None => self.index.delete(gateway::object::Kind::EndpointSlice, &Id::new(namespace, name)),
            }
        }
    }

    pub async fn tls(&self, name: &str, alpn: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::new(self.authority.client(alpn)));
        let stream = TcpStream::connect(self.https()).await?;
        connector.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
    }

    pub async fn http1(&self, name: &str) -> hyper::client::conn::http1::SendRequest<Body> {
        let io = TokioIo::new(self.tls(name, "http/1.1").await.unwrap());
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub async fn http2(&self, name: &str) -> hyper::client::conn::http2::SendRequest<Body> {
        let io = TokioIo::new(self.tls(name, "h2").await.unwrap());
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Raw bytes over clear text; the whole answer, until the gateway closes.
    pub async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.http()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ =
            tokio::time::timeout(std::time::Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A clear-text GET: the status and the answer.
    pub async fn get(&self, host: &str, path: &str) -> (u16, String) {
        self.ask(host, path, "").await
    }

    /// The same with headers, each with its line's end.
    pub async fn ask(&self, host: &str, path: &str, headers: &str) -> (u16, String) {
        let answer = self
            .raw(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n"))
            .await;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer)
    }
}

/// A header of an answer as [`World::ask`] gives it, or nothing.
pub fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let head = answer.split("\r\n\r\n").next().unwrap();
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
}

/// A WebSocket that is open as long as it is kept.
pub async fn websocket(address: SocketAddr, host: &str) -> (u16, TcpStream) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let upgrade = format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    let status = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap().parse().unwrap();
    (status, stream)
}

pub async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}
