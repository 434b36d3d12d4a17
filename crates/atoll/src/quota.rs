//! `atoll quota`: what several workspaces may use together, for whoever operates the
//! cloud.

use std::process::ExitCode;

use anyhow::{Context, bail};
use api::{SharedQuota, SharedQuotaSpec};
use clap::{Args, Subcommand};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};

use crate::account::admin;
use crate::arguments::{Common, Output, name_and_value};
use crate::workspace::said;
use crate::{block_on, packages};

#[derive(Subcommand)]
pub enum Quota {
    /// List the shared quotas and what is used of them
    List {
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Make a shared quota, or change what is named of one
    Set(Changes),
    /// Remove a shared quota
    Delete { quota: String },
}

/// What is to change of a shared quota.
#[derive(Args)]
pub struct Changes {
    quota: String,
    /// The account whose workspaces share it; of a new one this or --workspace is said
    #[arg(long, conflicts_with = "workspace")]
    account: Option<String>,
    /// The workspace that shares it with all below it
    #[arg(long)]
    workspace: Option<String>,
    /// The most of a resource, as in a ResourceQuota; `NAME=` takes the limit away
    #[arg(long = "hard", value_name = "NAME=QUANTITY", value_parser = name_and_value)]
    hard: Vec<(String, String)>,
}

pub fn run(common: &Common, command: Quota) -> anyhow::Result<ExitCode> {
    packages::become_root()?;
    block_on(async {
        let client = admin(common).await?;
        match command {
            Quota::List { output } => list(client, output).await,
            Quota::Set(changes) => set(client, changes).await,
            Quota::Delete { quota } => {
                let quotas: Api<SharedQuota> = Api::all(client);
                quotas.get_opt(&quota).await.context("looking the quota up")?.with_context(|| {
                    format!("there is no shared quota `{quota}`: `atoll quota list` says which there are")
                })?;
                let deleted = quotas.delete(&quota, &DeleteParams::default()).await;
                deleted.map_err(said).context("deleting the quota")?;
                println!("Shared quota {quota} is gone.");
                Ok(())
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(client: Client, output: Output) -> anyhow::Result<()> {
    let quotas: Api<SharedQuota> = Api::all(client);
    let found = quotas.list(&ListParams::default()).await.context("listing quotas")?.items;
    if output != Output::Table {
        return output.print(&found);
    }
    println!("{:<20} {:<28} {:<40} {:>12} {:>12}", "QUOTA", "OF", "RESOURCE", "USED", "HARD");
    for quota in found {
        let of = match (&quota.spec.account, &quota.spec.workspace) {
            (Some(account), _) => format!("account {account}"),
            (None, Some(workspace)) => format!("workspace {workspace}"),
            (None, None) => String::new(),
        };
        let status = quota.status.clone().unwrap_or_default();
        for (resource, hard) in &quota.spec.hard {
            let used = status.used.get(resource).map_or("-", |used| used.0.as_str());
            println!("{:<20} {of:<28} {resource:<40} {used:>12} {:>12}", quota.name_any(), hard.0);
        }
    }
    Ok(())
}

async fn set(client: Client, changes: Changes) -> anyhow::Result<()> {
    let quotas: Api<SharedQuota> = Api::all(client);
    let name = changes.quota.clone();
    let known = quotas.get_opt(&name).await.context("looking the quota up")?;
    let is_new = known.is_none();
    if is_new && changes.account.is_none() && changes.workspace.is_none() {
        bail!("there is no shared quota `{name}`: say whose a new one is, by --account or --workspace");
    }
    let mut quota = known.unwrap_or_else(|| SharedQuota::new(&name, SharedQuotaSpec::default()));
    change(&mut quota.spec, changes);
    let parameters = PostParams::default();
    if is_new {
        quotas.create(&parameters, &quota).await.map_err(said).context("making the quota")?;
    } else {
        quotas.replace(&name, &parameters, &quota).await.map_err(said).context("changing the quota")?;
    }
    println!("Shared quota {name} is {}.", if is_new { "there" } else { "changed" });
    Ok(())
}

/// What is named changes, the rest stays.
fn change(spec: &mut SharedQuotaSpec, changes: Changes) {
    for (resource, quantity) in changes.hard {
        if quantity.is_empty() {
            spec.hard.remove(&resource);
        } else {
            spec.hard.insert(resource, Quantity(quantity));
        }
    }
    spec.account = changes.account.or(spec.account.take());
    spec.workspace = changes.workspace.or(spec.workspace.take());
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    #[test]
    fn what_is_named_changes_and_the_rest_stays() {
        let words = "atoll quota set ada --hard pods=10 --hard secrets=";
        let Command::Quota { command: Quota::Set(changes) } =
            Arguments::parse_from(words.split_whitespace()).command
        else {
            panic!("another command");
        };
        let hard = [("pods", "9"), ("secrets", "5"), ("services", "1")];
        let hard = hard.map(|(name, most)| (name.to_string(), Quantity(most.into()))).into();
        let mut spec = SharedQuotaSpec { account: Some("ada".into()), hard, ..SharedQuotaSpec::default() };
        change(&mut spec, changes);
        let wanted = [("pods", "10"), ("services", "1")];
        assert_eq!(spec.hard, wanted.map(|(name, most)| (name.to_string(), Quantity(most.into()))).into());
        assert_eq!(spec.account.as_deref(), Some("ada"));
    }
}
