//! Tells each account and plan how many workspaces it has: a policy refuses to
//! delete one that has any.

use std::collections::HashMap;
use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use api::names::DEFAULT_PLAN;
use api::{Account, Plan};

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
    let owned = context.owned();
    let by_account = ownership::count(&owned);
    for account in context.accounts.state() {
        let now = by_account.get(account.name_any().as_str()).copied().unwrap_or_default();
        let before = account.status.as_ref().map(|status| status.workspaces);
        if before != Some(now) {
            tell::<Account>(&context.client, &account.name_any(), now).await;
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
            tell::<Plan>(&context.client, &plan.name_any(), now).await;
        }
    }
}

async fn tell<K>(client: &Client, name: &str, workspaces: u32)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    K: Resource<Scope = kube::core::ClusterResourceScope>,
{
    let objects: Api<K> = Api::all(client.clone());
    let patch = Patch::Merge(json!({ "status": { "workspaces": workspaces } }));
    if let Err(error) = objects.patch_status(name, &PatchParams::default(), &patch).await {
        // It may be gone; if not, the next change tells it.
        tracing::info!(%error, kind = %K::kind(&()), name, "telling how many workspaces it has");
    }
}
