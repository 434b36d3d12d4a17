//! `/readyz`, `/metrics`, for the meter `/usage` and for the controller `/challenges/`, on a port that tenants don't reach.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::usage::{GatewayCounts, GatewayUsage};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::metrics::Metrics;
use crate::table::Table;

pub(crate) struct Admin {
    pub table: Arc<Table>,
    pub metrics: Arc<Metrics>,
    pub ready: AtomicBool,
    /// Which life of this process: what it counts begins at nothing with each.
    pub epoch: String,
}

impl Admin {
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let admin = self.clone();
            tokio::spawn(async move {
                let answer = service_fn(move |request| {
                    let response = admin.answer(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, text) = match request.uri().path() {
            "/readyz" if self.ready.load(Ordering::Acquire) => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => (
                StatusCode::SERVICE_UNAVAILABLE,
                "waiting for the first full list of every kind, or for a snapshot\n".to_owned(),
            ),
            "/metrics" => (StatusCode::OK, self.metrics.render(&self.table)),
            "/usage" => match serde_json::to_string(&self.usage()) {
                Ok(text) => (StatusCode::OK, text),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            },
            // Whoever publishes a challenge waits until it is answered here.
            path if path.strip_prefix("/challenges/").is_some_and(|name| self.table.challenges.has(name)) => {
                (StatusCode::OK, "ok\n".to_owned())
            }
            _ => (StatusCode::NOT_FOUND, "there are /readyz, /metrics and /usage\n".to_owned()),
        };
        let mut response = Response::new(Full::new(text.into()));
        *response.status_mut() = status;
        let plain = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
        response
    }

    fn usage(&self) -> GatewayUsage {
        let mut usage = GatewayUsage { epoch: self.epoch.clone(), ..GatewayUsage::default() };
        self.table.tenants.for_each(|_, tenant| {
            let counts = tenant.counts();
            if counts != GatewayCounts::default() {
                usage.namespaces.insert(tenant.namespace.to_string(), counts);
            }
        });
        usage
    }
}
