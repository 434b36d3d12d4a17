//! What is decided about one request, from its head to the end of its answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use pingora_proxy::Session;

use crate::affinity;
use crate::backend::Backend;
use crate::client;
use crate::extra::Extra;
use crate::mirror::Mirror;
use crate::retry::{Attempt, Failure, Verdict};
use crate::route::{Edits, Route};
use crate::tenant;
use crate::trace::TraceId;
use crate::upgrade::Gate;

/// Endpoints that are tried before a route's own wish for retries counts.
const ENDPOINTS: usize = 4;

#[derive(Default)]
pub struct Decided {
    pub(crate) host: String,
    pub(crate) authority: String,
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) backend: Option<Arc<Backend>>,
    pub(crate) tried: Vec<SocketAddr>,
    pub(crate) received: u64,
    /// What has gone by of a WebSocket, which may stay for days: received and sent.
    pub(crate) counted: (u64, u64),
    /// For a WebSocket's handshake.
    pub(crate) gate: Option<Arc<Gate>>,
    /// What is changed for this backend of several.
    pub(crate) edits: Option<Arc<Edits>>,
    pub(crate) cors: Vec<(HeaderName, HeaderValue)>,
    pub(crate) mirrors: Option<Vec<Mirror>>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) retries: u32,
    /// When the first endpoint was chosen.
    pub(crate) first: Option<Instant>,
    pub(crate) status: u16,
    /// When its head was read.
    pub(crate) started: Option<Instant>,
    /// When the last endpoint was chosen, and how long its answer's head took.
    pub(crate) asked: Option<Instant>,
    pub(crate) upstream: Option<Duration>,
    pub(crate) trace: TraceId,
    /// The endpoint to which the client's cookie leads.
    pub(crate) stays: Option<SocketAddr>,
    /// What the app's own service says of the client.
    pub(crate) passed: Vec<(HeaderName, HeaderValue)>,
    /// What the app is told of the client's certificate.
    pub(crate) told: Vec<(HeaderName, HeaderValue)>,
    /// What the request takes of its workspace's share, until it ends,
    pub(crate) _share: Option<tenant::Admitted>,
    /// and of its client's.
    pub(crate) _place: Option<client::Admitted>,
}

impl Decided {
    /// How long a part of a body waits for its workspace's share of the bandwidth.
    pub(crate) fn delay(&self, body: Option<&Bytes>) -> Option<Duration> {
        self.route.as_ref()?.owner.tenant.delay(body?.len())
    }

    /// Counts what a WebSocket received and sent at once for its workspace.
    pub(crate) fn count(&mut self, received: usize, sent: usize) {
        if let (Some(_), Some(route)) = (&self.gate, &self.route) {
            let (received, sent) = (received as u64, sent as u64);
            route.owner.tenant.carry(received, sent);
            self.counted = (self.counted.0 + received, self.counted.1 + sent);
        }
    }

    pub(crate) fn extra(&self) -> Option<&Extra> {
        self.route.as_ref()?.action.extra.as_deref()
    }

    /// What is judged of an attempt that came to nothing.
    pub(crate) fn attempt<'a>(&self, failure: Failure, session: &'a Session) -> Attempt<'a> {
        let written = session.response_written().map(|head| head.status);
        let others = |backend: &Arc<Backend>| {
            backend.endpoints().iter().any(|endpoint| !self.tried.contains(endpoint))
        };
        Attempt {
            failure,
            method: &session.req_header().method,
            sent: true,
            whole: !session.as_ref().retry_buffer_truncated(),
            answered: written.is_some_and(|status| {
                !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
            }),
            stale: false,
            another: self.tried.len() < ENDPOINTS && self.backend.as_ref().is_some_and(others),
            made: self.tried.len(),
            retries: self.retries,
            since: self.first.map(|first| first.elapsed()).unwrap_or_default(),
        }
    }

    pub(crate) fn verdict(&self, attempt: &Attempt<'_>) -> Verdict {
        attempt.verdict(self.route.as_ref().and_then(|route| route.action.retry.as_ref()))
    }

    /// Whether the request is sent again, which then counts.
    pub(crate) fn sends_again(&mut self, attempt: &Attempt<'_>) -> bool {
        let verdict = self.verdict(attempt);
        self.retries += u32::from(verdict == Verdict::Counted);
        verdict != Verdict::Failed
    }

    /// The cookie by which the client comes back to the endpoint that has answered.
    pub(crate) fn stay(&self, tls: bool) -> Option<HeaderValue> {
        let affinity = self.extra()?.affinity.as_ref()?;
        let (endpoint, route) = (*self.tried.last()?, self.route.as_ref()?);
        let known = self.stays == Some(endpoint) || self.stays.is_some() && !affinity.change_on_failure;
        if known {
            return None;
        }
        let tag = affinity::tag(self.backend.as_ref()?, endpoint);
        affinity.cookie(&tag, &route.path, tls)
    }
}
