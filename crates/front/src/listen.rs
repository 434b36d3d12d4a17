//! Accepts connections, does their TLS, and serves HTTP/1.1 or HTTP/2 on them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::certificate::Shown;
use crate::error::Error;
use crate::proxy::Proxy;

/// A client that opens a connection says what it wants within this time.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// And a request's headers come within this one.
const HEADERS: Duration = Duration::from_secs(20);
/// A request's headers are no longer than this, in bytes.
const HEADER_BYTES: usize = 64 << 10;
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 250;
/// A silent peer is asked after this time whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

pub(crate) struct Listener {
    pub proxy: Arc<Proxy>,
    pub tls: TlsAcceptor,
    pub connections: Arc<Semaphore>,
    /// No new request.
    pub stopping: CancellationToken,
    /// No request at all.
    pub stopped: CancellationToken,
    pub tasks: TaskTracker,
}

/// The TLS that clients meet.
pub(crate) fn tls(shown: Arc<Shown>) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Listener {
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            // With all connections taken, new ones wait in the socket's queue.
            let Ok(permit) = self.connections.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stopping.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let listener = self.clone();
                    self.tasks.spawn(async move {
                        let metrics = listener.proxy.metrics.clone();
                        metrics.connections.fetch_add(1, Ordering::Relaxed);
                        let stopped = listener.stopped.clone();
                        tokio::select! {
                            () = listener.connection(stream, peer) => {}
                            () = stopped.cancelled() => {}
                        }
                        metrics.connections.fetch_sub(1, Ordering::Relaxed);
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: others must close first.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        let stream = match tokio::time::timeout(HANDSHAKE, self.tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            failed => {
                self.proxy.metrics.handshakes_failed.fetch_add(1, Ordering::Relaxed);
                if let Ok(Err(error)) = failed {
                    tracing::debug!(%peer, %error, "a TLS handshake failed");
                }
                return;
            }
        };
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let proxy = self.proxy.clone();
        let service = service_fn(move |request| proxy.clone().serve(request, peer));
        let io = TokioIo::new(stream);
        let ended = if is_h2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(KEEPALIVE)
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(HEADER_BYTES as u32)
                .serve_connection(io, service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = self.stopping.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        } else {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .max_header_size(HEADER_BYTES)
                .serve_connection(io, service)
                .with_upgrades();
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = self.stopping.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, error = &error as &dyn std::error::Error, "a connection ended");
        }
    }
}
