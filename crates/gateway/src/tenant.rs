//! What one workspace may take of a gateway that all share: requests in a second,
//! requests at once, bytes in a second. One workspace's flood is refused before
//! it costs the others anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use api::GatewayLimits;
use api::usage::GatewayCounts;
use arc_swap::ArcSwap;

use crate::rate::{Bucket, Rate, now};

/// How long to wait when it isn't known.
const LATER: Duration = Duration::from_secs(1);

/// What a workspace may take of each gateway. Zero: as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub requests_per_second: u32,
    /// Requests that are under way, WebSockets and tunnels among them.
    pub concurrent: u32,
    /// Of bodies, in both directions together.
    pub bytes_per_second: u64,
}

impl Limits {
    /// These, but for what a plan says.
    pub(crate) fn with(self, plan: GatewayLimits) -> Self {
        let narrow = |most: u64| u32::try_from(most).unwrap_or(u32::MAX);
        Self {
            requests_per_second: plan.requests_per_second.map_or(self.requests_per_second, narrow),
            concurrent: plan.concurrent_requests.map_or(self.concurrent, narrow),
            bytes_per_second: plan.bytes_per_second.unwrap_or(self.bytes_per_second),
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Rates {
    requests: Option<Rate>,
    concurrent: Option<u32>,
    bytes: Option<Rate>,
}

impl From<Limits> for Rates {
    fn from(limits: Limits) -> Self {
        let second = Duration::from_secs(1);
        let requests = u64::from(limits.requests_per_second);
        Self {
            // A page comes with all it shows at once.
            requests: Rate::new(requests, second, requests.saturating_mul(2)),
            concurrent: Some(limits.concurrent).filter(|most| *most > 0),
            bytes: Rate::new(limits.bytes_per_second, second, limits.bytes_per_second),
        }
    }
}

/// One namespace's share, with its counters; the same one for all its objects.
#[derive(Debug)]
pub struct Tenant {
    pub namespace: String,
    rates: ArcSwap<Rates>,
    requests: Bucket,
    bytes: Bucket,
    open: AtomicU32,
    pub(crate) admitted: AtomicU64,
    /// Bytes of bodies, from clients and to them.
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    /// Answers that are being compressed.
    pub(crate) compressing: AtomicU32,
    pub(crate) over_rate: AtomicU64,
    pub(crate) over_concurrent: AtomicU64,
}

/// A request that is under way; it counts as long as this is kept.
#[derive(Debug)]
pub(crate) struct Admitted(Arc<Tenant>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tenant {
    pub fn new(namespace: impl Into<String>, limits: Limits) -> Self {
        Self {
            namespace: namespace.into(),
            rates: ArcSwap::new(Arc::new(limits.into())),
            requests: Bucket::default(),
            bytes: Bucket::default(),
            open: AtomicU32::new(0),
            admitted: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            compressing: AtomicU32::new(0),
            over_rate: AtomicU64::new(0),
            over_concurrent: AtomicU64::new(0),
        }
    }

    /// Counts bytes that went by.
    pub(crate) fn carry(&self, received: u64, sent: u64) {
        self.received.fetch_add(received, Ordering::Relaxed);
        self.sent.fetch_add(sent, Ordering::Relaxed);
    }

    /// What has been carried, for the meter.
    pub(crate) fn counts(&self) -> GatewayCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GatewayCounts {
            requests: read(&self.admitted),
            sent_bytes: read(&self.sent),
            received_bytes: read(&self.received),
        }
    }

    /// Holds for whatever comes from now on; what is under way goes on.
    pub fn set(&self, limits: Limits) {
        let new = Rates::from(limits);
        let old = self.rates.load();
        // What was borrowed at another rate is not to be paid back at this one.
        if old.requests != new.requests {
            self.requests.fill();
        }
        if old.bytes != new.bytes {
            self.bytes.fill();
        }
        if **old != new {
            self.rates.store(Arc::new(new));
        }
    }

    /// Requests that are under way.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes a request in, or says when to come again.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Admitted, Duration> {
        let rates = self.rates.load();
        // Counted before it is asked whether there is room: two that come at once
        // don't both take the last place.
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(self.clone());
        if rates.concurrent.is_some_and(|most| before >= most) {
            self.over_concurrent.fetch_add(1, Ordering::Relaxed);
            return Err(LATER);
        }
        if let Some(rate) = rates.requests
            && let Err(wait) = self.requests.take(rate, now())
        {
            self.over_rate.fetch_add(1, Ordering::Relaxed);
            return Err(wait);
        }
        self.admitted.fetch_add(1, Ordering::Relaxed);
        Ok(admitted)
    }

    /// How long a part of a body has to wait; None: it doesn't.
    pub(crate) fn delay(&self, bytes: usize) -> Option<Duration> {
        let rate = self.rates.load().bytes.filter(|_| bytes > 0)?;
        let wait = self.bytes.borrow(rate, bytes as u64, now());
        (!wait.is_zero()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let limits = Limits { concurrent: 2, ..Limits::default() };
        let tenant = Arc::new(Tenant::new("a", limits));
        let (first, _second) = (tenant.admit().unwrap(), tenant.admit().unwrap());
        assert!(tenant.admit().is_err());
        assert_eq!(tenant.open(), 2);
        drop(first);
        assert!(tenant.admit().is_ok());
        assert_eq!((tenant.open(), tenant.over_concurrent.load(Ordering::Relaxed)), (1, 1));
        tenant.set(Limits::default());
        let many: Vec<_> = (0..100).map(|_| tenant.admit().unwrap()).collect();
        assert_eq!(tenant.open(), 101);
        drop(many);
        assert_eq!(tenant.open(), 1);
    }

    #[test]
    fn a_change_holds_at_once_and_forgives_what_was_borrowed() {
        let bytes = |bytes_per_second| Limits { bytes_per_second, ..Limits::default() };
        let tenant = Arc::new(Tenant::new("a", bytes(1000)));
        assert!(tenant.delay(1 << 20).unwrap() > Duration::from_secs(1000));
        tenant.set(bytes(1000));
        assert!(tenant.delay(1).unwrap() > Duration::from_secs(1000), "nothing has changed");
        tenant.set(bytes(1 << 20));
        assert_eq!(tenant.delay(1 << 19), None);
        let rate = |requests_per_second| Limits { requests_per_second, ..Limits::default() };
        tenant.set(rate(1));
        let taken = || (0..50).filter(|_| tenant.admit().is_ok()).count();
        assert!(taken() <= 3);
        tenant.set(rate(1000));
        assert_eq!(taken(), 50);
        tenant.set(rate(1));
        assert!(taken() <= 3);
        tenant.set(rate(0));
        assert_eq!(taken(), 50);
    }

    #[test]
    fn a_plan_goes_before_the_role_s_arguments() {
        let role = Limits { requests_per_second: 2000, concurrent: 4000, bytes_per_second: 0 };
        assert_eq!(role.with(GatewayLimits::default()), role);
        let plan = GatewayLimits {
            requests_per_second: Some(5000),
            concurrent_requests: Some(0),
            bytes_per_second: Some(1 << 20),
        };
        let wanted = Limits { requests_per_second: 5000, concurrent: 0, bytes_per_second: 1 << 20 };
        assert_eq!(role.with(plan), wanted);
        let large = GatewayLimits { requests_per_second: Some(u64::MAX), ..GatewayLimits::default() };
        assert_eq!(role.with(large).requests_per_second, u32::MAX);
    }

    #[test]
    fn a_rate_refuses_and_says_when_and_none_refuses_nobody() {
        // One a second: two at once, and whatever a slow test adds.
        let tenant = Arc::new(Tenant::new("a", Limits { requests_per_second: 1, ..Limits::default() }));
        let waits: Vec<_> = (0..1000).filter_map(|_| tenant.admit().err()).collect();
        assert!(waits.len() > 900, "{}", waits.len());
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(1)));
        assert_eq!(tenant.over_rate.load(Ordering::Relaxed), waits.len() as u64);
        assert_eq!(tenant.open(), 0);
        let free = Arc::new(Tenant::new("b", Limits::default()));
        assert!((0..1000).all(|_| free.admit().is_ok()));
        assert_eq!(free.delay(1 << 30), None);
    }

    #[test]
    fn bytes_beyond_a_second_s_worth_wait() {
        let tenant = Tenant::new("a", Limits { bytes_per_second: 1000, ..Limits::default() });
        assert_eq!(tenant.delay(1000), None);
        let wait = tenant.delay(10_000).unwrap();
        assert!(wait > Duration::from_secs(5) && wait <= Duration::from_secs(10), "{wait:?}");
        assert_eq!(tenant.delay(0), None);
    }
}
