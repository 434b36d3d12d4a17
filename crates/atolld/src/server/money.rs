//! Usage and charges, from the ledger.

use api::usage::{Bill, UsageLine};
use async_trait::async_trait;
use server::Error;
use server::backend::Period;

/// The ledger, as the server asks it.
pub struct Money(pub ledger::Ledger);

fn failed(error: &ledger::Error) -> Error {
    Error::Internal(error.to_string())
}

#[async_trait]
impl server::backend::Money for Money {
    async fn usage(&self, workspace: &str, period: Period) -> Result<Vec<UsageLine>, Error> {
        self.0
            .usage(workspace, period.from / 60, period.to.div_ceil(60))
            .await
            .map_err(|error| failed(&error))
    }

    async fn bill(&self, workspace: &str, period: Period) -> Result<Bill, Error> {
        self.0.bill(workspace, period.from / 60, period.to.div_ceil(60)).await.map_err(|error| failed(&error))
    }
}
