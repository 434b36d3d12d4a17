//! The Secrets of [`crate::record`], in Kubernetes. Changes are by
//! compare-and-swap: of two writers, the later one reads again.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use secrecy::SecretString;

use crate::error::Error;
use crate::key::{Keyring, SigningKey};
use crate::record::{
    Credentials, Data, LABEL, REVOCATIONS, SIGNING_KEY, SigningKeys, VERIFICATION_KEYS, decode_keyring,
    decode_revocations, encode_keyring, encode_revocations, secret_name,
};
use crate::revocation::Revocations;
use crate::token::Verifier;

/// How often a change is tried again because somebody else was faster.
const TRIES: u32 = 16;

/// Reads and writes the Secrets. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    secrets: Api<Secret>,
}

impl Store {
    /// In the system's namespace.
    pub fn new(client: Client) -> Self {
        Self { secrets: Api::namespaced(client, api::names::SYSTEM_NAMESPACE) }
    }

    /// An account's credentials; none when nothing was set yet.
    ///
    /// # Errors
    /// When the Secret can't be read.
    pub async fn credentials(&self, account: &str) -> Result<Option<Credentials>, Error> {
        let name = secret_name(account)?;
        let secret = self.get(&name).await?;
        secret.map(|secret| Credentials::decode(&name, &data(secret))).transpose()
    }

    /// Changes an account's credentials. `change` may run more than once; what
    /// it returns last is returned.
    ///
    /// # Errors
    /// When the Secret can't be read or written.
    pub async fn change_credentials<T>(
        &self,
        account: &str,
        mut change: impl FnMut(&mut Credentials) -> T,
    ) -> Result<T, Error> {
        let name = secret_name(account)?;
        self.change(&name, "account", |data| {
            let mut credentials = Credentials::decode(&name, data.unwrap_or(&Data::new()))?;
            let result = change(&mut credentials);
            Ok((credentials.encode(), result))
        })
        .await
    }

    /// Sets an account's password, by its hash. What was issued before is refused
    /// from now on.
    ///
    /// # Errors
    /// When a Secret can't be read or written.
    pub async fn set_password(&self, account: &str, hash: SecretString) -> Result<(), Error> {
        self.change_credentials(account, |credentials| {
            credentials.password = Some(hash.clone());
            credentials.tokens.clear();
            credentials.sessions.clear();
        })
        .await?;
        self.revoke_account(account).await
    }

    /// Refuses all that was issued to an account until now.
    ///
    /// # Errors
    /// When the Secret can't be written.
    pub async fn revoke_account(&self, account: &str) -> Result<(), Error> {
        self.change_revocations(|revocations| {
            revocations.revoke_account(account, crate::now());
            Ok(())
        })
        .await
    }

    /// Removes all credentials of an account that is deleted.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn remove_credentials(&self, account: &str) -> Result<(), Error> {
        let name = secret_name(account)?;
        match self.secrets.delete(&name, &Default::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => Err(failed(&name, source)),
        }
    }

    /// The key to sign with, made if there is none; its public half is known
    /// before it is returned.
    ///
    /// # Errors
    /// When a Secret can't be read or written.
    pub async fn signing_key(&self) -> Result<SigningKey, Error> {
        let key = self
            .change(SIGNING_KEY, "signing-key", |data| match data {
                Some(data) => Ok((data.clone(), SigningKeys::decode(data)?.current)),
                None => {
                    let current = SigningKey::generate()?;
                    let again = SigningKey::from_pkcs8(current.to_pkcs8())?;
                    Ok((SigningKeys { current, next: None }.encode(), again))
                }
            })
            .await?;
        self.publish([&key].into_iter()).await?;
        Ok(key)
    }

    /// Makes the next key and makes it known; [`Store::promote`] lets it sign,
    /// once every front has heard of it.
    ///
    /// # Errors
    /// When a Secret can't be read or written.
    pub async fn prepare_key(&self) -> Result<(), Error> {
        let next = self
            .change(SIGNING_KEY, "signing-key", |data| {
                let mut keys = SigningKeys::decode(data.ok_or(Error::NoKey)?)?;
                let next = SigningKey::generate()?;
                keys.next = Some(SigningKey::from_pkcs8(next.to_pkcs8())?);
                Ok((keys.encode(), next))
            })
            .await?;
        self.publish([&next].into_iter()).await
    }

    /// The prepared key signs from now on. Returns the id of the one before,
    /// for [`Store::retire_key`] when its last token has expired.
    ///
    /// # Errors
    /// [`Error::NoKey`] when none was prepared.
    pub async fn promote(&self) -> Result<String, Error> {
        self.change(SIGNING_KEY, "signing-key", |data| {
            let keys = SigningKeys::decode(data.ok_or(Error::NoKey)?)?;
            let before = keys.current.id().to_owned();
            let current = keys.next.ok_or(Error::NoKey)?;
            Ok((SigningKeys { current, next: None }.encode(), before))
        })
        .await
    }

    /// A key's tokens are refused from now on.
    ///
    /// # Errors
    /// When the Secret can't be written.
    pub async fn retire_key(&self, id: &str) -> Result<bool, Error> {
        self.change(VERIFICATION_KEYS, "verification-keys", |data| {
            let mut ring = decode_keyring(data.unwrap_or(&Data::new()))?;
            let was = ring.remove(id);
            Ok((encode_keyring(&ring), was))
        })
        .await
    }

    async fn publish(&self, keys: impl Iterator<Item = &SigningKey> + Clone) -> Result<(), Error> {
        self.change(VERIFICATION_KEYS, "verification-keys", |data| {
            let mut ring = decode_keyring(data.unwrap_or(&Data::new()))?;
            keys.clone().for_each(|key| ring.add(key.verification_key()));
            Ok((encode_keyring(&ring), ()))
        })
        .await?;
        // A missing list of revocations lets nobody in, so there is one.
        self.change_revocations(|_| Ok(())).await
    }

    /// Changes the revocations; every front hears of it.
    ///
    /// # Errors
    /// When the Secret can't be written, or what `change` says.
    pub async fn change_revocations<T>(
        &self,
        mut change: impl FnMut(&mut Revocations) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.change(REVOCATIONS, "revocations", |data| {
            let mut revocations = data.map(decode_revocations).transpose()?.unwrap_or_default();
            revocations.prune(crate::now());
            let result = change(&mut revocations)?;
            Ok((encode_revocations(&revocations), result))
        })
        .await
    }

    async fn get(&self, name: &str) -> Result<Option<Secret>, Error> {
        self.secrets.get_opt(name).await.map_err(|source| failed(name, source))
    }

    async fn change<T>(
        &self,
        name: &str,
        what: &str,
        mut change: impl FnMut(Option<&Data>) -> Result<(Data, T), Error>,
    ) -> Result<T, Error> {
        for attempt in 0..TRIES {
            let found = self.get(name).await?;
            let before = found.as_ref().map(|secret| data(secret.clone()));
            let (after, result) = change(before.as_ref())?;
            if before.as_ref() == Some(&after) {
                return Ok(result);
            }
            let bytes = after.into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect();
            let params = PostParams::default();
            let written = match found {
                Some(mut secret) => {
                    secret.data = Some(bytes);
                    self.secrets.replace(name, &params, &secret).await
                }
                None => {
                    let metadata = ObjectMeta {
                        name: Some(name.to_owned()),
                        labels: Some([(LABEL.to_owned(), what.to_owned())].into()),
                        ..ObjectMeta::default()
                    };
                    let secret = Secret { metadata, data: Some(bytes), ..Secret::default() };
                    self.secrets.create(&params, &secret).await
                }
            };
            match written {
                Ok(_) => return Ok(result),
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    tokio::time::sleep(Duration::from_millis(5 << attempt.min(6))).await;
                }
                Err(source) => return Err(failed(name, source)),
            }
        }
        Err(Error::Contended(name.to_owned()))
    }

    /// Tells `verifier` of keys and revocations, now and whenever they change,
    /// until the future is dropped. While the API server is away, what was last
    /// heard holds. A list that is deleted or can't be read lets nobody in.
    pub async fn keep_told(&self, verifier: Arc<Verifier>) {
        // Each by its name: whoever only verifies need not be allowed to read the
        // keys that sign.
        let watch = |name: &'static str| {
            watch_object(self.secrets.clone(), name)
                .default_backoff()
                .map(move |secret| (name, secret))
                .boxed()
        };
        let mut changes = futures::stream::select(watch(VERIFICATION_KEYS), watch(REVOCATIONS));
        let mut known = Known::default();
        while let Some((name, secret)) = changes.next().await {
            match secret {
                Ok(secret) => {
                    known.set(name, secret);
                    known.tell(&verifier);
                }
                Err(error) => {
                    tracing::warn!(%error, "keys and revocations can't be watched; going on with what is known");
                }
            }
        }
    }
}

/// What was heard of the two Secrets that decide on tokens.
#[derive(Default)]
struct Known {
    keys: Option<Keyring>,
    revocations: Option<Revocations>,
}

impl Known {
    /// Takes note of the Secret of that name, or that there is none.
    fn set(&mut self, name: &str, secret: Option<Secret>) {
        let data = secret.map(data);
        match name {
            VERIFICATION_KEYS => self.keys = data.and_then(|data| heard(decode_keyring(&data))),
            _ => self.revocations = data.and_then(|data| heard(decode_revocations(&data))),
        }
    }

    fn tell(&self, verifier: &Verifier) {
        if let (Some(keys), Some(revocations)) = (&self.keys, &self.revocations) {
            verifier.set_revocations(revocations.clone());
            verifier.set_keys(keys.clone());
        } else {
            tracing::warn!(
                "keys or revocations are missing: no token is believed until the server writes them"
            );
            verifier.set_keys(Keyring::default());
        }
    }
}

fn heard<T>(decoded: Result<T, Error>) -> Option<T> {
    decoded.inspect_err(|error| tracing::error!(%error, "no token is believed")).ok()
}

fn data(secret: Secret) -> Data {
    secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0)).collect()
}

fn failed(name: &str, source: kube::Error) -> Error {
    Error::Kube { name: name.to_owned(), source: Box::new(source) }
}
