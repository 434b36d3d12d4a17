//! What the controller knows of who is where. The watches tell it before anything is
//! reconciled, and it tells of which workspaces something follows from that.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Mutex;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use kube::runtime::watcher::{self, Event};

use api::names::{DEFAULT_PLAN, SYSTEM_NAMESPACE};
use api::people::People;
use api::tree::Problem;
use api::{Member, Peering, Role, Workspace};

use super::lock;
use crate::deletion::Child;
use crate::peering::{Peer, Peerings, Place, State};

/// What is known.
pub struct Index {
    known: Mutex<Known>,
    concerned: UnboundedSender<String>,
}

#[derive(Default)]
struct Known {
    people: People,
    peerings: Peerings,
    /// The plan that each workspace names, which holds for what is below it as well.
    plans: HashMap<String, Option<String>>,
}

impl Index {
    /// Nothing is known yet. What comes out are the names of workspaces that have to be
    /// looked at.
    pub fn new() -> (Self, UnboundedReceiver<String>) {
        let (concerned, out) = unbounded();
        (Self { known: Mutex::default(), concerned }, out)
    }

    fn tell(&self, names: impl IntoIterator<Item = String>) {
        for name in names {
            // Nobody listens any more when all of it ends.
            let _ = self.concerned.unbounded_send(name);
        }
    }

    /// What happened to a workspace; `all` has it already.
    pub fn hear_workspace(&self, event: &watcher::Result<Event<Workspace>>, all: &Store<Workspace>) {
        let mut known = lock(&self.known);
        let concerned = match event {
            Ok(Event::Apply(workspace) | Event::InitApply(workspace)) => known.set(workspace),
            Ok(Event::Delete(workspace)) => known.remove(&workspace.name_any()),
            // What went while nobody listened is not in the list.
            Ok(Event::InitDone) => {
                let there: HashSet<String> = all.state().iter().map(|one| one.name_any()).collect();
                let gone: Vec<String> =
                    known.plans.keys().filter(|name| !there.contains(*name)).cloned().collect();
                gone.iter().flat_map(|name| known.remove(name)).collect()
            }
            _ => BTreeSet::new(),
        };
        // Who comes to be too far down, or no longer is, talks with others.
        let near: BTreeSet<String> = concerned.iter().flat_map(|name| known.peerings.near(name)).collect();
        self.tell(near);
    }

    /// What happened to a member; `all` has it already.
    pub fn hear_member(&self, event: &watcher::Result<Event<Member>>, all: &Store<Member>) {
        let mut known = lock(&self.known);
        let place = |member: &Member| (member.namespace().unwrap_or_default(), member.name_any());
        let concerned = match event {
            Ok(Event::Apply(member) | Event::InitApply(member)) => {
                let (namespace, account) = place(member);
                known.people.set_member(&namespace, &account, member.spec.role)
            }
            Ok(Event::Delete(member)) => {
                let (namespace, account) = place(member);
                known.people.remove_member(&namespace, &account)
            }
            Ok(Event::InitDone) => {
                let there: HashSet<(String, String)> = all.state().iter().map(|one| place(one)).collect();
                let all =
                    known.people.all_members().map(|(namespace, account)| (namespace.into(), account.into()));
                let gone: Vec<(String, String)> = all.filter(|member| !there.contains(member)).collect();
                let removed = gone
                    .iter()
                    .flat_map(|(namespace, account)| known.people.remove_member(namespace, account));
                removed.collect()
            }
            _ => BTreeSet::new(),
        };
        self.tell(concerned);
    }

    /// What happened to a peering; `all` has it already.
    pub fn hear_peering(&self, event: &watcher::Result<Event<Peering>>, all: &Store<Peering>) {
        let mut known = lock(&self.known);
        let place = |peering: &Peering| (peering.namespace().unwrap_or_default(), peering.name_any());
        let concerned = match event {
            Ok(Event::Apply(peering) | Event::InitApply(peering)) => {
                let (namespace, name) = place(peering);
                known.peerings.set(&namespace, &name, peering.spec.clone())
            }
            Ok(Event::Delete(peering)) => {
                let (namespace, name) = place(peering);
                known.peerings.remove(&namespace, &name)
            }
            Ok(Event::InitDone) => {
                let there: HashSet<(String, String)> = all.state().iter().map(|one| place(one)).collect();
                let all = known.peerings.all().map(|(namespace, name)| (namespace.into(), name.into()));
                let gone: Vec<(String, String)> = all.filter(|one| !there.contains(one)).collect();
                gone.iter().flat_map(|(namespace, name)| known.peerings.remove(namespace, name)).collect()
            }
            _ => BTreeSet::new(),
        };
        self.tell(concerned);
    }

    /// With whom a workspace's pods may talk.
    pub fn peers(&self, name: &str) -> Vec<Peer> {
        let known = lock(&self.known);
        known.peerings.peers(name, |name| known.is_shut(name))
    }

    /// How the peerings in a namespace are, by name.
    pub fn peerings(&self, namespace: &str) -> Vec<(String, State)> {
        let known = lock(&self.known);
        let names = known.peerings.of(namespace);
        let state = |name: &str| known.peerings.state(namespace, name, |name| known.is_shut(name));
        names.filter_map(|name| Some((name.to_owned(), state(name)?))).collect()
    }

    /// Everybody's role in a workspace, by itself and by what is above it.
    pub fn roles(&self, name: &str) -> BTreeMap<String, Role> {
        lock(&self.known).people.roles(name)
    }

    /// Everybody's role in a workspace by itself.
    pub fn direct(&self, name: &str) -> BTreeMap<String, Role> {
        lock(&self.known).people.direct(name)
    }

    /// The plans that the workspaces above this one name, the nearest first, or why it
    /// isn't below the one that it names.
    pub fn plans_above(&self, name: &str) -> Result<Vec<Option<String>>, Problem> {
        let known = lock(&self.known);
        let tree = known.people.tree();
        tree.parent(name)?;
        Ok(tree.above(name).map(|above| known.plans.get(above).cloned().flatten()).collect())
    }

    /// What is above a workspace, the nearest first.
    pub fn above(&self, name: &str) -> Vec<String> {
        lock(&self.known).people.tree().above(name).map(str::to_owned).collect()
    }

    /// All that is over a workspace, the nearest first, however far down it is: what is
    /// used there counts in every quota.
    pub fn over(&self, name: &str) -> Vec<String> {
        lock(&self.known).people.tree().over(name).into_iter().map(str::to_owned).collect()
    }

    /// A workspace's namespace.
    pub fn namespace_of(&self, name: &str) -> Option<String> {
        lock(&self.known).people.namespace_of(name).map(str::to_owned)
    }

    /// The workspace that has a namespace.
    pub fn workspace_of(&self, namespace: &str) -> Option<String> {
        lock(&self.known).people.workspace_of(namespace).map(str::to_owned)
    }

    /// An account has come, changed or gone: that concerns what it owns, and what is below
    /// the workspaces in which it is a member.
    pub fn look_at_account(&self, account: &str) {
        let known = lock(&self.known);
        let people = &known.people;
        let owned = known
            .plans
            .keys()
            .filter(|name| people.tree().get(name).is_some_and(|node| node.owner == account));
        let member = people.all_members().filter(|(_, member)| *member == account);
        let member = member.filter_map(|(namespace, _)| people.workspace_of(namespace));
        let below = member.flat_map(|name| people.tree().below(name));
        self.tell(owned.cloned().chain(below).collect::<BTreeSet<String>>());
    }

    /// A plan has come, changed or gone: that concerns what names it, and what is below
    /// that.
    pub fn look_at_plan(&self, plan: &str) {
        let known = lock(&self.known);
        let named = known.plans.iter().filter(|(_, named)| named.as_deref().unwrap_or(DEFAULT_PLAN) == plan);
        let below = named.flat_map(|(name, _)| known.people.tree().below(name));
        self.tell(below.collect::<BTreeSet<String>>());
    }

    /// Something in a namespace concerns what is below: below Atoll's own everything is.
    pub fn look_below(&self, namespace: &str) {
        let known = lock(&self.known);
        if namespace == SYSTEM_NAMESPACE {
            return self.tell(known.plans.keys().cloned());
        }
        let below = known.people.workspace_of(namespace).map(|name| known.people.tree().below(name));
        self.tell(below.unwrap_or_default());
    }

    /// What is just below a workspace.
    pub fn below(&self, name: &str) -> Vec<Child> {
        let known = lock(&self.known);
        let tree = known.people.tree();
        let child = |child: &str| {
            let owner = tree.get(child).map(|node| node.owner.clone()).unwrap_or_default();
            Child { owner, name: child.to_owned() }
        };
        tree.children(name).map(child).collect()
    }

    /// How many of these are just below a workspace.
    pub fn children(&self, name: &str, of: impl Fn(&str) -> bool) -> usize {
        lock(&self.known).people.tree().children(name).filter(|child| of(child)).count()
    }
}

impl Known {
    fn set(&mut self, workspace: &Workspace) -> BTreeSet<String> {
        let name = workspace.name_any();
        let namespace = workspace.status.as_ref().and_then(|status| status.namespace.as_deref());
        let mut concerned = self.people.set_workspace(&name, workspace.node(), namespace);
        let place = Place {
            owner: workspace.spec.owner.clone(),
            namespace: namespace.map(Into::into),
            rests: workspace.rests() || workspace.metadata.deletion_timestamp.is_some(),
        };
        concerned.extend(self.peerings.set_place(&name, place));
        let plan = workspace.spec.plan.clone();
        if self.plans.insert(name.clone(), plan.clone()) != Some(plan) {
            concerned.extend(self.people.tree().below(&name));
        }
        concerned
    }

    fn remove(&mut self, name: &str) -> BTreeSet<String> {
        self.plans.remove(name);
        let mut concerned = self.peerings.remove_place(name);
        concerned.extend(self.people.remove_workspace(name));
        concerned
    }

    /// Whether nobody can say what holds for a workspace.
    fn is_shut(&self, name: &str) -> bool {
        self.people.tree().parent(name).is_err_and(|problem| problem.is_undecided())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::{MemberSpec, SharedQuota, SharedQuotaSpec, WorkspaceSpec, WorkspaceStatus};
    use kube::runtime::reflector;

    use super::*;
    use crate::quota::cover::{self, Cover};

    fn workspace(name: &str, parent: Option<&str>, plan: &str) -> Workspace {
        let mut workspace = Workspace::new(
            name,
            WorkspaceSpec {
                owner: "ada".into(),
                parent: parent.map(Into::into),
                plan: Some(plan.into()),
                ..WorkspaceSpec::default()
            },
        );
        workspace.status =
            Some(WorkspaceStatus { namespace: Some(format!("{name}-x")), ..WorkspaceStatus::default() });
        workspace
    }

    fn told(out: &mut UnboundedReceiver<String>) -> String {
        let mut names = BTreeSet::new();
        while let Ok(name) = out.try_recv() {
            names.insert(name);
        }
        names.into_iter().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_plan_concerns_what_is_below() {
        let (index, mut out) = Index::new();
        let (store, _writer) = reflector::store::<Workspace>();
        let mut hear = |workspace| {
            index.hear_workspace(&Ok(Event::Apply(workspace)), &store);
            told(&mut out)
        };
        assert_eq!(hear(workspace("root", None, "small")), "root");
        assert_eq!(hear(workspace("leaf", Some("root"), "large")), "leaf");
        assert_eq!(hear(workspace("root", None, "small")), "");
        assert_eq!(hear(workspace("root", None, "tiny")), "leaf root");
        assert_eq!(index.plans_above("leaf"), Ok(vec![Some("tiny".into())]));
        assert_eq!(index.plans_above("root"), Ok(vec![]));
        assert_eq!(index.children("root", |_| true), 1);
    }

    #[test]
    fn an_account_or_a_plan_concerns_no_more_than_it_must() {
        let (index, mut out) = Index::new();
        let (store, _writer) = reflector::store::<Workspace>();
        let (members, _member_writer) = reflector::store::<Member>();
        let mut alone = workspace("alone", None, "q");
        alone.spec.plan = None;
        alone.spec.owner = "bob".into();
        for one in [workspace("root", None, "p"), workspace("leaf", Some("root"), "q"), alone] {
            index.hear_workspace(&Ok(Event::Apply(one)), &store);
        }
        let mut member = Member::new("cy", MemberSpec { account: "cy".into(), role: Role::Viewer });
        member.metadata.namespace = Some("root-x".into());
        index.hear_member(&Ok(Event::Apply(member)), &members);
        told(&mut out);
        let mut account = |name: &str| {
            index.look_at_account(name);
            told(&mut out)
        };
        assert_eq!((account("ada"), account("bob")), ("leaf root".into(), "alone".into()));
        assert_eq!((account("cy"), account("eve")), ("leaf root".into(), String::new()));
        let mut plan = |name: &str| {
            index.look_at_plan(name);
            told(&mut out)
        };
        assert_eq!((plan("p"), plan("q")), ("leaf root".into(), "leaf".into()));
        assert_eq!((plan(DEFAULT_PLAN), plan("r")), ("alone".into(), String::new()));
        let mut object = |namespace: &str| {
            index.look_below(namespace);
            told(&mut out)
        };
        assert_eq!((object("leaf-x"), object("nowhere")), ("leaf".into(), String::new()));
        assert_eq!(object(SYSTEM_NAMESPACE), "alone leaf root");
    }

    #[test]
    fn what_a_list_does_not_name_is_gone() {
        let (index, mut out) = Index::new();
        let (workspaces, mut writer) = reflector::store::<Workspace>();
        let (members, mut member_writer) = reflector::store::<Member>();
        let mut member = Member::new("bob", MemberSpec { account: "bob".into(), role: Role::Viewer });
        member.metadata.namespace = Some("root-x".into());
        for event in [
            Event::Init,
            Event::InitApply(workspace("root", None, "p")),
            Event::InitApply(workspace("leaf", Some("root"), "p")),
            Event::InitDone,
        ] {
            writer.apply_watcher_event(&event);
            index.hear_workspace(&Ok(event), &workspaces);
        }
        for event in [Event::Init, Event::InitApply(member), Event::InitDone] {
            member_writer.apply_watcher_event(&event);
            index.hear_member(&Ok(event), &members);
        }
        assert_eq!(index.roles("leaf").get("bob"), Some(&Role::Viewer));
        told(&mut out);
        for event in [Event::Init, Event::InitDone] {
            member_writer.apply_watcher_event(&event);
            index.hear_member(&Ok(event), &members);
        }
        assert_eq!(told(&mut out), "leaf root");
        assert_eq!(index.roles("leaf").get("bob"), None);
        for event in [Event::Init, Event::InitApply(workspace("leaf", Some("root"), "p")), Event::InitDone] {
            writer.apply_watcher_event(&event);
            index.hear_workspace(&Ok(event), &workspaces);
        }
        assert_eq!(told(&mut out), "leaf root");
        assert!(index.plans_above("leaf").is_err());
    }

    #[test]
    fn a_peering_concerns_both_sides_and_ends_where_nobody_can_say_what_holds() {
        let (index, mut out) = Index::new();
        let (store, _writer) = reflector::store::<Workspace>();
        let (peerings, mut peering_writer) = reflector::store::<Peering>();
        let hear = |workspace| index.hear_workspace(&Ok(Event::Apply(workspace)), &store);
        hear(workspace("root", None, "p"));
        hear(workspace("shop", Some("root"), "p"));
        hear(workspace("bank", None, "p"));
        told(&mut out);
        let peering = |namespace: &str, with: &str| {
            let spec = api::PeeringSpec { with: with.into(), allow: vec![api::peering::Allowed::default()] };
            let mut peering = Peering::new("p", spec);
            peering.metadata.namespace = Some(namespace.into());
            peering
        };
        let all = [peering("shop-x", "ada/bank"), peering("bank-x", "shop")];
        for event in
            [Event::Init].into_iter().chain(all.clone().map(Event::InitApply)).chain([Event::InitDone])
        {
            peering_writer.apply_watcher_event(&event);
            index.hear_peering(&Ok(event), &peerings);
        }
        assert_eq!(told(&mut out), "bank shop");
        assert_eq!((index.peers("shop").len(), index.peers("bank").len()), (1, 1));
        // A status says nothing new.
        index.hear_peering(&Ok(Event::Apply(all[0].clone())), &peerings);
        assert_eq!(told(&mut out), "");
        // What is above it is now below it.
        index.hear_workspace(&Ok(Event::Apply(workspace("root", Some("shop"), "p"))), &store);
        assert_eq!(told(&mut out), "bank root shop");
        assert!(index.peers("shop").is_empty() && index.peers("bank").is_empty());
        index.hear_workspace(&Ok(Event::Apply(workspace("root", None, "p"))), &store);
        assert_eq!(index.peers("bank").len(), 1);
        told(&mut out);
        for event in [Event::Init, Event::InitApply(all[0].clone()), Event::InitDone] {
            peering_writer.apply_watcher_event(&event);
            index.hear_peering(&Ok(event), &peerings);
        }
        assert_eq!(told(&mut out), "bank shop");
        assert!(index.peers("shop").is_empty());
    }

    #[test]
    fn who_is_below_shares_a_quota_as_long_as_both_agree() {
        let (index, mut out) = Index::new();
        let (store, mut writer) = reflector::store::<Workspace>();
        let mut hear = |workspace: Workspace| {
            let event = Event::Apply(workspace);
            writer.apply_watcher_event(&event);
            index.hear_workspace(&Ok(event), &store);
            told(&mut out)
        };
        let spec = SharedQuotaSpec { workspace: Some("root".into()), ..SharedQuotaSpec::default() };
        let all = [Arc::new(SharedQuota::new("all", spec))];
        // Whether the keeper counts it and its namespace is told.
        let shares = |name: &str| {
            let mut cover = Cover::default();
            assert!(cover.refresh(&all, &store, &|name: &str| index.over(name)));
            let is_counted = cover.namespaces("all").is_some_and(|all| all.contains(&format!("{name}-x")));
            let is_told = !cover::quotas(&all, "bob", name, &index.over(name)).is_empty();
            assert_eq!(is_counted, is_told, "{name}");
            is_told
        };
        let mut root = workspace("root", None, "p");
        hear(root.clone());
        let mut leaf = workspace("leaf", Some("root"), "p");
        leaf.spec.owner = "bob".into();
        hear(leaf.clone());
        assert!(shares("root") && !shares("leaf"), "another owner's isn't named by its name alone");
        leaf.spec.parent = Some("ada/root".into());
        hear(leaf);
        let mut twig = workspace("twig", Some("leaf"), "p");
        twig.spec.owner = "bob".into();
        hear(twig);
        assert!(!shares("leaf") && !shares("twig"), "nobody has accepted it");
        root.spec.accepted_children = vec!["bob/leaf".into()];
        assert_eq!(hear(root.clone()), "leaf root twig");
        assert!(shares("leaf") && shares("twig"));
        root.spec.accepted_children.clear();
        assert_eq!(hear(root), "leaf root twig");
        assert!(shares("root") && !shares("leaf") && !shares("twig"));
    }
}
