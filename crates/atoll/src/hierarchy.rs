//! Workspaces below workspaces: showing them, accepting others' and deleting subtrees.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use api::http::WorkspaceView;
use api::names::DEFAULT_PLAN;
use api::tree::Tree;
use api::workspace::DELETION_DAYS;
use api::{Plan, Workspace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::account::admin;
use crate::arguments::Common;
use crate::login;
use crate::workspace::{find, said, seen};

/// How long a workspace that has gone may be counted still as being below another.
const COUNTED: Duration = Duration::from_secs(10);
/// How long workspaces may take to go.
const GONE_LIMIT: Duration = Duration::from_secs(300);

/// Shows which of an account's workspaces are below which.
pub async fn show(common: &Common, account: Option<&str>) -> anyhow::Result<()> {
    print!("{}", lines(&seen(common, account).await?));
    Ok(())
}

/// One line each. What is below one that the caller doesn't see stands alone.
fn lines(all: &[WorkspaceView]) -> String {
    let parent = |one: &WorkspaceView| {
        let parent = one.parent.as_deref()?;
        let name = parent.rsplit_once('/').map_or(parent, |(_, name)| name);
        all.iter().find(|other| other.name == name)
    };
    let mut lines = String::new();
    let mut left: Vec<(usize, &WorkspaceView)> =
        all.iter().rev().filter(|one| parent(one).is_none()).map(|one| (0, one)).collect();
    while let Some((level, one)) = left.pop() {
        let about = format!("{} of {}", one.role.name(), one.owner);
        lines.push_str(&format!("{:<40} {about}\n", format!("{}{}", "  ".repeat(level), one.name)));
        let below =
            all.iter().rev().filter(|other| parent(other).is_some_and(|above| above.name == one.name));
        left.extend(below.map(|other| (level + 1, other)));
    }
    lines
}

/// Lets another owner's workspace be below this one, or no longer.
pub async fn accept(
    common: &Common,
    workspace: &str,
    child: &str,
    account: Option<&str>,
    may: bool,
) -> anyhow::Result<()> {
    let (client, _) = login::client(common, account).await?;
    let found = find(&client, workspace).await?;
    let mut accepted = found.spec.accepted_children.clone();
    let before = accepted.len();
    accepted.retain(|one| one != child);
    if !may && accepted.len() == before {
        bail!("`{child}` was not accepted below `{workspace}`: `atoll workspace tree` shows what is there");
    }
    if may {
        accepted.push(child.to_owned());
    }
    set_accepted(&client, &found, &accepted).await
}

/// Changes which of others may be below a workspace, if nobody else did meanwhile.
async fn set_accepted(client: &Client, found: &Workspace, accepted: &[String]) -> anyhow::Result<()> {
    let workspaces: Api<Workspace> = Api::all(client.clone());
    let patch = Patch::Merge(json!({
        "metadata": { "resourceVersion": found.resource_version() },
        "spec": { "acceptedChildren": accepted },
    }));
    let patched = workspaces.patch(&found.name_any(), &PatchParams::default(), &patch).await;
    patched.map(drop).map_err(said).context("changing what may be below the workspace")
}

/// What goes with a workspace, as [`plan`] says.
async fn going(client: &Client, name: &str, subtree: bool) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    find(client, name).await?;
    let workspaces: Api<Workspace> = Api::all(client.clone());
    let all = workspaces.list(&ListParams::default()).await.context("listing workspaces")?.items;
    let mut tree = Tree::default();
    for one in all.iter().filter(|one| one.metadata.deletion_timestamp.is_none()) {
        tree.set(&one.name_any(), one.node());
    }
    let plan = plan(&tree, name);
    if !subtree && let Some(child) = tree.children(name).next() {
        bail!("`{child}` is below `{name}`: move or delete it first, or give --subtree");
    }
    Ok(plan)
}

/// Lets a workspace go later, and what is below it if that is asked for; says which, and
/// when.
pub async fn delete_later(
    common: &Common,
    name: &str,
    subtree: bool,
) -> anyhow::Result<(Vec<String>, Timestamp)> {
    let client = admin(common).await?;
    let workspaces: Api<Workspace> = Api::all(client.clone());
    let plans: Api<Plan> = Api::all(client.clone());
    let plan = find(&client, name).await?.spec.plan.unwrap_or_else(|| DEFAULT_PLAN.into());
    let days = plans.get_opt(&plan).await.context("looking the plan up")?;
    let days = days.and_then(|plan| plan.spec.deletion_days).unwrap_or(DELETION_DAYS);
    let second = Timestamp::now().as_second() + i64::from(days) * 24 * 3600;
    let when = Timestamp::from_second(second).context("reckoning when it goes")?;
    let mut names = Vec::new();
    for (one, _) in going(&client, name, subtree).await? {
        let patch = Patch::Merge(json!({ "spec": { "deletion": Time(when) } }));
        let patched = workspaces.patch(&one, &PatchParams::default(), &patch).await;
        patched.map_err(said).context("deleting the workspace")?;
        names.push(one);
    }
    Ok((names, when))
}

/// Removes a workspace, and what is below it if that is asked for; says which.
pub async fn delete(common: &Common, name: &str, subtree: bool) -> anyhow::Result<Vec<String>> {
    let client = admin(common).await?;
    let workspaces: Api<Workspace> = Api::all(client.clone());
    let plan = going(&client, name, subtree).await?;
    for (one, others) in &plan {
        if !others.is_empty() {
            let found = find(&client, one).await?;
            let mut accepted = found.spec.accepted_children.clone();
            accepted.retain(|child| !others.contains(child));
            set_accepted(&client, &found, &accepted).await?;
            println!("{} stays, and is no longer below {one}.", others.join(", "));
        }
        remove(&workspaces, one).await?;
    }
    let started = Instant::now();
    for (one, _) in &plan {
        while let Some(left) = workspaces.get_opt(one).await.context("reading the workspace")? {
            if started.elapsed() > GONE_LIMIT {
                let namespace = left.status.and_then(|status| status.namespace).unwrap_or_default();
                bail!(
                    "`{one}` is still being removed: see what is left with `kubectl get all -n {namespace}`"
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(plan.into_iter().map(|(one, _)| one).collect())
}

async fn remove(workspaces: &Api<Workspace>, name: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        match workspaces.delete(name, &DeleteParams::foreground()).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(()),
            // What was below it went a moment ago and is counted still.
            Err(kube::Error::Api(answer)) if answer.code == 403 && started.elapsed() < COUNTED => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(said(error)).context("deleting the workspace"),
        }
    }
}

/// What goes with a workspace, the lowest first, and what of others has to be let go for
/// it, as `owner/name`. What is below others' is theirs.
fn plan(tree: &Tree, name: &str) -> Vec<(String, Vec<String>)> {
    let owner = |name: &str| tree.get(name).map(|node| node.owner.as_str());
    let mut found = vec![name.to_owned()];
    let mut plan = Vec::new();
    let mut next = 0;
    while let Some(one) = found.get(next).cloned() {
        next += 1;
        let mut others = Vec::new();
        for child in tree.children(&one) {
            match owner(child) {
                Some(other) if Some(other) != owner(&one) => others.push(format!("{other}/{child}")),
                _ if found.iter().any(|known| known == child) => {}
                _ => found.push(child.to_owned()),
            }
        }
        plan.push((one, others));
    }
    plan.reverse();
    plan
}

#[cfg(test)]
mod tests {
    use api::Role;
    use api::tree::Node;

    use super::*;

    fn view(name: &str, parent: Option<&str>) -> WorkspaceView {
        WorkspaceView {
            name: name.into(),
            display_name: String::new(),
            namespace: None,
            owner: "ada".into(),
            role: Role::Viewer,
            parent: parent.map(Into::into),
            ready: true,
            message: String::new(),
        }
    }

    #[test]
    fn what_is_below_stands_below() {
        let all = [
            view("a", None),
            view("b", Some("ada/a")),
            view("c", Some("b")),
            view("d", Some("a")),
            view("e", Some("unseen")),
        ];
        let lines = lines(&all);
        let names: Vec<String> = lines
            .lines()
            .map(|line| line.split(" viewer of ada").next().unwrap().trim_end().into())
            .collect();
        assert_eq!(names, ["a", "  b", "    c", "  d", "e"]);
    }

    #[test]
    fn a_subtree_goes_from_below_and_stops_at_others() {
        let mut tree = Tree::default();
        let below = |owner: &str, parent: &str| Node { parent: Some(parent.into()), ..Node::of(owner) };
        tree.set("root", Node::of("ada"));
        tree.set("team", Node { accepted: ["bob/guest".to_owned()].into(), ..below("ada", "root") });
        tree.set("leaf", below("ada", "team"));
        tree.set("guest", Node { accepted: ["ada/inner".to_owned()].into(), ..below("bob", "ada/team") });
        tree.set("inner", below("ada", "bob/guest"));
        let wanted = [("leaf", vec![]), ("team", vec!["bob/guest".to_owned()]), ("root", vec![])];
        assert_eq!(plan(&tree, "root"), wanted.map(|(name, others)| (name.to_owned(), others)));
    }
}
