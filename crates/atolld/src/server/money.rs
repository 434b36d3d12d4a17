//! Usage and charges, from the ledger.

use api::Workspace;
use api::usage::{Bill, UsageLine};
use async_trait::async_trait;
use kube::runtime::reflector::{ObjectRef, Store};
use server::Error;
use server::backend::Period;

/// The ledger, as the server asks it.
pub struct Money {
    pub ledger: ledger::Ledger,
    pub workspaces: Store<Workspace>,
}

impl Money {
    /// What the ledger knows a workspace by. One that is still being made has used
    /// nothing, and no namespace is called so.
    fn key(&self, workspace: &str) -> String {
        let found = self.workspaces.get(&ObjectRef::new(workspace));
        found.and_then(|found| found.status.as_ref()?.namespace.clone()).unwrap_or_default()
    }
}

fn failed(error: &ledger::Error) -> Error {
    Error::Internal(error.to_string())
}

#[async_trait]
impl server::backend::Money for Money {
    async fn usage(&self, workspace: &str, period: Period) -> Result<Vec<UsageLine>, Error> {
        let (from, to) = (period.from / 60, period.to.div_ceil(60));
        self.ledger.usage(&self.key(workspace), from, to).await.map_err(|error| failed(&error))
    }

    async fn bill(&self, workspace: &str, period: Period) -> Result<Bill, Error> {
        let (from, to) = (period.from / 60, period.to.div_ceil(60));
        let bill = self.ledger.bill(&self.key(workspace), from, to).await.map_err(|error| failed(&error))?;
        Ok(Bill { workspace: workspace.to_owned(), ..bill })
    }
}
