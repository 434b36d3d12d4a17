//! A host: who has it, what it serves and which certificate it shows.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Claim, Index};
use crate::certificate::Certificate;
use crate::few::Few;
use crate::object::{Id, Kind};
use crate::route::{Route, SHARED, Zone};
use crate::table::{Host, HostKey, HostName};

#[derive(Default)]
pub(super) struct HostState {
    pub routes: Few<Claim, Vec<Arc<Route>>>,
    /// The Secrets with which objects want the host to be served.
    pub certificates: Few<Claim, Id>,
}

#[derive(Default)]
pub(super) struct SecretState {
    pub certificate: Option<Arc<Certificate>>,
    /// Hosts that want it, with how many claims.
    pub hosts: Few<Arc<str>, usize>,
    /// Gateways that name it.
    pub gateways: BTreeSet<Id>,
}

impl Index {
    pub(super) fn unclaim(&mut self, host: &Arc<str>, secret: &Id) {
        let Some(state) = self.secrets.get_mut(secret) else { return };
        if let Some(claims) = state.hosts.get_mut(host) {
            *claims -= 1;
            if *claims == 0 {
                state.hosts.remove(host);
            }
        }
        self.tidy_secret(secret);
    }

    pub(super) fn tidy_secret(&mut self, secret: &Id) {
        let unused = |state: &SecretState| {
            state.hosts.is_empty() && state.gateways.is_empty() && state.certificate.is_none()
        };
        if self.secrets.get(secret).is_some_and(unused) {
            self.secrets.remove(secret);
        }
    }

    /// The one shared copy of a host's name.
    pub(super) fn host(&self, zone: Zone, host: &str) -> HostKey {
        let key = (zone, host);
        let known = self.hosts.get_key_value(&key as &dyn HostName);
        known.map_or_else(|| (zone, Arc::from(host)), |(host, _)| host.clone())
    }

    pub(super) fn place_secret(&mut self, id: &Id) {
        let key = (Kind::Secret, id.clone());
        let certificate = match self.objects.get(&key) {
            Some(secret) => match Certificate::new(secret.clone()) {
                Ok(certificate) => Some(Arc::new(certificate)),
                Err(error) => {
                    tracing::info!(secret = %id, %error, "a TLS Secret can't be served");
                    None
                }
            },
            None => None,
        };
        if *id == self.scope.default_certificate {
            self.table.default_certificate.store(certificate.clone());
        }
        let state = self.secrets.entry(id.clone()).or_default();
        state.certificate = certificate;
        let hosts: Vec<Arc<str>> = state.hosts.keys().cloned().collect();
        let gateways = state.gateways.clone();
        for host in hosts {
            self.publish_certificate(&(SHARED, host));
        }
        for gateway in gateways {
            self.place_gateway(&gateway);
        }
        self.tidy_secret(id);
    }

    /// Puts the state of one host into the table: the routes of the workspace
    /// that has had it longest, and of nobody else.
    pub(super) fn publish(&mut self, host: &HostKey) {
        let Some(state) = self.hosts.get(host) else { return };
        let first = state.routes.keys().next().map(|(_, id, _)| self.tenant(&id.namespace));
        let (mut own, mut lost) = (Vec::new(), Vec::new());
        for ((_, id, kind), routes) in &state.routes {
            let ours = Some(self.tenant(&id.namespace)) == first;
            lost.push(((id.clone(), *kind), !ours));
            if ours {
                own.extend(routes.iter().cloned());
            }
        }
        if own.is_empty() {
            if self.table.hosts.get(host).is_some() {
                self.table.hosts.set(host.clone(), None);
            }
        } else {
            self.table.hosts.set(host.clone(), Some(Arc::new(Host::new(own))));
        }
        for ((id, kind), lost) in lost {
            let Some(placed) = self.placed.get_mut(&(id.clone(), kind)) else { continue };
            if placed.lost.contains(host) != lost {
                placed.more.change(|more| {
                    if lost { more.lost.insert(host.clone()) } else { more.lost.remove(host) }
                });
                self.touch(kind, &id);
            }
        }
        self.publish_certificate(host);
        if self.hosts.get(host).is_some_and(|state| state.routes.is_empty() && state.certificates.is_empty())
        {
            self.hosts.remove(host);
        }
    }

    /// The first claim whose Secret is there, parses and covers the host. Where
    /// the host has routes, only their oldest one's namespace has a say: nobody
    /// puts a certificate on somebody else's host.
    pub(super) fn publish_certificate(&self, host: &HostKey) {
        let Some(state) = self.hosts.get(host).filter(|_| host.0 == SHARED) else { return };
        let namespace = state.routes.keys().next().map(|(_, id, _)| &id.namespace);
        let chosen = state
            .certificates
            .iter()
            .filter(|((_, id, _), _)| namespace.is_none_or(|namespace| *namespace == id.namespace))
            .filter_map(|(_, secret)| self.secrets.get(secret)?.certificate.as_ref())
            .find(|certificate| certificate.covers(&host.1));
        let current = self.table.certificates.get(&*host.1);
        let same = match (&current, chosen) {
            (Some(current), Some(chosen)) => Arc::ptr_eq(current, chosen),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.table.certificates.set(host.1.clone(), chosen.cloned());
        }
    }
}
