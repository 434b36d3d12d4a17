//! Challenges of ACME: what an authority asks of a host before it vouches for it.
//! They are served for exactly their host, before anything that a tenant says.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use k8s_openapi::api::core::v1 as core;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use crate::object::Id;

/// Where an answer is asked for (RFC 8555, section 8.3).
const PATH: &str = "/.well-known/acme-challenge/";
/// By which a client says that it only wants to see a certificate (RFC 8737).
pub(crate) const PROTOCOL: &[u8] = b"acme-tls/1";

/// One challenge of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Lower case.
    pub host: String,
    pub token: String,
    /// The answer: the token with the account key's thumbprint.
    pub key_authorization: String,
    /// The Gateway whose host it is, at whose address alone it is served; None: the
    /// shared address. A host may be one workspace's here and another's there, and who
    /// has it there must not be vouched for by what is answered here.
    pub gateway: Option<Id>,
}

impl Challenge {
    /// A Secret's, with the keys `host`, `token` and `key-authorization`; for a Gateway's
    /// own address also `gateway`, as `namespace/name`.
    pub fn read(secret: &core::Secret) -> Option<Self> {
        let text = |key: &str| {
            let bytes = &secret.data.as_ref()?.get(key)?.0;
            Some(std::str::from_utf8(bytes).ok()?.to_owned()).filter(|text| !text.is_empty())
        };
        let gateway = match text("gateway") {
            Some(gateway) => Some(gateway.split_once('/').map(|(namespace, name)| Id::new(namespace, name))?),
            None => None,
        };
        Some(Self {
            gateway,
            host: text("host")?.to_ascii_lowercase(),
            token: text("token")?,
            key_authorization: text("key-authorization")?,
        })
    }

    /// What is shown to a client that speaks [`PROTOCOL`] (RFC 8737, section 3).
    fn certificate(&self) -> Result<CertifiedKey, String> {
        let digest = Sha256::digest(&self.key_authorization);
        let mut params = CertificateParams::new([self.host.clone()]).map_err(|error| error.to_string())?;
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let key = ring::sign::any_supported_type(&key).map_err(|error| error.to_string())?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
    }
}

/// Where a challenge is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub shared: bool,
    pub gateway: Option<&'a Id>,
}

impl Place<'_> {
    fn is_of(self, challenge: &Challenge) -> bool {
        match &challenge.gateway {
            Some(gateway) => self.gateway == Some(gateway),
            None => self.shared,
        }
    }
}

struct Served {
    challenge: Challenge,
    certificate: Arc<CertifiedKey>,
}

/// All that are open, each under the name of what it was read of. There are few,
/// and not for long.
#[derive(Default)]
pub struct Challenges(RwLock<BTreeMap<String, Served>>);

impl Challenges {
    /// Serves a challenge from now on, or no longer.
    pub fn set(&self, name: &str, challenge: Option<Challenge>) {
        let served = challenge.and_then(|challenge| match challenge.certificate() {
            Ok(certificate) => Some(Served { challenge, certificate: Arc::new(certificate) }),
            Err(error) => {
                tracing::warn!(name, host = challenge.host, error, "a challenge can't be served");
                None
            }
        });
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match served {
            Some(served) => drop(all.insert(name.to_owned(), served)),
            None => drop(all.remove(name)),
        }
    }

    /// Forgets those that are not among these.
    pub fn retain(&self, listed: impl Fn(&str) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|name, _| listed(name));
    }

    /// Whether one is served that was read of a Secret of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    fn find<T>(&self, wanted: impl Fn(&Served) -> Option<T>) -> Option<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().find_map(wanted)
    }

    /// The answer at a path of a host, if there is a challenge of that token.
    pub(crate) fn answer(&self, place: Place<'_>, host: &str, path: &str) -> Option<Bytes> {
        let token = path.strip_prefix(PATH)?;
        self.find(|served| {
            let challenge = &served.challenge;
            let asked = challenge.host == host && challenge.token == token && place.is_of(challenge);
            asked.then(|| challenge.key_authorization.clone().into())
        })
    }

    /// The certificate that proves a host.
    pub(crate) fn certificate(&self, place: Place<'_>, host: &str) -> Option<Arc<CertifiedKey>> {
        self.find(|served| {
            let asked = served.challenge.host == host && place.is_of(&served.challenge);
            asked.then(|| served.certificate.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(data: &[(&str, &str)]) -> core::Secret {
        let data = data
            .iter()
            .map(|(key, text)| ((*key).to_owned(), k8s_openapi::ByteString(text.as_bytes().to_vec())));
        core::Secret { data: Some(data.collect()), ..core::Secret::default() }
    }

    #[test]
    fn a_secret_without_all_its_parts_is_no_challenge() {
        let whole = [("host", "A.example"), ("token", "t"), ("key-authorization", "t.k")];
        assert_eq!(Challenge::read(&secret(&whole)).unwrap().host, "a.example");
        for part in 0..whole.len() {
            let mut less = whole;
            less[part].1 = "";
            assert_eq!(Challenge::read(&secret(&less)), None, "{less:?}");
        }
        assert_eq!(Challenge::read(&core::Secret::default()), None);
    }

    #[test]
    fn a_challenge_is_for_its_host_and_token_alone() {
        let all = Challenges::default();
        let challenge = Challenge {
            host: "a.example".into(),
            token: "t".into(),
            key_authorization: "t.k".into(),
            gateway: None,
        };
        let shared = Place { shared: true, gateway: None };
        let (one, other) = (Id::new("a", "one"), Id::new("a", "other"));
        let path = "/.well-known/acme-challenge/t";
        all.set("two", Some(Challenge { gateway: Some(one.clone()), ..challenge.clone() }));
        assert!(all.answer(shared, "a.example", path).is_none(), "a Gateway's host at the shared address");
        assert!(all.certificate(shared, "a.example").is_none());
        let of = |gateway| Place { shared: false, gateway };
        assert!(all.answer(of(Some(&other)), "a.example", path).is_none());
        assert!(all.answer(of(Some(&one)), "a.example", path).is_some());
        all.set("two", None);
        all.set("one", Some(challenge));
        assert!(
            all.answer(of(Some(&one)), "a.example", path).is_none(),
            "a shared host at a Gateway's address"
        );
        let answer = |host, path| all.answer(shared, host, path);
        assert_eq!(answer("a.example", "/.well-known/acme-challenge/t").as_deref(), Some(&b"t.k"[..]));
        for (host, path) in [
            ("b.example", "/.well-known/acme-challenge/t"),
            ("x.a.example", "/.well-known/acme-challenge/t"),
            ("a.example", "/.well-known/acme-challenge/"),
            ("a.example", "/.well-known/acme-challenge/u"),
            ("a.example", "/.well-known/acme-challenge/t/"),
            ("a.example", "/t"),
        ] {
            assert_eq!(answer(host, path), None, "{host}{path}");
        }
        assert!(all.certificate(shared, "a.example").is_some());
        assert!(all.certificate(shared, "b.example").is_none());
        all.retain(|name| name != "one");
        assert_eq!(answer("a.example", "/.well-known/acme-challenge/t"), None);
    }
}
