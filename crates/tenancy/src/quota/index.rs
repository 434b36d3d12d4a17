//! The objects that are there and what they use, by what the watches tell.

use std::collections::{HashMap, HashSet, VecDeque};

use super::amount::{Amounts, add, subtract};

/// How many objects that are gone are remembered: some may have come and gone before
/// their reservation was heard of.
const REMEMBERED: usize = 8192;

/// What is there, by uid.
#[derive(Debug, Default)]
pub struct Index {
    objects: HashMap<String, Stored>,
    by_namespace: HashMap<String, Amounts>,
    gone: HashSet<String>,
    gone_in_order: VecDeque<String>,
    /// By kind, while everything is listed again: what has been told so far.
    listing: HashMap<String, HashSet<String>>,
}

#[derive(Debug, PartialEq)]
struct Stored {
    kind: String,
    namespace: String,
    charge: Amounts,
}

impl Index {
    /// An object is there, or has changed.
    pub fn put(&mut self, kind: &str, namespace: &str, uid: &str, charge: Amounts) {
        if let Some(told) = self.listing.get_mut(kind) {
            told.insert(uid.into());
        }
        let stored = Stored { kind: kind.into(), namespace: namespace.into(), charge };
        if self.objects.get(uid) == Some(&stored) {
            return;
        }
        self.forget(uid);
        add(self.by_namespace.entry(namespace.into()).or_default(), &stored.charge);
        self.objects.insert(uid.into(), stored);
    }

    /// An object is gone.
    pub fn remove(&mut self, uid: &str) {
        self.forget(uid);
        if self.gone.insert(uid.into()) {
            self.gone_in_order.push_back(uid.into());
        }
        while self.gone_in_order.len() > REMEMBERED {
            if let Some(oldest) = self.gone_in_order.pop_front() {
                self.gone.remove(&oldest);
            }
        }
    }

    fn forget(&mut self, uid: &str) {
        let Some(stored) = self.objects.remove(uid) else { return };
        if let Some(amounts) = self.by_namespace.get_mut(&stored.namespace) {
            subtract(amounts, &stored.charge);
            if amounts.is_empty() {
                self.by_namespace.remove(&stored.namespace);
            }
        }
    }

    /// All objects of a kind are about to be told.
    pub fn begin(&mut self, kind: &str) {
        self.listing.insert(kind.into(), HashSet::new());
    }

    /// All have been told: those that haven't are gone.
    pub fn end(&mut self, kind: &str) {
        let Some(told) = self.listing.remove(kind) else { return };
        let of_kind = self.objects.iter().filter(|(_, stored)| stored.kind == kind);
        let missing: Vec<String> =
            of_kind.filter(|(uid, _)| !told.contains(*uid)).map(|(uid, _)| uid.clone()).collect();
        for uid in missing {
            self.remove(&uid);
        }
    }

    /// What an object uses, if it is there.
    pub fn charge(&self, uid: &str) -> Option<&Amounts> {
        self.objects.get(uid).map(|stored| &stored.charge)
    }

    /// Whether an object was there and is no longer.
    pub fn is_gone(&self, uid: &str) -> bool {
        self.gone.contains(uid)
    }

    /// What is used in a namespace.
    pub fn used(&self, namespace: &str) -> Option<&Amounts> {
        self.by_namespace.get(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(count: i128) -> Amounts {
        Amounts::from([("pods".into(), count)])
    }

    #[test]
    fn a_namespace_uses_what_its_objects_do() {
        let mut index = Index::default();
        index.put("pods", "a", "1", pods(1));
        index.put("pods", "a", "2", pods(2));
        index.put("pods", "b", "3", pods(4));
        index.put("pods", "a", "2", pods(3));
        assert_eq!(index.used("a"), Some(&pods(4)));
        index.remove("1");
        assert_eq!(index.used("a"), Some(&pods(3)));
        assert!(index.is_gone("1") && !index.is_gone("2"));
        index.remove("2");
        assert_eq!(index.used("a"), None);
        assert_eq!(index.used("b"), Some(&pods(4)));
    }

    #[test]
    fn what_a_new_listing_does_not_tell_is_gone() {
        let mut index = Index::default();
        for uid in ["1", "2"] {
            index.put("pods", "a", uid, pods(1));
        }
        index.put("services", "a", "3", pods(1));
        index.begin("pods");
        index.put("pods", "a", "2", pods(1));
        index.put("pods", "a", "4", pods(1));
        // Until all have been told, nothing is.
        assert_eq!(index.used("a"), Some(&pods(4)));
        index.end("pods");
        assert_eq!(index.used("a"), Some(&pods(3)));
        assert!(index.is_gone("1") && index.charge("3").is_some());
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut index = Index::default();
        for uid in 0..=REMEMBERED {
            index.remove(&uid.to_string());
        }
        assert!(!index.is_gone("0") && index.is_gone("1"));
    }
}
