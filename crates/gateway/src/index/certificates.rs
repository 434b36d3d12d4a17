//! The certificates that Ingresses and Gateways want to have by ACME, each for the
//! hosts that are theirs.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Index;
use crate::object::{Gateway, Id, Ingress, Kind, Object};
use crate::route::SHARED;
use crate::table::Protocol;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedCertificate {
    /// The Ingress or the Gateway.
    pub owner: (Kind, Id),
    pub secret: Id,
    /// Whose it is; empty: the operator's.
    pub workspace: String,
    pub hosts: Vec<String>,
    /// Hosts that it names and has not.
    pub lost: Vec<String>,
    pub present: Present,
}

/// What is in the Secret now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Present {
    Missing,
    /// Somebody else's.
    Foreign,
    /// ACME's: the certificate in DER; empty: there is none.
    Ours(Vec<u8>),
}

impl Index {
    /// What is wanted now. A namespace whose workspace isn't known yet wants nothing.
    pub fn wanted_certificates(&self) -> Vec<WantedCertificate> {
        let mut wanted = Vec::new();
        for object in self.objects.iter() {
            match object.as_ref() {
                Object::Ingress(ingress) if is_on(ingress) => self.of_ingress(ingress, &mut wanted),
                Object::Gateway(gateway) if gateway.acme => self.of_gateway(gateway, &mut wanted),
                _ => {}
            }
        }
        wanted.sort_by(|a, b| (&a.secret, a.owner.0, &a.owner.1).cmp(&(&b.secret, b.owner.0, &b.owner.1)));
        wanted
    }

    fn of_ingress(&self, ingress: &Ingress, wanted: &mut Vec<WantedCertificate>) {
        let key = (ingress.id.clone(), Kind::Ingress);
        // One of another's class has no place.
        let Some(placed) = self.placed.get(&key) else { return };
        let held: BTreeSet<&str> = placed
            .hosts
            .keys()
            .filter(|host| host.0 == SHARED && !placed.lost.contains(*host))
            .map(|(_, host)| &**host)
            .collect();
        for entry in &ingress.tls {
            let Some(secret) = entry.secret.as_ref().filter(|secret| !secret.is_empty()) else { continue };
            let named: BTreeSet<String> = if entry.hosts.is_empty() {
                ingress.rules.iter().map(|rule| rule.host.to_ascii_lowercase()).collect()
            } else {
                entry.hosts.iter().map(|host| host.to_ascii_lowercase()).collect()
            };
            let named = named.into_iter().filter(|host| !host.is_empty());
            let (hosts, lost) = named.partition(|host| held.contains(host.as_str()));
            self.want((Kind::Ingress, &ingress.id), secret, (hosts, lost), wanted);
        }
    }

    fn of_gateway(&self, gateway: &Gateway, wanted: &mut Vec<WantedCertificate>) {
        let Some(state) = self.gateways.get(&gateway.id) else { return };
        for (spec, listener) in gateway.spec.listeners.iter().zip(&state.listeners) {
            let ends = matches!(listener.protocol, Some(Protocol::Https | Protocol::Tls));
            if !ends || listener.slot.is_none() || listener.hostname.is_empty() {
                continue;
            }
            let Some(tls) = &spec.tls else { continue };
            // With several there is one already that somebody else sees to.
            let [reference] = tls.certificate_refs.as_slice() else { continue };
            let namespace = reference.namespace.as_deref().unwrap_or(&gateway.id.namespace);
            if *namespace == *gateway.id.namespace {
                let hosts = (vec![listener.hostname.clone()], Vec::new());
                self.want((Kind::Gateway, &gateway.id), &reference.name, hosts, wanted);
            }
        }
    }

    fn want(
        &self,
        (kind, owner): (Kind, &Id),
        secret: &str,
        (hosts, lost): (Vec<String>, Vec<String>),
        wanted: &mut Vec<WantedCertificate>,
    ) {
        let (known, workspace) = self.tenant(&owner.namespace);
        if known == UNKNOWN || hosts.is_empty() && lost.is_empty() {
            return;
        }
        let secret = Id::new(&owner.namespace, secret);
        let present = match self.objects.get(&(Kind::Secret, secret.clone())).map(Arc::as_ref) {
            Some(Object::Secret(secret)) if secret.acme => {
                let chain = secret.certificate.certificates().unwrap_or_default();
                Present::Ours(chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default())
            }
            Some(_) => Present::Foreign,
            None => Present::Missing,
        };
        let (owner, workspace) = ((kind, owner.clone()), workspace.to_owned());
        wanted.push(WantedCertificate { owner, secret, workspace, hosts, lost, present });
    }
}

/// How [`Index::tenant`] marks a namespace of which nothing is known yet.
const UNKNOWN: u8 = 2;

fn is_on(ingress: &Ingress) -> bool {
    ingress.annotations.get(api::names::ACME_ANNOTATION).is_some()
}
