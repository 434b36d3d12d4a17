//! What is kept in each namespace: each object as it was asked for, and as it is stored.
//! The watches and the API server's answers tell it. Pure.
//!
//! What was asked for isn't known to a process that has just begun, but what is stored
//! is, as soon as all of it was listed; and the workspace's status holds a digest of
//! both. As long as that fits, nothing has to be asked for again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::drift::Fingerprint;
use crate::name;
use crate::propagation::Key;

/// An object.
#[derive(Clone, Copy, Debug)]
struct Object {
    /// As it is stored.
    stored: Fingerprint,
    /// Whether it says of itself that it is a copy.
    is_copy: bool,
    /// As it was asked for, when it is stored as the API server answered to that.
    asked: Option<Fingerprint>,
}

/// By namespace.
#[derive(Debug, Default)]
pub struct Kept {
    namespaces: HashMap<String, HashMap<Key, Object>>,
    /// What the list under way hasn't named yet, by kind.
    unlisted: HashMap<String, HashSet<(String, String)>>,
}

impl Kept {
    /// An object is stored like this; whether it is no longer as it was asked for, or
    /// nobody has asked for it.
    pub fn hear(&mut self, namespace: &str, key: &Key, stored: Fingerprint, is_copy: bool) -> bool {
        self.is_listed(namespace, key);
        let objects = self.namespaces.entry(namespace.to_owned()).or_default();
        match objects.get(key) {
            Some(object) if object.stored == stored => object.asked.is_none(),
            _ => {
                objects.insert(key.clone(), Object { stored, is_copy, asked: None });
                true
            }
        }
    }

    fn is_listed(&mut self, namespace: &str, key: &Key) {
        if let Some(unlisted) = self.unlisted.get_mut(&key.0) {
            unlisted.remove(&(namespace.to_owned(), key.1.clone()));
        }
    }

    /// An object is gone; whether it was one that was asked for.
    pub fn remove(&mut self, namespace: &str, key: &Key) -> bool {
        let Some(objects) = self.namespaces.get_mut(namespace) else { return false };
        let was_asked = objects.remove(key).is_some_and(|object| object.asked.is_some());
        if objects.is_empty() {
            self.namespaces.remove(namespace);
        }
        was_asked
    }

    /// A list of a kind begins.
    pub fn begin(&mut self, kind: &str) {
        let known = self.namespaces.iter().flat_map(|(namespace, objects)| {
            let of_kind = objects.keys().filter(|(of, _)| of == kind);
            of_kind.map(|(_, name)| (namespace.clone(), name.clone()))
        });
        let unlisted = known.collect();
        self.unlisted.insert(kind.to_owned(), unlisted);
    }

    /// A list of a kind has ended: what it didn't name is gone. The namespaces of those that
    /// were asked for.
    pub fn end(&mut self, kind: &str) -> BTreeSet<String> {
        let gone = self.unlisted.remove(kind).unwrap_or_default();
        let mut changed = BTreeSet::new();
        for (namespace, name) in gone {
            if self.remove(&namespace, &(kind.to_owned(), name)) {
                changed.insert(namespace);
            }
        }
        changed
    }

    /// It was asked for an object, and this is how it is stored.
    pub fn put(&mut self, namespace: &str, key: Key, asked: Fingerprint, stored: Fingerprint, is_copy: bool) {
        self.is_listed(namespace, &key);
        let object = Object { stored, is_copy, asked: Some(asked) };
        self.namespaces.entry(namespace.to_owned()).or_default().insert(key, object);
    }

    /// The namespaces that are named as a workspace's are.
    pub fn named_for(&self, workspace: &str) -> Vec<String> {
        let own = |namespace: &&String| {
            name::is_for(workspace, namespace)
                && self.is_there(namespace, &("Namespace".to_owned(), (*namespace).clone()))
        };
        self.namespaces.keys().filter(own).cloned().collect()
    }

    /// Nothing of a namespace is kept any more.
    pub fn forget(&mut self, namespace: &str) {
        self.namespaces.remove(namespace);
    }

    /// The copies that are in a namespace.
    pub fn copies(&self, namespace: &str) -> BTreeSet<Key> {
        let objects = self.namespaces.get(namespace).into_iter().flatten();
        objects.filter(|(_, object)| object.is_copy).map(|(key, _)| key.clone()).collect()
    }

    /// Whether an object is there that is no copy, whoever made it.
    pub fn is_there(&self, namespace: &str, key: &Key) -> bool {
        let object = self.namespaces.get(namespace).and_then(|objects| objects.get(key));
        object.is_some_and(|object| !object.is_copy)
    }

    /// Whether an object is there as it is asked for.
    pub fn is_as(&self, namespace: &str, key: &Key, asked: Fingerprint) -> bool {
        let object = self.namespaces.get(namespace).and_then(|objects| objects.get(key));
        object.is_some_and(|object| object.asked == Some(asked))
    }

    /// The digest of all that was asked for in a namespace.
    pub fn digest(&self, namespace: &str) -> Option<String> {
        let objects = self.namespaces.get(namespace)?;
        let asked = objects
            .iter()
            .filter_map(|(key, object)| object.asked.map(|asked| (key.clone(), asked, object.stored)));
        digest(asked.collect())
    }

    /// If these, as they are stored, are what the digest was made of, they were asked for.
    /// Does nothing in a namespace of which something is known to have been asked for.
    pub fn recognise(&mut self, namespace: &str, wanted: Vec<(Key, Fingerprint)>, noted: Option<&str>) {
        let Some(objects) = self.namespaces.get_mut(namespace) else { return };
        if noted.is_none() || objects.values().any(|object| object.asked.is_some()) {
            return;
        }
        let stored = |(key, asked): (Key, Fingerprint)| {
            let stored = objects.get(&key)?.stored;
            Some((key, asked, stored))
        };
        let Some(all) = wanted.into_iter().map(stored).collect::<Option<Vec<_>>>() else { return };
        if digest(all.clone()).as_deref() != noted {
            return;
        }
        for (key, asked, _) in all {
            objects.entry(key).and_modify(|object| object.asked = Some(asked));
        }
    }
}

fn digest(mut all: Vec<(Key, Fingerprint, Fingerprint)>) -> Option<String> {
    if all.is_empty() {
        return None;
    }
    all.sort_by(|one, other| one.0.cmp(&other.0));
    let mut hasher = DefaultHasher::new();
    all.hash(&mut hasher);
    Some(format!("{:016x}", hasher.finish()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::drift::exact;
    use super::*;

    fn key(name: &str) -> Key {
        ("RoleBinding".to_owned(), name.to_owned())
    }

    fn print(text: &str) -> Fingerprint {
        exact(&json!(text))
    }

    /// `a`, asked for and stored, in a namespace of the same name.
    fn kept() -> Kept {
        let mut kept = Kept::default();
        kept.put("a", key("x"), print("asked"), print("stored"), false);
        kept
    }

    #[test]
    fn what_is_stored_as_the_answer_said_is_as_it_was_asked_for() {
        let mut kept = kept();
        assert!(!kept.hear("a", &key("x"), print("stored"), false));
        assert!(kept.is_as("a", &key("x"), print("asked")) && !kept.is_as("a", &key("x"), print("else")));
        assert!(kept.hear("a", &key("x"), print("changed"), false));
        assert!(!kept.is_as("a", &key("x"), print("asked")), "it was changed");
        assert!(kept.is_there("a", &key("x")));
        assert!(kept.hear("a", &key("y"), print("stored"), false), "nobody asked for it");
        assert!(!kept.remove("a", &key("y")) && !kept.remove("a", &key("x")) && !kept.remove("a", &key("x")));
        assert!(!kept.is_there("a", &key("x")));
        kept.put("a", key("x"), print("asked"), print("stored"), false);
        assert!(kept.remove("a", &key("x")), "it was asked for");
    }

    #[test]
    fn copies_are_known_until_they_go() {
        let mut kept = kept();
        kept.hear("a", &key("y"), print("copy"), true);
        kept.put("a", key("z"), print("asked"), print("copy"), true);
        assert_eq!(kept.copies("a"), BTreeSet::from([key("y"), key("z")]));
        assert!(kept.is_there("a", &key("x")) && !kept.is_there("a", &key("y")));
        kept.hear("a", &key("y"), print("somebody's own"), false);
        kept.remove("a", &key("z"));
        assert!(kept.copies("a").is_empty());
    }

    #[test]
    fn what_a_list_does_not_name_is_gone() {
        let mut kept = kept();
        kept.put("b", key("x"), print("asked"), print("stored"), false);
        kept.put("b", key("y"), print("asked"), print("stored"), false);
        kept.put("b", ("LimitRange".into(), "x".into()), print("asked"), print("stored"), false);
        kept.begin("RoleBinding");
        kept.hear("a", &key("x"), print("stored"), false);
        // Made while the list is under way.
        kept.put("b", key("y"), print("other"), print("stored"), false);
        kept.put("c", key("z"), print("asked"), print("stored"), false);
        assert_eq!(kept.end("RoleBinding"), BTreeSet::from(["b".to_owned()]));
        assert!(
            kept.is_there("a", &key("x")) && kept.is_there("b", &key("y")) && kept.is_there("c", &key("z"))
        );
        assert!(!kept.is_there("b", &key("x")) && kept.is_there("b", &("LimitRange".into(), "x".into())));
        assert!(kept.end("RoleBinding").is_empty());
    }

    #[test]
    fn what_was_noted_is_recognised_when_it_is_all_there_and_unchanged() {
        let wanted = || vec![(key("x"), print("asked")), (key("y"), print("asked too"))];
        let before = {
            let mut before = kept();
            before.put("a", key("y"), print("asked too"), print("stored too"), false);
            // Whatever nobody asked for.
            before.hear("a", &key("z"), print("stored"), false);
            before.digest("a").unwrap()
        };
        let check = |x: &str, y: Option<&str>, wanted: Vec<(Key, Fingerprint)>, noted: Option<&str>| {
            let mut now = Kept::default();
            now.hear("a", &key("x"), print(x), false);
            if let Some(y) = y {
                now.hear("a", &key("y"), print(y), false);
            }
            assert_eq!(now.digest("a"), None);
            now.recognise("a", wanted, noted);
            let is_known = now.is_as("a", &key("x"), print("asked"));
            assert_eq!(now.digest("a").is_some(), is_known);
            is_known
        };
        let noted = Some(before.as_str());
        assert!(check("stored", Some("stored too"), wanted(), noted));
        assert!(!check("changed", Some("stored too"), wanted(), noted));
        assert!(!check("stored", None, wanted(), noted));
        assert!(!check("stored", Some("stored too"), wanted()[..1].to_vec(), noted));
        assert!(!check(
            "stored",
            Some("stored too"),
            vec![(key("x"), print("asked")), (key("y"), print("?"))],
            noted
        ));
        assert!(!check("stored", Some("stored too"), wanted(), None));
        // It stands for what was asked for by this process, once there is anything.
        let mut now = kept();
        now.hear("a", &key("y"), print("stored too"), false);
        now.recognise("a", wanted(), noted);
        assert!(!now.is_as("a", &key("y"), print("asked too")));
    }
}
