//! Counters, and their text for Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State as Shared};
use axum::middleware::Next;
use axum::response::Response;

use crate::State;

/// Upper bounds of the histogram of the time to an answer's head.
const BOUNDS: [(u128, &str); 8] = [
    (1_000, "0.001"),
    (5_000, "0.005"),
    (25_000, "0.025"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (1_000_000, "1"),
    (5_000_000, "5"),
    (30_000_000, "30"),
];

#[derive(Default)]
pub(crate) struct Metrics {
    /// By route, as it is written in the router, and class of status: no more
    /// than there are routes.
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    took: [AtomicU64; BOUNDS.len()],
    took_micros: AtomicU64,
    pub logins_refused: AtomicU64,
    pub logins_throttled: AtomicU64,
}

impl Metrics {
    fn request(&self, route: &str, status: u16, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.to_owned(), status / 100)).or_default() += 1;
        let micros = took.as_micros();
        for ((bound, _), bucket) in BOUNDS.iter().zip(&self.took) {
            if micros <= *bound {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.took_micros.fetch_add(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn render(&self, streams: u32) -> String {
        let mut text = String::new();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        head(&mut text, "requests_total", "counter", "Requests by route and class of their status.");
        for ((route, class), count) in requests.iter() {
            let _ = writeln!(
                text,
                "atoll_server_requests_total{{route=\"{route}\",status=\"{class}xx\"}} {count}"
            );
        }
        head(&mut text, "request_seconds", "histogram", "Time from a request to its answer's head.");
        for ((_, bound), count) in BOUNDS.iter().zip(&self.took) {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(text, "atoll_server_request_seconds_bucket{{le=\"{bound}\"}} {count}");
        }
        let all: u64 = requests.values().sum();
        let seconds = self.took_micros.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(
            text,
            "atoll_server_request_seconds_bucket{{le=\"+Inf\"}} {all}\n\
             atoll_server_request_seconds_sum {seconds}\natoll_server_request_seconds_count {all}"
        );
        for (name, kind, help, value) in [
            (
                "logins_refused_total",
                "counter",
                "Logins with a wrong password.",
                self.logins_refused.load(Ordering::Relaxed),
            ),
            (
                "logins_throttled_total",
                "counter",
                "Logins that had to wait.",
                self.logins_throttled.load(Ordering::Relaxed),
            ),
            ("streams", "gauge", "Pages that listen for changes.", u64::from(streams)),
        ] {
            head(&mut text, name, kind, help);
            let _ = writeln!(text, "atoll_server_{name} {value}");
        }
        text
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP atoll_server_{name} {help}\n# TYPE atoll_server_{name} {kind}");
}

/// Counts and logs each request; never its query, headers or body.
pub(crate) async fn observe(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("files", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), began.elapsed());
    state.metrics.request(&route, status, took);
    tracing::debug!(%method, route, status, took_ms = took.as_millis(), "request");
    response
}
