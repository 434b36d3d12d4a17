//! Who gets what is left, and what has become of what was admitted.
//!
//! Two kinds of writers share a book, each by compare-and-swap: gates, which reserve,
//! and the one keeper, which counts. The invariant is that what is stored is always
//! covered: an object was reserved before it was stored, and its reservation stays
//! until the keeper counts the object, knows that it has gone, or has made sure that
//! it was never stored.

use std::collections::{BTreeMap, HashSet};

use api::{Reservation, SharedQuota};

use super::amount::{Amounts, add, read_all, write_all};
use super::index::Index;

/// What a gate wants to reserve.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// By what it is entered: its uid, and for a change the request's as well.
    pub key: String,
    /// Its kind, such as `pods`.
    pub resource: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// What it will use more.
    pub more: Amounts,
    /// What it will use in all, if it is there already.
    pub total: Option<Amounts>,
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is entered.
    Granted,
    /// There may be room, once it is known what becomes of others.
    Held,
    /// What is there uses too much.
    Full {
        /// The first resource of which there is too little.
        resource: String,
        /// What may be used.
        hard: i128,
        /// What is used.
        used: i128,
        /// What was asked for.
        asked: i128,
    },
}

/// A quota's book, read for a group of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Book {
    hard: Amounts,
    used: Amounts,
    /// Whether somebody has counted what was there before the quota.
    counted: bool,
    reserved: BTreeMap<String, Reservation>,
    in_flight: Amounts,
}

impl Book {
    /// What a quota says.
    pub fn read(quota: &SharedQuota) -> Self {
        let status = quota.status.clone().unwrap_or_default();
        let mut in_flight = Amounts::new();
        for reservation in status.reserved.values() {
            add(&mut in_flight, &read_all(&reservation.more));
        }
        Self {
            hard: read_all(&quota.spec.hard),
            used: read_all(&status.used),
            counted: status.keeper.is_some(),
            reserved: status.reserved,
            in_flight,
        }
    }

    /// Enters a request if there is room.
    pub fn ask(&mut self, request: &Request) -> Outcome {
        if self.reserved.contains_key(&request.key) {
            return Outcome::Granted;
        }
        let mut held = !self.counted;
        for (resource, asked) in request.more.iter().filter(|(_, asked)| **asked > 0) {
            let Some(hard) = self.hard.get(resource) else { continue };
            let used = self.used.get(resource).copied().unwrap_or_default();
            let in_flight = self.in_flight.get(resource).copied().unwrap_or_default();
            if used + asked > *hard {
                return Outcome::Full { resource: resource.clone(), hard: *hard, used, asked: *asked };
            }
            held |= used + in_flight + asked > *hard;
        }
        if held {
            return Outcome::Held;
        }
        add(&mut self.in_flight, &request.more);
        let reservation = Reservation {
            resource: request.resource.clone(),
            namespace: request.namespace.clone(),
            name: request.name.clone(),
            uid: request.uid.clone(),
            more: write_all(&request.more),
            total: request.total.as_ref().map(write_all),
        };
        self.reserved.insert(request.key.clone(), reservation);
        Outcome::Granted
    }

    /// Takes a reservation back: its request is refused by whoever made it, so the
    /// object will not be stored.
    pub fn cancel(&mut self, key: &str) -> bool {
        let Some(reservation) = self.reserved.remove(key) else { return false };
        super::amount::subtract(&mut self.in_flight, &read_all(&reservation.more));
        true
    }

    /// Writes what a gate may write: the reservations.
    pub fn write_reserved(self, quota: &mut SharedQuota) {
        quota.status.get_or_insert_default().reserved = self.reserved;
    }
}

/// The keeper's part: what is used, and which reservations remain. `overdue` are those
/// whose requests have ended long ago and whose objects were looked for and not found.
/// Returns what has to be written, nothing when it is what is there.
pub fn settle(
    quota: &SharedQuota,
    keeper: &str,
    index: &Index,
    namespaces: &HashSet<String>,
    overdue: &HashSet<String>,
) -> Option<SharedQuota> {
    let mut used: Amounts = quota.spec.hard.keys().map(|name| (name.clone(), 0)).collect();
    for amounts in namespaces.iter().filter_map(|namespace| index.used(namespace)) {
        for (name, amount) in amounts {
            if let Some(sum) = used.get_mut(name) {
                *sum += amount;
            }
        }
    }
    let mut next = quota.clone();
    let status = next.status.get_or_insert_default();
    status.keeper = Some(keeper.to_owned());
    status.used = write_all(&used);
    status
        .reserved
        .retain(|key, reservation| !(overdue.contains(key) || is_settled(reservation, index, namespaces)));
    (next.status != quota.status).then_some(next)
}

/// Whether what was admitted is counted, or has gone again.
fn is_settled(reservation: &Reservation, index: &Index, namespaces: &HashSet<String>) -> bool {
    let Some(charge) = index.charge(&reservation.uid) else { return index.is_gone(&reservation.uid) };
    let is_counted = namespaces.contains(&reservation.namespace);
    let is_all_there = reservation.total.as_ref().is_none_or(|total| {
        let there = |name: &String| charge.get(name).copied().unwrap_or_default();
        read_all(total).iter().all(|(name, amount)| there(name) >= *amount)
    });
    is_counted && is_all_there
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};

    use api::{SharedQuotaSpec, SharedQuotaStatus};

    use super::*;
    use crate::quota::amount::ONE;

    fn quota(pods: i128) -> SharedQuota {
        let hard = BTreeMap::from([("pods".to_string(), Quantity(pods.to_string()))]);
        let spec = SharedQuotaSpec { account: Some("ada".into()), hard, ..SharedQuotaSpec::default() };
        let mut quota = SharedQuota::new("ada", spec);
        quota.status = Some(SharedQuotaStatus { keeper: Some("k".into()), ..SharedQuotaStatus::default() });
        quota
    }

    fn request(uid: &str, pods: i128) -> Request {
        Request {
            key: uid.into(),
            resource: "pods".into(),
            namespace: "a".into(),
            name: uid.into(),
            uid: uid.into(),
            more: Amounts::from([("pods".into(), pods * ONE)]),
            total: None,
        }
    }

    fn namespaces() -> HashSet<String> {
        HashSet::from(["a".to_string()])
    }

    fn stored(index: &mut Index, uid: &str, pods: i128) {
        index.put("pods", "a", uid, Amounts::from([("pods".into(), pods * ONE)]));
    }

    #[test]
    fn what_is_in_flight_is_not_given_twice() {
        let mut book = Book::read(&quota(3));
        assert_eq!(book.ask(&request("1", 2)), Outcome::Granted);
        // Asked again, as webhooks are, it is entered once.
        assert_eq!(book.ask(&request("1", 2)), Outcome::Granted);
        assert_eq!(book.ask(&request("2", 2)), Outcome::Held);
        assert_eq!(book.ask(&request("3", 1)), Outcome::Granted);
        let full = Outcome::Full { resource: "pods".into(), hard: 3000, used: 0, asked: 4000 };
        assert_eq!(book.ask(&request("4", 4)), full);
        assert!(book.cancel("1") && !book.cancel("1"));
        assert_eq!(book.ask(&request("2", 2)), Outcome::Granted);
    }

    #[test]
    fn before_anybody_counted_nothing_is_granted() {
        let mut new = quota(3);
        new.status = None;
        assert_eq!(Book::read(&new).ask(&request("1", 1)), Outcome::Held);
        let counted = settle(&new, "k", &Index::default(), &namespaces(), &HashSet::new()).unwrap();
        assert_eq!(Book::read(&counted).ask(&request("1", 1)), Outcome::Granted);
    }

    fn reserve(quota: &mut SharedQuota, request: &Request) {
        let mut book = Book::read(quota);
        assert_eq!(book.ask(request), Outcome::Granted);
        book.write_reserved(quota);
    }

    fn settled(quota: &mut SharedQuota, index: &Index, overdue: &[&str]) -> (i128, usize) {
        let overdue = overdue.iter().map(ToString::to_string).collect();
        if let Some(next) = settle(quota, "k", index, &namespaces(), &overdue) {
            *quota = next;
        }
        let status = quota.status.as_ref().unwrap();
        (read_all(&status.used)["pods"] / ONE, status.reserved.len())
    }

    #[test]
    fn a_reservation_ends_when_its_object_is_counted_or_gone_or_never_was() {
        let mut quota = quota(9);
        let mut index = Index::default();
        for uid in ["1", "2", "3"] {
            reserve(&mut quota, &request(uid, 2));
        }
        assert_eq!(settled(&mut quota, &index, &[]), (0, 3));
        stored(&mut index, "1", 2);
        assert_eq!(settled(&mut quota, &index, &[]), (2, 2));
        stored(&mut index, "2", 2);
        index.remove("2");
        assert_eq!(settled(&mut quota, &index, &[]), (2, 1));
        assert_eq!(settled(&mut quota, &index, &["3"]), (2, 0));
        assert!(settle(&quota, "k", &index, &namespaces(), &HashSet::new()).is_none());
    }

    #[test]
    fn one_that_grows_is_counted_when_it_has_grown() {
        let mut quota = quota(9);
        let mut index = Index::default();
        stored(&mut index, "1", 2);
        let total = Some(Amounts::from([("pods".into(), 5 * ONE)]));
        reserve(&mut quota, &Request { key: "1/r".into(), total, ..request("1", 3) });
        assert_eq!(settled(&mut quota, &index, &[]), (2, 1));
        stored(&mut index, "1", 5);
        assert_eq!(settled(&mut quota, &index, &[]), (5, 0));
    }

    #[test]
    fn what_is_in_a_namespace_that_is_not_counted_yet_stays_reserved() {
        let mut quota = quota(9);
        let mut index = Index::default();
        reserve(&mut quota, &request("1", 2));
        stored(&mut index, "1", 2);
        assert!(settle(&quota, "k", &index, &HashSet::new(), &HashSet::new()).is_some());
        let next = settle(&quota, "k", &index, &HashSet::new(), &HashSet::new()).unwrap();
        assert_eq!(next.status.unwrap().reserved.len(), 1);
    }

    /// A cluster in which everything happens late: two gates that decide by what they
    /// last saw, an API server that stores later or never, a keeper whose watch lags.
    struct World {
        rng: StdRng,
        /// What is stored of the quota, and how often it was written.
        quota: (SharedQuota, u64),
        gates: [(SharedQuota, u64); 2],
        keeper: (SharedQuota, u64),
        index: Index,
        /// Admitted and not yet stored, with the number of steps that are left.
        admitted: Vec<(Request, u32)>,
        ended: HashSet<String>,
        stored: BTreeMap<String, i128>,
        /// What the keeper's watch has not told yet.
        told_later: Vec<(String, Option<i128>)>,
        next: u64,
        refused: u64,
    }

    const HARD: i128 = 12;

    impl World {
        fn new(seed: u64) -> Self {
            let quota = (quota(HARD), 0);
            Self {
                rng: StdRng::seed_from_u64(seed),
                gates: [quota.clone(), quota.clone()],
                keeper: quota.clone(),
                quota,
                index: Index::default(),
                admitted: Vec::new(),
                ended: HashSet::new(),
                stored: BTreeMap::new(),
                told_later: Vec::new(),
                next: 0,
                refused: 0,
            }
        }

        fn used(&self) -> i128 {
            self.stored.values().sum()
        }

        fn write(&mut self, seen: u64, next: SharedQuota) -> bool {
            let fresh = seen == self.quota.1;
            if fresh {
                self.quota = (next, seen + 1);
            }
            fresh
        }

        fn ask(&mut self, gate: usize) {
            self.next += 1;
            let request = request(&self.next.to_string(), self.rng.random_range(1..4));
            let (mut seen, version) = self.gates[gate].clone();
            let mut book = Book::read(&seen);
            match book.ask(&request) {
                Outcome::Granted => {
                    book.write_reserved(&mut seen);
                    if self.write(version, seen) {
                        self.gates[gate] = self.quota.clone();
                        let steps = self.rng.random_range(0..5);
                        self.admitted.push((request, steps));
                    } else {
                        self.gates[gate] = self.quota.clone();
                    }
                }
                Outcome::Held => {}
                Outcome::Full { used, asked, .. } => {
                    // A refusal is by the newest book.
                    if version == self.quota.1 {
                        assert!(used + asked > HARD * ONE);
                        self.refused += 1;
                    }
                    self.gates[gate] = self.quota.clone();
                }
            }
        }

        fn store(&mut self) {
            for (_, steps) in &mut self.admitted {
                *steps = steps.saturating_sub(1);
            }
            let (due, later) =
                std::mem::take(&mut self.admitted).into_iter().partition(|(_, steps)| *steps == 0);
            self.admitted = later;
            let due: Vec<(Request, u32)> = due;
            for (request, _) in due {
                // Another plugin refuses some.
                if self.rng.random_ratio(1, 4) {
                    self.ended.insert(request.key);
                    continue;
                }
                let pods = request.more["pods"] / ONE;
                self.stored.insert(request.uid.clone(), pods);
                self.told_later.push((request.uid, Some(pods)));
            }
        }

        fn delete(&mut self) {
            let all: Vec<String> = self.stored.keys().cloned().collect();
            if let Some(uid) = all.choose(&mut self.rng) {
                self.stored.remove(uid);
                self.told_later.push((uid.clone(), None));
            }
        }

        fn tell(&mut self) {
            let count = self.rng.random_range(0..=self.told_later.len());
            for (uid, pods) in self.told_later.drain(..count) {
                match pods {
                    Some(pods) => stored(&mut self.index, &uid, pods),
                    None => self.index.remove(&uid),
                }
            }
        }

        fn keep(&mut self) {
            if self.rng.random_ratio(1, 2) {
                self.keeper = self.quota.clone();
            }
            // The long wait for a request's end.
            let overdue = if self.rng.random_ratio(1, 2) { self.ended.clone() } else { HashSet::new() };
            let (seen, version) = self.keeper.clone();
            if let Some(next) = settle(&seen, "k", &self.index, &namespaces(), &overdue) {
                self.write(version, next);
                self.keeper = self.quota.clone();
            }
        }

        fn step(&mut self) {
            match self.rng.random_range(0..10) {
                0..4 => {
                    let gate = self.rng.random_range(0..2);
                    self.ask(gate);
                }
                4 => {
                    let gate = self.rng.random_range(0..2);
                    self.gates[gate] = self.quota.clone();
                }
                5 => {
                    if self.rng.random_ratio(1, 20) {
                        self.delete();
                    }
                }
                6 | 7 => self.tell(),
                8 => self.keep(),
                _ => self.store(),
            }
        }
    }

    #[test]
    fn the_limit_holds_whatever_comes_late() {
        let (mut most, mut refused) = (0, 0);
        for seed in 0..200 {
            let mut world = World::new(seed);
            for _ in 0..2000 {
                world.step();
                assert!(world.used() <= HARD, "seed {seed}: {} are stored", world.used());
                most = most.max(world.used());
            }
            refused += world.refused;
            // When all has been told, the book says what is stored.
            for (_, steps) in &mut world.admitted {
                *steps = 0;
            }
            world.store();
            for (uid, pods) in std::mem::take(&mut world.told_later) {
                match pods {
                    Some(pods) => stored(&mut world.index, &uid, pods),
                    None => world.index.remove(&uid),
                }
            }
            let mut quota = world.quota.0.clone();
            let ended: Vec<&str> = world.ended.iter().map(String::as_str).collect();
            assert_eq!(settled(&mut quota, &world.index, &ended), (world.used(), 0), "seed {seed}");
        }
        // It was put to use, and to the test.
        assert_eq!(most, HARD);
        assert!(refused > 1000, "{refused}");
    }
}
