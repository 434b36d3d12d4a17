//! `atoll invite`: a role in a workspace for whoever has a token.

use std::io::BufRead;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use api::invitation::{acceptance_name, token_hash};
use api::{Acceptance, AcceptanceSpec, Invitation, InvitationSpec, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use rand::Rng;
use serde_json::json;

use crate::arguments::{Common, InWorkspace, Invite as Words, Output};
use crate::workspace::{namespace_of, said};
use crate::{block_on, login};

/// How long the answer to an acceptance may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

pub fn run(common: &Common, command: Words) -> anyhow::Result<ExitCode> {
    block_on(async {
        match command {
            Words::Create { place, role, to, days, output } => {
                create(common, &place, role.into(), to, days, output).await
            }
            Words::List { place, output } => list(common, &place, output).await,
            Words::Revoke { invitation, place } => revoke(common, &place, &invitation).await,
            Words::Accept { token, account } => {
                let token = token.map_or_else(read_token, Ok)?;
                accept(common, account.as_deref(), token.trim()).await
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn read_token() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("reading the token")?;
    if line.trim().is_empty() {
        bail!("give the invitation's token, or write it to the standard input");
    }
    Ok(line)
}

fn letters(count: usize) -> String {
    let mut random = rand::rng();
    (0..count).map(|_| char::from(random.sample(rand::distr::Alphanumeric))).collect()
}

async fn create(
    common: &Common,
    place: &InWorkspace,
    role: Role,
    to: Option<String>,
    days: u8,
    output: Output,
) -> anyhow::Result<()> {
    let (client, _) = login::client(common, place.account.as_deref()).await?;
    let (_, namespace) = namespace_of(&client, &place.workspace).await?;
    let invitations: Api<Invitation> = Api::namespaced(client, &namespace);
    // 43 letters and digits are 256 bits.
    let token = letters(43);
    // A little less than whole days: the server's clock may be behind.
    let lifetime = SignedDuration::from_hours(24 * i64::from(days)) - SignedDuration::from_mins(1);
    let expires = Time(Timestamp::now() + lifetime);
    let spec =
        InvitationSpec { role, expires, account: to, token_hash: token_hash(&acceptance_name(&token)) };
    let name = letters(8).to_lowercase();
    let made = invitations.create(&PostParams::default(), &Invitation::new(&name, spec)).await;
    made.map_err(said).context("making the invitation")?;
    if output != Output::Table {
        return output.print(&json!({ "name": name, "token": token }));
    }
    println!("Invitation {name} is good for {days} days, once.");
    println!("  token       {token}");
    println!("It is shown this once. Who gets it runs `atoll invite accept {token}`.");
    Ok(())
}

async fn list(common: &Common, place: &InWorkspace, output: Output) -> anyhow::Result<()> {
    let (client, _) = login::client(common, place.account.as_deref()).await?;
    let (_, namespace) = namespace_of(&client, &place.workspace).await?;
    let invitations: Api<Invitation> = Api::namespaced(client, &namespace);
    let found =
        invitations.list(&ListParams::default()).await.map_err(said).context("listing invitations")?;
    if output != Output::Table {
        return output.print(&found.items);
    }
    println!("{:<12} {:<10} {:<20} {:<22} ACCEPTED BY", "INVITATION", "ROLE", "FOR", "EXPIRES");
    for one in found {
        let to = one.spec.account.as_deref().unwrap_or("whoever has the token");
        let by = one.status.as_ref().and_then(|status| status.accepted_by.as_deref()).unwrap_or("");
        let expires = one.spec.expires.0.to_string();
        println!("{:<12} {:<10} {to:<20} {expires:<22.19} {by}", one.name_any(), one.spec.role.name());
    }
    Ok(())
}

async fn revoke(common: &Common, place: &InWorkspace, name: &str) -> anyhow::Result<()> {
    let (client, _) = login::client(common, place.account.as_deref()).await?;
    let (_, namespace) = namespace_of(&client, &place.workspace).await?;
    let invitations: Api<Invitation> = Api::namespaced(client, &namespace);
    match invitations.delete(name, &DeleteParams::default()).await {
        Ok(_) => println!("Invitation {name} is no longer good."),
        Err(kube::Error::Api(answer)) if answer.code == 404 => {
            bail!("there is no invitation `{name}`: `atoll invite list` shows them")
        }
        Err(error) => return Err(said(error)).context("revoking the invitation"),
    }
    Ok(())
}

async fn accept(common: &Common, account: Option<&str>, token: &str) -> anyhow::Result<()> {
    let (_, account, _) = login::session(common, account)?;
    let (client, _) = login::client(common, Some(&account)).await?;
    let acceptances: Api<Acceptance> = Api::all(client);
    let name = acceptance_name(token);
    let acceptance = Acceptance::new(&name, AcceptanceSpec { account });
    match acceptances.create(&PostParams::default(), &acceptance).await {
        Ok(_) => {}
        Err(kube::Error::Api(answer)) if answer.code == 409 => {
            bail!("this token was tried a moment ago: wait a minute")
        }
        Err(error) => return Err(said(error)).context("accepting the invitation"),
    }
    let started = Instant::now();
    loop {
        let now = acceptances.get_opt(&name).await.map_err(said).context("waiting for the answer")?;
        if let Some(status) = now.and_then(|now| now.status) {
            if status.workspace.is_none() {
                bail!("{}", status.message);
            }
            println!("Accepted: {}.", status.message);
            return Ok(());
        }
        if started.elapsed() > ANSWER_LIMIT {
            bail!(
                "nobody answers: whoever operates the cloud sees by `atoll status` whether the controller runs"
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
