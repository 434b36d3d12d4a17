//! `atoll workspace`, `usage` and `bill`: where work runs, who works there, and what
//! it costs.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use api::http::WorkspaceView;
use api::usage::{Bill, Meter, UsageLine};
use api::{Member, MemberSpec, Workspace, WorkspaceSpec};
use hyper::Method;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::account::{admin, exists};
use crate::arguments::{Common, Members, Output, Workspace as Words};
use crate::{block_on, hierarchy, login, packages, plan, server};

/// How long a workspace may take until it is there.
const READY_LIMIT: Duration = Duration::from_secs(60);

pub fn run(common: &Common, command: Words) -> anyhow::Result<ExitCode> {
    match command {
        Words::Create { workspace, owner, display_name, plan, parent } => {
            api::names::check_workspace_name(&workspace)
                .map_err(|problem| anyhow::anyhow!("`{workspace}` can't be a workspace's name: {problem}"))?;
            packages::become_root()?;
            let spec = WorkspaceSpec {
                owner,
                display_name: display_name.unwrap_or_default(),
                plan,
                parent,
                ..WorkspaceSpec::default()
            };
            let namespace = block_on(create(common, &workspace, spec))?;
            println!("Workspace {workspace} is ready; its namespace is {namespace}.");
        }
        Words::List { account, output } => block_on(list(common, account.as_deref(), output))?,
        Words::Tree { account } => block_on(hierarchy::show(common, account.as_deref()))?,
        Words::Move { workspace, parent, to_root: _, account } => {
            block_on(async {
                let (client, _) = login::client(common, account.as_deref()).await?;
                change(&client, &workspace, json!({ "parent": parent })).await
            })?;
            match parent {
                Some(parent) => println!("Workspace {workspace} is below {parent}."),
                None => println!("Workspace {workspace} is below none."),
            }
        }
        Words::Accept { workspace, child, account } => {
            block_on(hierarchy::accept(common, &workspace, &child, account.as_deref(), true))?;
            println!("{child} may be below {workspace}: `atoll workspace move` puts it there.");
        }
        Words::Release { workspace, child, account } => {
            block_on(hierarchy::accept(common, &workspace, &child, account.as_deref(), false))?;
            println!("{child} is no longer below {workspace}.");
        }
        Words::Delete { workspace, now, subtree } => {
            packages::become_root()?;
            if now {
                let gone = block_on(hierarchy::delete(common, &workspace, subtree))?;
                println!("Workspace {} and all that was in it are gone.", gone.join(", "));
            } else {
                let (going, when) = block_on(hierarchy::delete_later(common, &workspace, subtree))?;
                println!("Workspace {} rests, and goes at {when}.", going.join(", "));
                println!("`atoll workspace restore {workspace}` keeps it.");
            }
        }
        Words::Restore { workspace, account } => {
            block_on(async {
                let (client, _) = login::client(common, account.as_deref()).await?;
                if find(&client, &workspace).await?.spec.deletion.is_none() {
                    bail!("`{workspace}` was not deleted: there is nothing to restore");
                }
                change(&client, &workspace, json!({ "deletion": null })).await
            })?;
            println!("Workspace {workspace} stays, as it was.");
        }
        Words::Plan { workspace, plan } => {
            packages::become_root()?;
            block_on(async {
                let client = admin(common).await?;
                plan::find(&client, &plan).await?;
                change(&client, &workspace, json!({ "plan": plan })).await
            })?;
            println!("Workspace {workspace} has the plan {plan}.");
        }
        Words::Suspend { workspace } => {
            packages::become_root()?;
            block_on(async {
                change(&admin(common).await?, &workspace, json!({ "suspended": true })).await
            })?;
            println!("Workspace {workspace} is suspended; `atoll workspace resume {workspace}` lets it run.");
        }
        Words::Resume { workspace } => {
            packages::become_root()?;
            block_on(async {
                change(&admin(common).await?, &workspace, json!({ "suspended": null })).await
            })?;
            println!("Workspace {workspace} runs again.");
        }
        Words::Cordon { workspace, account } => {
            cordon(common, &workspace, account.as_deref(), true)?;
            println!("In workspace {workspace} nothing new can be made.");
        }
        Words::Uncordon { workspace, account } => {
            cordon(common, &workspace, account.as_deref(), false)?;
            println!("In workspace {workspace} new things can be made again.");
        }
        Words::Member { command } => {
            packages::become_root()?;
            block_on(member(common, command))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn cordon(common: &Common, workspace: &str, account: Option<&str>, cordoned: bool) -> anyhow::Result<()> {
    block_on(async {
        let (client, _) = login::client(common, account).await?;
        change(&client, workspace, json!({ "cordoned": cordoned })).await
    })
}

/// Changes a workspace with the rights of the client.
async fn change(client: &Client, name: &str, spec: serde_json::Value) -> anyhow::Result<()> {
    find(client, name).await?;
    let workspaces: Api<Workspace> = Api::all(client.clone());
    let patch = Patch::Merge(json!({ "spec": spec }));
    workspaces
        .patch(name, &PatchParams::default(), &patch)
        .await
        .map_err(said)
        .context("changing the workspace")?;
    Ok(())
}

/// What the API server said, without how the library frames it.
pub fn said(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => {
            // A policy's or a webhook's own words are enough.
            let message = status.message.as_str();
            let own = ["denied request: ", "denied the request: "];
            let message =
                own.iter().find_map(|before| message.rsplit_once(before)).map_or(message, |(_, own)| own);
            anyhow::anyhow!("{message}")
        }
        other => other.into(),
    }
}

/// A workspace's namespace.
pub async fn namespace_of(client: &Client, name: &str) -> anyhow::Result<(Workspace, String)> {
    let found = find(client, name).await?;
    let namespace = found.status.as_ref().and_then(|status| status.namespace.clone());
    let namespace = namespace.with_context(|| format!("`{name}` is still being made: try again"))?;
    Ok((found, namespace))
}

async fn create(common: &Common, name: &str, spec: WorkspaceSpec) -> anyhow::Result<String> {
    let client = admin(common).await?;
    exists(&client, &spec.owner).await?;
    let workspaces: Api<Workspace> = Api::all(client.clone());
    match workspaces.create(&PostParams::default(), &Workspace::new(name, spec)).await {
        Ok(_) => {}
        Err(kube::Error::Api(answer)) if answer.code == 409 => {
            bail!("the name `{name}` is taken: choose another one")
        }
        Err(error) => return Err(said(error)).context("making the workspace"),
    }
    let started = Instant::now();
    loop {
        let workspace = workspaces.get(name).await.context("reading the workspace")?;
        let status = workspace.status.unwrap_or_default();
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        match (ready, status.namespace) {
            (Some(ready), Some(namespace)) if ready.status == "True" => return Ok(namespace),
            (Some(ready), _) if started.elapsed() > READY_LIMIT => bail!("{}", ready.message),
            (None, _) if started.elapsed() > READY_LIMIT => {
                bail!("nobody makes the workspace: see `atoll status` for the controller")
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The workspaces that an account sees.
pub async fn seen(common: &Common, account: Option<&str>) -> anyhow::Result<Vec<WorkspaceView>> {
    let (access, _, token) = login::session(common, account)?;
    let none: Option<&()> = None;
    server::ask(&access, Some(&token), Method::GET, "/api/v1/workspaces", none).await
}

async fn list(common: &Common, account: Option<&str>, output: Output) -> anyhow::Result<()> {
    let found = seen(common, account).await?;
    if output != Output::Table {
        output.print(&found)?;
        return Ok(());
    }
    println!("{:<24} {:<32} {:<16} {:<10} {:<24} READY", "WORKSPACE", "NAMESPACE", "OWNER", "ROLE", "PARENT");
    for one in found {
        let (namespace, parent) = (one.namespace.unwrap_or_default(), one.parent.unwrap_or_default());
        let role = one.role.name();
        println!("{:<24} {namespace:<32} {:<16} {role:<10} {parent:<24} {}", one.name, one.owner, one.ready);
    }
    Ok(())
}

pub async fn find(client: &Client, name: &str) -> anyhow::Result<Workspace> {
    let workspaces: Api<Workspace> = Api::all(client.clone());
    let found = workspaces.get_opt(name).await.context("looking the workspace up")?;
    found
        .with_context(|| format!("there is no workspace `{name}`: `atoll workspace create {name}` makes one"))
}

async fn member(common: &Common, command: Members) -> anyhow::Result<()> {
    let client = admin(common).await?;
    let workspace = match &command {
        Members::Add { workspace, .. }
        | Members::Remove { workspace, .. }
        | Members::List { workspace, .. } => workspace.clone(),
    };
    let (found, namespace) = namespace_of(&client, &workspace).await?;
    let members: Api<Member> = Api::namespaced(client.clone(), &namespace);
    match command {
        Members::Add { account, role, .. } => {
            exists(&client, &account).await?;
            if account == found.spec.owner {
                bail!("`{account}` owns the workspace, which is more than any role");
            }
            let role = role.into();
            let member = Member::new(&account, MemberSpec { account: account.clone(), role });
            let parameters = PatchParams::apply("atoll").force();
            members
                .patch(&account, &parameters, &Patch::Apply(&member))
                .await
                .context("adding the member")?;
            println!("{account} is a {} of {workspace}.", role.name());
        }
        Members::Remove { account, .. } => match members.delete(&account, &DeleteParams::default()).await {
            Ok(_) => println!("{account} is no longer a member of {workspace}."),
            Err(kube::Error::Api(answer)) if answer.code == 404 => {
                bail!("`{account}` is no member of `{workspace}`: `atoll workspace member list` shows them")
            }
            Err(error) => return Err(error).context("removing the member"),
        },
        Members::List { output, .. } => {
            let found = members.list(&ListParams::default()).await.context("listing members")?.items;
            if output != Output::Table {
                output.print(&found)?;
                return Ok(());
            }
            println!("{:<24} ROLE", "ACCOUNT");
            for member in found {
                println!("{:<24} {}", member.name_any(), member.spec.role.name());
            }
        }
    }
    Ok(())
}

pub fn usage(
    common: &Common,
    workspace: &str,
    account: Option<&str>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let lines: Vec<UsageLine> = about(common, workspace, account, "usage")?;
    if output != Output::Table {
        output.print(&lines)?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<40} {:<20} {:>18} {:>14}", "OBJECT", "METER", "QUANTITY", "CHARGE");
    for line in lines {
        let (meter, quantity) = in_words(line.meter, line.quantity);
        println!("{:<40} {meter:<20} {quantity:>18} {:>14}", line.name, money(line.charge_micros));
    }
    Ok(ExitCode::SUCCESS)
}

pub fn bill(
    common: &Common,
    workspace: &str,
    account: Option<&str>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let bill: Bill = about(common, workspace, account, "bill")?;
    if output != Output::Table {
        output.print(&bill)?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<24} {:>18} {:>14}", "METER", "QUANTITY", bill.currency);
    for line in &bill.lines {
        let (meter, quantity) = in_words(line.meter, line.quantity);
        println!("{meter:<24} {quantity:>18} {:>14}", money(line.charge_micros));
    }
    println!("{:<24} {:>18} {:>14}", "in all", "", money(bill.total_micros));
    Ok(ExitCode::SUCCESS)
}

/// What the server says about a workspace.
fn about<T: DeserializeOwned>(
    common: &Common,
    workspace: &str,
    account: Option<&str>,
    what: &str,
) -> anyhow::Result<T> {
    let (access, _, token) = login::session(common, account)?;
    // What is a name is also one segment of a path.
    if let Err(problem) = api::names::check_workspace_name(workspace) {
        bail!("`{workspace}` is no workspace's name: {problem}");
    }
    let path = format!("/api/v1/workspaces/{workspace}/{what}");
    let none: Option<&()> = None;
    block_on(server::ask(&access, Some(&token), Method::GET, &path, none))
}

/// Millionths of the currency's unit, with six places.
fn money(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    format!("{sign}{}.{:06}", micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000)
}

/// A meter and a quantity as people say them.
fn in_words(meter: Meter, quantity: u64) -> (&'static str, String) {
    // Display alone: what is charged is never a float.
    #[allow(clippy::cast_precision_loss)]
    let amount = |unit: f64, name: &str| format!("{:.3} {name}", quantity as f64 / unit);
    const GIB: f64 = 1_073_741_824.0;
    match meter {
        Meter::CpuMicroseconds => ("processor", amount(3_600_000_000.0, "core-hours")),
        Meter::MemoryMebibyteSeconds => ("memory", amount(1024.0 * 3600.0, "GiB-hours")),
        Meter::StorageMebibyteSeconds => ("storage", amount(1024.0 * 3600.0, "GiB-hours")),
        Meter::InternetSentBytes => ("to the internet", amount(GIB, "GiB")),
        Meter::InternetReceivedBytes => ("from the internet", amount(GIB, "GiB")),
        Meter::ClusterSentBytes => ("to the cluster", amount(GIB, "GiB")),
        Meter::ClusterReceivedBytes => ("from the cluster", amount(GIB, "GiB")),
        Meter::GatewayRequests => ("requests to addresses", quantity.to_string()),
        Meter::GatewaySentBytes => ("sent by addresses", amount(GIB, "GiB")),
        Meter::GatewayReceivedBytes => ("received by addresses", amount(GIB, "GiB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_six_places_and_a_sign() {
        assert_eq!(money(1_234_567), "1.234567");
        assert_eq!(money(-5), "-0.000005");
        assert_eq!(money(0), "0.000000");
    }

    #[test]
    fn quantities_are_told_in_peoples_units() {
        assert_eq!(in_words(Meter::CpuMicroseconds, 1_800_000_000), ("processor", "0.500 core-hours".into()));
        assert_eq!(in_words(Meter::InternetSentBytes, 1 << 30).1, "1.000 GiB");
    }
}
