//! Counts of what became of orders, and when the first certificate ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use anyhow::Context;
use axum::Router;
use axum::routing::get;

#[derive(Default)]
pub struct Metrics {
    pub issued: AtomicU64,
    pub failed: AtomicU64,
    /// Seconds since 1970; 0: there is no certificate.
    pub earliest_expiry: AtomicI64,
    /// Certificates that are wanted and not there, or not valid.
    pub missing: AtomicU64,
}

impl Metrics {
    pub fn render(&self) -> String {
        let (issued, failed) = (self.issued.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        let mut text = format!(
            "# HELP atoll_acme_orders_total Orders that have ended, by result.\n\
             # TYPE atoll_acme_orders_total counter\n\
             atoll_acme_orders_total{{result=\"issued\"}} {issued}\n\
             atoll_acme_orders_total{{result=\"failed\"}} {failed}\n\
             # HELP atoll_acme_certificates_missing Certificates that are wanted and not served.\n\
             # TYPE atoll_acme_certificates_missing gauge\n\
             atoll_acme_certificates_missing {}\n",
            self.missing.load(Ordering::Relaxed)
        );
        let earliest = self.earliest_expiry.load(Ordering::Relaxed);
        if earliest > 0 {
            text += &format!(
                "# HELP atoll_acme_earliest_expiry_seconds When the first certificate ends, since 1970.\n\
                 # TYPE atoll_acme_earliest_expiry_seconds gauge\n\
                 atoll_acme_earliest_expiry_seconds {earliest}\n"
            );
        }
        text
    }
}

/// Serves `/metrics`, or nothing.
pub async fn serve(metrics: Arc<Metrics>, address: Option<SocketAddr>) -> anyhow::Result<()> {
    let Some(address) = address else { return std::future::pending().await };
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("--metrics {address}: give another address"))?;
    let router = Router::new().route("/metrics", get(move || async move { metrics.render() }));
    axum::serve(listener, router).await.context("serving metrics")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_told_once_there_is_one() {
        let metrics = Metrics::default();
        metrics.issued.store(2, Ordering::Relaxed);
        assert!(metrics.render().contains("atoll_acme_orders_total{result=\"issued\"} 2\n"));
        assert!(!metrics.render().contains("expiry"));
        metrics.earliest_expiry.store(7, Ordering::Relaxed);
        assert!(metrics.render().ends_with("\natoll_acme_earliest_expiry_seconds 7\n"));
    }
}
