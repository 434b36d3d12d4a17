//! Brings a workspace to rest, and back: takes the steps of [`crate::suspension`].

use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, PodTemplate};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use api::Workspace;

use super::{Error, failed};
use crate::suspension::{Step, There, steps};

/// The condition's type.
pub const SUSPENDED: &str = "Suspended";
/// How soon it is seen what became of the steps.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long the API server may go on as if the namespace had its old labels.
const NOTICED: i64 = 5;

/// How far a workspace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It runs, and nothing is left to do.
    Running,
    /// It comes to rest.
    Suspending,
    /// Nothing runs.
    Suspended,
    /// It begins to run again.
    Resuming,
}

impl Rest {
    /// Whether there is more to do.
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Suspending | Self::Resuming)
    }

    /// The condition's status, reason and message; none while it just runs.
    pub const fn told(self) -> Option<(&'static str, &'static str, &'static str)> {
        match self {
            Self::Running => None,
            Self::Suspending => Some(("True", "Suspending", "what runs is being stopped")),
            Self::Suspended => Some(("True", "Suspended", "nothing runs; its data is kept")),
            Self::Resuming => Some(("False", "Resuming", "what ran is being started")),
        }
    }
}

/// Does what is to be done now. A workspace that runs costs no request.
pub async fn settle(client: &Client, workspace: &Workspace, namespace: &str) -> Result<Rest, Error> {
    let conditions = workspace.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let told = conditions.iter().find(|condition| condition.type_ == SUSPENDED);
    let suspended = workspace.rests();
    if !suspended && told.is_none() {
        return Ok(Rest::Running);
    }
    if suspended && told.is_some_and(|told| told.reason == "Suspended") {
        return Ok(Rest::Suspended);
    }
    let wanted = if suspended { "True" } else { "False" };
    let since = told.filter(|told| told.status == wanted).map(|told| told.last_transition_time.0.as_second());
    let there = There {
        pods: list::<Pod>(client, namespace).await?,
        templates: list::<PodTemplate>(client, namespace).await?,
        jobs: list::<Job>(client, namespace).await?,
        cron_jobs: list::<CronJob>(client, namespace).await?,
    };
    let steps = steps(suspended, &there);
    let still = suspended && there.pods.iter().any(|pod| pod["metadata"]["deletionTimestamp"].is_string());
    let is_done = steps.is_empty() && !still;
    for step in steps {
        take(client, namespace, step).await?;
    }
    let noticed = since.is_some_and(|since| Timestamp::now().as_second() - since >= NOTICED);
    Ok(match (suspended, is_done && noticed) {
        (true, true) => Rest::Suspended,
        (true, false) => Rest::Suspending,
        (false, true) => Rest::Running,
        (false, false) => Rest::Resuming,
    })
}

async fn list<K>(client: &Client, namespace: &str) -> Result<Vec<Value>, Error>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let objects: Api<K> = Api::namespaced(client.clone(), namespace);
    let found = objects.list(&ListParams::default()).await;
    let found = found.map_err(failed(format!("listing {} in {namespace}", K::plural(&()))))?;
    found.into_iter().map(|one| serde_json::to_value(one).map_err(unreadable)).collect()
}

fn unreadable(error: serde_json::Error) -> Error {
    failed("reading what is in a workspace")(kube::Error::SerdeError(error))
}

async fn take(client: &Client, namespace: &str, step: Step) -> Result<(), Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let templates: Api<PodTemplate> = Api::namespaced(client.clone(), namespace);
    let parameters = PostParams { field_manager: Some(super::FIELD_MANAGER.into()), ..PostParams::default() };
    let result = match step {
        Step::Keep(template) => {
            let template: PodTemplate = serde_json::from_value(template).map_err(unreadable)?;
            templates.create(&parameters, &template).await.map(drop)
        }
        Step::Delete(name, uid) => {
            let same = Preconditions { uid: Some(uid), ..Preconditions::default() };
            let parameters = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
            pods.delete(&name, &parameters).await.map(drop)
        }
        Step::Remake(pod) => {
            let pod: Pod = serde_json::from_value(pod).map_err(unreadable)?;
            pods.create(&parameters, &pod).await.map(drop)
        }
        Step::Forget(name) => templates.delete(&name, &DeleteParams::default()).await.map(drop),
        Step::Pass(name) => {
            let gate = json!({ "name": api::names::SUSPENDED_GATE, "$patch": "delete" });
            let patch = Patch::Strategic(json!({ "spec": { "schedulingGates": [gate] } }));
            pods.patch(&name, &PatchParams::default(), &patch).await.map(drop)
        }
        Step::Change(true, name, patch) => {
            let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
            jobs.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
        }
        Step::Change(false, name, patch) => {
            let jobs: Api<CronJob> = Api::namespaced(client.clone(), namespace);
            jobs.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
        }
    };
    match result {
        // It has changed since it was read: the next look tells.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(()),
        other => other.map_err(failed(format!("suspending or resuming {namespace}"))),
    }
}
