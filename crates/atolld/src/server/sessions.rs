//! Sessions, in memory and with each account's credentials.

use std::collections::HashMap;
use std::sync::RwLock;

use anyhow::Context;
use async_trait::async_trait;
use identity::record::{Credentials, LABEL, account_of};
use identity::session::{Rules, SessionRecord as Kept};
use identity::store::Store;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use server::Error;
use server::session::{SessionHash, SessionRecord, SessionStore};

/// The sessions.
pub struct Sessions {
    store: Store,
    known: RwLock<HashMap<String, SessionRecord>>,
}

impl Sessions {
    /// Reads those that an earlier life of the server kept.
    pub async fn load(client: Client, store: Store) -> anyhow::Result<Self> {
        let secrets: Api<Secret> = Api::namespaced(client, api::names::SYSTEM_NAMESPACE);
        let own = ListParams::default().labels(&format!("{LABEL}=account"));
        let mut known = HashMap::new();
        for secret in secrets.list(&own).await.context("reading sessions")? {
            let name = secret.name_any();
            if account_of(&name).is_none() {
                continue;
            }
            let data =
                secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0)).collect();
            match Credentials::decode(&name, &data) {
                Ok(credentials) => known.extend(credentials.sessions.into_iter().map(|kept| {
                    let record = SessionRecord {
                        account: kept.account,
                        created: kept.created / 1000,
                        used: kept.last_seen / 1000,
                    };
                    (kept.hash, record)
                })),
                // One damaged Secret shuts one account out, not all.
                Err(error) => tracing::error!(%error, name, "its sessions are not known"),
            }
        }
        Ok(Self { store, known: RwLock::new(known) })
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, SessionRecord>> {
        self.known.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn change(&self, account: &str, change: impl FnMut(&mut Credentials)) -> Result<(), Error> {
        self.store
            .change_credentials(account, change)
            .await
            .map_err(|error| Error::Unavailable(format!("the session can't be kept: {error}")))
    }
}

#[async_trait]
impl SessionStore for Sessions {
    async fn create(&self, hash: SessionHash, record: SessionRecord) -> Result<(), Error> {
        let rules = Rules::default();
        let kept = Kept {
            hash: hash.to_string(),
            account: record.account.clone(),
            created: record.created * 1000,
            last_seen: record.used * 1000,
            expires: record.created * 1000 + rules.absolute,
        };
        let now = identity::now();
        self.change(&record.account, |credentials| {
            credentials.prune(now, &rules);
            credentials.sessions.push(kept.clone());
        })
        .await?;
        let mut known = self.write();
        known.retain(|_, other| other.created * 1000 + rules.absolute > now);
        known.insert(hash.to_string(), record);
        Ok(())
    }

    async fn get(&self, hash: SessionHash) -> Result<Option<SessionRecord>, Error> {
        let known = self.known.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(known.get(&hash.to_string()).cloned())
    }

    async fn touch(&self, hash: SessionHash, used: u64) -> Result<(), Error> {
        let hash = hash.to_string();
        let changed = match self.write().get_mut(&hash) {
            // Written down now and then: after a restart a session is a little older.
            Some(record) => {
                let worth = used.saturating_sub(record.used) * 1000 >= Rules::default().touch;
                record.used = used;
                worth.then(|| record.account.clone())
            }
            None => None,
        };
        match changed {
            Some(account) => {
                self.change(&account, |credentials| {
                    if let Some(session) = credentials.session(&hash) {
                        session.last_seen = used * 1000;
                    }
                })
                .await
            }
            None => Ok(()),
        }
    }

    async fn remove(&self, hash: SessionHash) -> Result<(), Error> {
        let hash = hash.to_string();
        let removed = self.write().remove(&hash);
        match removed {
            Some(record) => {
                self.change(&record.account, |credentials| {
                    credentials.sessions.retain(|session| session.hash != hash);
                })
                .await
            }
            None => Ok(()),
        }
    }
}
