//! Who accepts an invitation becomes what it offers.
//!
//! That an invitation is used up is noted first, with the acceptance that used it:
//! whatever happens afterwards, nobody else can use it, and this one is carried on.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use serde_json::json;

use api::{Acceptance, AcceptanceStatus, Invitation, Member, MemberSpec, Role, Workspace};

use super::{Context, Error, FIELD_MANAGER, failed};
use crate::invitation::{self, Acceptor, Offer, Outcome, Refused};
use crate::ownership;

/// How long it can be read what came of an acceptance.
const KEPT: i64 = 10;
/// How long an invitation that was just made may not have been heard of.
const UNHEARD: i64 = 3;
/// How soon it is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// Watches and acts until the watch ends, which it doesn't.
pub async fn run(context: Arc<Context>) {
    let acceptances: Api<Acceptance> = Api::all(context.client.clone());
    Controller::new(acceptances, watcher::Config::default())
        .run(reconcile, again, context)
        .for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "an acceptance");
            }
            futures::future::ready(())
        })
        .await;
}

// The object's name is a secret for as long as it is there, and not logged.
#[allow(clippy::needless_pass_by_value)] // as the runtime wants it
fn again(_: Arc<Acceptance>, error: &Error, _: Arc<Context>) -> Action {
    tracing::warn!(%error, "accepting an invitation");
    Action::requeue(super::TRY_AGAIN)
}

async fn reconcile(acceptance: Arc<Acceptance>, context: Arc<Context>) -> Result<Action, Error> {
    context.known.all().await;
    let now = k8s_openapi::jiff::Timestamp::now().as_second();
    let age = acceptance.metadata.creation_timestamp.as_ref().map_or(0, |made| now - made.0.as_second());
    if acceptance.status.is_some() {
        if age < KEPT {
            return Ok(Action::requeue(Duration::from_secs(u64::try_from(KEPT - age).unwrap_or_default())));
        }
        let acceptances: Api<Acceptance> = Api::all(context.client.clone());
        let deleted = acceptances.delete(&acceptance.name_any(), &DeleteParams::default()).await;
        return gone_or(deleted, "removing an acceptance").map(|()| Action::await_change());
    }
    let status = match accept(&context, &acceptance, now).await? {
        Ok((workspace, role)) => AcceptanceStatus {
            message: format!("you are {} of {workspace}", article(role)),
            workspace: Some(workspace),
        },
        Err(Refused::Unknown) if age < UNHEARD => return Ok(Action::requeue(LOOK_AGAIN)),
        Err(refused) => AcceptanceStatus { workspace: None, message: refused.to_string() },
    };
    let acceptances: Api<Acceptance> = Api::all(context.client.clone());
    let patch = Patch::Merge(json!({ "status": status }));
    let patched = acceptances.patch_status(&acceptance.name_any(), &PatchParams::default(), &patch).await;
    gone_or(patched, "telling what came of an acceptance").map(|()| Action::await_change())
}

const fn article(role: Role) -> &'static str {
    match role {
        Role::Viewer => "a viewer",
        Role::Developer => "a developer",
        Role::Manager => "a manager",
        Role::Owner => "the owner",
    }
}

fn gone_or<T>(result: kube::Result<T>, action: &str) -> Result<(), Error> {
    match result {
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        other => other.map(drop).map_err(failed(action)),
    }
}

/// The workspace and the role that were taken.
async fn accept(
    context: &Context,
    acceptance: &Acceptance,
    now: i64,
) -> Result<Result<(String, Role), Refused>, Error> {
    let hash = api::invitation::token_hash(&acceptance.name_any());
    let account = acceptance.spec.account.as_str();
    let uid = acceptance.uid().unwrap_or_default();
    let found = context.invitations.find(|invitation| invitation.spec.token_hash == hash);
    let place = found.as_ref().and_then(|found| place_of(context, &found.namespace()?));
    let (Some(found), Some((workspace, namespace))) = (found, place) else {
        return Ok(Err(Refused::Unknown));
    };
    let Some(standing) = context.accounts.get(&ObjectRef::new(account)) else {
        return Ok(Err(Refused::Unknown));
    };
    let role = context.index.direct(&workspace.name_any()).get(account).copied();
    let owned = context.owned(Some(account));
    let owns = ownership::count(&owned).get(account).copied().unwrap_or_default();
    let by = Acceptor {
        account,
        acceptance: &uid,
        role,
        may_own_more: standing.spec.operator || owns < standing.spec.workspace_limit(),
    };
    let status = found.status.clone().unwrap_or_default();
    let offer = Offer {
        role: found.spec.role,
        expires: found.spec.expires.0.as_second(),
        to: found.spec.account.as_deref(),
        taken_by: status.acceptance.as_deref(),
    };
    let outcome = match invitation::accept(Some(&offer), &by, now) {
        Ok(outcome) => outcome,
        Err(refused) => return Ok(Err(refused)),
    };
    if status.acceptance.is_none() && !note(context, &found, &namespace, account, &uid).await? {
        return Ok(Err(Refused::Unknown));
    }
    let name = workspace.name_any();
    match outcome {
        Outcome::Done => {}
        Outcome::Join(role) => appoint(&context.client, &namespace, account, role).await?,
        Outcome::TakeOver => {
            appoint(&context.client, &namespace, &workspace.spec.owner, Role::Manager).await?;
            let workspaces: Api<Workspace> = Api::all(context.client.clone());
            // What is above it was agreed with who owned it.
            let patch = Patch::Merge(json!({ "spec": { "owner": account, "parent": null } }));
            let patched = workspaces.patch(&name, &PatchParams::default(), &patch).await;
            patched.map_err(failed(format!("handing workspace {name} over")))?;
            let members: Api<Member> = Api::namespaced(context.client.clone(), &namespace);
            gone_or(
                members.delete(account, &DeleteParams::default()).await,
                "removing the new owner's role",
            )?;
        }
    }
    tracing::info!(workspace = name, account, role = found.spec.role.name(), "an invitation was accepted");
    Ok(Ok((name, found.spec.role)))
}

/// The workspace whose namespace it is.
fn place_of(context: &Context, namespace: &str) -> Option<(Arc<Workspace>, String)> {
    let is_its = |workspace: &Workspace| {
        workspace.status.as_ref().and_then(|status| status.namespace.as_deref()) == Some(namespace)
    };
    Some((context.workspaces.find(is_its)?, namespace.to_owned()))
}

/// Notes who used an invitation; false when it has changed since it was read.
async fn note(
    context: &Context,
    found: &Invitation,
    namespace: &str,
    account: &str,
    uid: &str,
) -> Result<bool, Error> {
    let invitations: Api<Invitation> = Api::namespaced(context.client.clone(), namespace);
    let patch = Patch::Merge(json!({
        "metadata": { "resourceVersion": found.resource_version() },
        "status": { "acceptedBy": account, "acceptance": uid },
    }));
    match invitations.patch_status(&found.name_any(), &PatchParams::default(), &patch).await {
        Ok(_) => Ok(true),
        // Revoked, or used by somebody else.
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => Ok(false),
        Err(error) => Err(failed("noting that an invitation is used")(error)),
    }
}

async fn appoint(client: &Client, namespace: &str, account: &str, role: Role) -> Result<(), Error> {
    let members: Api<Member> = Api::namespaced(client.clone(), namespace);
    let member = Member::new(account, MemberSpec { account: account.to_owned(), role });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let applied = members.patch(account, &parameters, &Patch::Apply(&member)).await;
    applied.map(drop).map_err(failed(format!("making {account} a member in {namespace}")))
}
