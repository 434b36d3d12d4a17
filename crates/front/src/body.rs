//! The bodies of answers: streamed as they come, and ended when they must.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::open::Ticket;

/// What goes wrong in the middle of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body of any origin.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The caller may not see it any more.
    #[error("the caller's rights have changed")]
    Rights,
}

/// A body that holds its ticket: it ends with an error when the caller is shut
/// out, and in order when front stops and it would never end by itself.
pub(crate) struct Guarded {
    inner: Body,
    ticket: Ticket,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Guarded {
    pub fn new(inner: Body, ticket: Ticket) -> Self {
        let cut = Box::pin(ticket.cut().cancelled_owned());
        let stop = ticket.is_endless().then(|| Box::pin(ticket.stopping().cancelled_owned()));
        Self { inner, ticket, cut, stop }
    }
}

impl hyper::body::Body for Guarded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            self.ticket.note_cut();
            return Poll::Ready(Some(Err(Cut::Rights.into())));
        }
        if let Some(stop) = &mut self.stop
            && stop.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.ticket.count(data.len());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body that a task writes. What waits in it isn't told any more once the
/// caller is shut out.
pub(crate) struct Written {
    from: mpsc::Receiver<Result<Bytes, BoxError>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Written {
    pub fn new(from: mpsc::Receiver<Result<Bytes, BoxError>>, ticket: &Ticket) -> Self {
        Self { from, cut: Box::pin(ticket.cut().cancelled_owned()) }
    }
}

impl hyper::body::Body for Written {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Cut::Rights.into())));
        }
        self.from.poll_recv(cx).map(|item| item.map(|result| result.map(Frame::data)))
    }
}
