//! Workspaces below workspaces: who is a member where, and which plan is left.
//! Pure. Nothing is kept that follows from something else: a workspace's members are
//! worked out by walking up from it, and a change concerns what is below it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use api::{PlanSpec, PodSecurity, Role};

/// How many levels there may be.
pub const LEVELS: usize = 128;

/// A workspace, as far as it matters to the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The account that owns it.
    pub owner: String,
    /// The workspace that it wants to be below.
    pub parent: Option<String>,
    /// Workspaces of other owners that may be below it.
    pub accepted: BTreeSet<String>,
}

/// Why a workspace isn't below the parent it names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is none of that name, or its owner hasn't accepted: which of them it is,
    /// isn't for everybody to know.
    #[error(
        "spec.parent: there is no workspace `{0}`, or its owner has not accepted this one (spec.acceptedChildren)"
    )]
    NotAccepted(String),
    /// It would be below itself.
    #[error("spec.parent: `{0}` is below this workspace: choose another parent")]
    Cycle(String),
    /// It would be too far down.
    #[error("spec.parent: `{0}` has as many levels above it as there may be (128): choose another parent")]
    TooDeep(String),
}

/// All workspaces.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: HashMap<String, Node>,
    /// Who names whom as their parent, whether that holds or not.
    named_by: HashMap<String, BTreeSet<String>>,
}

impl Tree {
    /// A workspace as it is now; whether that is news.
    pub fn set(&mut self, name: &str, node: Node) -> bool {
        if self.nodes.get(name) == Some(&node) {
            return false;
        }
        self.remove(name);
        if let Some(parent) = &node.parent {
            self.named_by.entry(parent.clone()).or_default().insert(name.to_owned());
        }
        self.nodes.insert(name.to_owned(), node);
        true
    }

    /// A workspace is gone.
    pub fn remove(&mut self, name: &str) {
        let Some(parent) = self.nodes.remove(name).and_then(|node| node.parent) else { return };
        if let Some(named_by) = self.named_by.get_mut(&parent) {
            named_by.remove(name);
            if named_by.is_empty() {
                self.named_by.remove(&parent);
            }
        }
    }

    /// The parent of a workspace, or why it has none though it names one.
    ///
    /// # Errors
    /// What is wrong with the one it names.
    pub fn parent(&self, name: &str) -> Result<Option<&str>, Problem> {
        let Some(parent) = self.agreed(name)? else { return Ok(None) };
        let mut above = Some(parent);
        for _ in 0..LEVELS {
            match above {
                None => return Ok(Some(parent)),
                Some(above) if above == name => return Err(Problem::Cycle(parent.to_owned())),
                Some(one) => above = self.agreed(one).ok().flatten(),
            }
        }
        Err(Problem::TooDeep(parent.to_owned()))
    }

    /// The parent that both sides agree to.
    fn agreed(&self, name: &str) -> Result<Option<&str>, Problem> {
        let Some(node) = self.nodes.get(name) else { return Ok(None) };
        let Some(parent) = node.parent.as_deref() else { return Ok(None) };
        match self.nodes.get(parent) {
            Some(above) if above.owner == node.owner || above.accepted.contains(name) => Ok(Some(parent)),
            _ => Err(Problem::NotAccepted(parent.to_owned())),
        }
    }

    /// What is above a workspace, the nearest first.
    pub fn above<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        std::iter::successors(self.parent(name).ok().flatten(), |one| self.agreed(one).ok().flatten())
    }

    /// A workspace and all below it.
    pub fn below(&self, name: &str) -> Vec<String> {
        let mut found = vec![name.to_owned()];
        let mut seen: BTreeSet<String> = found.iter().cloned().collect();
        let mut next = 0;
        while let Some(one) = found.get(next).cloned() {
            next += 1;
            for child in self.named_by.get(&one).into_iter().flatten() {
                if self.agreed(child).is_ok() && seen.insert(child.clone()) {
                    found.push(child.clone());
                }
            }
        }
        found
    }

    /// Who is a member of a workspace by being one above it, and as what. Who owns
    /// what is above manages what is below. `members` says who is a member of one
    /// workspace itself.
    pub fn inherited<'a, M>(&'a self, name: &'a str, members: impl Fn(&str) -> M) -> BTreeMap<String, Role>
    where
        M: IntoIterator<Item = (String, Role)>,
    {
        let mut inherited: BTreeMap<String, Role> = BTreeMap::new();
        for above in self.above(name) {
            let owner = self.nodes.get(above).map(|node| (node.owner.clone(), Role::Manager));
            for (account, role) in members(above).into_iter().chain(owner) {
                let role = role.min(Role::Manager);
                inherited.entry(account).and_modify(|has| *has = role.max(*has)).or_insert(role);
            }
        }
        inherited
    }
}

/// What is left of a plan below another: what both allow. A parent's plan can only
/// be tightened.
pub fn tighten(above: &PlanSpec, plan: &PlanSpec) -> PlanSpec {
    let both = |above: &[String], own: &[String]| -> Vec<String> {
        let any = |names: &[String]| names.iter().any(|name| name == "*");
        if any(above) {
            return own.to_vec();
        }
        if any(own) {
            return above.to_vec();
        }
        own.iter().filter(|name| above.contains(name)).cloned().collect()
    };
    PlanSpec {
        pod_security: match (above.pod_security, plan.pod_security) {
            (PodSecurity::Baseline, PodSecurity::Baseline) => PodSecurity::Baseline,
            _ => PodSecurity::Restricted,
        },
        registries: narrower(&above.registries, &plan.registries),
        storage_classes: both(&above.storage_classes, &plan.storage_classes),
        priority_classes: both(&above.priority_classes, &plan.priority_classes),
        runtime_classes: both(&above.runtime_classes, &plan.runtime_classes),
        node_labels: both(&above.node_labels, &plan.node_labels),
        tolerations: both(&above.tolerations, &plan.tolerations),
        ..plan.clone()
    }
}

/// Prefixes of which each lies in one of the others.
fn narrower(above: &[String], own: &[String]) -> Vec<String> {
    let within = |one: &str, other: &str| {
        other == "*" || one == other || one.starts_with(&format!("{}/", other.trim_end_matches('/')))
    };
    let mut left: Vec<String> = Vec::new();
    for (these, those) in [(own, above), (above, own)] {
        for one in these.iter().filter(|one| those.iter().any(|other| within(one, other))) {
            if !left.contains(one) {
                left.push(one.clone());
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree from `name(owner)` or `name(owner)<parent`, with `+child` for those it
    /// accepts.
    fn tree(text: &str) -> Tree {
        let mut tree = Tree::default();
        for word in text.split(' ') {
            let mut accepted = word.split('+');
            let (head, rest) = accepted.next().unwrap().split_once('(').unwrap();
            let (owner, parent) = rest.split_once(')').unwrap();
            let node = Node {
                owner: owner.into(),
                parent: parent.strip_prefix('<').map(Into::into),
                accepted: accepted.map(Into::into).collect(),
            };
            assert!(tree.set(head, node.clone()) && !tree.set(head, node));
        }
        tree
    }

    fn line(tree: &Tree, name: &str, members: &[(&str, &str, Role)]) -> String {
        let of = |workspace: &str| -> Vec<(String, Role)> {
            let own = members.iter().filter(|(at, ..)| *at == workspace);
            own.map(|(_, account, role)| ((*account).to_owned(), *role)).collect()
        };
        let all = tree.inherited(name, of);
        all.iter().map(|(account, role)| format!("{account}:{} ", role.name())).collect()
    }

    #[test]
    fn members_are_inherited_and_the_highest_role_counts() {
        let tree = tree("root(ada) team(ada)<root leaf(ada)<team");
        let members = [
            ("root", "bob", Role::Viewer),
            ("team", "bob", Role::Developer),
            ("root", "cy", Role::Manager),
            ("team", "cy", Role::Viewer),
        ];
        assert_eq!(line(&tree, "root", &members), "");
        assert_eq!(line(&tree, "team", &members), "ada:manager bob:viewer cy:manager ");
        assert_eq!(line(&tree, "leaf", &members), "ada:manager bob:developer cy:manager ");
    }

    #[test]
    fn anothers_parent_takes_both_sides() {
        let alone = tree("root(ada) leaf(bob)<root");
        assert_eq!(alone.parent("leaf"), Err(Problem::NotAccepted("root".into())));
        assert_eq!(line(&alone, "leaf", &[("root", "cy", Role::Viewer)]), "");
        assert_eq!(alone.below("root"), ["root"]);
        let agreed = tree("root(ada)+leaf leaf(bob)<root");
        assert_eq!(agreed.parent("leaf"), Ok(Some("root")));
        assert_eq!(line(&agreed, "leaf", &[("root", "cy", Role::Viewer)]), "ada:manager cy:viewer ");
        // One that isn't there says the same as one that isn't agreed to.
        let nowhere = tree("leaf(bob)<nowhere");
        assert_eq!(nowhere.parent("leaf"), Err(Problem::NotAccepted("nowhere".into())));
    }

    #[test]
    fn nothing_is_below_itself() {
        let own = tree("a(ada)<a");
        assert_eq!(own.parent("a"), Err(Problem::Cycle("a".into())));
        let ring = tree("a(ada)<c b(ada)<a c(ada)<b");
        for name in ["a", "b", "c"] {
            assert!(matches!(ring.parent(name), Err(Problem::Cycle(_))), "{name}");
            assert_eq!(line(&ring, name, &[("a", "bob", Role::Viewer)]), "", "{name}");
            assert_eq!(ring.below(name).len(), 3);
        }
        // What hangs below a ring has nothing firm above it.
        let mut below = ring;
        below.set("d", Node { owner: "ada".into(), parent: Some("a".into()), ..Node::default() });
        assert!(below.parent("d").is_err());
    }

    #[test]
    fn there_is_an_end_to_levels() {
        let mut tree = Tree::default();
        for level in 0..200 {
            let parent = (level > 0).then(|| format!("w{}", level - 1));
            tree.set(&format!("w{level}"), Node { owner: "ada".into(), parent, ..Node::default() });
        }
        assert!(tree.parent("w100").is_ok());
        assert_eq!(tree.above("w100").count(), 100);
        assert!(matches!(tree.parent("w150"), Err(Problem::TooDeep(_))));
    }

    #[test]
    fn a_move_concerns_what_is_below() {
        let mut tree = tree("root(ada) other(ada) team(ada)<root leaf(ada)<team twig(ada)<leaf");
        assert_eq!(tree.below("team"), ["team", "leaf", "twig"]);
        tree.set("team", Node { owner: "ada".into(), parent: Some("other".into()), ..Node::default() });
        assert_eq!(tree.below("root"), ["root"]);
        assert_eq!(tree.below("other"), ["other", "team", "leaf", "twig"]);
        assert_eq!(line(&tree, "twig", &[("root", "bob", Role::Viewer)]), "ada:manager ");
        tree.remove("team");
        assert_eq!(tree.below("other"), ["other"]);
        assert!(tree.parent("leaf").is_err());
    }

    #[test]
    fn a_plan_below_another_can_only_be_tighter() {
        let list = |names: &str| -> Vec<String> { names.split_whitespace().map(Into::into).collect() };
        let plan = |registries: &str, classes: &str, priorities: &str, pod_security| PlanSpec {
            registries: list(registries),
            storage_classes: list(classes),
            priority_classes: list(priorities),
            pod_security,
            ..PlanSpec::default()
        };
        let above = plan("docker.io quay.io/team", "*", "low", PodSecurity::Restricted);
        let own = plan("docker.io/library quay.io ghcr.io", "gold", "low high", PodSecurity::Baseline);
        let left = tighten(&above, &own);
        assert_eq!(left.registries, list("docker.io/library quay.io/team"));
        assert_eq!(left.storage_classes, list("gold"));
        assert_eq!(left.priority_classes, list("low"));
        assert_eq!(left.pod_security, PodSecurity::Restricted);
        let loose = plan("*", "*", "", PodSecurity::Baseline);
        assert_eq!(tighten(&above, &loose).registries, above.registries);
        assert_eq!(tighten(&loose, &own).registries, own.registries);
        assert!(
            tighten(
                &plan("docker.io/lib", "", "", PodSecurity::Baseline),
                &plan("docker.io/library", "", "", PodSecurity::Baseline)
            )
            .registries
            .is_empty()
        );
    }
}
