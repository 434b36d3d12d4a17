//! What is kept in the cluster: the account, what was tried, and certificates.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use acme::account::{Account, Credentials};
use acme::issued::Issued;
use acme::plan::{History, Key};
use anyhow::Context;
use api::names::{ACME_LABEL, SYSTEM_NAMESPACE};
use gateway::object::{Id, Kind};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};

use super::settings::Settings;
use super::tell;
use crate::controller::FIELD_MANAGER;

/// The Secret with the account, and its key.
const ACCOUNT: &str = "acme-account";
const CREDENTIALS: &str = "credentials";
/// The ConfigMap with what was tried, and its key.
const HISTORY: &str = "acme-history";
const JSON: &str = "history.json";

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

pub async fn history(client: &Client) -> anyhow::Result<History> {
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let Some(kept) = configs.get_opt(HISTORY).await? else { return Ok(History::default()) };
    let Some(text) = kept.data.as_ref().and_then(|data| data.get(JSON)) else {
        return Ok(History::default());
    };
    serde_json::from_str(text).with_context(|| {
        format!("ConfigMap {HISTORY} of {SYSTEM_NAMESPACE} can't be read: remove it to begin anew")
    })
}

pub async fn save(client: &Client, history: &History) -> anyhow::Result<()> {
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let data = Some(BTreeMap::from([(JSON.to_owned(), serde_json::to_string(history)?)]));
    match configs.get_opt(HISTORY).await? {
        Some(mut kept) => {
            kept.data = data;
            configs.replace(HISTORY, &params(), &kept).await?;
        }
        None => {
            let mut kept = ConfigMap { data, ..ConfigMap::default() };
            kept.metadata.name = Some(HISTORY.to_owned());
            configs.create(&params(), &kept).await?;
        }
    }
    Ok(())
}

/// The account that is kept, if it is of this directory; else a new one.
pub async fn account(client: &Client, settings: &Settings) -> anyhow::Result<Account> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let kept = secrets.get_opt(ACCOUNT).await?;
    let credentials = kept.as_ref().and_then(|kept| {
        let text = kept.data.as_ref()?.get(CREDENTIALS)?;
        Some(Credentials::new(String::from_utf8(text.0.clone()).ok()?))
    });
    if let Some(credentials) = credentials
        && credentials.directory().as_ref() == Some(&settings.directory.url)
    {
        return Ok(Account::restore(&settings.directory, &credentials).await?);
    }
    let (account, credentials) = Account::register(&settings.directory, settings.email.as_deref()).await?;
    let data =
        BTreeMap::from([(CREDENTIALS.to_owned(), ByteString(credentials.expose().as_bytes().to_vec()))]);
    match kept {
        Some(mut kept) => {
            kept.data = Some(data);
            secrets.replace(ACCOUNT, &params(), &kept).await?;
        }
        None => {
            let mut kept = Secret { data: Some(data), ..Secret::default() };
            kept.metadata.name = Some(ACCOUNT.to_owned());
            secrets.create(&params(), &kept).await?;
        }
    }
    tracing::info!(directory = settings.directory.url, "registered an account for ACME");
    Ok(account)
}

fn is_ours(secret: &Secret) -> bool {
    secret.labels().contains_key(ACME_LABEL) && secret.type_.as_deref() == Some("kubernetes.io/tls")
}

/// Whether a Secret is there that is not ours to write.
pub async fn is_foreign(client: &Client, key: &Key) -> anyhow::Result<bool> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &key.namespace);
    Ok(secrets.get_opt(&key.secret).await?.is_some_and(|secret| !is_ours(&secret)))
}

/// Writes a certificate where it is wanted, over nothing but one of ours.
pub async fn certificate(
    client: &Client,
    key: &Key,
    owner: &(Kind, Id),
    issued: &Issued,
) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &key.namespace);
    let data = BTreeMap::from([
        ("tls.crt".to_owned(), ByteString(issued.chain.as_bytes().to_vec())),
        ("tls.key".to_owned(), ByteString(issued.expose_key().as_bytes().to_vec())),
    ]);
    match secrets.get_opt(&key.secret).await? {
        Some(secret) if !is_ours(&secret) => {
            anyhow::bail!("a Secret of that name is there and was not made by ACME")
        }
        // With its version: what somebody else makes of it meanwhile stays.
        Some(mut secret) => {
            secret.data = Some(data);
            secrets.replace(&key.secret, &params(), &secret).await?;
        }
        None => {
            let (_, reference) = tell::owner(client, owner).await?.context("whatever wanted it is gone")?;
            let mut secret =
                Secret { data: Some(data), type_: Some("kubernetes.io/tls".to_owned()), ..Secret::default() };
            secret.metadata.name = Some(key.secret.clone());
            secret.metadata.labels = Some([(ACME_LABEL.to_owned(), "true".to_owned())].into());
            // It goes with what has wanted it.
            secret.metadata.owner_references = Some(vec![reference]);
            secrets.create(&params(), &secret).await?;
        }
    }
    Ok(())
}
