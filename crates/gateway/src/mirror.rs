//! Copies of requests for backends whose answers nobody waits for.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use pingora_http::RequestHeader;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Parts of a body that wait for a backend; one that is slower than the real
/// one gets no more of it.
const WAITING: usize = 64;
const PATIENCE: Duration = Duration::from_secs(30);

/// A copy that is under way. Dropped before [`Mirror::end`] it is cut off.
pub(crate) struct Mirror(mpsc::Sender<Bytes>);

impl Mirror {
    pub fn start(to: SocketAddr, head: &RequestHeader) -> Option<Self> {
        let mut request =
            Request::builder().method(head.method.clone()).uri(head.uri.path_and_query()?.as_str());
        for (name, value) in &head.headers {
            if *name != header::TRANSFER_ENCODING && *name != header::CONNECTION {
                request = request.header(name, value);
            }
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        let parts = futures::stream::unfold(receiver, |mut receiver| async move {
            let part: Bytes = receiver.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(part)), receiver))
        });
        let has_body = head.headers.contains_key(header::TRANSFER_ENCODING)
            || head.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
        let parts = if has_body { parts.left_stream() } else { futures::stream::empty().right_stream() };
        let request = request.body(StreamBody::new(parts)).ok()?;
        tokio::spawn(async move {
            let sent = tokio::time::timeout(PATIENCE, send(to, request)).await;
            tracing::debug!(%to, ok = matches!(sent, Ok(Some(()))), "a request was mirrored");
        });
        Some(Self(sender))
    }

    /// False: the backend doesn't keep up.
    pub fn body(&self, part: Bytes) -> bool {
        self.0.try_send(part).is_ok()
    }
}

async fn send<B>(to: SocketAddr, request: Request<B>) -> Option<()>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let stream = TcpStream::connect(to).await.ok()?;
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
    let drive = async {
        let _ = connection.await;
    };
    let ask = async {
        let answer = Box::pin(sender.send_request(request)).await.ok()?;
        let mut body = answer.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        Some(())
    };
    tokio::pin!(drive, ask);
    tokio::select! {
        done = &mut ask => done,
        () = &mut drive => ask.await,
    }
}
