//! The cluster's own certificate authority for https addresses: made once by
//! `up`, kept as a Secret, and what `atoll trust` makes a browser believe.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use api::names::{
    APPS_DOMAIN, APPS_WILDCARD, DESKTOP_HOST, FRONT_HOST, GATEWAY_CERTIFICATE, SYSTEM_NAMESPACE,
};

use crate::apply::FIELD_MANAGER;
use crate::{Error, Result};

/// The Secret that holds the authority, in [`SYSTEM_NAMESPACE`].
const AUTHORITY: &str = "certificate-authority";
/// How long the authority is good for.
const AUTHORITY_DAYS: i64 = 3650;
/// How long the gateway's certificate is good for: browsers refuse more than
/// 398 days.
const CERTIFICATE_DAYS: i64 = 390;
/// It is made anew when less than this is left.
const RENEW_DAYS: i64 = 60;

/// What a certificate proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proves {
    Server,
    Client,
}

/// The Secrets with certificates: their namespace, their name, the hosts, and what
/// they prove.
const CERTIFICATES: [(&str, &str, &[&str], Proves); 6] = [
    (SYSTEM_NAMESPACE, GATEWAY_CERTIFICATE, &[APPS_WILDCARD, APPS_DOMAIN, DESKTOP_HOST], Proves::Server),
    (
        SYSTEM_NAMESPACE,
        "front-certificate",
        &[FRONT_HOST, "front.atoll-system.svc", "front.atoll-system.svc.cluster.local"],
        Proves::Server,
    ),
    (SYSTEM_NAMESPACE, "server-certificate", &["server.atoll-system.svc"], Proves::Server),
    (SYSTEM_NAMESPACE, "admission-certificate", &["admission.atoll-system.svc"], Proves::Server),
    (SYSTEM_NAMESPACE, "agent-certificate", &["agent"], Proves::Client),
    ("kube-system", "metrics-server-certificate", &["metrics-server.kube-system.svc"], Proves::Server),
];

/// A certificate and its key, in PEM.
pub struct Pair {
    /// The certificate, which everybody may see.
    pub certificate: String,
    /// The key, which is never printed.
    key: String,
}

fn named(what: &str, days: i64) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Atoll");
    name.push(DnType::CommonName, what);
    parameters.distinguished_name = name;
    let now = OffsetDateTime::now_utc();
    // Clocks differ a little.
    parameters.not_before = now - Duration::hours(1);
    parameters.not_after = now + Duration::days(days);
    parameters
}

/// Makes a new authority.
pub fn new_authority(cluster: &str) -> Result<Pair> {
    let failed = |source| Error::Certificate { what: "the cluster's authority".into(), source };
    let mut parameters = named(&format!("Atoll cluster {cluster}"), AUTHORITY_DAYS);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Makes a certificate for `hosts`, the first of which names it.
fn new_certificate(authority: &Pair, hosts: &[&str], proves: Proves) -> Result<Pair> {
    let name = hosts.first().copied().unwrap_or_default();
    let failed = |source| Error::Certificate { what: name.into(), source };
    let issuer_key = KeyPair::from_pem(&authority.key).map_err(failed)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, issuer_key).map_err(failed)?;
    let mut parameters = named(name, CERTIFICATE_DAYS);
    for host in hosts {
        let name = host.to_string().try_into().map_err(failed)?;
        parameters.subject_alt_names.push(rcgen::SanType::DnsName(name));
    }
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![match proves {
        Proves::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Proves::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = parameters.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn secret(name: &str, pair: &Pair, until: Option<OffsetDateTime>) -> Secret {
    let mut secret = Secret {
        type_: Some("kubernetes.io/tls".into()),
        data: Some(BTreeMap::from([
            ("tls.crt".to_string(), ByteString(pair.certificate.clone().into_bytes())),
            ("tls.key".to_string(), ByteString(pair.key.clone().into_bytes())),
        ])),
        ..Secret::default()
    };
    secret.metadata.name = Some(name.into());
    if let Some(until) = until {
        secret.annotations_mut().insert(RENEW_AFTER.into(), until.unix_timestamp().to_string());
    }
    secret
}

/// Annotation with the second since 1970 after which a certificate is made anew.
const RENEW_AFTER: &str = "atoll.dev/renew-after";

fn pair(secret: &Secret) -> Option<Pair> {
    let data = secret.data.as_ref()?;
    let text = |name: &str| String::from_utf8(data.get(name)?.0.clone()).ok();
    Some(Pair { certificate: text("tls.crt")?, key: text("tls.key")? })
}

/// Makes sure that the cluster has its authority, and each of its servers a
/// certificate that is good for a while; returns the authority's certificate.
pub async fn ensure(client: &Client, cluster: &str) -> Result<String> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let read = |name| Error::kubernetes(format!("reading the secret {name}"));
    let parameters = PatchParams::apply(FIELD_MANAGER).force();

    let stored = secrets.get_opt(AUTHORITY).await.map_err(read(AUTHORITY))?;
    let (authority, is_new) = match stored.as_ref().and_then(pair) {
        Some(authority) => (authority, false),
        None => {
            let authority = new_authority(cluster)?;
            let value = Patch::Apply(secret(AUTHORITY, &authority, None));
            let written = secrets.patch(AUTHORITY, &parameters, &value).await;
            written.map_err(Error::kubernetes("writing the cluster's authority"))?;
            (authority, true)
        }
    };
    for (namespace, name, hosts, proves) in CERTIFICATES {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let stored = secrets.get_opt(name).await.map_err(read(name))?;
        let now = OffsetDateTime::now_utc();
        let good = stored
            .as_ref()
            .and_then(|secret| secret.annotations().get(RENEW_AFTER)?.parse::<i64>().ok())
            .is_some_and(|after| now.unix_timestamp() < after);
        if is_new || !good {
            let certificate = new_certificate(&authority, hosts, proves)?;
            let until = now + Duration::days(CERTIFICATE_DAYS - RENEW_DAYS);
            let mut value = secret(name, &certificate, Some(until));
            // Whoever shows it also checks what it is shown.
            let bytes = ByteString(authority.certificate.clone().into_bytes());
            value.data.get_or_insert_default().insert("ca.crt".into(), bytes);
            let value = Patch::Apply(value);
            let written = secrets.patch(name, &parameters, &value).await;
            written.map_err(Error::kubernetes(format!("writing the secret {name}")))?;
        }
    }
    Ok(authority.certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_its_hosts_and_its_issuer() {
        let authority = new_authority("one").unwrap();
        let certificate = new_certificate(&authority, CERTIFICATES[0].2, Proves::Server).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (ca, leaf) = (directory.path().join("ca"), directory.path().join("leaf"));
        std::fs::write(&ca, &authority.certificate).unwrap();
        std::fs::write(&leaf, &certificate.certificate).unwrap();
        for host in [&format!("x.{APPS_DOMAIN}"), DESKTOP_HOST] {
            let answer = std::process::Command::new("openssl")
                .args(["verify", "-verify_hostname", host, "-CAfile"])
                .args([&ca, &leaf])
                .output()
                .unwrap();
            assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        }
        let other = std::process::Command::new("openssl")
            .args(["verify", "-verify_hostname", "example.com", "-CAfile"])
            .args([&ca, &leaf])
            .output()
            .unwrap();
        assert!(!other.status.success());
    }
}
