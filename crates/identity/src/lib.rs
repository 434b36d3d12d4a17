//! Who somebody is: passwords, signed tokens, what of them is revoked, sessions,
//! and how all of it is kept.
//!
//! A token is decided on without a database: by a [`token::Verifier`], which
//! holds public keys and the revocations it was last told of. Time is passed in
//! everywhere, in milliseconds since 1970. Start reading at [`token`].
//!
//! It must not know HTTP, workspaces or money; only `store` (feature `kube`)
//! knows that there is an API server. Nothing here prints a secret.

pub mod account;
pub mod error;
pub mod key;
pub mod password;
mod random;
pub mod record;
pub mod revocation;
pub mod session;
#[cfg(feature = "kube")]
pub mod store;
pub mod token;

pub use error::Error;
/// Text that doesn't print and is wiped when dropped; see [`ExposeSecret`].
pub use secrecy::{ExposeSecret, SecretString};

/// The time now, for those who have no clock of their own, in milliseconds since 1970.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
