//! Makes workspaces' namespaces what they have to be, and keeps them so.
//!
//! Everything is watched, and what was applied is remembered as a fingerprint, whose
//! digest stands in the workspace's status: a change costs the work for the workspaces it
//! concerns, and a restart, or a reconciliation that changes nothing, asks for nothing.

mod acceptances;
mod apply;
mod copies;
mod counts;
mod deletion;
mod drift;
mod event;
mod index;
mod kept;
mod peerings;
mod rest;
mod sources;
mod status;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt, future};
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Namespace, ResourceQuota, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use api::names::{DEFAULT_PLAN, WORKSPACE_LABEL};
use api::{Account, AccountSpec, Invitation, Member, Peering, Plan, PlanSpec, SharedQuota, Workspace, tree};

use crate::desired::{self, Input, MANAGED_LABEL};
use crate::ownership::{self, Owned};
use crate::propagation::{FROM, key};
use crate::quota::{cover, keeper};
use crate::{name, plan};
use deletion::Going;
use drift::{exact, fingerprint};
use index::Index;
use kept::Kept;
use sources::Sources;
use status::{Problem, Told};

/// The name under which changes are known to the API server.
const FIELD_MANAGER: &str = "atoll-tenancy";
/// How soon a workspace is tried again when something failed.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// How many objects of a list are held at once: many kinds are listed together.
const PAGE: u32 = 100;
/// How soon it is seen that a workspace fits because another one has gone.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Why a workspace could not be reconciled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused something.
    #[error("{action}: {source}")]
    Kubernetes {
        /// What was tried.
        action: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// A watch ended, which it never does by itself.
    #[error("the watch of {0} ended: the process has to start again")]
    Watch(&'static str),
}

fn failed(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
    let action = action.into();
    move |source| Error::Kubernetes { action, source: Box::new(source) }
}

/// What the controller is told.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Ranges of addresses that are no part of the internet: pods, services,
    /// nodes, private networks.
    pub inside: Vec<String>,
    /// The authority of front's certificate, in PEM; without it pods are not told
    /// of front.
    pub authority: Option<String>,
}

struct Context {
    client: Client,
    config: Config,
    accounts: Store<Account>,
    plans: Store<Plan>,
    invitations: Store<Invitation>,
    quotas: Store<SharedQuota>,
    peerings: Store<Peering>,
    workspaces: Store<Workspace>,
    /// Who is where, and what is above what.
    index: Arc<Index>,
    /// What is to be copied into what is below.
    sources: Arc<Sources>,
    /// What is in their namespaces.
    kept: Mutex<Kept>,
    /// Workspaces that may have a namespace, before the store has heard of it.
    granted: Mutex<HashSet<String>>,
    /// Some workspace has changed, or gone.
    changed: Arc<Notify>,
    known: Arc<Known>,
}

/// Which kinds are known as a whole. A store's own `wait_until_ready` doesn't do
/// where many wait: it wakes the last that asked.
struct Known(watch::Sender<usize>);

impl Known {
    fn new(kinds: usize) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(kinds)))
    }

    /// Another kind has been listed.
    fn one_more(&self) {
        self.0.send_modify(|left| *left = left.saturating_sub(1));
    }

    /// Completes when all have been.
    async fn all(&self) {
        // It fails only when nobody could tell any more, and we could.
        let _ = self.0.subscribe().wait_for(|left| *left == 0).await;
    }
}

/// Watches and acts until a watch ends.
pub async fn run(client: Client, config: Config) -> Result<(), Error> {
    let known = Known::new(7 + sources::kinds().len() + kept_kinds().len());
    let sources = Arc::new(Sources::default());
    let to_copy = sources::watch(&client, &sources, &known);
    let changed = Arc::new(Notify::new());
    let (accounts, accounts_changed) = watched::<Account>(&client, &known);
    let (plans, plans_changed) = watched::<Plan>(&client, &known);
    let (members, members_changed) = watched::<Member>(&client, &known);
    let (invitations, invitations_changed) = watched::<Invitation>(&client, &known);
    let (workspaces, workspaces_changed) = watched::<Workspace>(&client, &known);
    let (quotas, quotas_changed) = watched::<SharedQuota>(&client, &known);
    let (peerings, peerings_changed) = watched::<Peering>(&client, &known);
    let (index, concerned) = Index::new();
    let index = Arc::new(index);
    let counted = keeper::Sources {
        quotas: quotas.clone(),
        quotas_changed: Arc::default(),
        workspaces: workspaces.clone(),
        workspaces_changed: Arc::default(),
        above: {
            let index = index.clone();
            Box::new(move |name| index.over(name))
        },
    };
    let quotas_changed = {
        let changed = counted.quotas_changed.clone();
        quotas_changed.inspect(move |_| changed.notify_one())
    };
    let workspaces_changed = {
        let (changed, index, workspaces) = (changed.clone(), index.clone(), workspaces.clone());
        let counted = counted.workspaces_changed.clone();
        workspaces_changed.inspect(move |event| {
            index.hear_workspace(event, &workspaces);
            counted.notify_one();
            // No reconciliation tells of what has gone.
            if matches!(event, Ok(watcher::Event::Delete(_))) {
                changed.notify_one();
            }
        })
    };
    let controller = Controller::for_stream(workspaces_changed.applied_objects(), workspaces.clone())
        .with_config(kube::runtime::controller::Config::default().concurrency(8));
    let context = Arc::new(Context {
        client: client.clone(),
        config,
        accounts,
        plans,
        invitations,
        quotas,
        peerings: peerings.clone(),
        workspaces: workspaces.clone(),
        index: index.clone(),
        sources,
        kept: Mutex::default(),
        granted: Mutex::default(),
        changed,
        known,
    });
    // What a quota was for isn't known any more when it changes: all workspaces are looked
    // at, and those that stay as they are cost no request.
    let everything = specs(quotas_changed).map(drop);
    let accounts_changed = {
        let index = index.clone();
        specs(accounts_changed).for_each(move |account| {
            index.look_at_account(&account.name_any());
            future::ready(())
        })
    };
    let plans_changed = {
        let index = index.clone();
        specs(plans_changed).for_each(move |plan| {
            index.look_at_plan(&plan.name_any());
            future::ready(())
        })
    };
    // A peering concerns both sides.
    let peerings_changed = {
        let index = index.clone();
        peerings_changed
            .inspect(move |event| index.hear_peering(event, &peerings))
            .for_each(|_| future::ready(()))
    };
    // A member concerns the workspace and what is below it, which the index says.
    let members_changed = members_changed
        .inspect(move |event| index.hear_member(event, &members))
        .for_each(|_| future::ready(()));
    let to_copy = {
        let context = context.clone();
        to_copy.for_each(move |namespace| {
            context.index.look_below(&namespace);
            future::ready(())
        })
    };
    let concerned = concerned.map(|name| ObjectRef::new(&name));
    let drifted = {
        let index = context.index.clone();
        drifts(&client, &context).filter_map(move |namespace| {
            future::ready(index.workspace_of(&namespace).map(|name| ObjectRef::new(&name)))
        })
    };
    let reconciling = controller
        .reconcile_all_on(everything)
        .reconcile_on(concerned)
        .reconcile_on(drifted)
        .run(reconcile, again, context.clone())
        .for_each(|result| {
            context.changed.notify_one();
            if let Err(error) = result {
                tracing::debug!(%error, "reconciling a workspace");
            }
            future::ready(())
        });
    tokio::select! {
        () = reconciling => Err(Error::Watch("workspaces")),
        () = acceptances::run(context.clone()) => Err(Error::Watch("acceptances")),
        () = counts::run(&context) => Err(Error::Watch("changes")),
        () = accounts_changed => Err(Error::Watch("accounts")),
        () = plans_changed => Err(Error::Watch("plans")),
        () = members_changed => Err(Error::Watch("members")),
        () = peerings_changed => Err(Error::Watch("peerings")),
        () = to_copy => Err(Error::Watch("what is copied")),
        () = invitations_changed.for_each(|_| future::ready(())) => Err(Error::Watch("invitations")),
        () = keep(&context, counted) => Err(Error::Watch("what is counted")),
    }
}

async fn keep(context: &Context, sources: keeper::Sources) {
    // Without all workspaces it would count too little.
    context.known.all().await;
    keeper::run(context.client.clone(), sources).await;
}

/// A store of all objects of a kind, and what happens to them.
fn watched<K>(
    client: &Client,
    known: &Arc<Known>,
) -> (Store<K>, impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static)
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let known = known.clone();
    let mut listed = false;
    let events = watcher(Api::<K>::all(client.clone()), watcher::Config::default().page_size(PAGE))
        .default_backoff()
        // Most of an object by size, and of no use here.
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer)
        .inspect(move |event| match event {
            Ok(watcher::Event::InitDone) if !listed => {
                listed = true;
                known.one_more();
            }
            Err(error) => tracing::warn!(%error, kind = %K::kind(&()), "watching"),
            _ => {}
        });
    (store, events)
}

/// Of what happens to objects, what changes what they ask for: a status doesn't.
fn specs<K: Resource + Send + 'static>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
) -> impl Stream<Item = K> + Send + 'static {
    let mut generations = HashMap::new();
    events.filter_map(move |event| {
        future::ready(match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                let now = (object.uid(), object.meta().generation);
                let before = generations.insert((object.namespace(), object.name_any()), now.clone());
                (before != Some(now)).then_some(object)
            }
            Ok(watcher::Event::Delete(object)) => {
                generations.remove(&(object.namespace(), object.name_any()));
                Some(object)
            }
            _ => None,
        })
    })
}

/// The kinds of what is kept in namespaces, and the label that tells it from the rest.
fn kept_kinds() -> [(ApiResource, &'static str); 8] {
    [
        (ApiResource::erase::<RoleBinding>(&()), MANAGED_LABEL),
        (ApiResource::erase::<NetworkPolicy>(&()), MANAGED_LABEL),
        (ApiResource::erase::<ConfigMap>(&()), MANAGED_LABEL),
        (ApiResource::erase::<ResourceQuota>(&()), MANAGED_LABEL),
        (ApiResource::erase::<LimitRange>(&()), MANAGED_LABEL),
        (ApiResource::erase::<Secret>(&()), MANAGED_LABEL),
        (ApiResource::erase::<Role>(&()), MANAGED_LABEL),
        (ApiResource::erase::<Namespace>(&()), WORKSPACE_LABEL),
    ]
}

/// The namespaces in which something isn't as it was asked for.
fn drifts(client: &Client, context: &Arc<Context>) -> impl Stream<Item = String> + Send + 'static {
    let watches = kept_kinds().map(|(resource, label)| {
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let context = context.clone();
        let mut listed = false;
        watcher(objects, watcher::Config::default().labels(label).page_size(PAGE))
            .default_backoff()
            .flat_map(move |event| {
                let is_done = matches!(event, Ok(watcher::Event::InitDone));
                let drifted = context.drifted(&resource.kind, event);
                if is_done && !listed {
                    listed = true;
                    context.known.one_more();
                }
                futures::stream::iter(drifted)
            })
            .boxed()
    });
    futures::stream::select_all(watches)
}

impl Context {
    /// The namespaces in which something is no longer as it was asked for.
    fn drifted(&self, kind: &str, event: watcher::Result<watcher::Event<DynamicObject>>) -> BTreeSet<String> {
        let place = |object: &DynamicObject| {
            let name = object.name_any();
            let namespace =
                if kind == "Namespace" { name.clone() } else { object.namespace().unwrap_or_default() };
            (namespace, (kind.to_owned(), name))
        };
        let mut kept = lock(&self.kept);
        match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                let (namespace, key) = place(&object);
                let is_copy = object.labels().contains_key(FROM);
                let Ok(value) = serde_json::to_value(object) else { return BTreeSet::new() };
                let drifted = kept.hear(&namespace, &key, fingerprint(&value), is_copy);
                drifted.then_some(namespace).into_iter().collect()
            }
            Ok(watcher::Event::Delete(object)) => {
                let (namespace, key) = place(&object);
                kept.remove(&namespace, &key).then_some(namespace).into_iter().collect()
            }
            Ok(watcher::Event::Init) => {
                kept.begin(kind);
                BTreeSet::new()
            }
            Ok(watcher::Event::InitDone) => kept.end(kind),
            Err(error) => {
                tracing::warn!(%error, kind, "watching");
                BTreeSet::new()
            }
        }
    }

    /// All workspaces, or those of an account, as far as it matters to whom they belong.
    fn owned(&self, of: Option<&str>) -> Vec<Owned> {
        let granted = lock(&self.granted);
        let owned = |workspace: &Arc<Workspace>| {
            let made = workspace.metadata.creation_timestamp.as_ref();
            let status = workspace.status.as_ref();
            let uid = workspace.uid().unwrap_or_default();
            Owned {
                name: workspace.name_any(),
                owner: workspace.spec.owner.clone(),
                made: made.map_or(i64::MAX, |made| made.0.as_second()),
                is_there: status.is_some_and(|status| status.namespace.is_some()) || granted.contains(&uid),
            }
        };
        let all = self.workspaces.state();
        all.iter().filter(|one| of.is_none_or(|of| one.spec.owner == of)).map(owned).collect()
    }

    /// Whether a workspace may have a namespace, or its owner has too many.
    fn grant(&self, workspace: &Workspace, owner: &AccountSpec) -> bool {
        let all = self.owned(Some(&workspace.spec.owner));
        // Another one is decided after this one.
        let fits = ownership::fits(&workspace.name_any(), &all, owner.workspace_limit());
        if fits {
            lock(&self.granted).insert(workspace.uid().unwrap_or_default());
        }
        fits
    }

    /// The shared quotas in which a workspace has a part.
    fn quotas_of(&self, workspace: &Workspace) -> Vec<String> {
        let quotas = self.quotas.state();
        if quotas.is_empty() {
            return Vec::new();
        }
        let name = workspace.name_any();
        cover::quotas(&quotas, &workspace.spec.owner, &name, &self.index.over(&name))
    }

    /// Everybody's role in a workspace.
    fn roles(&self, name: &str) -> BTreeMap<String, api::Role> {
        let mut roles = self.index.roles(name);
        // Whoever takes the name later is somebody else.
        roles.retain(|account, _| self.accounts.get(&ObjectRef::new(account)).is_some());
        roles
    }

    /// What is left of a plan below the plans that these workspaces name.
    fn left(
        &self,
        own: Option<&PlanSpec>,
        above: &Result<Vec<Option<String>>, tree::Problem>,
    ) -> Option<PlanSpec> {
        let named = |name: &Option<String>| {
            let plan = self.plans.get(&ObjectRef::new(name.as_deref().unwrap_or(DEFAULT_PLAN)));
            plan.map_or_else(plan::nothing, |plan| plan.spec.clone())
        };
        Some(plan::left(own?, above.as_ref().map(|above| above.iter().map(named))))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that holds it can panic half way.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[allow(clippy::needless_pass_by_value)] // as the runtime wants it
fn again(workspace: Arc<Workspace>, error: &Error, _: Arc<Context>) -> Action {
    tracing::warn!(workspace = workspace.name_any(), %error, "reconciling");
    Action::requeue(TRY_AGAIN)
}

async fn reconcile(workspace: Arc<Workspace>, context: Arc<Context>) -> Result<Action, Error> {
    context.known.all().await;
    let uid = workspace.uid().unwrap_or_default();
    if workspace.metadata.deletion_timestamp.is_some() {
        if let Some(namespace) = workspace.status.as_ref().and_then(|status| status.namespace.as_ref()) {
            lock(&context.kept).forget(namespace);
        }
        lock(&context.granted).remove(&uid);
        return Ok(Action::await_change());
    }
    let name = workspace.name_any();
    if let Err(problem) = api::names::check_workspace_name(&name) {
        let problem = Problem::new("BadName", format!("`{name}` can't be a workspace's name: {problem}"));
        status::write(&context.client, &workspace, None, Told::refused(problem)).await?;
        return Ok(Action::await_change());
    }
    let (leaving, until) = match deletion::settle(&context, &workspace).await? {
        Going::No => (None, None),
        Going::Later(problem, until) => (Some(problem), Some(until)),
        Going::Gone => return Ok(Action::await_change()),
    };
    let owner = context.accounts.get(&ObjectRef::new(&workspace.spec.owner));
    let has_namespace = workspace.status.as_ref().is_some_and(|status| status.namespace.is_some());
    if let Some(owner) = owner.as_ref().filter(|owner| !has_namespace && !owner.spec.operator) {
        let limit = owner.spec.workspace_limit();
        if !context.grant(&workspace, &owner.spec) {
            let who = &workspace.spec.owner;
            let problem = format!(
                "{who} may own {limit} workspaces and has as many: delete one, or ask an operator for more"
            );
            let problem = Problem::new("TooManyWorkspaces", problem);
            label(&context.client, &workspace).await?;
            status::write(&context.client, &workspace, None, Told::refused(problem)).await?;
            // Whether another one went is looked at again.
            return Ok(Action::requeue(LOOK_AGAIN));
        }
    }
    let labelled = label(&context.client, &workspace);
    let ((), namespace) = futures::try_join!(labelled, namespace_of(&context, &workspace))?;
    let Some(namespace) = namespace else { return Ok(Action::requeue(TRY_AGAIN)) };

    let plan_name = workspace.spec.plan.as_deref().unwrap_or(DEFAULT_PLAN);
    let plan = context.plans.get(&ObjectRef::new(plan_name));
    let above = context.index.plans_above(&name);
    let left = context.left(plan.as_ref().map(|plan| &plan.spec), &above);
    let undecided = above.as_ref().is_err_and(tree::Problem::is_undecided);
    let input = Input {
        workspace: &name,
        uid: &uid,
        namespace: &namespace,
        roles: context.roles(&name),
        plan: left.as_ref(),
        quotas: context.quotas_of(&workspace),
        peers: context.index.peers(&name),
        cordoned: workspace.spec.cordoned || undecided,
        suspended: workspace.rests(),
        inside: &context.config.inside,
        authority: context.config.authority.as_deref(),
    };
    let mut wanted = vec![desired::namespace(&input)];
    wanted.extend(desired::objects(&input));
    let copied = match undecided {
        true => Vec::new(),
        false => copies::wanted(&context, &workspace, &namespace),
    };
    let noted = workspace.status.as_ref().and_then(|status| status.applied.as_deref());
    let asked = wanted.iter().chain(&copied).map(|object| (key(object), exact(object)));
    lock(&context.kept).recognise(&namespace, asked.collect(), noted);
    apply::apply(&context, &namespace, &wanted, desired::absent(&input)).await?;
    peerings::tell(&context, &namespace).await?;
    let outcome = if let Some(leaving) = leaving {
        Err(leaving)
    } else if owner.is_none() {
        Err(Problem::new(
            "OwnerMissing",
            format!("there is no account `{}`: create it, or name another owner", workspace.spec.owner),
        ))
    } else if plan.is_none() {
        Err(Problem::new(
            "PlanMissing",
            format!("there is no plan `{plan_name}`: create it, or name another"),
        ))
    } else {
        Ok(())
    };
    let uncopied = if undecided {
        copies::hold(&context, &namespace).await?;
        Vec::new()
    } else {
        copies::settle(&context, &namespace, &copied).await?
    };
    let rest = rest::settle(&context.client, &workspace, &namespace).await?;
    let parent = workspace.spec.parent.as_ref().map(|_| above.map(drop));
    // What is in the way may go without our hearing of it.
    let until = if uncopied.is_empty() { until } else { until.or(Some(LOOK_AGAIN)) };
    let applied = lock(&context.kept).digest(&namespace);
    let told = Told { outcome, rest, parent, uncopied, applied };
    status::write(&context.client, &workspace, Some(&namespace), told).await?;
    let again = rest.is_under_way().then_some(rest::LOOK_AGAIN).or(until);
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

/// Labels the workspace with its own name: front narrows lists by that label, of
/// workspaces as of namespaces.
async fn label(client: &Client, workspace: &Workspace) -> Result<(), Error> {
    let name = workspace.name_any();
    if workspace.labels().get(WORKSPACE_LABEL) == Some(&name) {
        return Ok(());
    }
    let workspaces: Api<Workspace> = Api::all(client.clone());
    let patch = Patch::Merge(json!({ "metadata": { "labels": { WORKSPACE_LABEL: name } } }));
    let patched = workspaces.patch(&name, &PatchParams::default(), &patch).await;
    patched.map(drop).map_err(failed(format!("labelling workspace {name}")))
}

/// The workspace's namespace, made when there is none. It is noted in the status
/// before anything is put into it.
async fn namespace_of(context: &Context, workspace: &Workspace) -> Result<Option<String>, Error> {
    if let Some(known) = workspace.status.as_ref().and_then(|status| status.namespace.clone()) {
        return Ok(Some(known));
    }
    let name = workspace.name_any();
    let uid = workspace.uid().unwrap_or_default();
    let namespaces: Api<Namespace> = Api::all(context.client.clone());
    // One that was made by an earlier life of ours which didn't come to note it.
    let mut made = None;
    let known = lock(&context.kept).named_for(&name);
    for known in known {
        let found = namespaces.get_opt(&known).await.map_err(failed("looking a namespace up"))?;
        made = made.or(found.filter(|found| found.owner_references().iter().any(|owner| owner.uid == uid)));
    }
    let namespace = match made {
        Some(namespace) => namespace.name_any(),
        None => {
            let chosen = name::namespace(&name, &mut rand::rng());
            let input = Input { workspace: &name, uid: &uid, namespace: &chosen, ..Input::default() };
            let wanted = desired::namespace(&input);
            let object = serde_json::from_value(wanted.clone())
                .map_err(|error| failed("making a namespace")(kube::Error::SerdeError(error)))?;
            let parameters =
                PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
            match namespaces.create(&parameters, &object).await {
                Ok(made) => {
                    let stored = serde_json::to_value(&made)
                        .map_err(|error| failed("reading an answer")(kube::Error::SerdeError(error)))?;
                    let key = ("Namespace".to_owned(), chosen.clone());
                    lock(&context.kept).put(&chosen, key, exact(&wanted), fingerprint(&stored), false);
                    chosen
                }
                // Somebody has it: other letters next time.
                Err(kube::Error::Api(answer)) if answer.code == 409 => return Ok(None),
                Err(error) => return Err(failed(format!("making the namespace {chosen}"))(error)),
            }
        }
    };
    status::note_namespace(&context.client, workspace, &namespace).await?;
    Ok(Some(namespace))
}

/// A workspace as a patch of its status. How many are below it others count.
fn status_patch(status: &api::WorkspaceStatus) -> Patch<Value> {
    let mut patch = json!({ "status": status });
    if let Some(fields) = patch["status"].as_object_mut() {
        fields.remove("children");
    }
    Patch::Merge(patch)
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_hears_that_all_is_known() {
        let known = Known::new(2);
        let (mut one, mut two) = (Box::pin(known.all()), Box::pin(known.all()));
        assert!(poll!(&mut one).is_pending() && poll!(&mut two).is_pending());
        known.one_more();
        assert!(poll!(&mut one).is_pending());
        // Each in a task of its own: it has to be woken.
        let waiting = [(); 3].map(|()| {
            let known = known.clone();
            tokio::spawn(async move { known.all().await })
        });
        tokio::task::yield_now().await;
        known.one_more();
        for task in waiting {
            tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
        }
        one.await;
        two.await;
    }
}
