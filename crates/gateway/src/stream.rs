//! An accepted connection in the shape in which pingora takes one, with what we
//! know of it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::certificate::Certificate;
use crate::client_auth::Shown;
use crate::metrics::Counted;

/// Headers and a small body go out in one packet and one TLS record.
const WRITE_BUFFER: usize = 4096;

/// What is known of the connection a request came by.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: SocketAddr,
    pub port: Port,
    pub tls: Option<Tls>,
}

/// A port of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    pub number: u16,
    /// Ingresses are served there, over TLS or not; None: only a Gateway is.
    pub shared: Option<bool>,
}

#[derive(Debug, Clone)]
pub struct Tls {
    /// The name in the ClientHello, in lower case.
    pub name: Option<String>,
    pub certificate: Option<Arc<Certificate>>,
    /// What the client has shown, where it was asked.
    pub(crate) client: Option<Arc<Shown>>,
}

#[derive(Debug)]
enum Transport {
    Plain(BufWriter<TcpStream>),
    Tls(Box<BufWriter<TlsStream<TcpStream>>>),
}

pub struct Connection {
    transport: Transport,
    descriptor: UniqueIDType,
    established: SystemTime,
    http2: bool,
    tls: Option<Arc<SslDigest>>,
    socket: Option<Arc<SocketDigest>>,
    /// The only place of a connection that pingora hands on to requests of
    /// both protocols and that is ours to fill.
    peer: Arc<ProxyDigest>,
    _counted: Counted,
}

impl Connection {
    pub(crate) fn plain(
        stream: TcpStream,
        (address, port): (SocketAddr, Port),
        http2: bool,
        counted: Counted,
    ) -> Result<Self> {
        let descriptor = stream.as_raw_fd();
        let transport = Transport::Plain(BufWriter::with_capacity(WRITE_BUFFER, stream));
        Self::new(transport, descriptor, Peer { address, port, tls: None }, http2, None, counted)
    }

    pub(crate) fn tls(
        stream: TlsStream<TcpStream>,
        (address, port): (SocketAddr, Port),
        tls: Tls,
        counted: Counted,
    ) -> Result<Self> {
        let (tcp, session) = stream.get_ref();
        let descriptor = tcp.as_raw_fd();
        let http2 = session.alpn_protocol() == Some(b"h2");
        let cipher =
            session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or_default();
        let version = session.protocol_version().and_then(|version| version.as_str()).unwrap_or_default();
        let digest = Arc::new(SslDigest::new(cipher, version, None, None, Vec::new()));
        let transport = Transport::Tls(Box::new(BufWriter::with_capacity(WRITE_BUFFER, stream)));
        Self::new(transport, descriptor, Peer { address, port, tls: Some(tls) }, http2, Some(digest), counted)
    }

    fn new(
        transport: Transport,
        descriptor: UniqueIDType,
        peer: Peer,
        http2: bool,
        tls: Option<Arc<SslDigest>>,
        counted: Counted,
    ) -> Result<Self> {
        let socket = SocketDigest::from_raw_fd(descriptor);
        let _ = socket.peer_addr.set(Some(peer.address.into()));
        let head = Box::new(ResponseHeader::build_no_case(200, Some(0))?);
        Ok(Self {
            transport,
            descriptor,
            established: SystemTime::now(),
            http2,
            tls,
            socket: Some(Arc::new(socket)),
            peer: Arc::new(ProxyDigest::new(head, Some(Box::new(peer)))),
            _counted: counted,
        })
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            tracing::debug!(%error, "closing a connection");
        }
    }
}

impl UniqueID for Connection {
    fn id(&self) -> UniqueIDType {
        self.descriptor
    }
}

impl Ssl for Connection {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.tls.clone()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        if self.http2 { Some(ALPN::H2) } else { self.tls.as_ref().map(|_| ALPN::H1) }
    }
}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest { established_ts: self.established, ..TimingDigest::default() })]
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.peer.clone())
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.socket.clone()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.socket = Some(Arc::new(digest));
    }
}

#[async_trait]
impl Peek for Connection {}
