//! `Invitation`: a role in a workspace that waits for somebody, and `Acceptance`,
//! by which somebody takes it.
//!
//! An invitation's token is shown once, to whoever makes it. The invitation keeps
//! the hash of its hash; an acceptance has the hash as its name. So who may read
//! invitations can't accept them, and who sees an acceptance has nothing left to
//! accept.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::role::Role;

/// The name of the acceptance that a token makes.
pub fn acceptance_name(token: &str) -> String {
    hexadecimal(token.as_bytes())
}

/// What an invitation keeps of a token: the hash of the acceptance's name.
pub fn token_hash(acceptance: &str) -> String {
    hexadecimal(acceptance.as_bytes())
}

fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A role in the workspace in whose namespace this is, for whoever has the token.
/// With the role owner the workspace itself is handed over.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "atoll.dev",
    version = "v1alpha1",
    kind = "Invitation",
    namespaced,
    status = "InvitationStatus",
    derive = "PartialEq",
    validation = Rule::new("oldSelf.spec == self.spec").message("an invitation doesn't change: revoke it and make another"),
    printcolumn = r#"{"name":"Role","type":"string","jsonPath":".spec.role"}"#,
    printcolumn = r#"{"name":"Account","type":"string","jsonPath":".spec.account"}"#,
    printcolumn = r#"{"name":"Expires","type":"date","jsonPath":".spec.expires"}"#,
    printcolumn = r#"{"name":"Accepted by","type":"string","jsonPath":".status.acceptedBy"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct InvitationSpec {
    /// What the one who accepts becomes.
    pub role: Role,
    /// When it is no longer good: at most thirty days after it was made.
    pub expires: Time,
    /// The only account that may accept it; without it, anybody with the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// SHA-256 of the SHA-256 of the token, in hexadecimal.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub token_hash: String,
}

/// What became of an invitation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvitationStatus {
    /// Who accepted it: it is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_by: Option<String>,
    /// The uid of the acceptance by which they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceptance: Option<String>,
}

/// Somebody accepts an invitation. Its name is the SHA-256 of the token, in
/// hexadecimal, so only who has the token can make it or find it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "atoll.dev",
    version = "v1alpha1",
    kind = "Acceptance",
    status = "AcceptanceStatus",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.matches('^[0-9a-f]{64}$')").message("an acceptance has the SHA-256 of the invitation's token as its name: `atoll invite accept` makes it"),
    validation = Rule::new("oldSelf.spec == self.spec").message("an acceptance doesn't change"),
    printcolumn = r#"{"name":"Account","type":"string","jsonPath":".spec.account"}"#,
    printcolumn = r#"{"name":"Outcome","type":"string","jsonPath":".status.message"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AcceptanceSpec {
    /// The account that accepts: the one that makes this.
    pub account: String,
}

/// What became of an acceptance. It is removed soon after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceptanceStatus {
    /// The workspace, when it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// What came of it.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_token_is_not_what_is_sent() {
        let name = acceptance_name("secret");
        assert_eq!(name.len(), 64);
        assert_ne!(token_hash(&name), name);
        assert_eq!(token_hash(&name), token_hash(&acceptance_name("secret")));
    }
}
