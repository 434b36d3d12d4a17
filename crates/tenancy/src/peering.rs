//! Which workspaces agree that their pods may talk. Pure: it is told of each object's
//! change, and says which workspaces that concerns.
//!
//! What is said of a peering that isn't in force is the same whether the other workspace
//! isn't there, belongs to somebody else, rests, or doesn't agree.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use api::PeeringSpec;
use api::peering::{Allowed, Opened};

/// How long what one workspace opens may be, as JSON: it has to have room in an
/// annotation.
pub const ROOM: usize = 100 << 10;

/// A workspace, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The account that owns it.
    pub owner: String,
    /// Its namespace, once it has one.
    pub namespace: Option<String>,
    /// Whether nothing runs in it, or it is about to go.
    pub rests: bool,
}

/// Another workspace that a workspace's pods may talk with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peer {
    /// The other one's namespace.
    pub namespace: String,
    /// What it may reach here.
    pub allow: Vec<Allowed>,
    /// Whether it lets anything be reached there.
    pub is_open: bool,
}

/// How a peering is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Pods may talk; the other one's namespace.
    InForce(String),
    /// The other one, and this one as it has to be named there.
    Waits { with: String, own: String },
    /// It names its own workspace.
    Itself,
    /// Its own workspace rests.
    Rests,
    /// There is no room for more.
    NoRoom,
}

impl State {
    /// A condition's reason and message.
    pub fn told(&self) -> (&'static str, String) {
        match self {
            Self::InForce(namespace) => {
                ("Agreed", format!("both sides agree: Services there are reached at NAME.{namespace}.svc"))
            }
            Self::Waits { with, own } => (
                "Waiting",
                format!(
                    "it waits for the other side: {with} has to make a peering with {own} (`atoll peering create {own}`)"
                ),
            ),
            Self::Itself => {
                ("Itself", "spec.with: this is the workspace itself, whose pods may talk anyway".into())
            }
            Self::Rests => ("Resting", "nothing runs in this workspace, so it talks to nobody".into()),
            Self::NoRoom => (
                "NoRoom",
                "this workspace opens more to others than there is room for: allow less, or to fewer".into(),
            ),
        }
    }
}

/// All workspaces and their peerings.
#[derive(Debug, Default)]
pub struct Peerings {
    places: HashMap<String, Place>,
    workspaces: HashMap<String, String>,
    /// By namespace, then by the peering's name.
    wishes: HashMap<String, BTreeMap<String, PeeringSpec>>,
    /// By the name of the workspace that is named: the peerings that do.
    named_by: HashMap<String, BTreeSet<(String, String)>>,
}

impl Peerings {
    /// A workspace as it is now; says which workspaces that concerns.
    pub fn set_place(&mut self, name: &str, place: Place) -> BTreeSet<String> {
        if self.places.get(name) == Some(&place) {
            return BTreeSet::new();
        }
        let mut concerned = self.remove_place(name);
        if let Some(namespace) = &place.namespace {
            self.workspaces.insert(namespace.clone(), name.to_owned());
        }
        self.places.insert(name.to_owned(), place);
        concerned.extend(self.near(name));
        concerned
    }

    /// A workspace is gone.
    pub fn remove_place(&mut self, name: &str) -> BTreeSet<String> {
        let concerned = self.near(name);
        if let Some(namespace) = self.places.remove(name).and_then(|place| place.namespace) {
            self.workspaces.remove(&namespace);
        }
        concerned
    }

    /// A peering as it is now.
    pub fn set(&mut self, namespace: &str, name: &str, spec: PeeringSpec) -> BTreeSet<String> {
        if self.wishes.get(namespace).and_then(|all| all.get(name)) == Some(&spec) {
            return BTreeSet::new();
        }
        let mut concerned = self.remove(namespace, name);
        let other = target(&spec).to_owned();
        self.named_by.entry(other.clone()).or_default().insert((namespace.to_owned(), name.to_owned()));
        self.wishes.entry(namespace.to_owned()).or_default().insert(name.to_owned(), spec);
        concerned.extend(self.workspaces.get(namespace).cloned());
        concerned.insert(other);
        concerned
    }

    /// A peering is gone.
    pub fn remove(&mut self, namespace: &str, name: &str) -> BTreeSet<String> {
        let Some(all) = self.wishes.get_mut(namespace) else { return BTreeSet::new() };
        let gone = all.remove(name);
        if all.is_empty() {
            self.wishes.remove(namespace);
        }
        let Some(gone) = gone else { return BTreeSet::new() };
        let other = target(&gone).to_owned();
        if let Some(named_by) = self.named_by.get_mut(&other) {
            named_by.remove(&(namespace.to_owned(), name.to_owned()));
            if named_by.is_empty() {
                self.named_by.remove(&other);
            }
        }
        self.workspaces.get(namespace).cloned().into_iter().chain([other]).collect()
    }

    /// Every peering that is known, as namespace and name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.wishes
            .iter()
            .flat_map(|(namespace, all)| all.keys().map(move |name| (namespace.as_str(), name.as_str())))
    }

    /// The names of the peerings in a namespace.
    pub fn of(&self, namespace: &str) -> impl Iterator<Item = &str> + use<'_> {
        self.wishes.get(namespace).into_iter().flat_map(|all| all.keys().map(String::as_str))
    }

    /// A workspace, those that it names, and those that name it.
    pub fn near(&self, name: &str) -> BTreeSet<String> {
        let own = self.places.get(name).and_then(|place| place.namespace.as_ref());
        let named = own.and_then(|namespace| self.wishes.get(namespace)).into_iter().flatten();
        let named = named.map(|(_, spec)| target(spec).to_owned());
        let named_by = self.named_by.get(name).into_iter().flatten();
        let named_by = named_by.filter_map(|(namespace, _)| self.workspaces.get(namespace).cloned());
        named.chain(named_by).chain([name.to_owned()]).collect()
    }

    /// With whom a workspace's pods may talk, in order. `is_shut` says of which workspaces
    /// nobody can say what holds for them: those talk to nobody.
    pub fn peers(&self, name: &str, is_shut: impl Fn(&str) -> bool) -> Vec<Peer> {
        let mut peers: BTreeMap<&str, Peer> = BTreeMap::new();
        let Some((own, wishes)) = self.wishes_of(name) else { return Vec::new() };
        let mut left = ROOM;
        for (other, spec) in wishes.values().filter_map(|spec| Some((self.other(name, own, spec)?, spec))) {
            if own.rests || is_shut(name) || is_shut(other) {
                continue;
            }
            let Some(namespace) = self.places.get(other).and_then(|place| place.namespace.clone()) else {
                continue;
            };
            let Some(rest) = left.checked_sub(size(spec)) else { break };
            left = rest;
            let is_open = self.agreed(other, name).any(|there| !there.allow.is_empty());
            let peer = peers.entry(other).or_insert_with(|| Peer { namespace, allow: Vec::new(), is_open });
            peer.allow.extend(spec.allow.iter().cloned());
        }
        peers.into_values().collect()
    }

    /// How a peering is.
    pub fn state(&self, namespace: &str, name: &str, is_shut: impl Fn(&str) -> bool) -> Option<State> {
        let workspace = self.workspaces.get(namespace)?;
        let (own, wishes) = self.wishes_of(workspace)?;
        let spec = wishes.get(name)?;
        let (owner, other) = spec.other(&own.owner);
        if other == workspace && owner == own.owner {
            return Some(State::Itself);
        }
        if own.rests || is_shut(workspace) {
            return Some(State::Rests);
        }
        let waits =
            State::Waits { with: format!("{owner}/{other}"), own: format!("{}/{workspace}", own.owner) };
        let there = self.other(workspace, own, spec).filter(|other| !is_shut(other));
        let Some(there) = there.and_then(|other| self.places.get(other)?.namespace.clone()) else {
            return Some(waits);
        };
        let has_room = self.peers(workspace, is_shut).iter().any(|peer| {
            peer.namespace == there && spec.allow.iter().all(|allowed| peer.allow.contains(allowed))
        });
        Some(if has_room { State::InForce(there) } else { State::NoRoom })
    }

    fn wishes_of(&self, name: &str) -> Option<(&Place, &BTreeMap<String, PeeringSpec>)> {
        let place = self.places.get(name)?;
        Some((place, self.wishes.get(place.namespace.as_ref()?)?))
    }

    /// The workspace that a peering of `name` names, if that agrees.
    fn other<'a>(&'a self, name: &str, own: &Place, spec: &'a PeeringSpec) -> Option<&'a str> {
        let (owner, other) = spec.other(&own.owner);
        let there = self.places.get(other)?;
        let agrees = there.owner == owner && !there.rests && other != name;
        (agrees && self.agreed(other, name).next().is_some()).then(|| target(spec))
    }

    /// The peerings of `of` that name `name`, with its owner.
    fn agreed<'a>(&'a self, of: &str, name: &'a str) -> impl Iterator<Item = &'a PeeringSpec> {
        let owner = self.places.get(name).map(|place| place.owner.as_str());
        let wishes = self.wishes_of(of);
        wishes.into_iter().flat_map(move |(place, wishes)| {
            wishes.values().filter(move |spec| {
                let (wanted, other) = spec.other(&place.owner);
                other == name && Some(wanted) == owner
            })
        })
    }
}

/// The name of the workspace that a peering names.
fn target(spec: &PeeringSpec) -> &str {
    // Whose it is doesn't matter to its name.
    spec.other("").1
}

/// How much room a peering takes.
fn size(spec: &PeeringSpec) -> usize {
    // A namespace's name is at most 63 long.
    serde_json::to_string(&spec.allow).map_or(usize::MAX, |text| text.len() + 100)
}

/// What is told to the nodes.
pub fn annotation(peers: &[Peer]) -> Option<String> {
    let opened: Vec<Opened> = peers
        .iter()
        .filter(|peer| !peer.allow.is_empty())
        .map(|peer| Opened { from: peer.namespace.clone(), allow: peer.allow.clone() })
        .collect();
    if opened.is_empty() { None } else { serde_json::to_string(&opened).ok() }
}

#[cfg(test)]
#[path = "peering_tests.rs"]
mod tests;
