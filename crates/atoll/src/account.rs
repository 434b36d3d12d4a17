//! `atoll account`: accounts and their passwords, for whoever operates the cloud.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use api::{Account, AccountSpec};
use identity::password::{Cost, Passwords, generate};
use identity::store::Store;
use identity::{ExposeSecret, SecretString};
use installer::apply;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::arguments::{Account as Words, Common, Output};
use crate::{block_on, login, packages};

/// How long a workspace that has gone may be counted still.
const COUNTED: Duration = Duration::from_secs(10);

/// The account that `up` makes.
pub const ADMIN: &str = "admin";

pub fn run(common: &Common, command: Words) -> anyhow::Result<ExitCode> {
    match command {
        Words::Create { account, display_name, operator, password_stdin } => {
            check(&account)?;
            let chosen = password_stdin.then(|| login::password(&account, true)).transpose()?;
            packages::become_root()?;
            let spec = AccountSpec {
                display_name: display_name.unwrap_or_default(),
                operator,
                ..AccountSpec::default()
            };
            let generated = block_on(async {
                let client = admin(common).await?;
                create(&client, &account, spec, chosen.map(SecretString::from)).await
            })?;
            println!("Account {account} is there.");
            tell(generated.as_ref());
        }
        Words::Password { account, password_stdin } => {
            check(&account)?;
            let chosen = password_stdin.then(|| login::password(&account, true)).transpose()?;
            packages::become_root()?;
            let generated = block_on(async {
                let client = admin(common).await?;
                exists(&client, &account).await?;
                set_password(&client, &account, chosen.map(SecretString::from)).await
            })?;
            println!("The password of {account} is another one; who was logged in has to log in again.");
            tell(generated.as_ref());
        }
        Words::List { output } => {
            packages::become_root()?;
            block_on(list(common, output))?;
        }
        Words::Limit { account, workspaces } => {
            check(&account)?;
            packages::become_root()?;
            block_on(async {
                let client = admin(common).await?;
                exists(&client, &account).await?;
                let accounts: Api<Account> = Api::all(client);
                let patch = json!({ "spec": { "workspaceLimit": workspaces } });
                let patched = accounts.patch(&account, &PatchParams::default(), &Patch::Merge(patch)).await;
                patched.map(drop).context("changing the account")
            })?;
            println!("{account} may own {workspaces} workspaces.");
        }
        Words::Delete { account } => {
            check(&account)?;
            packages::become_root()?;
            block_on(delete(common, &account))?;
            println!("Account {account} is gone.");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check(account: &str) -> anyhow::Result<()> {
    api::names::check_workspace_name(account)
        .map_err(|problem| anyhow::anyhow!("`{account}` can't be an account's name: {problem}"))
}

fn tell(password: Option<&SecretString>) {
    if let Some(password) = password {
        println!("  password    {}", password.expose_secret());
        println!("It is shown this once: `atoll account password` makes another.");
    }
}

/// A client with the administrator's rights.
pub async fn admin(common: &Common) -> anyhow::Result<Client> {
    let directory = common.place().directory();
    if directory.load()?.is_none() {
        bail!(installer::Error::NoCluster(common.name.clone()));
    }
    Ok(apply::client(&directory.kubeconfig()).await?)
}

/// Fails when there is no such account.
pub async fn exists(client: &Client, account: &str) -> anyhow::Result<()> {
    let accounts: Api<Account> = Api::all(client.clone());
    if accounts.get_opt(account).await.context("looking the account up")?.is_none() {
        bail!("there is no account `{account}`: `atoll account create {account}` makes one");
    }
    Ok(())
}

/// Makes an account; returns its password when it was not chosen.
async fn create(
    client: &Client,
    account: &str,
    spec: AccountSpec,
    chosen: Option<SecretString>,
) -> anyhow::Result<Option<SecretString>> {
    let accounts: Api<Account> = Api::all(client.clone());
    match accounts.create(&PostParams::default(), &Account::new(account, spec)).await {
        Ok(_) => set_password(client, account, chosen).await,
        Err(kube::Error::Api(answer)) if answer.code == 409 => {
            bail!("the name `{account}` is taken: choose another one")
        }
        Err(error) => Err(error).context("making the account"),
    }
}

/// Sets a password; returns it when it was not chosen. What was issued before is
/// refused from now on.
async fn set_password(
    client: &Client,
    account: &str,
    chosen: Option<SecretString>,
) -> anyhow::Result<Option<SecretString>> {
    let generated = chosen.is_none();
    let password = match chosen {
        Some(chosen) => chosen,
        None => generate()?,
    };
    let hash = Passwords::new(Cost::default())?.hash(password.clone()).await?;
    Store::new(client.clone()).set_password(account, hash).await?;
    Ok(generated.then_some(password))
}

/// Makes the first account of a new cluster, when there is no operator yet.
pub async fn ensure_admin(
    common: &Common,
    chosen: Option<SecretString>,
) -> anyhow::Result<Option<Option<SecretString>>> {
    let client = admin(common).await?;
    let accounts: Api<Account> = Api::all(client.clone());
    let there = accounts.list(&ListParams::default()).await.context("listing accounts")?;
    if there.iter().any(|account| account.spec.operator) {
        return Ok(None);
    }
    let spec = AccountSpec { display_name: "Administrator".into(), operator: true, ..AccountSpec::default() };
    create(&client, ADMIN, spec, chosen).await.map(Some)
}

async fn list(common: &Common, output: Output) -> anyhow::Result<()> {
    let accounts: Api<Account> = Api::all(admin(common).await?);
    let found = accounts.list(&ListParams::default()).await.context("listing accounts")?.items;
    if output != Output::Table {
        output.print(&found)?;
        return Ok(());
    }
    println!("{:<24} {:<24} {:<10} {:<10} DISABLED", "ACCOUNT", "NAME", "OPERATOR", "WORKSPACES");
    for account in found {
        let AccountSpec { display_name, operator, disabled, .. } = &account.spec;
        let owned = account.status.as_ref().map_or(0, |status| status.workspaces);
        let workspaces = format!("{owned}/{}", account.spec.workspace_limit());
        println!("{:<24} {display_name:<24} {operator:<10} {workspaces:<10} {disabled}", account.name_any());
    }
    Ok(())
}

async fn delete(common: &Common, account: &str) -> anyhow::Result<()> {
    let client = admin(common).await?;
    exists(&client, account).await?;
    let workspaces: Api<api::Workspace> = Api::all(client.clone());
    let owned = workspaces.list(&ListParams::default()).await.context("listing workspaces")?;
    if let Some(owned) = owned.iter().find(|workspace| workspace.spec.owner == account) {
        bail!(
            "`{account}` owns the workspace `{}`: delete it or give it another owner first",
            owned.name_any()
        );
    }
    let accounts: Api<Account> = Api::all(client.clone());
    // The last workspace may have gone a moment ago: it is still counted.
    let started = Instant::now();
    loop {
        match accounts.delete(account, &DeleteParams::default()).await {
            Err(kube::Error::Api(answer)) if answer.code == 403 && started.elapsed() < COUNTED => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            other => break drop(other.context("deleting the account")?),
        }
    }
    let store = Store::new(client);
    store.revoke_account(account).await?;
    Ok(store.remove_credentials(account).await?)
}
