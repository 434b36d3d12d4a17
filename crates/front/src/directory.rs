//! Who is who: which accounts there are, and in which workspaces each is a
//! member. An [`Index`] is told of each object's change, works out whom it
//! concerns, and publishes that alone; requests look it up in a [`Published`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use api::Role;
use api::people::People;
use api::tree::Node;
use tokio::sync::watch;

/// What front asks about accounts.
pub trait Directory: Send + Sync + 'static {
    /// Whether all is known; until then nobody is let in.
    fn is_ready(&self) -> bool;
    /// The account, if there is one.
    fn account(&self, name: &str) -> Option<Arc<Standing>>;
    /// Tells of every change of any account's standing.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// What an account is and where it belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it operates the cloud.
    pub operator: bool,
    /// Whether it is shut out.
    pub disabled: bool,
    /// Its workspaces by name.
    pub workspaces: BTreeMap<String, Membership>,
    /// What it listed before is out of date.
    pub changed: Changed,
}

/// The resource versions at which something came to an account or went last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// A workspace.
    pub workspaces: u64,
    /// A namespace, or a role in one.
    pub namespaces: u64,
}

/// An account's place in a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The workspace's namespace; None while it has none, be it that its owner has too
    /// many.
    pub namespace: Option<String>,
    /// What it may do there.
    pub role: Role,
}

impl Standing {
    /// Whether one of its workspaces is in that namespace.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.workspaces.values().any(|membership| membership.namespace.as_deref() == Some(namespace))
    }
}

/// The standings, for requests to look up.
#[derive(Debug)]
pub struct Published {
    standings: RwLock<HashMap<String, Arc<Standing>>>,
    ready: AtomicBool,
    changes: watch::Sender<u64>,
}

impl Default for Published {
    fn default() -> Self {
        Self { standings: RwLock::default(), ready: AtomicBool::new(false), changes: watch::channel(0).0 }
    }
}

impl Directory for Published {
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    fn account(&self, name: &str) -> Option<Arc<Standing>> {
        self.standings.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// Everything known of accounts, workspaces and members. One task owns it.
#[derive(Debug, Default)]
pub struct Index {
    accounts: HashMap<String, (bool, bool)>,
    people: People,
    /// By workspace: who has a place in it.
    placed: HashMap<String, BTreeSet<String>>,
    /// By account: its memberships and the versions of their last changes.
    places: HashMap<String, (BTreeMap<String, Membership>, Changed)>,
    published: Arc<Published>,
}

impl Index {
    /// An empty index, and where it publishes.
    pub fn new() -> (Self, Arc<Published>) {
        let index = Self::default();
        let published = index.published.clone();
        (index, published)
    }

    /// All objects have been heard of: from now on, who isn't known is nobody.
    pub fn set_ready(&mut self) {
        self.published.ready.store(true, Ordering::Release);
        self.published.changes.send_modify(|count| *count += 1);
    }

    /// An account as it is now.
    pub fn set_account(&mut self, name: &str, operator: bool, disabled: bool) {
        self.accounts.insert(name.to_owned(), (operator, disabled));
        self.publish(name);
    }

    /// An account is gone.
    pub fn remove_account(&mut self, name: &str) {
        self.accounts.remove(name);
        self.publish(name);
    }

    /// A workspace as it is now, at resource version `version`.
    pub fn set_workspace(&mut self, name: &str, node: Node, namespace: Option<&str>, version: u64) {
        let concerned = self.people.set_workspace(name, node, namespace);
        self.place_all(concerned, version);
    }

    /// A workspace is gone.
    pub fn remove_workspace(&mut self, name: &str, version: u64) {
        let concerned = self.people.remove_workspace(name);
        self.place_all(concerned, version);
    }

    /// A member as it is now: of the workspace, and of all below it.
    pub fn set_member(&mut self, namespace: &str, account: &str, role: Role, version: u64) {
        for name in self.people.set_member(namespace, account, role) {
            let role = self.people.role(&name, account);
            self.place(&name, account, role, version);
        }
    }

    /// A member is gone.
    pub fn remove_member(&mut self, namespace: &str, account: &str, version: u64) {
        for name in self.people.remove_member(namespace, account) {
            let role = self.people.role(&name, account);
            self.place(&name, account, role, version);
        }
    }

    /// A full list has gone by: accounts it did not name are gone.
    pub fn retain_accounts(&mut self, listed: &HashSet<String>) {
        let gone: Vec<String> =
            self.accounts.keys().filter(|name| !listed.contains(*name)).cloned().collect();
        gone.iter().for_each(|name| self.remove_account(name));
    }

    /// A full list has gone by: workspaces it did not name are gone.
    pub fn retain_workspaces(&mut self, listed: &HashSet<String>, version: u64) {
        let all = self.people.tree().names().filter(|name| !listed.contains(*name));
        let gone: Vec<String> = all.map(str::to_owned).collect();
        gone.iter().for_each(|name| self.remove_workspace(name, version));
    }

    /// A full list has gone by: members (namespace, account) it did not name are gone.
    pub fn retain_members(&mut self, listed: &HashSet<(String, String)>, version: u64) {
        let all = self.people.all_members().map(|(namespace, account)| (namespace.into(), account.into()));
        let gone: Vec<_> = all.filter(|member| !listed.contains(member)).collect();
        gone.iter().for_each(|(namespace, account)| self.remove_member(namespace, account, version));
    }

    /// Works out everybody's place in these workspaces.
    fn place_all(&mut self, names: BTreeSet<String>, version: u64) {
        for name in names {
            let roles = self.people.roles(&name);
            let before = self.placed.get(&name).into_iter().flatten();
            let gone: Vec<String> = before.filter(|account| !roles.contains_key(*account)).cloned().collect();
            for account in gone {
                self.place(&name, &account, None, version);
            }
            for (account, role) in roles {
                self.place(&name, &account, Some(role), version);
            }
        }
    }

    /// One account's place in one workspace.
    fn place(&mut self, name: &str, account: &str, role: Option<Role>, version: u64) {
        let namespace = self.people.namespace_of(name).map(str::to_owned);
        let membership = role.map(|role| Membership { namespace, role });
        let placed = self.placed.entry(name.to_owned()).or_default();
        if membership.is_some() {
            placed.insert(account.to_owned());
        } else {
            placed.remove(account);
        }
        if placed.is_empty() {
            self.placed.remove(name);
        }
        let (places, changed) = self.places.entry(account.to_owned()).or_default();
        let before = match membership.clone() {
            Some(membership) => places.insert(name.to_owned(), membership),
            None => places.remove(name),
        };
        if before == membership {
            return;
        }
        if before.is_some() != membership.is_some() {
            changed.workspaces = version.max(changed.workspaces);
        }
        let has_namespace =
            |place: &Option<Membership>| place.as_ref().is_some_and(|place| place.namespace.is_some());
        if has_namespace(&before) || has_namespace(&membership) {
            changed.namespaces = version.max(changed.namespaces);
        }
        self.publish(account);
    }

    fn publish(&mut self, account: &str) {
        let standing = self.accounts.get(account).map(|(operator, disabled)| {
            let (workspaces, changed) = self.places.get(account).cloned().unwrap_or_default();
            Arc::new(Standing { operator: *operator, disabled: *disabled, workspaces, changed })
        });
        let mut standings = self.published.standings.write().unwrap_or_else(PoisonError::into_inner);
        let before = match standing.clone() {
            Some(standing) => standings.insert(account.to_owned(), standing),
            None => standings.remove(account),
        };
        drop(standings);
        if before != standing {
            self.published.changes.send_modify(|count| *count += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `workspace@namespace:role ...`, and the version of the last change.
    fn line(published: &Published, account: &str) -> String {
        let Some(standing) = published.account(account) else { return "nobody".to_owned() };
        let places = standing.workspaces.iter().map(|(name, membership)| {
            format!("{name}@{}:{} ", membership.namespace.as_deref().unwrap_or("?"), membership.role.name())
        });
        format!("{}{}", places.collect::<String>(), standing.changed.namespaces)
    }

    #[test]
    fn each_change_reaches_whom_it_concerns() {
        let (mut index, published) = Index::new();
        let check = |account: &str, wanted: &str| assert_eq!(line(&published, account), wanted, "{account}");
        check("ada", "nobody");
        index.set_workspace("one", Node::of("ada"), None, 1);
        index.set_account("ada", false, false);
        index.set_account("bob", false, false);
        // Its owner sees it before it has a namespace.
        check("ada", "one@?:owner 0");
        assert_eq!(published.account("ada").unwrap().changed, Changed { workspaces: 1, namespaces: 0 });
        index.set_workspace("one", Node::of("ada"), Some("one-x"), 2);
        check("ada", "one@one-x:owner 2");
        assert_eq!(published.account("ada").unwrap().changed, Changed { workspaces: 1, namespaces: 2 });
        check("bob", "0");
        index.set_member("one-x", "bob", Role::Viewer, 3);
        check("bob", "one@one-x:viewer 3");
        index.set_member("elsewhere", "bob", Role::Manager, 4);
        check("bob", "one@one-x:viewer 3");
        // The owner stays the owner, whatever a Member says.
        index.set_member("one-x", "ada", Role::Viewer, 5);
        check("ada", "one@one-x:owner 2");
        index.set_workspace("one", Node::of("bob"), Some("one-x"), 6);
        check("ada", "one@one-x:viewer 6");
        check("bob", "one@one-x:owner 6");
        index.remove_member("one-x", "ada", 7);
        check("ada", "7");
        index.remove_workspace("one", 8);
        check("bob", "8");
        index.remove_account("bob");
        check("bob", "nobody");
    }

    #[test]
    fn who_is_above_is_there_below() {
        let (mut index, published) = Index::new();
        let check = |account: &str, wanted: &str| assert_eq!(line(&published, account), wanted, "{account}");
        ["ada", "bob", "eve"].into_iter().for_each(|account| index.set_account(account, false, false));
        let below = |parent: &str| Node { parent: Some(parent.into()), ..Node::of("ada") };
        index.set_workspace("root", Node::of("ada"), Some("root-x"), 1);
        index.set_workspace("team", below("root"), Some("team-x"), 2);
        index.set_workspace("leaf", below("team"), Some("leaf-x"), 3);
        index.set_member("root-x", "bob", Role::Viewer, 4);
        index.set_member("leaf-x", "bob", Role::Developer, 5);
        check("bob", "leaf@leaf-x:developer root@root-x:viewer team@team-x:viewer 5");
        // What is taken above is taken below, and what is held there stays.
        index.remove_member("root-x", "bob", 6);
        check("bob", "leaf@leaf-x:developer 6");
        index.remove_member("leaf-x", "bob", 7);
        check("bob", "7");
        // A move changes who is above.
        index.set_workspace("other", Node::of("eve"), Some("other-x"), 8);
        index.set_workspace(
            "team",
            Node { parent: Some("eve/other".into()), ..Node::of("ada") },
            Some("team-x"),
            9,
        );
        check("eve", "other@other-x:owner 8");
        let accepted = BTreeSet::from(["ada/team".to_owned()]);
        index.set_workspace("other", Node { accepted, ..Node::of("eve") }, Some("other-x"), 10);
        check("eve", "leaf@leaf-x:manager other@other-x:owner team@team-x:manager 10");
        index.remove_workspace("other", 11);
        check("eve", "11");
        check("ada", "leaf@leaf-x:owner root@root-x:owner team@team-x:owner 3");
    }

    #[test]
    fn members_may_be_heard_of_before_their_workspace() {
        let (mut index, published) = Index::new();
        index.set_account("bob", false, false);
        index.set_member("one-x", "bob", Role::Developer, 3);
        assert_eq!(line(&published, "bob"), "0");
        index.set_workspace("one", Node::of("ada"), Some("one-x"), 4);
        assert_eq!(line(&published, "bob"), "one@one-x:developer 4");
    }

    #[test]
    fn what_a_list_does_not_name_is_gone() {
        let (mut index, published) = Index::new();
        for account in ["ada", "bob"] {
            index.set_account(account, false, false);
        }
        index.set_workspace("one", Node::of("ada"), Some("one-x"), 1);
        index.set_workspace("two", Node::of("ada"), Some("two-x"), 2);
        index.set_member("two-x", "bob", Role::Viewer, 3);
        index.retain_members(&HashSet::new(), 9);
        assert_eq!(line(&published, "bob"), "9");
        index.retain_workspaces(&HashSet::from(["two".to_owned()]), 10);
        assert_eq!(line(&published, "ada"), "two@two-x:owner 10");
        index.retain_accounts(&HashSet::from(["bob".to_owned()]));
        assert_eq!(line(&published, "ada"), "nobody");
    }

    #[test]
    fn changes_are_told_once_and_only_when_there_are_any() {
        let (mut index, published) = Index::new();
        let mut changes = published.changes();
        let mut told = || {
            let told = changes.has_changed().unwrap();
            changes.mark_unchanged();
            told
        };
        index.set_account("ada", false, false);
        assert!(told());
        index.set_account("ada", false, false);
        assert!(!told());
        index.set_workspace("one", Node::of("ada"), Some("one-x"), 1);
        assert!(told());
        index.set_workspace("one", Node::of("ada"), Some("one-x"), 2);
        assert!(!told());
        index.set_account("ada", false, true);
        assert!(told());
        assert!(!published.is_ready());
        index.set_ready();
        assert!(published.is_ready() && told());
    }
}
