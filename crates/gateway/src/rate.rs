//! How often something may happen, as a bucket of tokens that is one number: the
//! time at which the bucket would be full again.
//!
//! Nothing fills it but the clock, so a bucket that nobody uses costs nothing, and
//! taking from it is one exchange of a word.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nanoseconds since this process first asked.
pub(crate) type Time = u64;

pub(crate) fn now() -> Time {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In which one token is filled in, in picoseconds: gigabytes a second are
    /// less than a nanosecond each.
    interval: u64,
    /// How many tokens the bucket holds.
    burst: u64,
}

impl Rate {
    /// So many tokens in so long a time, and at most `burst` at once; None: none.
    pub fn new(tokens: u64, each: Duration, burst: u64) -> Option<Self> {
        let interval = each.as_nanos().checked_mul(1000)?.checked_div(u128::from(tokens))?;
        Some(Self { interval: u64::try_from(interval).ok()?.max(1), burst: burst.max(1) })
    }

    fn time(self, tokens: u64) -> u64 {
        u64::try_from(u128::from(self.interval) * u128::from(tokens) / 1000).unwrap_or(u64::MAX)
    }

    /// Takes one token from a bucket that is full at `full`. The new time, or how
    /// long it takes until there is a token.
    pub(crate) fn take(self, full: Time, now: Time) -> Result<Time, Duration> {
        let wanted = full.max(now).saturating_add(self.time(1));
        let over = (wanted - now).saturating_sub(self.time(self.burst));
        if over == 0 { Ok(wanted) } else { Err(Duration::from_nanos(over)) }
    }
}

/// A bucket that many take from at once.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

impl Bucket {
    /// As if nobody had taken anything.
    pub(crate) fn fill(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub(crate) fn take(&self, rate: Rate, now: Time) -> Result<(), Duration> {
        let mut wait = Duration::ZERO;
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full| {
            rate.take(full, now).map_err(|time| wait = time).ok()
        });
        taken.map(drop).map_err(|_| wait)
    }

    /// Takes tokens that may not be there yet: how long to wait for them. Who
    /// doesn't wait takes from everybody's future.
    pub(crate) fn borrow(&self, rate: Rate, tokens: u64, now: Time) -> Duration {
        let cost = rate.time(tokens);
        let after = |full: Time| full.max(now).saturating_add(cost);
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full| Some(after(full)));
        let full = after(before.unwrap_or_else(|full| full));
        Duration::from_nanos((full - now).saturating_sub(rate.time(rate.burst)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Time = 1_000_000_000;

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate = Rate::new(10, Duration::from_secs(1), 3).unwrap();
        let bucket = Bucket::default();
        let taken = |now: Time| (0..100).take_while(|_| bucket.take(rate, now).is_ok()).count();
        assert_eq!(taken(0), 3);
        assert_eq!(taken(SECOND / 10 - 1), 0);
        assert_eq!(taken(SECOND / 10), 1);
        assert_eq!(bucket.take(rate, SECOND / 10), Err(Duration::from_millis(100)));
        // However long nobody asks, there is no more than a burst.
        assert_eq!(taken(100 * SECOND), 3);
        // Over a long time it is the rate.
        let all: usize = (0..1000).map(|step| taken(200 * SECOND + step * SECOND / 100)).sum();
        assert!((100..=103).contains(&all), "{all}");
    }

    #[test]
    fn what_is_borrowed_is_waited_for() {
        let rate = Rate::new(1 << 20, Duration::from_secs(1), 1 << 20).unwrap();
        let bucket = Bucket::default();
        assert_eq!(bucket.borrow(rate, 1 << 20, 0), Duration::ZERO);
        let wait = bucket.borrow(rate, 1 << 19, 0);
        assert!((490..=510).contains(&wait.as_millis()), "{wait:?}");
        let wait = bucket.borrow(rate, 1 << 19, 0);
        assert!((990..=1010).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(bucket.borrow(rate, 1, 100 * SECOND), Duration::ZERO);
    }

    #[test]
    fn rates_that_can_t_be_are_none() {
        assert_eq!(Rate::new(0, Duration::from_secs(1), 1), None);
        // More than can be counted apart is still a rate.
        let huge = Rate::new(u64::MAX, Duration::from_secs(1), u64::MAX).unwrap();
        assert!(Bucket::default().take(huge, 0).is_ok());
    }
}
