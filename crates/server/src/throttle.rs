//! Slows down who guesses passwords: so many attempts at once for an account and
//! for an address, then one in a while. In constant memory, whatever names and
//! addresses are tried.
//!
//! Each key has a cell in each of two rows, by two keyed hashes. A cell holds
//! the time at which its budget is whole again; an attempt moves it on. A key is
//! held back when all its cells say so: another key that shares one of them
//! doesn't harm it.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

const CELLS: usize = 8192;
const ROWS: usize = 2;

/// So many attempts at once, then one in each interval.
#[derive(Clone, Copy)]
struct Budget {
    burst: u64,
    interval_ms: u64,
}

/// An account has few people, who mistype.
const ACCOUNT: Budget = Budget { burst: 10, interval_ms: 6_000 };
/// Behind an address may be an office.
const ADDRESS: Budget = Budget { burst: 40, interval_ms: 1_500 };

pub(crate) struct Throttle {
    began: Instant,
    accounts: Table,
    addresses: Table,
}

impl Throttle {
    pub fn new() -> Self {
        Self { began: Instant::now(), accounts: Table::new(ACCOUNT), addresses: Table::new(ADDRESS) }
    }

    /// Counts an attempt; or in how many seconds to try again. It counts before
    /// the password is looked at, so that many at once are many.
    pub fn attempt(&self, account: &str, address: Option<IpAddr>) -> Result<(), u64> {
        let now = self.now();
        let address = network(address);
        self.addresses.take(&address, now)?;
        self.accounts.take(&account, now).inspect_err(|_| self.addresses.give_back(&address, now))
    }

    /// The password was right: the attempt doesn't count.
    pub fn succeeded(&self, account: &str, address: Option<IpAddr>) {
        let now = self.now();
        self.accounts.give_back(&account, now);
        self.addresses.give_back(&network(address), now);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// One person has a whole /64 of IPv6.
fn network(address: Option<IpAddr>) -> u64 {
    match address.map(|address| address.to_canonical()) {
        None => 0,
        Some(IpAddr::V4(four)) => u64::from(u32::from(four)) | 1 << 32,
        Some(IpAddr::V6(six)) => u64::try_from(u128::from(six) >> 64).unwrap_or_default(),
    }
}

struct Table {
    budget: Budget,
    hashes: [RandomState; ROWS],
    /// For each cell the millisecond at which its budget is whole.
    cells: Mutex<Box<[u64]>>,
}

impl Table {
    fn new(budget: Budget) -> Self {
        Self {
            budget,
            hashes: std::array::from_fn(|_| RandomState::new()),
            cells: Mutex::new(vec![0; CELLS * ROWS].into()),
        }
    }

    fn places(&self, key: &impl std::hash::Hash) -> [usize; ROWS] {
        std::array::from_fn(|row| {
            let hash = self.hashes[row].hash_one(key);
            row * CELLS + usize::try_from(hash % CELLS as u64).unwrap_or_default()
        })
    }

    fn take(&self, key: &impl std::hash::Hash, now: u64) -> Result<(), u64> {
        let Budget { burst, interval_ms } = self.budget;
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let places = self.places(key);
        // By the cell that is used least: others only add.
        let whole = places.iter().map(|place| cells[*place]).min().unwrap_or_default().max(now);
        let wait = (whole + interval_ms).saturating_sub(now + burst * interval_ms);
        if wait > 0 {
            return Err(wait.div_ceil(1000));
        }
        for place in places {
            cells[place] = cells[place].max(now) + interval_ms;
        }
        Ok(())
    }

    fn give_back(&self, key: &impl std::hash::Hash, now: u64) {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        for place in self.places(key) {
            cells[place] = cells[place].saturating_sub(self.budget.interval_ms).max(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new(Budget { burst: 3, interval_ms: 2000 })
    }

    #[test]
    fn a_burst_then_one_in_each_interval() {
        let table = table();
        for _ in 0..3 {
            assert_eq!(table.take(&"ada", 0), Ok(()));
        }
        assert_eq!(table.take(&"ada", 0), Err(2));
        assert_eq!(table.take(&"ada", 1500), Err(1));
        assert_eq!(table.take(&"ada", 2000), Ok(()));
        assert_eq!(table.take(&"ada", 2000), Err(2));
        // After a while the whole burst is there again, and no more.
        for _ in 0..3 {
            assert_eq!(table.take(&"ada", 100_000), Ok(()));
        }
        assert_eq!(table.take(&"ada", 100_000), Err(2));
    }

    #[test]
    fn one_key_does_not_hold_back_others() {
        let table = table();
        for _ in 0..100 {
            let _ = table.take(&"mallory", 0);
        }
        let held_back = (0..1000).filter(|key| table.take(key, 0).is_err()).count();
        assert_eq!(held_back, 0);
    }

    #[test]
    fn a_right_password_costs_nothing() {
        let throttle = Throttle::new();
        for _ in 0..1000 {
            assert_eq!(throttle.attempt("ada", None), Ok(()));
            throttle.succeeded("ada", None);
        }
    }

    #[test]
    fn an_address_is_held_back_over_many_accounts() {
        let throttle = Throttle::new();
        let address = "2001:db8::1".parse().ok();
        let neighbour = "2001:db8::ffff".parse().ok();
        let held_back =
            (0..60).filter(|name| throttle.attempt(&format!("a{name}"), address).is_err()).count();
        assert!((19..=20).contains(&held_back), "{held_back}");
        assert!(throttle.attempt("b", neighbour).is_err(), "the same /64");
        assert!(throttle.attempt("b", "192.0.2.1".parse().ok()).is_ok());
    }

    #[test]
    fn an_account_is_held_back_over_many_addresses() {
        let throttle = Throttle::new();
        let held_back = (0..30u32)
            .filter(|number| throttle.attempt("ada", Some(IpAddr::V4((*number).into()))).is_err())
            .count();
        assert_eq!(held_back, 20);
    }
}
