//! Workspaces below workspaces. Pure. Nothing is kept that follows from something
//! else: what is above a workspace is found by walking up from it, and a change
//! concerns what is below.
//!
//! Below a workspace of the same owner one is by naming it. Below another owner's it
//! takes both: the child names the parent with its owner, and the parent's
//! `acceptedChildren` names the child with its owner. So neither holds any longer
//! when the other one was handed over, or was made anew by somebody else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::role::Role;

/// How many levels there may be.
pub const LEVELS: usize = 128;

/// A workspace, as far as it matters to the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The account that owns it.
    pub owner: String,
    /// The workspace that it wants to be below: `name`, or `owner/name`.
    pub parent: Option<String>,
    /// Workspaces of other owners that may be below it, as `owner/name`.
    pub accepted: BTreeSet<String>,
}

impl Node {
    /// One that is below nothing.
    pub fn of(owner: &str) -> Self {
        Self { owner: owner.to_owned(), ..Self::default() }
    }

    /// Owner and name of the parent that it wants.
    pub fn wanted(&self) -> Option<(&str, &str)> {
        let parent = self.parent.as_deref()?;
        Some(parent.split_once('/').unwrap_or((&self.owner, parent)))
    }
}

/// Why a workspace isn't below the parent it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The owner has no such workspace.
    NotThere {
        /// The child's owner, and so the parent's.
        owner: String,
        /// The parent.
        parent: String,
    },
    /// Another owner has none of that name, or hasn't accepted: which of them it is,
    /// isn't for everybody to know.
    NotAccepted {
        /// The parent's owner.
        owner: String,
        /// The parent.
        parent: String,
        /// The child, as it has to be accepted.
        child: String,
    },
    /// It would be below itself: the names on the way round.
    Cycle(Vec<String>),
    /// It would be too far down.
    TooDeep(String),
    /// What is below it would be: how far, and the field that makes it so.
    Deepens {
        /// How many levels would be above the lowest.
        levels: usize,
        /// `spec.parent` or `spec.acceptedChildren`.
        field: &'static str,
    },
}

impl Problem {
    /// Its name in a condition.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotThere { .. } => "ParentMissing",
            Self::NotAccepted { .. } => "NotAccepted",
            Self::Cycle(_) => "Cycle",
            Self::TooDeep(_) | Self::Deepens { .. } => "TooDeep",
        }
    }

    /// Whether nobody can say what is above it, so that nothing which holds there is
    /// known to hold: the strictest does, and nobody inherits anything.
    pub const fn is_undecided(&self) -> bool {
        matches!(self, Self::Cycle(_) | Self::TooDeep(_))
    }
}

impl std::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere { owner, parent } => write!(
                out,
                "spec.parent: {owner} has no workspace `{parent}`: name another one; one of another owner is written OWNER/NAME"
            ),
            Self::NotAccepted { owner, parent, child } => write!(
                out,
                "spec.parent: {owner} has no workspace `{parent}`, or has not accepted `{child}` below it: ask {owner} (spec.acceptedChildren)"
            ),
            Self::Cycle(names) => write!(
                out,
                "spec.parent: a workspace would be below itself ({}): choose another parent",
                names.join(" below ")
            ),
            Self::TooDeep(parent) => write!(
                out,
                "spec.parent: `{parent}` has as many levels above it as there may be ({LEVELS}): choose another parent"
            ),
            Self::Deepens { levels, field } => write!(
                out,
                "{field}: what is below would have {levels} levels above it, and there may be {LEVELS}: move what is lowest to another place first"
            ),
        }
    }
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
        if let Some((_, parent)) = node.wanted() {
            self.named_by.entry(parent.to_owned()).or_default().insert(name.to_owned());
        }
        self.nodes.insert(name.to_owned(), node);
        true
    }

    /// A workspace is gone.
    pub fn remove(&mut self, name: &str) {
        let Some(node) = self.nodes.remove(name) else { return };
        let Some((_, parent)) = node.wanted() else { return };
        if let Some(named_by) = self.named_by.get_mut(parent) {
            named_by.remove(name);
            if named_by.is_empty() {
                self.named_by.remove(parent);
            }
        }
    }

    /// A workspace, if it is known.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }

    /// The parent of a workspace, or why it has none though it names one.
    ///
    /// # Errors
    /// What is wrong with the one it names.
    pub fn parent(&self, name: &str) -> Result<Option<&str>, Problem> {
        let Some(parent) = self.agreed(name)? else { return Ok(None) };
        let mut way = vec![name];
        let mut above = Some(parent);
        while way.len() <= LEVELS + 1 {
            match above {
                None => return Ok(Some(parent)),
                Some(above) if above == name => {
                    way.push(name);
                    return Err(Problem::Cycle(way.into_iter().map(str::to_owned).collect()));
                }
                Some(one) => {
                    way.push(one);
                    above = self.agreed(one).ok().flatten();
                }
            }
        }
        Err(Problem::TooDeep(parent.to_owned()))
    }

    /// The parent that both sides agree to.
    fn agreed(&self, name: &str) -> Result<Option<&str>, Problem> {
        let Some(node) = self.nodes.get(name) else { return Ok(None) };
        let Some((owner, parent)) = node.wanted() else { return Ok(None) };
        let above = self.nodes.get(parent).filter(|above| above.owner == owner);
        if owner == node.owner {
            let missing = || Problem::NotThere { owner: owner.to_owned(), parent: parent.to_owned() };
            return above.map(|_| Some(parent)).ok_or_else(missing);
        }
        let child = format!("{}/{name}", node.owner);
        match above {
            Some(above) if above.accepted.contains(&child) => Ok(Some(parent)),
            _ => Err(Problem::NotAccepted { owner: owner.to_owned(), parent: parent.to_owned(), child }),
        }
    }

    /// What is above a workspace, the nearest first.
    pub fn above<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        std::iter::successors(self.parent(name).ok().flatten(), |one| self.agreed(one).ok().flatten())
    }

    /// What is just below a workspace.
    pub fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named_by = self.named_by.get(name).into_iter().flatten().map(String::as_str);
        named_by.filter(move |child| self.agreed(child) == Ok(Some(name)))
    }

    /// All that was agreed to be above a workspace, the nearest first, however much it
    /// is: what is above one that is too far down, too.
    pub fn over<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        let mut seen = BTreeSet::from([name]);
        let above = |one: &&'a str| self.agreed(one).ok().flatten();
        std::iter::successors(above(&name), above).take_while(|one| seen.insert(one)).collect()
    }

    /// Takes over from another tree what names a workspace as its parent, what names
    /// that, and so on. What is known here stays as it is.
    pub fn take_below(&mut self, name: &str, from: &Self) {
        let mut next = vec![name.to_owned()];
        while let Some(one) = next.pop() {
            for child in from.named_by.get(&one).into_iter().flatten() {
                if let Some(node) = from.nodes.get(child).filter(|_| !self.nodes.contains_key(child)) {
                    self.set(child, node.clone());
                    next.push(child.clone());
                }
            }
        }
    }

    /// Whether there is room for all that is below a workspace, which `field` decides.
    ///
    /// # Errors
    /// How far down the lowest would be.
    pub fn has_room(&self, name: &str, field: &'static str) -> Result<(), Problem> {
        let mut seen = BTreeSet::from([name]);
        let mut level = vec![name];
        let mut levels = self.over(name).len();
        loop {
            level = level.iter().flat_map(|one| self.children(one)).filter(|one| seen.insert(one)).collect();
            match level.is_empty() {
                true if levels > LEVELS => return Err(Problem::Deepens { levels, field }),
                true => return Ok(()),
                false => levels += 1,
            }
        }
    }

    /// A workspace and all below it, what is higher first.
    pub fn below(&self, name: &str) -> Vec<String> {
        let mut found = vec![name.to_owned()];
        let mut seen: BTreeSet<String> = found.iter().cloned().collect();
        let mut next = 0;
        while let Some(one) = found.get(next).cloned() {
            next += 1;
            for child in self.children(&one) {
                if seen.insert(child.to_owned()) {
                    found.push(child.to_owned());
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

/// Whether a workspace may be changed as it is about to be, by who isn't an operator:
/// what another owner's workspace gives its people below isn't taken from them by who
/// owns what is below. `tree` has what was above it, and what will be.
///
/// # Errors
/// Which workspace (`owner/name`) has to let it go first.
pub fn may_leave(tree: &mut Tree, name: &str, before: Node, after: Node) -> Result<(), String> {
    let owner = after.owner.clone();
    tree.set(name, before);
    // Of one that is too far down as well.
    let above: Vec<String> = tree.over(name).into_iter().map(str::to_owned).collect();
    tree.set(name, after);
    let still: BTreeSet<&str> = tree.above(name).collect();
    let lost = above.iter().filter(|one| !still.contains(one.as_str()));
    let others = lost.filter_map(|one| Some((one, &tree.get(one)?.owner))).find(|(_, of)| **of != owner);
    others.map_or(Ok(()), |(one, of)| Err(format!("{of}/{one}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree from `name(owner)` or `name(owner)<parent`, with `+child` for those it
    /// accepts.
    pub fn tree(text: &str) -> Tree {
        let mut tree = Tree::default();
        for word in text.split(' ') {
            let (name, node) = node(word);
            assert!(tree.set(&name, node.clone()) && !tree.set(&name, node));
        }
        tree
    }

    fn node(word: &str) -> (String, Node) {
        let mut accepted = word.split('+');
        let (name, rest) = accepted.next().unwrap().split_once('(').unwrap();
        let (owner, parent) = rest.split_once(')').unwrap();
        let parent = parent.strip_prefix('<').map(Into::into);
        (name.into(), Node { owner: owner.into(), parent, accepted: accepted.map(Into::into).collect() })
    }

    fn line(tree: &Tree, name: &str, members: &[(&str, &str, Role)]) -> String {
        let of = |workspace: &str| -> Vec<(String, Role)> {
            let own = members.iter().filter(|(at, ..)| *at == workspace);
            own.map(|(_, account, role)| ((*account).to_owned(), *role)).collect()
        };
        let all = tree.inherited(name, of);
        all.iter().map(|(account, role)| format!("{account}:{} ", role.name())).collect()
    }

    fn reason(tree: &Tree, name: &str) -> &'static str {
        tree.parent(name)
            .map_or_else(|problem| problem.reason(), |parent| if parent.is_some() { "" } else { "none" })
    }

    #[test]
    fn members_are_inherited_and_the_highest_role_counts() {
        let tree = tree("root(ada) team(ada)<root leaf(ada)<team");
        let members = [
            ("root", "bob", Role::Viewer),
            ("team", "bob", Role::Developer),
            ("root", "cy", Role::Manager),
            ("team", "cy", Role::Viewer),
            ("team", "dan", Role::Owner),
        ];
        assert_eq!(line(&tree, "root", &members), "");
        assert_eq!(line(&tree, "team", &members), "ada:manager bob:viewer cy:manager ");
        assert_eq!(line(&tree, "leaf", &members), "ada:manager bob:developer cy:manager dan:manager ");
    }

    #[test]
    fn anothers_parent_takes_both_sides() {
        let members = [("root", "cy", Role::Viewer)];
        // Neither side alone, nor an agreement with somebody else of that name.
        for (text, wanted) in [
            ("root(ada) leaf(bob)<root", "ParentMissing"),
            ("root(ada) leaf(bob)<ada/root", "NotAccepted"),
            ("root(ada)+bob/leaf leaf(bob)", "none"),
            ("root(ada)+bob/leaf leaf(bob)<root", "ParentMissing"),
            ("root(ada)+eve/leaf leaf(bob)<ada/root", "NotAccepted"),
            ("root(eve)+bob/leaf leaf(bob)<ada/root", "NotAccepted"),
            ("root(ada)+bob/leaf leaf(eve)<ada/root", "NotAccepted"),
            // One that isn't there says the same as one that isn't agreed to.
            ("leaf(bob)<ada/root", "NotAccepted"),
        ] {
            let tree = tree(text);
            assert_eq!(reason(&tree, "leaf"), wanted, "{text}");
            assert_eq!(line(&tree, "leaf", &members), "", "{text}");
            assert_eq!(tree.below("root"), ["root"], "{text}");
        }
        let agreed = tree("root(ada)+bob/leaf leaf(bob)<ada/root");
        assert_eq!(agreed.parent("leaf"), Ok(Some("root")));
        assert_eq!(line(&agreed, "leaf", &members), "ada:manager cy:viewer ");
    }

    #[test]
    fn nothing_is_below_itself() {
        let own = tree("a(ada)<a");
        assert_eq!(own.parent("a"), Err(Problem::Cycle(vec!["a".into(), "a".into()])));
        let ring = tree("a(ada)<c b(ada)<a c(ada)<b");
        let told = ring.parent("a").unwrap_err().to_string();
        assert!(told.contains("(a below c below b below a)"), "{told}");
        for name in ["a", "b", "c"] {
            assert_eq!(reason(&ring, name), "Cycle");
            assert_eq!(line(&ring, name, &[("a", "bob", Role::Viewer)]), "", "{name}");
            assert_eq!(ring.below(name).len(), 3);
        }
        // What hangs below a ring has nothing firm above it.
        let mut below = ring;
        below.set("d", Node { parent: Some("a".into()), ..Node::of("ada") });
        assert!(below.parent("d").is_err());
    }

    #[test]
    fn there_is_an_end_to_levels() {
        let mut tree = Tree::default();
        for level in 0..200 {
            let parent = (level > 0).then(|| format!("w{}", level - 1));
            tree.set(&format!("w{level}"), Node { parent, ..Node::of("ada") });
        }
        assert!(tree.parent("w100").is_ok());
        assert_eq!(tree.above("w100").count(), 100);
        assert_eq!(tree.above("w128").count(), 128);
        assert!(matches!(tree.parent("w129"), Err(Problem::TooDeep(_))));
    }

    /// `first`, and so many below it, each below the one before.
    fn chain(tree: &mut Tree, first: &str, below: usize) {
        let owner = tree.get(first).unwrap().owner.clone();
        for level in 1..=below {
            let above = if level == 1 { first.to_owned() } else { format!("{first}{}", level - 1) };
            tree.set(&format!("{first}{level}"), Node { parent: Some(above), ..Node::of(&owner) });
        }
    }

    #[test]
    fn what_hangs_below_has_to_have_room() {
        let mut known = tree("a(ada) b(ada) low(bob)<ada/a");
        chain(&mut known, "a", 60);
        chain(&mut known, "b", 67);
        chain(&mut known, "low", 61);
        let room = |parent: &str, accepted: &[&str]| {
            // As admission has it: what is above was looked up, what is below is known.
            let mut tree = Tree::default();
            for above in known.over(parent).into_iter().chain([parent]) {
                tree.set(above, known.get(above).unwrap().clone());
            }
            let accepted = accepted.iter().map(|child| (*child).to_owned()).collect();
            tree.set("a", Node { parent: Some(parent.into()), accepted, ..Node::of("ada") });
            tree.take_below("a", &known);
            tree.parent("a").map(drop).and_then(|()| tree.has_room("a", "spec.parent"))
        };
        let deepens = |levels| Err(Problem::Deepens { levels, field: "spec.parent" });
        assert_eq!(room("b66", &[]), Ok(()));
        assert_eq!(room("b67", &[]), Ok(()));
        // What isn't accepted isn't below, and what is counts.
        assert_eq!(room("b65", &["bob/low"]), Ok(()));
        assert_eq!(room("b66", &["bob/low"]), deepens(129));
        assert_eq!(room("b67", &["bob/low"]), deepens(130));
        let told = room("b67", &["bob/low"]).unwrap_err().to_string();
        assert!(told.starts_with("spec.parent: what is below would have 130 levels above it"), "{told}");
    }

    #[test]
    fn who_is_too_far_down_has_nobody_from_above_and_all_that_is_over_it() {
        let mut tree = tree("root(ada)");
        chain(&mut tree, "root", 130);
        let members = [("root", "bob", Role::Viewer)];
        assert_eq!(line(&tree, "root128", &members), "ada:manager bob:viewer ");
        assert_eq!(line(&tree, "root129", &members), "");
        assert!(tree.parent("root129").unwrap_err().is_undecided());
        assert_eq!(tree.over("root130").len(), 130);
        assert_eq!(tree.over("root130").last(), Some(&"root"));
        // It isn't let go by being there.
        tree.set("root", Node { accepted: ["bob/root1".into()].into(), ..Node::of("ada") });
        tree.set("root1", Node { parent: Some("ada/root".into()), ..Node::of("bob") });
        chain(&mut tree, "root1", 129);
        let before = tree.get("root1129").unwrap().clone();
        assert!(tree.parent("root1129").is_err());
        assert_eq!(may_leave(&mut tree, "root1129", before, Node::of("bob")), Err("ada/root".into()));
    }

    #[test]
    fn a_ring_has_an_end() {
        let ring = tree("a(ada)<c b(ada)<a c(ada)<b d(ada)<a");
        assert_eq!(ring.over("d"), ["a", "c", "b"]);
        assert_eq!(ring.over("a"), ["c", "b"]);
        assert_eq!(ring.has_room("a", "spec.parent"), Ok(()));
        assert!(ring.parent("d").unwrap_err().is_undecided());
    }

    #[test]
    fn a_move_concerns_what_is_below() {
        let mut tree = tree("root(ada) other(ada) team(ada)<root leaf(ada)<team twig(ada)<leaf");
        assert_eq!(tree.below("team"), ["team", "leaf", "twig"]);
        tree.set("team", Node { parent: Some("other".into()), ..Node::of("ada") });
        assert_eq!(tree.below("root"), ["root"]);
        assert_eq!(tree.below("other"), ["other", "team", "leaf", "twig"]);
        assert_eq!(line(&tree, "twig", &[("root", "bob", Role::Viewer)]), "ada:manager ");
        tree.remove("team");
        assert_eq!(tree.below("other"), ["other"]);
        assert!(tree.parent("leaf").is_err());
    }

    #[test]
    fn what_is_anothers_lets_go_first() {
        let check = |tree: &str, now: &str, wanted: Result<(), &str>| {
            let mut tree = self::tree(tree);
            let (name, after) = node(now);
            let before = tree.get(&name).unwrap().clone();
            assert_eq!(may_leave(&mut tree, &name, before, after), wanted.map_err(str::to_owned), "{now}");
        };
        let all = "root(ada)+bob/mid mid(bob)<ada/root leaf(bob)<mid other(bob)<mid own(bob)";
        check(all, "mid(bob)", Err("ada/root"));
        check(all, "leaf(bob)", Err("ada/root"));
        check(all, "leaf(bob)<own", Err("ada/root"));
        check(all, "leaf(bob)<other", Ok(()));
        check(all, "own(bob)<leaf", Ok(()));
        // It was let go.
        check("root(ada) mid(bob)<ada/root leaf(bob)<mid", "leaf(bob)", Ok(()));
        check("root(ada) mid(bob)<ada/root leaf(bob)<mid", "mid(bob)", Ok(()));
    }
}
