//! Lets a kubelet have the certificate it serves with: only for its own node,
//! and only for the addresses that node has.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

const SIGNER: &str = "kubernetes.io/kubelet-serving";
/// A node's addresses are written a moment after it asks for its certificate.
const ADDRESS_TRIES: u32 = 20;

/// Watches requests for certificates and approves those that are in order.
pub async fn run(client: Client) -> anyhow::Result<()> {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let serving = watcher::Config::default().fields(&format!("spec.signerName={SIGNER}"));
    let changes = watcher(requests.clone(), serving).default_backoff().applied_objects();
    pin_mut!(changes);
    while let Some(change) = changes.next().await {
        match change {
            Ok(request) if is_open(&request) => {
                let (client, requests) = (client.clone(), requests.clone());
                tokio::spawn(async move { decide(&client, &requests, request).await });
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "watching requests for certificates"),
        }
    }
    anyhow::bail!("the watch of requests for certificates ended")
}

fn is_open(request: &CertificateSigningRequest) -> bool {
    request.status.as_ref().is_none_or(|status| status.conditions.as_ref().is_none_or(Vec::is_empty))
}

async fn decide(
    client: &Client,
    requests: &Api<CertificateSigningRequest>,
    request: CertificateSigningRequest,
) {
    let name = request.name_any();
    let mut verdict = Ok(());
    for _ in 0..ADDRESS_TRIES {
        verdict = examine(client, &request).await;
        if verdict.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    if let Err(error) = verdict {
        // Left open for a person: what looks like an attack may be a new kind
        // of node, and an open request gives nothing.
        tracing::warn!(request = name, error = format!("{error:#}"), "not approved");
        return;
    }
    let approval = json!({ "status": { "conditions": [{
        "type": "Approved", "status": "True", "reason": "KubeletServing",
        "message": "asked for by the node itself, for its own addresses",
    }] } });
    match requests.patch_approval(&name, &PatchParams::default(), &Patch::Merge(&approval)).await {
        Ok(_) => {
            tracing::info!(request = name, node = request.spec.username, "approved a serving certificate");
        }
        Err(error) => tracing::warn!(request = name, %error, "approving a serving certificate"),
    }
}

async fn examine(client: &Client, request: &CertificateSigningRequest) -> anyhow::Result<()> {
    let username = request.spec.username.as_deref().unwrap_or_default();
    let node = username.strip_prefix("system:node:").context("not asked for by a node")?;
    let groups = request.spec.groups.clone().unwrap_or_default();
    ensure!(groups.iter().any(|group| group == "system:nodes"), "not asked for by a node");
    let node = Api::<Node>::all(client.clone()).get(node).await.context("reading the node")?;
    let addresses = node.status.and_then(|status| status.addresses).unwrap_or_default();
    let own: BTreeSet<String> = addresses.into_iter().map(|address| address.address).collect();
    check(&request.spec.request.0, username, &own)
}

/// Checks that a request in PEM is `username`'s, and for nothing but `own`
/// names and addresses.
fn check(pem: &[u8], username: &str, own: &BTreeSet<String>) -> anyhow::Result<()> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).context("the request is not PEM")?;
    let (_, request) =
        X509CertificationRequest::from_der(&pem.contents).context("the request can't be read")?;
    request.verify_signature().context("the request isn't signed with its own key")?;
    let info = &request.certification_request_info;
    let common: Vec<_> = info.subject.iter_common_name().filter_map(|name| name.as_str().ok()).collect();
    ensure!(common == [username], "it is for {common:?}, not for {username}");
    let organizations: Vec<_> =
        info.subject.iter_organization().filter_map(|name| name.as_str().ok()).collect();
    ensure!(organizations == ["system:nodes"], "it is for the groups {organizations:?}");
    let mut named = 0;
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            let text = match name {
                GeneralName::DNSName(name) => (*name).to_string(),
                GeneralName::IPAddress(bytes) => address(bytes).context("an address can't be read")?,
                other => anyhow::bail!("it asks for {other}"),
            };
            ensure!(own.contains(&text), "{text} is not the node's");
            named += 1;
        }
    }
    ensure!(named > 0, "it names no address");
    Ok(())
}

fn address(bytes: &[u8]) -> Option<String> {
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    fn request(name: &str, group: &str, alternatives: &[&str]) -> Vec<u8> {
        let mut parameters = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, name);
        subject.push(DnType::OrganizationName, group);
        parameters.distinguished_name = subject;
        for alternative in alternatives {
            parameters.subject_alt_names.push(match alternative.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*alternative).try_into().unwrap()),
            });
        }
        let key = KeyPair::generate().unwrap();
        parameters.serialize_request(&key).unwrap().pem().unwrap().into_bytes()
    }

    #[test]
    fn a_node_gets_its_own_addresses_and_nothing_else() {
        let own = BTreeSet::from(["n1".to_string(), "10.0.0.2".to_string()]);
        let user = "system:node:n1";
        let cases = [
            (request(user, "system:nodes", &["n1", "10.0.0.2"]), None),
            (request(user, "system:nodes", &["10.0.0.3"]), Some("10.0.0.3")),
            (request(user, "system:nodes", &["n2"]), Some("n2")),
            (request("system:node:n2", "system:nodes", &["10.0.0.2"]), Some("n2")),
            (request(user, "system:masters", &["10.0.0.2"]), Some("system:masters")),
            (request(user, "system:nodes", &[]), Some("no address")),
            (b"nonsense".to_vec(), Some("PEM")),
        ];
        for (pem, refusal) in cases {
            match (check(&pem, user, &own), refusal) {
                (Ok(()), None) => {}
                (Err(error), Some(word)) => assert!(format!("{error:#}").contains(word), "{error:#}"),
                (result, refusal) => panic!("{result:?} instead of {refusal:?}"),
            }
        }
    }
}
