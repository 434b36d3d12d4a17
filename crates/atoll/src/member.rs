//! `atoll member`: who works in a workspace, with the rights of whoever is logged in.

use std::process::ExitCode;

use anyhow::{Context, bail};
use api::{Member, Role};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::arguments::{Common, InWorkspace, Member as Words, Output};
use crate::workspace::{namespace_of, said};
use crate::{block_on, login};

pub fn run(common: &Common, command: Words) -> anyhow::Result<ExitCode> {
    block_on(async {
        match command {
            Words::List { place, output } => list(common, &place, output).await,
            Words::Set { member, role, place } => set(common, &place, &member, role.into()).await,
            Words::Remove { member, place } => remove(common, &place, &member).await,
            Words::Leave { place } => {
                let (_, account, _) = login::session(common, place.account.as_deref())?;
                remove(common, &place, &account).await
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(common: &Common, place: &InWorkspace, output: Output) -> anyhow::Result<()> {
    let (client, _) = login::client(common, place.account.as_deref()).await?;
    let (workspace, namespace) = namespace_of(&client, &place.workspace).await?;
    let members: Api<Member> = Api::namespaced(client, &namespace);
    let found = members.list(&ListParams::default()).await.map_err(said).context("listing members")?.items;
    if output != Output::Table {
        return output.print(&found);
    }
    println!("{:<24} ROLE", "ACCOUNT");
    println!("{:<24} {}", workspace.spec.owner, Role::Owner.name());
    for member in found.iter().filter(|member| member.name_any() != workspace.spec.owner) {
        println!("{:<24} {}", member.name_any(), member.spec.role.name());
    }
    Ok(())
}

async fn set(common: &Common, place: &InWorkspace, member: &str, role: Role) -> anyhow::Result<()> {
    let (client, _) = login::client(common, place.account.as_deref()).await?;
    let (_, namespace) = namespace_of(&client, &place.workspace).await?;
    let members: Api<Member> = Api::namespaced(client, &namespace);
    let patch = Patch::Merge(json!({ "spec": { "role": role } }));
    match members.patch(member, &PatchParams::default(), &patch).await {
        Ok(_) => {}
        Err(kube::Error::Api(answer)) if answer.code == 404 => {
            bail!("`{member}` is no member of `{}`: `atoll invite create` invites people", place.workspace)
        }
        Err(error) => return Err(said(error)).context("changing the member"),
    }
    println!("{member} is a {} of {}.", role.name(), place.workspace);
    Ok(())
}

async fn remove(common: &Common, place: &InWorkspace, member: &str) -> anyhow::Result<()> {
    let (client, _) = login::client(common, place.account.as_deref()).await?;
    let (workspace, namespace) = namespace_of(&client, &place.workspace).await?;
    if workspace.spec.owner == member {
        bail!("`{member}` owns `{}`: hand it over by `atoll invite create --role owner`", place.workspace);
    }
    let members: Api<Member> = Api::namespaced(client, &namespace);
    match members.delete(member, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(answer)) if answer.code == 404 => {
            bail!("`{member}` is no member of `{}`: `atoll member list` shows them", place.workspace)
        }
        Err(error) => return Err(said(error)).context("removing the member"),
    }
    println!("{member} is no longer a member of {}.", place.workspace);
    Ok(())
}
