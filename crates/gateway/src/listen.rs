//! Accepts connections, does their TLS, and hands them to the proxy. A listener
//! can be opened and closed while others serve.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipnet::IpNet;
use pingora_core::apps::{HttpServerApp, ServerApp};
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::StartHandshake;

use crate::access::AccessLog;
use crate::certificate::{Chosen, Ready};
use crate::challenge::{self, Place};
use crate::client_auth::{ClientAuth, Shown};
use crate::error::Error;
use crate::metrics::{Counted, Metrics};
use crate::proxy::Proxy;
use crate::proxy_protocol;
use crate::retry::MOST_ATTEMPTS;
use crate::route::{Request, Route, View};
use crate::stream::{Connection, Port, Tls};
use crate::table::{Entry, Found, Protocol, Table};
use crate::trace::Numbers;
use crate::tunnel::{self, Client, Tunnel};

/// A client that opens a connection says what it wants within this time.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// No client needs more to say hello.
const LONGEST_HELLO: usize = 32 << 10;

/// How requests are served, whatever the table says.
#[derive(Debug, Default)]
pub struct Options {
    /// The port of `https://` as clients see it.
    pub https_port: u16,
    /// Whose connections begin with a PROXY header.
    pub balancers: Vec<IpNet>,
    /// Whether answers are compressed where nothing else is said of a route.
    pub compress: bool,
    /// Where each request is told of.
    pub access_log: Option<Arc<AccessLog>>,
}

/// Serves connections with one table; listeners share it.
pub struct Server {
    proxy: Arc<HttpProxy<Proxy>>,
    table: Arc<Table>,
    metrics: Arc<Metrics>,
    tls: Arc<ServerConfig>,
    /// Whose connections begin with a PROXY header.
    balancers: Vec<IpNet>,
    ready: Ready,
    stopping: watch::Sender<bool>,
}

/// An open port. Dropping it closes the port; its connections go on.
pub struct Listener {
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A connection whose client has said what it wants.
enum Greeted {
    Http(Connection),
    Tunnel(Tunnel, Counted),
    /// An authority that has seen what it wanted to see.
    Proven,
}

/// Whether a client begins with HTTP/2 without having been asked. No method of
/// HTTP/1 begins as that does.
async fn speaks_http2(stream: &TcpStream) -> Option<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    let mut first = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut first).await.ok()? {
            // It is gone again; pingora notices.
            0 => return Some(false),
            read if !PREFACE.starts_with(first.get(..read)?) => return Some(false),
            read if read == PREFACE.len() => return Some(true),
            // The rest is on its way: `peek` doesn't wait for more than there was.
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// Reads a ClientHello, and keeps its bytes.
async fn hello(stream: &mut TcpStream) -> Option<(rustls::server::Accepted, Vec<u8>)> {
    let mut acceptor = Acceptor::default();
    let mut read = Vec::with_capacity(1024);
    loop {
        let start = read.len();
        if start > LONGEST_HELLO || stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
        let mut new = read.get(start..)?;
        while !new.is_empty() {
            acceptor.read_tls(&mut new).ok()?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Some((accepted, read)),
            Ok(None) => {}
            Err((_, mut alert)) => {
                let mut bytes = Vec::new();
                let _ = alert.write_all(&mut bytes);
                let _ = stream.write_all(&bytes).await;
                return None;
            }
        }
    }
}

impl Server {
    pub fn new(table: Arc<Table>, metrics: Arc<Metrics>, https_port: u16) -> Result<Arc<Self>, Error> {
        Self::with(table, metrics, Options { https_port, ..Options::default() })
    }

    pub fn with(table: Arc<Table>, metrics: Arc<Metrics>, options: Options) -> Result<Arc<Self>, Error> {
        let conf = ServerConf {
            max_retries: MOST_ATTEMPTS,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            ..ServerConf::default()
        };
        let inner = Proxy {
            table: table.clone(),
            metrics: metrics.clone(),
            https_port: options.https_port,
            compress: options.compress,
            access_log: options.access_log,
            traces: Numbers::default(),
            ready: Ready::default(),
        };
        let mut proxy = HttpProxy::new(inner, Arc::new(conf));
        let mut h2 = H2Options::new();
        h2.max_concurrent_streams(256).max_header_list_size(64 << 10).max_send_buffer_size(256 << 10);
        proxy.h2_options = Some(h2);
        proxy.handle_init_modules();

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Chosen(None)));
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        tls.ticketer = rustls::crypto::ring::Ticketer::new()?;
        Ok(Arc::new(Self {
            proxy: Arc::new(proxy),
            table,
            metrics,
            tls: Arc::new(tls),
            balancers: options.balancers,
            ready: Ready::default(),
            stopping: watch::channel(false).0,
        }))
    }

    /// Starts to accept on a bound socket.
    ///
    /// `shared`: Ingresses are served there, over TLS or not; None: only the
    /// Gateway that the table has for the port is.
    pub fn listen(
        self: &Arc<Self>,
        listener: TcpListener,
        shared: Option<bool>,
    ) -> std::io::Result<Listener> {
        let address = listener.local_addr()?;
        let port = Port { number: address.port(), shared };
        let server = self.clone();
        let accepting = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        tokio::spawn(server.clone().serve(stream, peer, port));
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: others must close first.
                        tracing::warn!(%address, %error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        });
        Ok(Listener { address, accepting })
    }

    /// The client of a connection: who has connected, or who that one says.
    async fn client(&self, stream: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
        let address = peer.ip().to_canonical();
        if !self.balancers.iter().any(|balancer| balancer.contains(&address)) {
            return Some(peer);
        }
        match proxy_protocol::read(stream).await {
            Some(client) => Some(client.unwrap_or(peer)),
            None => {
                tracing::debug!(%peer, "a balancer's connection has no PROXY header");
                self.metrics.proxy_headers_failed.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream, peer: SocketAddr, port: Port) {
        let counted = Counted::new(self.metrics.clone());
        let _ = stream.set_nodelay(true);
        let entry = self.table.entries.get(&port.number);
        let tls = match (port.shared, &entry) {
            (Some(tls), _) => tls,
            (None, Some(entry)) => entry.secure(),
            (None, None) => return,
        };
        let greeted = async {
            let peer = self.client(&mut stream, peer).await?;
            if tls {
                self.handshake(stream, (peer, port), entry.as_deref(), counted).await
            } else {
                let http2 = speaks_http2(&stream).await?;
                Some(Greeted::Http(Connection::plain(stream, (peer, port), http2, counted).ok()?))
            }
        };
        match tokio::time::timeout(HANDSHAKE, greeted).await.ok().flatten() {
            Some(Greeted::Http(connection)) => {
                let stopping = self.stopping.subscribe();
                self.proxy.process_new(Box::new(connection), &stopping).await;
            }
            Some(Greeted::Tunnel(tunnel, _counted)) => {
                let mut stopping = self.stopping.subscribe();
                tokio::select! {
                    () = tunnel.carry() => {}
                    // Nobody knows where a stream could be cut without harm.
                    _ = stopping.wait_for(|stopping| *stopping) => {}
                }
            }
            Some(Greeted::Proven) => {}
            None if tls => {
                self.metrics.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            }
            None => {}
        }
    }

    /// The listener and the certificate are chosen here rather than inside
    /// rustls, so that the connection knows which one it has shown.
    async fn handshake(
        &self,
        mut stream: TcpStream,
        (peer, port): (SocketAddr, Port),
        entry: Option<&Entry>,
        counted: Counted,
    ) -> Option<Greeted> {
        let (accepted, read) = hello(&mut stream).await?;
        let name =
            accepted.client_hello().server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let proving =
            accepted.client_hello().alpn().is_some_and(|mut all| all.any(|one| one == challenge::PROTOCOL));
        if let Some(name) = name.as_deref().filter(|_| proving)
            && let Some(certificate) = self.table.challenges.certificate(
                Place { shared: port.shared.is_some(), gateway: entry.map(|entry| &entry.gateway) },
                name,
            )
        {
            return self.prove(accepted, stream, certificate).await;
        }
        let listener = entry.and_then(|entry| entry.listener(name.as_deref().unwrap_or_default()));
        let route = match (listener.map(|listener| listener.protocol), &name) {
            (Some(Protocol::Tls | Protocol::Passthrough), Some(name)) => {
                let found = self.stream_route(entry?, listener?, name);
                if found.is_none() {
                    tracing::debug!(%peer, name, "no TLSRoute takes a connection");
                }
                Some(found?)
            }
            // Without a name it is not known whose it is.
            (Some(Protocol::Tls | Protocol::Passthrough), None) => return None,
            _ => None,
        };
        if let Some(route) = &route
            && listener?.protocol == Protocol::Passthrough
        {
            let to = tunnel::connect(route).await?;
            return Some(Greeted::Tunnel(Tunnel::new(Client::Plain(stream), read, to), counted));
        }
        let listeners = |listener: &crate::table::Listener| listener.certificate(name.as_deref()).cloned();
        let certificate = match port.shared {
            // A host's own comes before its Gateway's.
            Some(_) => self.table.own_certificate(name.as_deref()).or_else(|| {
                listener.and_then(listeners).or_else(|| self.table.default_certificate.load_full())
            }),
            None => listener.and_then(listeners),
        };
        if certificate.is_none() && port.shared.is_none() {
            // Closed as a name is that no TLSRoute takes: whether there is a
            // listener is not told apart from whether there is a route.
            return None;
        }
        if proving {
            // With a certificate that proves nothing the handshake would seem to be one.
            return self.refuse(accepted, stream).await;
        }
        let ready = certificate.as_ref().and_then(|certificate| self.ready.of(certificate));
        let resolver = Arc::new(Chosen(ready));
        let asked = match &route {
            // Who is inside is the backend's to ask.
            Some(_) => None,
            None => self.asked(&port, entry, listener, name.as_deref()),
        };
        let config = match &asked {
            Some(asked) => asked.config(resolver, &self.tls.alpn_protocols).ok()?,
            None => {
                let mut config = ServerConfig::clone(&self.tls);
                config.cert_resolver = resolver;
                if route.is_some() {
                    // What is inside is not for us to agree on.
                    config.alpn_protocols.clear();
                }
                config
            }
        };
        let start = StartHandshake::from_parts(accepted, stream);
        let stream = match start.into_stream(Arc::new(config)).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%peer, name, %error, "a TLS handshake failed");
                return None;
            }
        };
        if let Some(route) = route {
            let to = tunnel::connect(&route).await?;
            return Some(Greeted::Tunnel(
                Tunnel::new(Client::Tls(Box::new(stream)), Vec::new(), to),
                counted,
            ));
        }
        let client = asked.map(|asked| Arc::new(Shown::new(&asked, stream.get_ref().1.peer_certificates())));
        let tls = Tls { name, certificate, client };
        Connection::tls(stream, (peer, port), tls, counted).ok().map(Greeted::Http)
    }

    /// Shows an authority a challenge's certificate; there is nothing else to be said
    /// on such a connection (RFC 8737, section 3).
    async fn prove(
        &self,
        accepted: rustls::server::Accepted,
        stream: TcpStream,
        certificate: Arc<CertifiedKey>,
    ) -> Option<Greeted> {
        let mut config = ServerConfig::clone(&self.tls);
        config.cert_resolver = Arc::new(Chosen(Some(certificate)));
        config.alpn_protocols = vec![challenge::PROTOCOL.to_vec()];
        // Nobody comes back to it.
        config.send_tls13_tickets = 0;
        let handshake = StartHandshake::from_parts(accepted, stream).into_stream(Arc::new(config));
        let mut stream = handshake.await.ok()?;
        let _ = stream.shutdown().await;
        Some(Greeted::Proven)
    }

    /// Ends the handshake of an authority for which there is no challenge.
    async fn refuse(&self, accepted: rustls::server::Accepted, stream: TcpStream) -> Option<Greeted> {
        let mut config = ServerConfig::clone(&self.tls);
        config.cert_resolver = Arc::new(Chosen(None));
        let _ = StartHandshake::from_parts(accepted, stream).into_stream(Arc::new(config)).await;
        None
    }

    /// What the client of a connection is asked for: by the host's own wish, else
    /// by its Gateway's.
    fn asked(
        &self,
        port: &Port,
        entry: Option<&Entry>,
        listener: Option<&crate::table::Listener>,
        name: Option<&str>,
    ) -> Option<Arc<ClientAuth>> {
        let view = match (entry.zip(name).and_then(|(entry, name)| entry.view(name, true)), port.shared) {
            (Some(own), None) => Some(own),
            (own, Some(_)) => Some(own.map_or(View::shared(true), |own| own.and_shared(true))),
            (None, None) => None,
        };
        let guard = view.zip(name).and_then(|(view, name)| self.table.guard(view, name));
        match guard {
            Some(guard) => guard.auth.clone(),
            None => listener?.client.clone(),
        }
    }

    /// The TLSRoute for a name.
    fn stream_route(
        &self,
        entry: &Entry,
        listener: &crate::table::Listener,
        name: &str,
    ) -> Option<Arc<Route>> {
        let request = Request {
            host: name,
            path: "/",
            query: None,
            method: &http::Method::CONNECT,
            headers: &http::HeaderMap::new(),
            secure: true,
            view: View { zone: entry.zone, listeners: 1 << listener.slot },
        };
        match self.table.find(&request) {
            Found::Route(route) => Some(route),
            Found::NoRoute | Found::NoHost => None,
        }
    }

    /// Lets requests that are under way finish, for at most `patience`. The
    /// listeners are to be closed first.
    pub async fn drain(&self, patience: Duration) {
        self.stopping.send_replace(true);
        self.proxy.http_cleanup().await;
        let open = || self.metrics.connections.load(Ordering::Relaxed);
        let done = async {
            while open() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(patience, done).await.is_err() {
            tracing::warn!(connections = open(), "connections are cut");
        }
    }
}
