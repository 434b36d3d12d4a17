//! Certificates by ACME (RFC 8555).
//!
//! [`plan`] says what is to be ordered when, and has no clock, socket or cluster;
//! [`order`] carries one order out, of an [`account`] with an authority.
//!
//! It must not know of Kubernetes: where challenges are shown and certificates are
//! kept is for whoever uses it to say.

pub mod account;
mod client;
pub mod issued;
pub mod order;
pub mod plan;

/// Why an account or a certificate could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the authority says, in its words.
    #[error("{text}")]
    Refused {
        text: String,
        /// Seconds after which it wants to be asked again.
        retry_after: Option<u64>,
        /// Whether what was asked can just be asked again.
        nonce: bool,
    },
    #[error("the ACME directory can't be asked: {0}")]
    Unreachable(String),
    #[error("the roots of the ACME directory can't be read ({0}): give certificates in PEM")]
    Roots(String),
    #[error("the account's credentials can't be read ({0}): remove them to get new ones")]
    Credentials(String),
    #[error("the ACME directory offers no {kind} for {host}: use another challenge")]
    NoChallenge { kind: &'static str, host: String },
    #[error("a challenge for {host} can't be published: {reason}")]
    Publish { host: String, reason: String },
    #[error("the order was not done within {0} seconds")]
    Late(u64),
    #[error("the certificate that came is not the one ordered: {0}")]
    Wrong(String),
    #[error("a key can't be made: {0}")]
    Key(String),
}

impl Error {
    /// Seconds after which the authority wants to be asked again.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
