//! Connections to backends that pingora doesn't make by itself: over TLS that is
//! verified by a policy, and for WebSockets.
//!
//! For these a fast backend's answer to the handshake is kept from overtaking the
//! end of the request: pingora 0.9.1 takes the end of the handshake's empty body for the end of the
//! tunnel when it sees the 101 first (cloudflare/pingora#946), and closes both.
//! So a backend's first byte is shown to it only after that end is queued.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::l4::Connect;
use pingora_core::protocols::l4::socket;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora_error::{Error, ErrorType, Result};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::upstream_tls::BackendTls;

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    /// Nothing reads yet.
    Waited(Waker),
    /// Opened, but the next read still lets others go first.
    Yield,
    Open,
}

/// Opened once the request's end is on its way.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<State>);

impl Gate {
    pub fn open(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Yield) {
            State::Waited(waker) => waker.wake(),
            State::Open => *state = State::Open,
            State::Closed | State::Yield => {}
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Open => Poll::Ready(()),
            // Whoever waits for the answer waits for the request as well, and
            // takes that now.
            State::Yield => {
                *state = State::Open;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            State::Closed | State::Waited(_) => {
                *state = State::Waited(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Connects to a backend, behind a gate, over TLS, or both.
#[derive(Debug)]
pub(crate) struct Connector {
    pub gate: Option<Arc<Gate>>,
    pub tls: Option<Arc<BackendTls>>,
    /// What is shown where the backend asks.
    pub identity: Option<Arc<CertifiedKey>>,
    /// Spoken over TLS.
    pub alpn: &'static [u8],
    pub timeout: Duration,
}

#[async_trait]
impl Connect for Connector {
    async fn connect(&self, address: &socket::SocketAddr) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::ConnectError, "not an internet address");
        };
        let connecting = async {
            let stream = connect(*address).await?;
            let Some(tls) = &self.tls else { return Ok::<_, Box<Error>>(Transport::Plain(stream)) };
            let mut config = ClientConfig::clone(&tls.config);
            config.alpn_protocols = vec![self.alpn.to_vec()];
            if let Some(identity) = &self.identity {
                config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity.clone()));
                // One that is resumed would be by whoever it was made for.
                config.resumption = Resumption::disabled();
            }
            let connector = TlsConnector::from(Arc::new(config));
            let stream = connector.connect(tls.name.clone(), stream).await.map_err(|error| {
                Error::because(ErrorType::TLSHandshakeFailure, format!("with {address}"), error)
            })?;
            Ok(Transport::Tls(Box::new(stream)))
        };
        let Ok(transport) = tokio::time::timeout(self.timeout, connecting).await else {
            return Error::e_explain(ErrorType::ConnectTimedout, format!("connecting to {address}"));
        };
        let socket = Socket { transport: transport?, gate: self.gate.clone() };
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await.map_err(|error| {
        Error::because(ErrorType::ConnectError, format!("connecting to {address}"), error)
    })?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

#[derive(Debug)]
struct Socket {
    transport: Transport,
    gate: Option<Arc<Gate>>,
}

impl VirtualSocket for Socket {
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gate.as_ref().is_some_and(|gate| gate.poll(cx).is_pending()) {
            return Poll::Pending;
        }
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
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
}
