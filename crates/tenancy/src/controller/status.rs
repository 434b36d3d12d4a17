//! A workspace's status: its namespace, and whether all of it is there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, PatchParams};
use kube::{Client, Resource, ResourceExt};

use api::{Workspace, WorkspaceStatus, tree};

use super::rest::{Rest, SUSPENDED};
use super::{Error, event, failed, status_patch};
use crate::condition;

/// The type of the condition that tells whether a workspace is below its parent.
const PARENT: &str = "Parent";

/// Why a workspace isn't ready, for its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    reason: &'static str,
    message: String,
}

impl Problem {
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// How a workspace is.
#[derive(Clone, Debug)]
pub struct Told {
    /// Whether all of it is there.
    pub outcome: Result<(), Problem>,
    /// Whether it runs.
    pub rest: Rest,
    /// Whether it is below the parent that it names, if it names one.
    pub parent: Option<Result<(), tree::Problem>>,
    /// What of it, or of what is above it, can't be copied.
    pub uncopied: Vec<String>,
    /// The digest of what is kept in its namespace, as far as it is known.
    pub applied: Option<String>,
}

impl Told {
    /// Nothing of it is there, because of this.
    pub fn refused(problem: Problem) -> Self {
        Self { outcome: Err(problem), rest: Rest::Running, parent: None, uncopied: Vec::new(), applied: None }
    }
}

/// The status that says so; the time of the last transition is kept when nothing
/// turned.
fn next(workspace: &Workspace, namespace: Option<&str>, told: Told, now: &Time) -> WorkspaceStatus {
    let old = workspace.status.clone().unwrap_or_default();
    let ready = match told.outcome {
        Ok(()) => ("True", "Ready".to_string(), "all of it is there".to_string()),
        Err(problem) => ("False", problem.reason.to_string(), problem.message),
    };
    let condition = |kind: &str, (status, reason, message): (&str, String, String)| {
        let told = (status, reason.as_str(), message);
        condition::next(&old.conditions, kind, told, workspace.metadata.generation, now.clone())
    };
    let mut conditions = vec![condition("Ready", ready)];
    conditions.extend(told.parent.map(|parent| match parent {
        Ok(()) => condition(PARENT, ("True", "Below".to_string(), "it is below its parent".to_string())),
        Err(problem) => condition(PARENT, ("False", problem.reason().to_string(), problem.to_string())),
    }));
    if !told.uncopied.is_empty() {
        let problems = told.uncopied.join("; ");
        conditions.push(condition("Propagation", ("False", "NotCopied".to_string(), problems)));
    }
    conditions.extend(told.rest.told().map(|(status, reason, message)| {
        condition(SUSPENDED, (status, reason.to_string(), message.to_string()))
    }));
    WorkspaceStatus {
        namespace: namespace.map(Into::into).or(old.namespace.clone()),
        conditions,
        children: old.children,
        applied: told.applied.or(old.applied),
        observed_generation: workspace.metadata.generation,
    }
}

/// Writes the status, if it is another than before.
pub async fn write(
    client: &Client,
    workspace: &Workspace,
    namespace: Option<&str>,
    told: Told,
) -> Result<(), Error> {
    let status = next(workspace, namespace, told, &now());
    if workspace.status.as_ref() != Some(&status) {
        patch(client, workspace, &status).await?;
        for refused in refusals(workspace, &status) {
            event::refused(client, &workspace.object_ref(&()), &refused.reason, &refused.message).await;
        }
    }
    Ok(())
}

/// The conditions that say that something is refused, and didn't before.
fn refusals<'a>(workspace: &Workspace, now: &'a WorkspaceStatus) -> Vec<&'a Condition> {
    let before = workspace.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let is_refusal = |condition: &&Condition| {
        // These tell what is under way.
        condition.status == "False"
            && condition.type_ != SUSPENDED
            && !["Pending", "Deleted"].contains(&condition.reason.as_str())
    };
    let same = |one: &Condition, other: &Condition| {
        (&one.type_, &one.reason, &one.message) == (&other.type_, &other.reason, &other.message)
    };
    let is_new = |condition: &&Condition| !before.iter().any(|before| same(before, condition));
    now.conditions.iter().filter(is_refusal).filter(is_new).collect()
}

/// Notes the namespace, before anything is in it.
pub async fn note_namespace(client: &Client, workspace: &Workspace, namespace: &str) -> Result<(), Error> {
    let pending = Problem::new("Pending", "its objects are being made");
    patch(client, workspace, &next(workspace, Some(namespace), Told::refused(pending), &now())).await
}

async fn patch(client: &Client, workspace: &Workspace, status: &WorkspaceStatus) -> Result<(), Error> {
    let workspaces: Api<Workspace> = Api::all(client.clone());
    let name = workspace.name_any();
    match workspaces.patch_status(&name, &PatchParams::default(), &status_patch(status)).await {
        // It was removed meanwhile.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        other => other.map(drop).map_err(failed(format!("writing the status of workspace {name}"))),
    }
}

fn now() -> Time {
    Time(k8s_openapi::jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let mut workspace = Workspace::new("a", api::WorkspaceSpec::default());
        let well = || Told {
            outcome: Ok(()),
            rest: Rest::Running,
            parent: None,
            uncopied: Vec::new(),
            applied: None,
        };
        workspace.status = Some(next(&workspace, Some("a-x"), well(), &at(1)));
        let same = next(&workspace, Some("a-x"), well(), &at(2));
        assert_eq!(Some(&same), workspace.status.as_ref());
        let turned =
            next(&workspace, Some("a-x"), Told::refused(Problem::new("OwnerMissing", "who?")), &at(3));
        assert_eq!(turned.conditions[0].last_transition_time, at(3));
        assert_eq!(turned.namespace.as_deref(), Some("a-x"));
    }

    #[test]
    fn a_refusal_is_told_once() {
        let mut workspace = Workspace::new("a", api::WorkspaceSpec::default());
        let mut reasons = |told: Told| {
            let status = next(&workspace, Some("a-x"), told, &at(1));
            let reasons: Vec<String> =
                refusals(&workspace, &status).iter().map(|one| one.reason.clone()).collect();
            workspace.status = Some(status);
            reasons.join(" ")
        };
        let told = |reason| Told::refused(Problem::new(reason, "why"));
        assert_eq!(reasons(told("Pending")), "");
        assert_eq!(reasons(told("PlanMissing")), "PlanMissing");
        assert_eq!(reasons(told("PlanMissing")), "");
        assert_eq!(reasons(told("OwnerMissing")), "OwnerMissing");
        assert_eq!(reasons(told("Deleted")), "");
        let cycle = Err(tree::Problem::Cycle(vec!["a".into()]));
        let told = Told {
            outcome: Ok(()),
            rest: Rest::Resuming,
            parent: Some(cycle),
            uncopied: vec!["x".into()],
            applied: Some("new".into()),
        };
        assert_eq!(reasons(told.clone()), "Cycle NotCopied");
        assert_eq!(reasons(told), "");
    }

    #[test]
    fn a_workspace_at_rest_says_so_until_it_runs() {
        let mut workspace = Workspace::new("a", api::WorkspaceSpec::default());
        let mut check = |rest, second, wanted: Option<(&str, i64)>| {
            let told = Told { outcome: Ok(()), rest, parent: None, uncopied: Vec::new(), applied: None };
            let status = next(&workspace, Some("a-x"), told, &at(second));
            let told = status.conditions.iter().find(|condition| condition.type_ == SUSPENDED);
            let told = told.map(|told| (told.reason.clone(), told.last_transition_time.clone()));
            assert_eq!(told, wanted.map(|(reason, since)| (reason.to_string(), at(since))), "{rest:?}");
            workspace.status = Some(status);
        };
        check(Rest::Running, 1, None);
        check(Rest::Suspending, 2, Some(("Suspending", 2)));
        check(Rest::Suspended, 3, Some(("Suspended", 2)));
        check(Rest::Resuming, 4, Some(("Resuming", 4)));
        check(Rest::Running, 5, None);
    }

    #[test]
    fn what_was_applied_stays_noted_while_nothing_else_is_known() {
        let mut workspace = Workspace::new("a", api::WorkspaceSpec::default());
        let mut noted = |applied: Option<&str>| {
            let told =
                Told { applied: applied.map(Into::into), ..Told::refused(Problem::new("Pending", "x")) };
            let status = next(&workspace, None, told, &at(1));
            workspace.status = Some(status.clone());
            status.applied
        };
        assert_eq!((noted(None), noted(Some("1")), noted(None)), (None, Some("1".into()), Some("1".into())));
        assert_eq!(noted(Some("2")), Some("2".into()));
    }

    #[test]
    fn a_parent_that_does_not_hold_is_told() {
        let workspace = Workspace::new("a", api::WorkspaceSpec::default());
        let check = |parent: Option<Result<(), tree::Problem>>, wanted: Option<(&str, &str)>| {
            let told =
                Told { outcome: Ok(()), rest: Rest::Running, parent, uncopied: Vec::new(), applied: None };
            let status = next(&workspace, Some("a-x"), told, &at(1));
            let found = status.conditions.iter().find(|condition| condition.type_ == PARENT);
            let found = found.map(|found| (found.status.as_str(), found.reason.as_str()));
            assert_eq!(found, wanted);
        };
        check(None, None);
        check(Some(Ok(())), Some(("True", "Below")));
        check(Some(Err(tree::Problem::Cycle(vec!["a".into()]))), Some(("False", "Cycle")));
    }
}
