//! Tells each account and plan how many workspaces it has, and each workspace how many
//! are below it: a policy refuses to delete one that has any.

use std::collections::HashMap;
use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use api::names::DEFAULT_PLAN;
use api::{Account, Plan, Workspace};

use super::Context;
use crate::ownership;

/// Many workspaces that change together are counted once.
const TOGETHER: Duration = Duration::from_millis(200);

/// Counts whenever a workspace has changed; never ends.
pub async fn run(context: &Context) {
    // Fewer than there are would let some be deleted that are in use.
    context.known.all().await;
    loop {
        count(context).await;
        context.changed.notified().await;
        tokio::time::sleep(TOGETHER).await;
    }
}

async fn count(context: &Context) {
    let owned = context.owned(None);
    let by_account = ownership::count(&owned);
    for account in context.accounts.state() {
        let now = by_account.get(account.name_any().as_str()).copied().unwrap_or_default();
        let before = account.status.as_ref().map(|status| status.workspaces);
        if before != Some(now) {
            tell::<Account>(&context.client, &account.name_any(), "workspaces", now).await;
        }
    }
    let mut by_plan: HashMap<String, u32> = HashMap::new();
    for workspace in context.workspaces.state() {
        let plan = workspace.spec.plan.as_deref().unwrap_or(DEFAULT_PLAN);
        *by_plan.entry(plan.to_owned()).or_default() += 1;
    }
    for plan in context.plans.state() {
        let now = by_plan.get(&plan.name_any()).copied().unwrap_or_default();
        if plan.status.as_ref().map(|status| status.workspaces) != Some(now) {
            tell::<Plan>(&context.client, &plan.name_any(), "workspaces", now).await;
        }
    }
    for workspace in context.workspaces.state() {
        let name = workspace.name_any();
        // One that is going needs nobody above it.
        let stays = |child: &str| {
            let child = context.workspaces.get(&ObjectRef::new(child));
            child.is_some_and(|child| child.metadata.deletion_timestamp.is_none())
        };
        let now = u32::try_from(context.index.children(&name, stays)).unwrap_or(u32::MAX);
        if workspace.status.as_ref().map_or(0, |status| status.children) != now {
            tell::<Workspace>(&context.client, &name, "children", now).await;
        }
    }
}

async fn tell<K>(client: &Client, name: &str, what: &str, count: u32)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    K: Resource<Scope = kube::core::ClusterResourceScope>,
{
    let objects: Api<K> = Api::all(client.clone());
    let patch = Patch::Merge(json!({ "status": { what: count } }));
    if let Err(error) = objects.patch_status(name, &PatchParams::default(), &patch).await {
        // It may be gone; if not, the next change tells it.
        tracing::info!(%error, kind = %K::kind(&()), name, what, "telling how many it has");
    }
}
