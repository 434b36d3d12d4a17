//! Counters, and their text for Prometheus.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::table::Table;
use crate::tenant::Tenant;
use crate::traffic::{Traffic, class};

/// Upper bounds of the histogram of the time from a watch's event to its effect.
const BOUNDS: [(u64, &str); 8] = [
    (100, "0.0001"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (50_000, "0.05"),
    (250_000, "0.25"),
    (1_000_000, "1"),
];

#[derive(Debug, Default)]
pub struct Metrics {
    requests: [AtomicU64; 5],
    pub connections: AtomicUsize,
    pub accepted: AtomicU64,
    pub handshakes_failed: AtomicU64,
    pub proxy_headers_failed: AtomicU64,
    pub access_lines_left_out: AtomicU64,
    effect: [AtomicU64; BOUNDS.len()],
    effect_count: AtomicU64,
    effect_micros: AtomicU64,
}

impl Metrics {
    pub fn request(&self, status: u16) {
        if let Some(counter) = self.requests.get(class(status)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A change has taken effect this long after it was heard of.
    pub fn effect(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        for ((bound, _), bucket) in BOUNDS.iter().zip(&self.effect) {
            if micros <= *bound {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.effect_count.fetch_add(1, Ordering::Relaxed);
        self.effect_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub fn render(&self, table: &Table) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, help: &str| {
            let _ = writeln!(text, "# HELP atoll_gateway_{name} {help}\n# TYPE atoll_gateway_{name} {kind}");
            std::mem::take(&mut text)
        };
        let mut all = metric("requests_total", "counter", "Requests by class of their status.");
        for (class, count) in (1..).zip(&self.requests) {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(all, "atoll_gateway_requests_total{{code=\"{class}xx\"}} {count}");
        }
        all += &metric("route_requests_total", "counter", "Requests by the object that routed them.");
        let routes = |each: &mut dyn FnMut(&str, &Traffic)| {
            table.owners.for_each(|(kind, id), owner| {
                if let Some(traffic) = owner.traffic() {
                    let (namespace, name) = (&id.namespace, &id.name);
                    each(&format!("kind=\"{kind}\",namespace=\"{namespace}\",name=\"{name}\""), traffic);
                }
            });
        };
        routes(&mut |labels, traffic| traffic.requests(labels, &mut all));
        all += &metric("route_bytes_total", "counter", "Bytes of bodies by the object that routed them.");
        routes(&mut |labels, traffic| traffic.bytes(labels, &mut all));
        all += &metric("route_seconds", "histogram", "How long requests took, by the object.");
        routes(&mut |labels, traffic| traffic.seconds(labels, &mut all));
        all += &metric("workspace_requests_total", "counter", "Requests by the namespace of their route.");
        let tenants = |each: &mut dyn FnMut(&Tenant)| table.tenants.for_each(|_, tenant| each(tenant));
        tenants(&mut |tenant| {
            let (namespace, count) = (&tenant.namespace, tenant.admitted.load(Ordering::Relaxed));
            let _ =
                writeln!(all, "atoll_gateway_workspace_requests_total{{namespace=\"{namespace}\"}} {count}");
        });
        all +=
            &metric("workspace_bytes_total", "counter", "Bytes of bodies by the namespace of their route.");
        tenants(&mut |tenant| {
            for (direction, count) in [("received", &tenant.received), ("sent", &tenant.sent)] {
                let (namespace, count) = (&tenant.namespace, count.load(Ordering::Relaxed));
                let _ = writeln!(
                    all,
                    "atoll_gateway_workspace_bytes_total{{namespace=\"{namespace}\",direction=\"{direction}\"}} {count}"
                );
            }
        });
        let help = "Requests refused because their namespace has taken its share.";
        all += &metric("workspace_refused_total", "counter", help);
        tenants(&mut |tenant| {
            for (limit, count) in [("rate", &tenant.over_rate), ("concurrent", &tenant.over_concurrent)] {
                let (namespace, count) = (&tenant.namespace, count.load(Ordering::Relaxed));
                let _ = writeln!(
                    all,
                    "atoll_gateway_workspace_refused_total{{namespace=\"{namespace}\",limit=\"{limit}\"}} {count}"
                );
            }
        });
        all += &metric("workspace_open_requests", "gauge", "Requests that are under way, by namespace.");
        tenants(&mut |tenant| {
            let (namespace, open) = (&tenant.namespace, tenant.open());
            let _ =
                writeln!(all, "atoll_gateway_workspace_open_requests{{namespace=\"{namespace}\"}} {open}");
        });
        let gauges = [
            ("connections", "gauge", "Open connections.", self.connections.load(Ordering::Relaxed) as u64),
            ("connections_total", "counter", "Accepted connections.", self.accepted.load(Ordering::Relaxed)),
            (
                "handshakes_failed_total",
                "counter",
                "TLS handshakes that failed.",
                self.handshakes_failed.load(Ordering::Relaxed),
            ),
            (
                "proxy_headers_failed_total",
                "counter",
                "Connections of balancers without a PROXY header.",
                self.proxy_headers_failed.load(Ordering::Relaxed),
            ),
            (
                "access_lines_left_out_total",
                "counter",
                "Requests that the access log was too slow to tell of.",
                self.access_lines_left_out.load(Ordering::Relaxed),
            ),
            ("hosts", "gauge", "Hosts in the table.", table.hosts.len() as u64),
            ("objects", "gauge", "Objects with routes in the table.", table.owners.len() as u64),
            (
                "certificates",
                "gauge",
                "Hosts with a certificate of their own.",
                table.certificates.len() as u64,
            ),
        ];
        for (name, kind, help, value) in gauges {
            all += &metric(name, kind, help);
            let _ = writeln!(all, "atoll_gateway_{name} {value}");
        }
        all += &metric("effect_seconds", "histogram", "From a watch's event to its effect.");
        for ((_, bound), bucket) in BOUNDS.iter().zip(&self.effect) {
            let count = bucket.load(Ordering::Relaxed);
            let _ = writeln!(all, "atoll_gateway_effect_seconds_bucket{{le=\"{bound}\"}} {count}");
        }
        let count = self.effect_count.load(Ordering::Relaxed);
        let sum = Duration::from_micros(self.effect_micros.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(all, "atoll_gateway_effect_seconds_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(
            all,
            "atoll_gateway_effect_seconds_sum {sum}\natoll_gateway_effect_seconds_count {count}"
        );
        all
    }
}

/// Counts a connection as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Metrics>);

impl Counted {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        metrics.connections.fetch_add(1, Ordering::Relaxed);
        metrics.accepted.fetch_add(1, Ordering::Relaxed);
        Self(metrics)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
