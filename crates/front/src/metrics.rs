//! Counters, and their text for Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What is counted. No label names a tenant.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: [AtomicU64; 5],
    micros: AtomicU64,
    /// Requests refused before anybody was known.
    pub(crate) unauthenticated: AtomicU64,
    /// Requests refused because their caller has too many.
    pub(crate) limited: AtomicU64,
    /// Requests ended because their caller was shut out.
    pub(crate) cut: AtomicU64,
    /// Requests under way.
    pub(crate) open: AtomicUsize,
    /// Open connections.
    pub(crate) connections: AtomicUsize,
    /// TLS handshakes that failed.
    pub(crate) handshakes_failed: AtomicU64,
}

impl Metrics {
    pub(crate) fn request(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.requests[class].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// As Prometheus reads it.
    pub fn render(&self) -> String {
        let mut text = String::from(
            "# HELP atoll_front_requests_total Requests by class of their status.\n\
             # TYPE atoll_front_requests_total counter\n",
        );
        for (class, count) in (1..).zip(&self.requests) {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(text, "atoll_front_requests_total{{code=\"{class}xx\"}} {count}");
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let read_size = |gauge: &AtomicUsize| gauge.load(Ordering::Relaxed) as u64;
        for (name, kind, help, value) in [
            ("request_micros_total", "counter", "Time of all requests.", read(&self.micros)),
            ("unauthenticated_total", "counter", "Requests of nobody we know.", read(&self.unauthenticated)),
            ("limited_total", "counter", "Requests over their caller's limit.", read(&self.limited)),
            ("cut_total", "counter", "Requests ended with their caller's rights.", read(&self.cut)),
            (
                "handshakes_failed_total",
                "counter",
                "TLS handshakes that failed.",
                read(&self.handshakes_failed),
            ),
            ("open_requests", "gauge", "Requests under way.", read_size(&self.open)),
            ("connections", "gauge", "Open connections.", read_size(&self.connections)),
        ] {
            let _ = writeln!(
                text,
                "# HELP atoll_front_{name} {help}\n# TYPE atoll_front_{name} {kind}\natoll_front_{name} {value}"
            );
        }
        text
    }
}
