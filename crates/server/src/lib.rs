//! The server: HTTP API, sessions and the desktop's files, as an axum router.
//!
//! It must not know Kubernetes, SQL or how passwords are kept: what it needs it
//! asks of the traits in [`backend`], which the program that assembles it
//! implements. What the API is, [`api::http`] tells. Start at [`Server`]; then
//! `routes/`, one file for each resource, and `guard.rs`, which decides who may
//! ask.

pub mod backend;
mod error;
mod events;
pub mod files;
mod guard;
mod headers;
mod json;
mod metrics;
mod routes;
pub mod session;
mod throttle;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, get};
use axum::{Json, Router};
use tokio::sync::watch;

pub use crate::backend::Backends;
pub use crate::error::Error;
pub use crate::files::Files;
use crate::metrics::Metrics;
pub use crate::session::Lifetimes;
use crate::throttle::Throttle;

/// Seconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How the server behaves.
#[derive(Clone)]
pub struct Settings {
    /// When sessions end.
    pub lifetimes: Lifetimes,
    /// Whether the last address in `X-Forwarded-For` is the client's. Only where
    /// nobody but our own gateway reaches the server: anybody else could claim
    /// any address.
    pub trust_forwarded: bool,
    /// How long a request may take, its body included; a stream may go on.
    pub time_limit: Duration,
    /// How large a request's body may be, in bytes.
    pub body_limit: usize,
    /// How often a stream shows that it lives and looks whether its session does.
    pub heartbeat: Duration,
    /// How many streams an account may have at a time.
    pub streams: u32,
    /// What time it is.
    pub clock: Clock,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lifetimes: Lifetimes::default(),
            trust_forwarded: false,
            time_limit: Duration::from_secs(30),
            body_limit: 64 * 1024,
            heartbeat: Duration::from_secs(15),
            streams: 32,
            clock: Arc::new(|| {
                std::time::UNIX_EPOCH.elapsed().map(|elapsed| elapsed.as_secs()).unwrap_or_default()
            }),
        }
    }
}

/// The server. Clones are the same one.
#[derive(Clone)]
pub struct Server {
    state: State,
}

type State = Arc<Shared>;

struct Shared {
    backends: Backends,
    settings: Settings,
    files: Files,
    metrics: Metrics,
    throttle: Throttle,
    streams: events::Streams,
    closing: watch::Sender<bool>,
}

impl Shared {
    fn now(&self) -> u64 {
        (self.settings.clock)()
    }
}

impl Server {
    /// A server over these backends that serves these files.
    pub fn new(backends: Backends, settings: Settings, files: Files) -> Self {
        let state = Arc::new(Shared {
            backends,
            settings,
            files,
            metrics: Metrics::default(),
            throttle: Throttle::new(),
            streams: events::Streams::default(),
            closing: watch::Sender::new(false),
        });
        Self { state }
    }

    /// What people reach: the API and the desktop. Served with
    /// [`Router::into_make_service_with_connect_info`] it knows clients by their
    /// addresses; without, they all count as one when logins are throttled.
    pub fn router(&self) -> Router {
        let state = &self.state;
        let (api, mut document) = routes::all(state).split_for_parts();
        "Atoll".clone_into(&mut document.info.title);
        document.info.description = Some("What the desktop and the command ask of a cloud".to_owned());
        document.info.license = None;
        let document = Arc::new(document);
        api.route("/api/v1/openapi.json", get(async move || Json((*document).clone())))
            // Below /api what isn't there is a problem, not a page.
            .route("/api", any(error::no_route))
            .route("/api/{*rest}", any(error::no_route))
            .method_not_allowed_fallback(error::no_method)
            .layer(DefaultBodyLimit::max(state.settings.body_limit))
            .layer(from_fn_with_state(state.clone(), guard::limit_time))
            .layer(from_fn(headers::never_stored))
            .fallback(files::serve)
            .layer(from_fn(headers::secure))
            .layer(from_fn_with_state(state.clone(), metrics::observe))
            .with_state(state.clone())
    }

    /// What operators' tools reach, on a port that nobody else does: `/healthz`,
    /// `/readyz`, `/metrics`.
    pub fn admin_router(&self) -> Router {
        routes::admin::router().with_state(self.state.clone())
    }

    /// Ends every stream, so that a graceful shutdown comes to its end.
    pub fn close(&self) {
        self.state.closing.send_replace(true);
    }
}
