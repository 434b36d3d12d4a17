//! What admission looks up: the workspaces above one that changes, and accounts. Each is
//! read as it is stored, not as somebody heard of it. What is below one is as it was
//! heard of: there may be much of it, and it only has to have room.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::tree::{LEVELS, Node, Tree};
use api::{Account, AccountSpec, Workspace};
use axum::Json;
use axum::extract::State;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::IngressClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tenancy::defaults::{self, Class};
use tenancy::reference::{self, Change, Refused};
use tenancy::review::Review;

/// Who looks things up.
pub struct Lookup {
    client: Client,
    known: Mutex<Known>,
}

/// What was heard of workspaces.
#[derive(Default)]
struct Known {
    tree: Tree,
    /// Those that the list under way has named.
    listed: HashSet<String>,
    /// Whether there has been a whole list.
    is_whole: bool,
    /// Those that were let in and not heard of yet, with their owner.
    let_in: HashMap<String, (String, Instant)>,
}

/// How long one that was let in counts though nobody has heard of it: others may have
/// refused it.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

impl Known {
    fn hear(&mut self, event: Event<Workspace>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(workspace) => {
                self.listed.insert(workspace.name_any());
                self.tree.set(&workspace.name_any(), workspace.node());
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone = self.tree.names().filter(|name| !listed.contains(*name)).map(str::to_owned);
                for name in gone.collect::<Vec<_>>() {
                    self.tree.remove(&name);
                }
                self.is_whole = true;
            }
            Event::Apply(workspace) => {
                self.tree.set(&workspace.name_any(), workspace.node());
            }
            Event::Delete(workspace) => self.tree.remove(&workspace.name_any()),
        }
    }

    /// How many workspaces an account owns beside `name`.
    fn owned(&self, account: &str, name: &str) -> usize {
        let heard = self
            .tree
            .names()
            .filter(|other| *other != name && self.tree.get(other).is_some_and(|node| node.owner == account));
        let let_in = self.let_in.iter().filter(|(other, (owner, _))| {
            *other != name && owner == account && self.tree.get(other).is_none()
        });
        heard.count() + let_in.count()
    }

    /// Whether an account may own a new workspace as well. If it may, that counts from
    /// now on.
    fn let_in(&mut self, new: &Change, account: &AccountSpec, now: Instant) -> Result<(), Refused> {
        if !self.is_whole {
            return Err(Refused::Unknown("how many workspaces you own"));
        }
        let (name, owner) = (&new.name, &new.after.owner);
        self.let_in.retain(|_, (_, when)| now.duration_since(*when) < HEARD_WITHIN);
        reference::may_own_another(account, self.owned(owner, name))?;
        if !new.dry_run {
            self.let_in.insert(name.clone(), (owner.clone(), now));
        }
        Ok(())
    }
}

impl Lookup {
    /// The second value keeps it up to date, and ends when its watch does.
    pub fn new(client: Client) -> (Arc<Self>, impl Future<Output = ()>) {
        let lookup = Arc::new(Self { client: client.clone(), known: Mutex::default() });
        let events = watcher(Api::<Workspace>::all(client), watcher::Config::default()).default_backoff();
        let hearing = {
            let lookup = lookup.clone();
            events.for_each(move |event| {
                match event {
                    Ok(event) => lookup.known().hear(event),
                    Err(error) => tracing::warn!(%error, "watching workspaces"),
                }
                futures::future::ready(())
            })
        };
        (lookup, hearing)
    }

    /// The class that the cluster itself means where none is named.
    async fn clusters_own(&self, class: Class) -> kube::Result<Option<String>> {
        let marked = |metadata: &ObjectMeta, annotation: &str| {
            metadata
                .annotations
                .as_ref()
                .is_some_and(|all| all.get(annotation).is_some_and(|set| set == "true"))
        };
        let all = ListParams::default();
        let client = self.client.clone();
        let own = match class {
            Class::Storage => {
                let classes = Api::<StorageClass>::all(client).list_metadata(&all).await?;
                let own = "storageclass.kubernetes.io/is-default-class";
                // Kubernetes takes the newest, too.
                let marked = classes.items.into_iter().filter(|one| marked(&one.metadata, own));
                marked.max_by_key(|one| one.metadata.creation_timestamp.clone()).map(|one| one.name_any())
            }
            Class::Ingress => {
                let classes = Api::<IngressClass>::all(client).list_metadata(&all).await?;
                let own = "ingressclass.kubernetes.io/is-default-class";
                let marked = classes.items.into_iter().filter(|one| marked(&one.metadata, own));
                marked.max_by_key(|one| one.metadata.creation_timestamp.clone()).map(|one| one.name_any())
            }
            Class::Priority => {
                let classes = Api::<PriorityClass>::all(client).list(&all).await?;
                classes
                    .items
                    .into_iter()
                    .find(|one| one.global_default == Some(true))
                    .map(|one| one.name_any())
            }
            // There is none.
            Class::Runtime => None,
        };
        Ok(own)
    }

    /// The account that is to own something.
    async fn owner(&self, name: &str) -> Result<Account, Refused> {
        let accounts: Api<Account> = Api::all(self.client.clone());
        let found = accounts.get_opt(name).await.map_err(|error| unknown("spec.owner", &error))?;
        found.ok_or_else(|| Refused::NoOwner(name.to_owned()))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is above a workspace that is `node`, itself excepted.
    async fn read_above(&self, tree: &mut Tree, change: &Change, node: &Node) -> Result<(), Refused> {
        let workspaces: Api<Workspace> = Api::all(self.client.clone());
        let name_of = |node: &Node| node.wanted().map(|(_, name)| name.to_owned());
        let mut next = name_of(node);
        for _ in 0..=LEVELS {
            let Some(name) = next.filter(|name| *name != change.name && tree.get(name).is_none()) else {
                break;
            };
            let found = workspaces.get_opt(&name).await.map_err(|error| unknown("spec.parent", &error))?;
            let Some(found) = found.map(|found| found.node()) else { break };
            next = name_of(&found);
            tree.set(&name, found);
        }
        Ok(())
    }
}

/// Whether a workspace may be below the one that it names, and accept whom it does.
pub async fn parent(State(lookup): State<Arc<Lookup>>, Json(review): Json<Review>) -> Json<Value> {
    let verdict = async {
        let change = Change::of(&review)?;
        let mut tree = Tree::default();
        lookup.read_above(&mut tree, &change, &change.after).await?;
        let known = lookup.known();
        if !known.is_whole {
            return Err(Refused::Unknown("what is below it"));
        }
        change.may_join(&mut tree, &known.tree)
    };
    Json(reference::answer(&review, verdict.await))
}

/// Whether it may leave the one that it named.
pub async fn leaving(State(lookup): State<Arc<Lookup>>, Json(review): Json<Review>) -> Json<Value> {
    let verdict = async {
        let change = Change::of(&review)?;
        let mut tree = Tree::default();
        for node in change.before.iter().chain([&change.after]) {
            lookup.read_above(&mut tree, &change, node).await?;
        }
        change.may_leave(&mut tree)
    };
    Json(reference::answer(&review, verdict.await))
}

/// Whether there is the account that is to own a new workspace.
pub async fn owner(State(lookup): State<Arc<Lookup>>, Json(review): Json<Review>) -> Json<Value> {
    let verdict = async {
        let change = Change::of(&review)?;
        lookup.owner(&change.after.owner).await.map(drop)
    };
    Json(reference::answer(&review, verdict.await))
}

/// Whether somebody may own the workspace that they make.
pub async fn another(State(lookup): State<Arc<Lookup>>, Json(review): Json<Review>) -> Json<Value> {
    let verdict = async {
        let change = Change::of(&review)?;
        let account = lookup.owner(&change.after.owner).await?;
        lookup.known().let_in(&change, &account.spec, Instant::now())
    };
    Json(reference::answer(&review, verdict.await))
}

/// Whether there is the account that a new member names.
pub async fn member(State(lookup): State<Arc<Lookup>>, Json(review): Json<Review>) -> Json<Value> {
    let verdict = async {
        let name = reference::account(&review)?;
        let accounts: Api<Account> = Api::all(lookup.client.clone());
        match accounts.get_opt(name).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Refused::NoAccount(name.to_owned())),
            Err(error) => Err(unknown("spec.account", &error)),
        }
    };
    Json(reference::answer(&review, verdict.await))
}

/// What is filled in of an object in a workspace whose plan has defaults.
pub async fn defaults(State(lookup): State<Arc<Lookup>>, Json(review): Json<Review>) -> Json<Value> {
    let looked_up = async {
        let namespaces: Api<Namespace> = Api::all(lookup.client.clone());
        let namespace = namespaces.get_metadata(defaults::namespace(&review)).await?;
        let told = namespace.metadata.annotations.unwrap_or_default();
        let mut by_cluster = Vec::new();
        for (class, name) in defaults::doubtful(&review, &told) {
            if lookup.clusters_own(class).await?.is_some_and(|own| own == name) {
                by_cluster.push(class);
            }
        }
        Ok((told, by_cluster))
    };
    let looked_up = looked_up.await.map_err(|error| unknown("what the workspace's plan sets", &error));
    Json(match looked_up {
        Ok((told, by_cluster)) => defaults::answer(&review, &told, &by_cluster),
        Err(refused) => reference::answer(&review, Err(refused)),
    })
}

fn unknown(what: &'static str, error: &kube::Error) -> Refused {
    tracing::warn!(%error, what, "looking up what is named");
    Refused::Unknown(what)
}

#[cfg(test)]
mod tests {
    use api::WorkspaceSpec;

    use super::*;

    fn workspace(name: &str, parent: Option<&str>) -> Workspace {
        let parent = parent.map(Into::into);
        Workspace::new(name, WorkspaceSpec { owner: "ada".into(), parent, ..WorkspaceSpec::default() })
    }

    #[test]
    fn what_was_heard_is_what_the_last_list_and_what_followed_it_say() {
        let mut known = Known::default();
        let names = |known: &Known| known.tree.below("root").join(" ");
        known.hear(Event::Init);
        known.hear(Event::InitApply(workspace("root", None)));
        known.hear(Event::InitApply(workspace("leaf", Some("root"))));
        assert!(!known.is_whole);
        known.hear(Event::InitDone);
        assert!(known.is_whole);
        assert_eq!(names(&known), "root leaf");
        known.hear(Event::Apply(workspace("twig", Some("leaf"))));
        assert_eq!(names(&known), "root leaf twig");
        known.hear(Event::Delete(workspace("twig", Some("leaf"))));
        for event in [Event::Init, Event::InitApply(workspace("root", None)), Event::InitDone] {
            known.hear(event);
        }
        assert_eq!(names(&known), "root");
        assert!(known.tree.get("leaf").is_none());
    }

    #[test]
    fn what_was_let_in_counts_until_it_is_heard_of() {
        let mut known = Known::default();
        let now = Instant::now();
        let let_in = |known: &mut Known, name: &str, owner: &str, dry_run, when| {
            let account = AccountSpec { workspace_limit: Some(2), ..AccountSpec::default() };
            let new = Change { name: name.into(), before: None, after: Node::of(owner), dry_run };
            known.let_in(&new, &account, when).is_ok()
        };
        assert!(!let_in(&mut known, "one", "ada", false, now), "nobody has counted yet");
        known.hear(Event::Init);
        known.hear(Event::InitApply(workspace("root", None)));
        known.hear(Event::InitDone);
        assert!(let_in(&mut known, "dry", "ada", true, now));
        assert!(let_in(&mut known, "one", "ada", false, now));
        // The same one, asked about again, or heard of meanwhile, is no other.
        assert!(let_in(&mut known, "one", "ada", false, now));
        assert!(!let_in(&mut known, "two", "ada", false, now));
        known.hear(Event::Apply(workspace("one", None)));
        assert!(!let_in(&mut known, "two", "ada", false, now));
        assert!(let_in(&mut known, "three", "bob", false, now));
        known.hear(Event::Delete(workspace("root", None)));
        assert!(let_in(&mut known, "two", "ada", false, now));
        // What never came makes room again.
        assert!(!let_in(&mut known, "four", "ada", false, now));
        assert!(let_in(&mut known, "four", "ada", false, now + HEARD_WITHIN));
    }
}
