//! What can go wrong besides a refusal.

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an account's name.
    #[error("{0:?} can't be an account's name: use 1 to 63 of a-z, 0-9 and inner dashes")]
    Name(String),
    /// A password that may not be chosen.
    #[error("a password needs {min} to {max} characters", min = crate::password::MIN, max = crate::password::MAX)]
    PasswordLength,
    /// Too many passwords are being checked.
    #[error("too many logins at once: try again in a few seconds")]
    Busy,
    /// A stored password hash is not one of ours.
    #[error("the stored password hash is damaged: set the password again")]
    Hash,
    /// argon2 refused its parameters, or could not run.
    #[error("argon2: {0}")]
    Argon2(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// A key is not an Ed25519 key.
    #[error("the key {0} is damaged: remove its Secret and restart the server for a new one")]
    Key(String),
    /// There is no key to sign with.
    #[error("there is no signing key yet: the server makes it at its start")]
    NoKey,
    /// A token would live too long.
    #[error("a token of this kind lives at most {0} days")]
    Lifetime(u64),
    /// What is kept can't be read.
    #[error("Secret {name}, {key}: {reason}")]
    Record {
        /// The Secret.
        name: String,
        /// The key in its data.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The list of revocations would be too large for one Secret.
    #[error("too many revoked tokens: revoke by account instead")]
    TooManyRevocations,
    /// Somebody else kept changing the same record.
    #[error("Secret {0} is being changed by others all the time: try again")]
    Contended(String),
    /// The API server refused or is away.
    #[cfg(feature = "kube")]
    #[error("Secret {name}: {source}")]
    Kube {
        /// The Secret.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
}
