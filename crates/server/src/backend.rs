//! What the server needs of others. The program that assembles it implements
//! these over identity, Kubernetes and the ledger; tests do in memory.

use std::sync::Arc;

use api::Role;
use api::http::{
    AccountView, AppView, Event, IssuedToken, Login, NewAccount, NewApp, NewWorkspace, Session, TemplateView,
    WorkspaceView,
};
use api::usage::{Bill, UsageLine};
use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::error::Error;
use crate::session::SessionStore;

/// Who asks. Backends act with this account's own rights.
pub type Caller = Session;

/// All that the server needs.
#[derive(Clone)]
pub struct Backends {
    /// Who people are.
    pub accounts: Arc<dyn Accounts>,
    /// Where sessions are kept.
    pub sessions: Arc<dyn SessionStore>,
    /// Workspaces and apps.
    pub cloud: Arc<dyn Cloud>,
    /// Usage and charges.
    pub money: Arc<dyn Money>,
}

/// Accounts, passwords and tokens.
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// The account, if it has this password and isn't disabled. An account that
    /// doesn't exist must take as long as a wrong password.
    async fn authenticate(&self, login: &Login) -> Result<Option<Caller>, Error>;

    /// The account that a token speaks for, if the token is valid now.
    async fn verify_token(&self, token: &str) -> Result<Option<Caller>, Error>;

    /// A new token for the Kubernetes API. The server has authenticated the
    /// caller by password.
    async fn issue_token(&self, caller: &Caller) -> Result<IssuedToken, Error>;

    /// The account as it is now; `None` where it is gone or disabled, or where
    /// what was issued at `issued` (seconds since 1970) was revoked since. Asked
    /// at every request with a session: it should be answered from memory.
    async fn account(&self, name: &str, issued: u64) -> Result<Option<Caller>, Error>;
}

/// Accounts as operators see them, workspaces, apps and the store.
#[async_trait]
pub trait Cloud: Send + Sync + 'static {
    /// What the caller may do in a workspace; `None` where that is nothing, or
    /// where there is no such workspace. The server asks before every request
    /// about a workspace, so it should be answered from memory.
    async fn role(&self, caller: &Caller, workspace: &str) -> Result<Option<Role>, Error>;

    /// All accounts. The server has checked that the caller is an operator.
    async fn accounts(&self, caller: &Caller) -> Result<Vec<AccountView>, Error>;

    /// Makes an account with its first password. The server has checked that the
    /// caller is an operator and that the name is well formed; [`Error::Taken`]
    /// with the field `name` where there is one.
    async fn create_account(&self, caller: &Caller, new: NewAccount) -> Result<AccountView, Error>;

    /// The caller's workspaces.
    async fn workspaces(&self, caller: &Caller) -> Result<Vec<WorkspaceView>, Error>;

    /// Makes a workspace that the caller owns. The name is known to be well
    /// formed; [`Error::Taken`] with the field `name` where there is one.
    async fn create_workspace(&self, caller: &Caller, new: NewWorkspace) -> Result<WorkspaceView, Error>;

    /// A workspace's apps, also those that are being removed.
    async fn apps(&self, caller: &Caller, workspace: &str) -> Result<Vec<AppView>, Error>;

    /// Installs an app. [`Error::Invalid`] with the field `template`, or
    /// `inputs.<name>` for an input.
    async fn install(&self, caller: &Caller, workspace: &str, new: NewApp) -> Result<AppView, Error>;

    /// Begins to remove an app.
    async fn uninstall(&self, caller: &Caller, workspace: &str, name: &str) -> Result<(), Error>;

    /// What the store has.
    async fn templates(&self, caller: &Caller) -> Result<Vec<TemplateView>, Error>;

    /// What changes from now on that the caller may see. It may say too much,
    /// never too little; when it loses count it ends, and the desktop asks for
    /// everything again.
    fn changes(&self, caller: &Caller) -> BoxStream<'static, Event>;
}

/// A time that is asked about, in seconds since 1970; `from` belongs to it, `to`
/// doesn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its first second.
    pub from: u64,
    /// The second after its last.
    pub to: u64,
}

/// Usage and charges. The server has checked that the caller is a member.
#[async_trait]
pub trait Money: Send + Sync + 'static {
    /// What a workspace used, a line for each object and meter.
    async fn usage(&self, workspace: &str, period: Period) -> Result<Vec<UsageLine>, Error>;

    /// What it costs, a line for each meter.
    async fn bill(&self, workspace: &str, period: Period) -> Result<Bill, Error>;
}
