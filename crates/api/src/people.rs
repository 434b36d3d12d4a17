//! Who has which role in which workspace, by themselves and by what is above it.
//! Pure: it is told of each object's change, and says which workspaces that concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::role::Role;
use crate::tree::{Node, Tree};

/// Workspaces and their members.
#[derive(Debug, Default)]
pub struct People {
    tree: Tree,
    /// The namespace of each workspace that has one, and back.
    namespaces: HashMap<String, String>,
    workspaces: HashMap<String, String>,
    /// By namespace, then account.
    members: HashMap<String, BTreeMap<String, Role>>,
}

impl People {
    /// The workspaces as they are above and below each other.
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// A workspace as it is now; says in which workspaces people may be others.
    pub fn set_workspace(&mut self, name: &str, node: Node, namespace: Option<&str>) -> BTreeSet<String> {
        let moved = self.namespaces.get(name).map(String::as_str) != namespace;
        if !moved && self.tree.get(name) == Some(&node) {
            return BTreeSet::new();
        }
        let mut concerned = self.below(name);
        self.tree.set(name, node);
        if let Some(before) = self.namespaces.remove(name) {
            self.workspaces.remove(&before);
        }
        if let Some(namespace) = namespace {
            self.namespaces.insert(name.to_owned(), namespace.to_owned());
            self.workspaces.insert(namespace.to_owned(), name.to_owned());
        }
        concerned.extend(self.below(name));
        concerned
    }

    /// A workspace is gone.
    pub fn remove_workspace(&mut self, name: &str) -> BTreeSet<String> {
        let concerned = self.below(name);
        self.tree.remove(name);
        if let Some(before) = self.namespaces.remove(name) {
            self.workspaces.remove(&before);
        }
        concerned
    }

    /// A member as it is now. They may be heard of before their workspace.
    pub fn set_member(&mut self, namespace: &str, account: &str, role: Role) -> BTreeSet<String> {
        let before = self.members.entry(namespace.to_owned()).or_default().insert(account.to_owned(), role);
        if before == Some(role) { BTreeSet::new() } else { self.below_namespace(namespace) }
    }

    /// A member is gone.
    pub fn remove_member(&mut self, namespace: &str, account: &str) -> BTreeSet<String> {
        if let Some(members) = self.members.get_mut(namespace) {
            members.remove(account);
            if members.is_empty() {
                self.members.remove(namespace);
            }
        }
        self.below_namespace(namespace)
    }

    /// Every member that is known, as namespace and account.
    pub fn all_members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.members.iter().flat_map(|(namespace, members)| {
            members.keys().map(move |account| (namespace.as_str(), account.as_str()))
        })
    }

    /// The workspace that has this namespace.
    pub fn workspace_of(&self, namespace: &str) -> Option<&str> {
        self.workspaces.get(namespace).map(String::as_str)
    }

    /// A workspace's namespace, once there is one.
    pub fn namespace_of(&self, name: &str) -> Option<&str> {
        self.namespaces.get(name).map(String::as_str)
    }

    fn below(&self, name: &str) -> BTreeSet<String> {
        self.tree.below(name).into_iter().collect()
    }

    fn below_namespace(&self, namespace: &str) -> BTreeSet<String> {
        self.workspace_of(namespace).map(|name| self.below(name)).unwrap_or_default()
    }

    /// The members that a workspace has itself. Nobody becomes owner by being one.
    fn own<'a>(&'a self, name: &str) -> impl Iterator<Item = (String, Role)> + use<'a> {
        let members = self.namespaces.get(name).and_then(|namespace| self.members.get(namespace));
        let members = members.into_iter().flatten().filter(|(_, role)| **role != Role::Owner);
        members.map(|(account, role)| (account.clone(), *role))
    }

    /// Everybody's role in a workspace by itself: the owner's, and its members'. The
    /// owner is nothing less.
    pub fn direct(&self, name: &str) -> BTreeMap<String, Role> {
        let mut roles: BTreeMap<String, Role> = self.own(name).collect();
        roles.extend(self.tree.get(name).map(|node| (node.owner.clone(), Role::Owner)));
        roles
    }

    /// Everybody's role in a workspace: the strongest of those that they have in it
    /// and above it.
    pub fn roles(&self, name: &str) -> BTreeMap<String, Role> {
        let mut roles = self.direct(name);
        for (account, role) in self.tree.inherited(name, |above| self.own(above)) {
            roles.entry(account).and_modify(|has| *has = role.max(*has)).or_insert(role);
        }
        roles
    }

    /// One account's.
    pub fn role(&self, name: &str, account: &str) -> Option<Role> {
        let at = |name: &str, highest: Role| {
            let is_owner = self.tree.get(name).is_some_and(|node| node.owner == account);
            let members = self.namespaces.get(name).and_then(|namespace| self.members.get(namespace));
            let role =
                if is_owner { Some(Role::Owner) } else { members.and_then(|all| all.get(account).copied()) };
            // A Member can't be an owner.
            role.filter(|role| is_owner || *role != Role::Owner).map(|role| role.min(highest))
        };
        let above = self.tree.above(name).filter_map(|above| at(above, Role::Manager));
        at(name, Role::Owner).into_iter().chain(above).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(parent: &str) -> Node {
        Node { parent: Some(parent.into()), ..Node::of("ada") }
    }

    fn names(concerned: &BTreeSet<String>) -> String {
        concerned.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// `root` with `leaf` below it.
    fn people() -> People {
        let mut people = People::default();
        people.set_workspace("root", Node::of("ada"), Some("root-x"));
        people.set_workspace("leaf", below("root"), Some("leaf-x"));
        people
    }

    fn line(people: &People, name: &str) -> String {
        let roles = people.roles(name);
        for (account, role) in &roles {
            assert_eq!(people.role(name, account), Some(*role), "{account}");
        }
        roles.iter().map(|(account, role)| format!("{account}:{} ", role.name())).collect()
    }

    #[test]
    fn the_strongest_role_counts() {
        let mut people = people();
        people.set_member("root-x", "bob", Role::Developer);
        people.set_member("leaf-x", "bob", Role::Viewer);
        people.set_member("root-x", "cy", Role::Viewer);
        people.set_member("leaf-x", "cy", Role::Manager);
        assert_eq!(line(&people, "root"), "ada:owner bob:developer cy:viewer ");
        assert_eq!(line(&people, "leaf"), "ada:owner bob:developer cy:manager ");
        assert_eq!(people.direct("leaf").get("bob"), Some(&Role::Viewer));
        assert_eq!(people.role("leaf", "eve"), None);
    }

    #[test]
    fn nobody_becomes_owner_by_being_a_member() {
        let mut people = people();
        people.set_member("root-x", "eve", Role::Owner);
        people.set_member("leaf-x", "ada", Role::Viewer);
        assert_eq!(line(&people, "root"), "ada:owner ");
        assert_eq!(line(&people, "leaf"), "ada:owner ");
        assert_eq!(people.role("root", "eve"), None);
    }

    #[test]
    fn a_change_concerns_what_is_below_and_nothing_else() {
        let mut people = people();
        people.set_workspace("other", Node::of("ada"), Some("other-x"));
        assert_eq!(names(&people.set_member("root-x", "bob", Role::Viewer)), "leaf root");
        assert_eq!(names(&people.set_member("root-x", "bob", Role::Viewer)), "");
        assert_eq!(names(&people.set_member("leaf-x", "bob", Role::Viewer)), "leaf");
        assert_eq!(names(&people.set_member("nowhere", "bob", Role::Viewer)), "");
        assert_eq!(names(&people.set_workspace("root", Node::of("ada"), Some("root-x"))), "");
        // A change of owner takes those away that were below by being of the same one.
        assert_eq!(names(&people.set_workspace("root", Node::of("eve"), Some("root-x"))), "leaf root");
        assert_eq!(line(&people, "leaf"), "ada:owner bob:viewer ");
        assert_eq!(names(&people.set_workspace("root", Node::of("ada"), Some("root-x"))), "leaf root");
        assert_eq!(names(&people.remove_member("root-x", "bob")), "leaf root");
        assert_eq!(names(&people.remove_workspace("root")), "leaf root");
        let left: BTreeSet<_> = people.all_members().collect();
        assert_eq!(left, BTreeSet::from([("leaf-x", "bob"), ("nowhere", "bob")]));
    }

    #[test]
    fn members_and_children_may_be_heard_of_first() {
        let mut people = People::default();
        people.set_member("root-x", "bob", Role::Viewer);
        people.set_workspace("leaf", below("root"), Some("leaf-x"));
        assert_eq!(line(&people, "leaf"), "ada:owner ");
        assert_eq!(names(&people.set_workspace("root", Node::of("ada"), None)), "leaf root");
        assert_eq!(names(&people.set_workspace("root", Node::of("ada"), Some("root-x"))), "leaf root");
        assert_eq!(line(&people, "leaf"), "ada:owner bob:viewer ");
    }
}
