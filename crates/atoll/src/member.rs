//! `atoll member`: who works in a workspace, with the rights of whoever is logged in.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context, bail};
use api::names::{ROLE_PREFIX, USER_PREFIX};
use api::{Member, Role};
use k8s_openapi::api::rbac::v1::RoleBinding;
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
    let members: Api<Member> = Api::namespaced(client.clone(), &namespace);
    let found = members.list(&ListParams::default()).await.map_err(said).context("listing members")?.items;
    if output != Output::Table {
        return output.print(&found);
    }
    println!("{:<24} ROLE", "ACCOUNT");
    println!("{:<24} {}", workspace.spec.owner, Role::Owner.name());
    for member in found.iter().filter(|member| member.name_any() != workspace.spec.owner) {
        println!("{:<24} {}", member.name_any(), member.spec.role.name());
    }
    if workspace.spec.parent.is_some() {
        let bindings: Api<RoleBinding> = Api::namespaced(client, &namespace);
        let bound = bindings.list(&ListParams::default()).await.map_err(said).context("listing roles")?.items;
        let here = found.iter().map(ResourceExt::name_any).chain([workspace.spec.owner]).collect();
        for (account, role) in from_above(&bound, &here) {
            println!("{account:<24} {:<10} (from above)", role.name());
        }
    }
    Ok(())
}

/// Who has a role by what is above the workspace alone: they are bound, and no members
/// here.
fn from_above(bound: &[RoleBinding], here: &BTreeSet<String>) -> BTreeMap<String, Role> {
    let mut roles: BTreeMap<String, Role> = BTreeMap::new();
    for binding in bound {
        let name = binding.name_any();
        let is_it = |role: &Role| name.strip_prefix(ROLE_PREFIX) == Some(role.name());
        let Some(role) = Role::ALL.into_iter().find(is_it) else { continue };
        let accounts = binding.subjects.iter().flatten().filter_map(|one| one.name.strip_prefix(USER_PREFIX));
        for account in accounts.filter(|account| !here.contains(*account)) {
            roles.entry(account.to_owned()).and_modify(|has| *has = role.max(*has)).or_insert(role);
        }
    }
    roles
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_bound_and_no_member_is_from_above() {
        let binding = |name: &str, users: &[&str]| -> RoleBinding {
            let subjects: Vec<_> = users.iter().map(|user| json!({ "kind": "User", "name": user })).collect();
            let binding = json!({
                "metadata": { "name": name }, "subjects": subjects,
                "roleRef": { "apiGroup": "", "kind": "ClusterRole", "name": name },
            });
            serde_json::from_value(binding).unwrap()
        };
        let bound = [
            binding("atoll:manager", &["atoll:ada", "atoll:cy"]),
            binding("atoll:developer", &["atoll:ada", "atoll:bob", "atoll:cy", "atoll:dan"]),
            binding("own", &["atoll:eve"]),
            binding("atoll:viewer", &["atoll:eve"]),
        ];
        let here = BTreeSet::from(["ada".to_owned(), "bob".to_owned()]);
        let wanted = [("cy", Role::Manager), ("dan", Role::Developer), ("eve", Role::Viewer)];
        assert_eq!(from_above(&bound, &here), wanted.map(|(name, role)| (name.to_owned(), role)).into());
    }
}
