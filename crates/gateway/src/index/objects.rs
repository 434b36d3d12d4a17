//! The objects that are known. Each says itself what it is, so a place in the
//! table is one pointer.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::Key;
use crate::object::{Id, Kind, Object};

#[derive(Default)]
pub(super) struct Objects(HashSet<Held>);

struct Held(Arc<Object>);

/// By which an object is found, whether it is there or only asked for.
trait Named {
    fn name(&self) -> (Kind, &Id);
}

impl Named for Held {
    fn name(&self) -> (Kind, &Id) {
        (self.0.kind(), self.0.id())
    }
}

impl Named for Key {
    fn name(&self) -> (Kind, &Id) {
        (self.0, &self.1)
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Named + '_ {}

impl Hash for dyn Named + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Held {}

impl Hash for Held {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl<'a> Borrow<dyn Named + 'a> for Held {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

impl Objects {
    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.0.get(key as &dyn Named).map(|held| &held.0)
    }

    /// In the place of the one with its kind and name.
    pub fn insert(&mut self, object: Arc<Object>) {
        self.0.replace(Held(object));
    }

    pub fn remove(&mut self, key: &Key) -> Option<Arc<Object>> {
        self.0.take(key as &dyn Named).map(|held| held.0)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.0.iter().map(|held| &held.0)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
