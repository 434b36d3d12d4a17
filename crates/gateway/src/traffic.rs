//! What has gone by on the routes of one object: requests, bytes and time.
//!
//! Most objects' routes are not asked for in a while, so it is made with the first
//! request; it goes with the object, so there are never more than there are objects.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the time that requests take: few, for each is a line of every
/// object's.
const BOUNDS: [(u64, &str); 4] = [(10_000, "0.01"), (100_000, "0.1"), (1_000_000, "1"), (10_000_000, "10")];

/// One request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Passed {
    pub status: u16,
    /// Bytes of its body, and of the answer's.
    pub received: u64,
    pub sent: u64,
    pub took: Duration,
}

#[derive(Debug, Default)]
pub struct Traffic {
    /// By the first digit of their status.
    requests: [AtomicU64; 5],
    received: AtomicU64,
    sent: AtomicU64,
    /// Each only its own; they are added up when they are told.
    took: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// The place of a status among five counters.
pub(crate) fn class(status: u16) -> usize {
    usize::from(status / 100).clamp(1, 5) - 1
}

impl Traffic {
    pub fn count(&self, passed: &Passed) {
        if let Some(counter) = self.requests.get(class(passed.status)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.received.fetch_add(passed.received, Ordering::Relaxed);
        self.sent.fetch_add(passed.sent, Ordering::Relaxed);
        let micros = u64::try_from(passed.took.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.iter().position(|(bound, _)| micros <= *bound).unwrap_or(BOUNDS.len());
        if let Some(counter) = self.took.get(place) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// `atoll_gateway_route_requests_total`, for the labels of an object.
    pub(crate) fn requests(&self, labels: &str, into: &mut String) {
        for (class, count) in (1..).zip(&self.requests) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                let _ = writeln!(
                    into,
                    "atoll_gateway_route_requests_total{{{labels},code=\"{class}xx\"}} {count}"
                );
            }
        }
    }

    /// `atoll_gateway_route_bytes_total`.
    pub(crate) fn bytes(&self, labels: &str, into: &mut String) {
        for (direction, count) in [("received", &self.received), ("sent", &self.sent)] {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(
                into,
                "atoll_gateway_route_bytes_total{{{labels},direction=\"{direction}\"}} {count}"
            );
        }
    }

    /// `atoll_gateway_route_seconds`.
    pub(crate) fn seconds(&self, labels: &str, into: &mut String) {
        const NAME: &str = "atoll_gateway_route_seconds";
        let bounds = BOUNDS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
        let mut count = 0;
        for (bound, counter) in bounds.zip(&self.took) {
            count += counter.load(Ordering::Relaxed);
            let _ = writeln!(into, "{NAME}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let sum = Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(into, "{NAME}_sum{{{labels}}} {sum}\n{NAME}_count{{{labels}}} {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_counted_once() {
        let traffic = Traffic::default();
        for (status, millis) in [(200, 5), (204, 10), (404, 500), (101, 60_000), (499, 11)] {
            let took = Duration::from_millis(millis);
            traffic.count(&Passed { status, received: 3, sent: 10, took });
        }
        let mut text = String::new();
        traffic.requests("a=\"b\"", &mut text);
        traffic.bytes("a=\"b\"", &mut text);
        traffic.seconds("a=\"b\"", &mut text);
        let wanted = "atoll_gateway_route_requests_total{a=\"b\",code=\"1xx\"} 1\n\
            atoll_gateway_route_requests_total{a=\"b\",code=\"2xx\"} 2\n\
            atoll_gateway_route_requests_total{a=\"b\",code=\"4xx\"} 2\n\
            atoll_gateway_route_bytes_total{a=\"b\",direction=\"received\"} 15\n\
            atoll_gateway_route_bytes_total{a=\"b\",direction=\"sent\"} 50\n\
            atoll_gateway_route_seconds_bucket{a=\"b\",le=\"0.01\"} 2\n\
            atoll_gateway_route_seconds_bucket{a=\"b\",le=\"0.1\"} 3\n\
            atoll_gateway_route_seconds_bucket{a=\"b\",le=\"1\"} 4\n\
            atoll_gateway_route_seconds_bucket{a=\"b\",le=\"10\"} 4\n\
            atoll_gateway_route_seconds_bucket{a=\"b\",le=\"+Inf\"} 5\n\
            atoll_gateway_route_seconds_sum{a=\"b\"} 60.526\n\
            atoll_gateway_route_seconds_count{a=\"b\"} 5\n";
        assert_eq!(text, wanted);
    }
}
