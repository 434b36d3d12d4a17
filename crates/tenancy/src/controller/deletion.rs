//! Lets a workspace go when its time has come: takes the steps of [`crate::deletion`].

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use api::Workspace;

use super::status::Problem;
use super::{Context, Error, TRY_AGAIN, failed};
use crate::deletion::{Step, step};

/// A clock may be changed: it is looked at this often at least.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// How far a workspace is from going.
pub enum Going {
    /// It stays.
    No,
    /// It is to go, and is told so; when to look again.
    Later(Problem, Duration),
    /// It is gone, or has changed: there is nothing else to do with it.
    Gone,
}

/// Does what is to be done now.
pub async fn settle(context: &Context, workspace: &Workspace) -> Result<Going, Error> {
    let name = workspace.name_any();
    let Some(goes) = &workspace.spec.deletion else { return Ok(Going::No) };
    let below = context.index.below(&name);
    let accepted = &workspace.spec.accepted_children;
    let now = Timestamp::now().as_second();
    let told = |message: String| Problem::new("Deleted", message);
    let workspaces: Api<Workspace> = Api::all(context.client.clone());
    // As it was when this was decided: who restores it a moment before keeps it.
    let version = workspace.resource_version();
    match step(Some(goes.0.as_second()), now, &workspace.spec.owner, accepted, &below) {
        Step::Stay => Ok(Going::No),
        Step::Wait(seconds) => {
            let message = format!("it goes at {}: `atoll workspace restore {name}` keeps it", goes.0);
            Ok(Going::Later(told(message), Duration::from_secs(seconds).min(LOOK_AGAIN)))
        }
        Step::Hold(own) => {
            let message = format!("it goes when what is below it has gone: {}", own.join(", "));
            Ok(Going::Later(told(message), TRY_AGAIN))
        }
        Step::Release(left) => {
            let patch = Patch::Merge(json!({
                "metadata": { "resourceVersion": version }, "spec": { "acceptedChildren": left },
            }));
            let patched = workspaces.patch(&name, &PatchParams::default(), &patch).await;
            settled(patched.map(drop), format!("letting go what is below workspace {name}"))
        }
        Step::Delete => {
            let same = Preconditions { uid: workspace.uid(), resource_version: version };
            let parameters = DeleteParams { preconditions: Some(same), ..DeleteParams::foreground() };
            let deleted = workspaces.delete(&name, &parameters).await;
            if deleted.is_ok() {
                tracing::info!(workspace = name, "its time has come: it goes");
            }
            settled(deleted.map(drop), format!("deleting workspace {name}"))
        }
    }
}

fn settled(result: kube::Result<()>, action: String) -> Result<Going, Error> {
    match result {
        // It changed meanwhile, which is a reason to look at it again.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(Going::Gone),
        other => other.map(|()| Going::Gone).map_err(failed(action)),
    }
}
