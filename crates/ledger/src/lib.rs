//! The ledger: what was used becomes what it costs.
//!
//! [`reading`] and [`price`] are the pure core: what a reading adds to the one
//! before it, what that costs, and how it is rounded. [`store`] keeps it in SQL,
//! in SQLite or PostgreSQL, with the same statements for both.
//!
//! Readings are cumulative, so one that is lost costs nothing: the next holds it.
//! One that comes twice counts once. Charges add up unrounded and are rounded
//! once, when they are told.

pub mod price;
pub mod reading;
pub mod store;

pub use store::{Ingested, Ledger};

/// An error of the ledger.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database can't be opened.
    #[error("the ledger's database can't be opened: {0}; see its address and rights")]
    Open(#[source] sqlx::Error),
    /// The database was made by a later version, or is damaged.
    #[error("the ledger's database can't be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("{action}: {source}")]
    Sql {
        /// What was done.
        action: &'static str,
        /// What the database said.
        source: sqlx::Error,
    },
    /// What is stored can't be.
    #[error("the ledger holds `{value}` where {expected} belongs: restore it from a backup")]
    Damaged {
        /// What is there.
        value: String,
        /// What should be.
        expected: &'static str,
    },
    /// A price that would change what was already charged.
    #[error("prices begin on whole minutes to come: minute {0} has begun")]
    PriceInThePast(u64),
    /// A number that no column holds.
    #[error("{what} is too large: {value}")]
    TooLarge {
        /// Which number.
        what: &'static str,
        /// What it is.
        value: String,
    },
}

pub(crate) fn sql(action: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Sql { action, source }
}
