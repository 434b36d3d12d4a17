//! A connection that is handed on to a backend as it is, or without its TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::route::{Owner, Route, Target};
use crate::tenant::{self, Tenant};
use crate::traffic::Passed;

const CONNECT: Duration = Duration::from_secs(5);
/// Endpoints that are tried.
const ATTEMPTS: usize = 4;

pub(crate) enum Client {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub(crate) struct Tunnel {
    client: Client,
    /// What was read of the client already.
    read: Vec<u8>,
    backend: Opened,
}

/// A connection to a backend, and what it takes of its workspace's share.
pub(crate) struct Opened {
    stream: TcpStream,
    owner: Arc<Owner>,
    started: Instant,
    _share: tenant::Admitted,
}

impl Drop for Opened {
    /// One request, as long as it was; its bytes were counted as they went by.
    fn drop(&mut self) {
        let took = self.started.elapsed();
        self.owner.count(&Passed { status: 200, received: 0, sent: 0, took });
    }
}

/// Connects to an endpoint of a route's backend, if its workspace may have
/// another connection.
pub(crate) async fn connect(route: &Arc<Route>) -> Option<Opened> {
    let share = route.owner.tenant.admit().ok()?;
    let started = Instant::now();
    let Some(Target::Service(backend, _)) = route.action.targets.pick() else { return None };
    let mut tried = Vec::new();
    while tried.len() < ATTEMPTS {
        let endpoint = backend.pick(&tried)?;
        if tried.contains(&endpoint) {
            return None;
        }
        if let Ok(Ok(stream)) = tokio::time::timeout(CONNECT, TcpStream::connect(endpoint)).await {
            let _ = stream.set_nodelay(true);
            return Some(Opened { stream, owner: route.owner.clone(), started, _share: share });
        }
        tried.push(endpoint);
    }
    None
}

impl Tunnel {
    pub fn new(client: Client, read: Vec<u8>, backend: Opened) -> Self {
        Self { client, read, backend }
    }

    pub async fn carry(mut self) {
        let mut backend = Counted { stream: &mut self.backend.stream, tenant: &self.backend.owner.tenant };
        if backend.write_all(&self.read).await.is_err() {
            return;
        }
        let ended = match &mut self.client {
            Client::Plain(stream) => copy_bidirectional(stream, &mut backend).await,
            Client::Tls(stream) => copy_bidirectional(stream.as_mut(), &mut backend).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a tunnel ended");
        }
    }
}

/// A connection to a backend whose bytes count for its workspace.
struct Counted<'a> {
    stream: &'a mut TcpStream,
    tenant: &'a Tenant,
}

impl AsyncRead for Counted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut *self.stream).poll_read(context, buffer);
        self.tenant.carry(0, (buffer.filled().len() - before) as u64);
        read
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.tenant.carry(count as u64, 0);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(context)
    }
}
