//! Who sent a request, by the token alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::token::{Claims, PREFIX, Verifier};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::directory::{Directory, Standing};
use crate::refusal::Refusal;
use std::sync::Arc;

/// Who sent a request.
#[derive(Debug)]
pub enum Caller {
    /// An account, with a token of ours.
    Account(Claims, Arc<Standing>),
    /// A pod, with a token that the API server issued and verifies itself.
    Pod(SecretString),
}

#[derive(Deserialize)]
struct PodClaims {
    iss: String,
    sub: String,
}

/// Who the bearer of `token` is at `now` (ms). `issuer` is the cluster's own, as
/// its ServiceAccount tokens name it.
///
/// # Errors
/// Why nobody.
pub fn identify(
    token: SecretString,
    verifier: &Verifier,
    directory: &dyn Directory,
    issuer: &str,
    now: u64,
) -> Result<Caller, Refusal> {
    let text = token.expose_secret();
    if !text.starts_with(PREFIX) {
        return if is_pods(text, issuer) { Ok(Caller::Pod(token)) } else { Err(Refusal::BadToken) };
    }
    let claims = verifier.verify(text, now)?;
    let standing = standing(&claims, directory)?;
    Ok(Caller::Account(claims, standing))
}

/// The standing of an account that may come in.
///
/// # Errors
/// Why it may not.
pub fn standing(claims: &Claims, directory: &dyn Directory) -> Result<Arc<Standing>, Refusal> {
    if !directory.is_ready() {
        return Err(Refusal::NotReady);
    }
    let Some(standing) = directory.account(&claims.account) else {
        return Err(Refusal::NoAccount(claims.account.clone()));
    };
    if standing.disabled { Err(Refusal::Disabled(claims.account.clone())) } else { Ok(standing) }
}

/// Whether it says that it is a pod's token of this cluster. The API server
/// verifies it: nothing is granted for what it says.
fn is_pods(token: &str, issuer: &str) -> bool {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    URL_SAFE_NO_PAD
        .decode(payload)
        .ok()
        .and_then(|json| serde_json::from_slice::<PodClaims>(&json).ok())
        .is_some_and(|claims| claims.iss == issuer && claims.sub.starts_with("system:serviceaccount:"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Index;
    use identity::key::{Keyring, SigningKey};
    use identity::token::{AUDIENCE, Kind, issue};

    const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
    const NOW: u64 = 1_800_000_000_000;

    pub(crate) fn jwt(payload: &str) -> String {
        format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn who_the_bearer_is() {
        let key = SigningKey::generate().unwrap();
        let verifier = Verifier::new(AUDIENCE);
        verifier.set_keys(Keyring::from_iter([key.verification_key()]));
        let (mut index, published) = Index::new();
        index.set_account("ada", false, false);
        index.set_account("bob", false, true);
        let check = |token: &str, wanted: &str| {
            let found = match identify(token.into(), &verifier, &*published, ISSUER, NOW) {
                Ok(Caller::Account(claims, _)) => format!("account {}", claims.account),
                Ok(Caller::Pod(_)) => "pod".to_owned(),
                Err(refusal) => refusal.to_string(),
            };
            assert!(found.contains(wanted), "{found}");
        };
        let of = |account: &str| {
            issue(&key, account, Kind::Access, AUDIENCE, NOW, 1000).unwrap().0.expose_secret().to_owned()
        };
        check(&of("ada"), "not heard yet");
        index.set_ready();
        check(&of("ada"), "account ada");
        check(&of("bob"), "disabled");
        check(&of("eve"), "doesn't exist");
        let pod = format!(r#"{{"iss":"{ISSUER}","sub":"system:serviceaccount:a:default"}}"#);
        check(&jwt(&pod), "pod");
        check(&jwt(r#"{"iss":"https://evil","sub":"system:serviceaccount:a:default"}"#), "not valid");
        check(&jwt(&format!(r#"{{"iss":"{ISSUER}","sub":"system:admin"}}"#)), "not valid");
        check(&jwt("no json"), "not valid");
        check("a.b", "not valid");
        check("", "not valid");
        check("atoll1.x.y.z", "not valid");
    }
}
