//! Keeps a fast backend's answer to a WebSocket handshake from overtaking the
//! end of the request.
//!
//! pingora 0.9.1 takes the end of the handshake's empty body for the end of the
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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

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

/// Connects to a backend, behind a gate.
#[derive(Debug)]
pub(crate) struct Gated {
    pub gate: Arc<Gate>,
    pub timeout: Duration,
}

#[async_trait]
impl Connect for Gated {
    async fn connect(&self, address: &socket::SocketAddr) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::ConnectError, "not an internet address");
        };
        let stream = connect(*address, self.timeout).await?;
        let socket = GatedSocket { stream, gate: self.gate.clone() };
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

async fn connect(address: SocketAddr, timeout: Duration) -> Result<TcpStream> {
    let Ok(connected) = tokio::time::timeout(timeout, TcpStream::connect(address)).await else {
        return Error::e_explain(ErrorType::ConnectTimedout, format!("connecting to {address}"));
    };
    let stream = connected.map_err(|error| {
        Error::because(ErrorType::ConnectError, format!("connecting to {address}"), error)
    })?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

#[derive(Debug)]
struct GatedSocket {
    stream: TcpStream,
    gate: Arc<Gate>,
}

impl VirtualSocket for GatedSocket {
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for GatedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.gate.poll(cx) {
            Poll::Ready(()) => Pin::new(&mut self.stream).poll_read(cx, buf),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for GatedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
