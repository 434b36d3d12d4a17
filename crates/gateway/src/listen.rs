//! Accepts connections, does their TLS, and hands them to the proxy. A listener
//! can be opened and closed while others serve.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pingora_core::apps::{HttpServerApp, ServerApp};
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::LazyConfigAcceptor;

use crate::certificate::Chosen;
use crate::error::Error;
use crate::metrics::{Counted, Metrics};
use crate::proxy::Proxy;
use crate::stream::{Connection, Tls};
use crate::table::Table;

/// A client that opens a connection says what it wants within this time.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Attempts to connect to a backend, the first one included.
const ATTEMPTS: usize = 4;

/// Serves connections with one table; listeners share it.
pub struct Server {
    proxy: Arc<HttpProxy<Proxy>>,
    table: Arc<Table>,
    metrics: Arc<Metrics>,
    tls: Arc<ServerConfig>,
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

impl Server {
    pub fn new(table: Arc<Table>, metrics: Arc<Metrics>, https_port: u16) -> Result<Arc<Self>, Error> {
        let conf = ServerConf {
            max_retries: ATTEMPTS,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            ..ServerConf::default()
        };
        let inner = Proxy { table: table.clone(), metrics: metrics.clone(), https_port };
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
            stopping: watch::channel(false).0,
        }))
    }

    /// Starts to accept on a bound socket.
    pub fn listen(self: &Arc<Self>, listener: TcpListener, tls: bool) -> std::io::Result<Listener> {
        let address = listener.local_addr()?;
        let server = self.clone();
        let accepting = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        tokio::spawn(server.clone().serve(stream, peer, tls));
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

    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, tls: bool) {
        let counted = Counted::new(self.metrics.clone());
        let _ = stream.set_nodelay(true);
        let connection = if tls {
            tokio::time::timeout(HANDSHAKE, self.handshake(stream, peer, counted)).await.ok().flatten()
        } else {
            Connection::plain(stream, peer, counted).ok()
        };
        match connection {
            Some(connection) => {
                let stopping = self.stopping.subscribe();
                self.proxy.process_new(Box::new(connection), &stopping).await;
            }
            None => {
                self.metrics.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The certificate is chosen here rather than inside rustls, so that the
    /// connection knows which one it has shown.
    async fn handshake(&self, stream: TcpStream, peer: SocketAddr, counted: Counted) -> Option<Connection> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.ok()?;
        let name =
            start.client_hello().server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let certificate = self.table.certificate(name.as_deref());
        let mut config = ServerConfig::clone(&self.tls);
        config.cert_resolver = Arc::new(Chosen(certificate.clone()));
        let stream = match start.into_stream(Arc::new(config)).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%peer, name, %error, "a TLS handshake failed");
                return None;
            }
        };
        Connection::tls(stream, peer, Tls { name, certificate }, counted).ok()
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
