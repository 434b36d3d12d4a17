//! `/healthz`, `/readyz`, `/metrics`, on a port of their own.

use axum::Router;
use axum::extract::State as Shared;
use axum::routing::get;
use http::{StatusCode, header};

use crate::State;

pub(crate) fn router() -> Router<State> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

async fn ready(Shared(state): Shared<State>) -> (StatusCode, &'static str) {
    if *state.closing.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "closing\n");
    }
    (StatusCode::OK, "ok\n")
}

async fn metrics(Shared(state): Shared<State>) -> ([(header::HeaderName, &'static str); 1], String) {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, state.metrics.render(state.streams.open()))
}
