//! Accounts, by identity and what is known of the cluster.

use std::sync::Arc;

use api::http::{IssuedToken, Login, Session};
use async_trait::async_trait;
use front::directory::{Directory, Published};
use identity::key::SigningKey;
use identity::password::{Checked, Cost, Passwords};
use identity::record::TokenRecord;
use identity::store::Store;
use identity::token::{self, AUDIENCE, Claims, Kind, Verifier};
use identity::{ExposeSecret, SecretString};
use server::Error;
use tokio::sync::OnceCell;

/// How long a token for a kubeconfig lives, in ms: thirty days.
const TOKEN_LIFETIME: u64 = 30 * 24 * 3_600_000;
/// How long the server's own tokens live, by which it acts for a caller, in ms.
const OWN_LIFETIME: u64 = 5 * 60_000;

/// Who people are.
pub struct Accounts {
    store: Store,
    passwords: Passwords,
    verifier: Arc<Verifier>,
    directory: Arc<Published>,
    key: OnceCell<SigningKey>,
}

fn failed(error: identity::Error) -> Error {
    match error {
        identity::Error::Busy => Error::Unavailable("many people are logging in".into()),
        other => Error::Internal(other.to_string()),
    }
}

impl Accounts {
    pub fn new(store: Store, verifier: Arc<Verifier>, directory: Arc<Published>) -> anyhow::Result<Self> {
        let passwords = Passwords::new(Cost::default())?;
        Ok(Self { store, passwords, verifier, directory, key: OnceCell::new() })
    }

    /// The account as it stands; `None` where it is gone or shut out.
    fn standing(&self, name: &str) -> Option<Session> {
        let standing = self.directory.account(name).filter(|standing| !standing.disabled)?;
        Some(Session { account: name.into(), display_name: name.into(), operator: standing.operator })
    }

    async fn key(&self) -> Result<&SigningKey, Error> {
        self.key.get_or_try_init(|| self.store.signing_key()).await.map_err(failed)
    }

    /// The hash of a password that somebody chose.
    pub async fn hash(&self, password: SecretString) -> Result<SecretString, Error> {
        self.passwords.hash(password).await.map_err(|error| match error {
            identity::Error::PasswordLength => {
                Error::Invalid { field: Some("password".into()), detail: error.to_string() }
            }
            other => failed(other),
        })
    }

    /// Sets a new account's password.
    pub async fn set_password(&self, account: &str, hash: SecretString) -> Result<(), Error> {
        self.store.set_password(account, hash).await.map_err(failed)
    }

    /// A token that lives for minutes, by which the server acts for a caller.
    pub async fn own_token(&self, account: &str) -> Result<SecretString, Error> {
        let key = self.key().await?;
        let issued = token::issue(key, account, Kind::Access, AUDIENCE, identity::now(), OWN_LIFETIME);
        Ok(issued.map_err(failed)?.0)
    }
}

#[async_trait]
impl server::backend::Accounts for Accounts {
    async fn authenticate(&self, login: &Login) -> Result<Option<Session>, Error> {
        if !self.directory.is_ready() {
            return Err(Error::Unavailable("the accounts are still being read".into()));
        }
        let known = match identity::account::is_name(&login.account) {
            true => self.store.credentials(&login.account).await.map_err(failed)?,
            false => None,
        };
        let hash = known.and_then(|known| known.password);
        let password = SecretString::from(login.password.as_str());
        match self.passwords.check(password, hash).await.map_err(failed)? {
            Checked::Wrong => return Ok(None),
            Checked::Right => {}
            Checked::Rehashed(hash) => {
                let change = |credentials: &mut identity::record::Credentials| {
                    credentials.password = Some(hash.clone());
                };
                self.store.change_credentials(&login.account, change).await.map_err(failed)?;
            }
        }
        Ok(self.standing(&login.account))
    }

    async fn verify_token(&self, token: &str) -> Result<Option<Session>, Error> {
        let claims = self.verifier.verify(token, identity::now()).ok();
        Ok(claims.and_then(|claims| self.standing(&claims.account)))
    }

    async fn issue_token(&self, caller: &Session) -> Result<IssuedToken, Error> {
        let key = self.key().await?;
        let now = identity::now();
        let (token, claims) = token::issue(key, &caller.account, Kind::Access, AUDIENCE, now, TOKEN_LIFETIME)
            .map_err(failed)?;
        let record = TokenRecord::of(&claims, "kubeconfig");
        let rules = identity::session::Rules::default();
        self.store
            .change_credentials(&caller.account, |credentials| {
                credentials.prune(now, &rules);
                credentials.tokens.push(record.clone());
            })
            .await
            .map_err(failed)?;
        Ok(IssuedToken {
            account: caller.account.clone(),
            token: token.expose_secret().to_owned(),
            expires: claims.expires / 1000,
        })
    }

    async fn account(&self, name: &str, issued: u64) -> Result<Option<Session>, Error> {
        if !self.directory.is_ready() {
            return Err(Error::Unavailable("the accounts are still being read".into()));
        }
        // A session is refused as a token of its time would be.
        let key = self.key().await?.id().to_owned();
        let claims = Claims {
            account: name.to_owned(),
            id: String::new(),
            audience: AUDIENCE.to_owned(),
            kind: Kind::Access,
            issued: issued.saturating_mul(1000),
            expires: u64::MAX,
            key,
        };
        if self.verifier.recheck(&claims, identity::now()).is_err() {
            return Ok(None);
        }
        Ok(self.standing(name))
    }
}
