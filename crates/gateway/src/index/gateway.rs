//! Gateways of ours: their listeners, their ports and what they may refer to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::listeners::{self, Listener};
use super::{GROUP, Index, Key, Reason, link};
use crate::gateway_api::ObjectRef;
use crate::object::{Id, Kind, Object};
use crate::route::{SHARED, Zone};
use crate::table::Entry;

/// A Gateway of ours.
pub(super) struct GatewayState {
    pub object: Arc<Object>,
    pub zone: Zone,
    pub slots: BTreeMap<String, u8>,
    pub listeners: Vec<Listener>,
    pub secrets: BTreeSet<Id>,
    /// ConfigMaps by which its clients are believed.
    pub authorities: BTreeSet<Id>,
    pub foreign: BTreeSet<String>,
    /// What it shows to backends; None: nothing is said of it.
    pub identity: Option<listeners::Shown>,
    /// Routes on each listener.
    pub attached: HashMap<String, usize>,
}

impl Index {
    /// Reads a Gateway again, and places its routes anew where that changed
    /// what they may be attached to.
    pub(super) fn place_gateway(&mut self, id: &Id) {
        self.touch(Kind::Gateway, id);
        let key = (Kind::Gateway, id.clone());
        let object = self.our_gateway(id);
        let old = self.gateways.remove(id);
        for secret in old.iter().flat_map(|old| &old.secrets) {
            if let Some(state) = self.secrets.get_mut(secret) {
                state.gateways.remove(id);
            }
            self.tidy_secret(secret);
        }
        for namespace in old.iter().flat_map(|old| &old.foreign) {
            link(&mut self.strangers, namespace.clone(), &key, false);
        }
        for authority in old.iter().flat_map(|old| &old.authorities) {
            link(&mut self.authority_gateways, authority.clone(), id, false);
        }
        let Some((object, gateway)) = object.as_ref().and_then(|object| match object.as_ref() {
            Object::Gateway(gateway) => Some((object.clone(), gateway)),
            _ => None,
        }) else {
            if old.is_some() {
                self.publish_entries(id);
                self.place_routes_of(id);
            }
            return;
        };
        let secrets = listeners::secrets(gateway);
        let authorities = listeners::authorities(gateway);
        let foreign: BTreeSet<String> = secrets
            .iter()
            .chain(&authorities)
            .map(|secret| &secret.namespace)
            .filter(|namespace| **namespace != id.namespace)
            .map(|namespace| namespace.to_string())
            .collect();
        for namespace in &foreign {
            link(&mut self.strangers, namespace.clone(), &key, true);
        }
        for authority in &authorities {
            link(&mut self.authority_gateways, authority.clone(), id, true);
        }
        for secret in &secrets {
            self.secrets.entry(secret.clone()).or_default().gateways.insert(id.clone());
        }
        let (zone, slots, attached, before) = match old {
            Some(old) => (old.zone, old.slots, old.attached, Some(old.listeners)),
            None if *id == self.scope.default_gateway => (SHARED, BTreeMap::new(), HashMap::new(), None),
            None => {
                self.last_zone += 1;
                (self.last_zone, BTreeMap::new(), HashMap::new(), None)
            }
        };
        let listeners = listeners::read(
            gateway,
            &slots,
            |reference, secret| self.shown(&key, "InvalidCertificateRef", reference, secret),
            |reference, map| self.believed(&key, reference, map),
        );
        let identity = gateway.spec.client_certificate().map(|reference| {
            let secret = listeners::named(gateway, reference);
            self.shown(&key, "InvalidClientCertificateRef", reference, &secret)
        });
        let slots =
            listeners.iter().filter_map(|listener| Some((listener.name.clone(), listener.slot?))).collect();
        let same = before.is_some_and(|before| attaches_alike(&before, &listeners));
        let state = GatewayState {
            object,
            zone,
            slots,
            listeners,
            secrets,
            authorities,
            foreign,
            identity,
            attached,
        };
        self.gateways.insert(id.clone(), state);
        // Routes first: a listener that is new finds them there.
        if !same {
            self.place_routes_of(id);
        }
        self.publish_entries(id);
    }

    pub(super) fn place_routes_of(&mut self, gateway: &Id) {
        for route in self.gateway_routes.get(gateway).cloned().unwrap_or_default() {
            self.place_route(&route);
        }
    }

    /// The certificate that a Gateway may show for a reference.
    pub(super) fn shown(
        &self,
        gateway: &Key,
        word: &'static str,
        reference: &ObjectRef,
        secret: &Id,
    ) -> listeners::Shown {
        let invalid = |message: String| Err(Reason::new(word, message));
        if reference.group.as_deref().is_some_and(|group| !group.is_empty())
            || reference.kind.as_deref().is_some_and(|kind| kind != "Secret")
        {
            return invalid(format!("certificateRef {}: only a Secret can be one", reference.name));
        }
        if !self.permits(gateway, "", "Secret", secret) {
            let message = format!("no ReferenceGrant of {} permits Secret {}", secret.namespace, secret.name);
            return Err(Reason::new("RefNotPermitted", message));
        }
        match self.secrets.get(secret).and_then(|state| state.certificate.as_ref()) {
            Some(certificate) => Ok(certificate.clone()),
            None => {
                invalid(format!("Secret {} is missing, or holds no certificate with its key", secret.name))
            }
        }
    }

    /// The authority by which a Gateway may believe its clients.
    fn believed(&self, gateway: &Key, reference: &ObjectRef, map: &Id) -> Result<&str, Reason> {
        if reference.group.as_deref().is_some_and(|group| !group.is_empty())
            || reference.kind.as_deref() != Some("ConfigMap")
        {
            let message = format!("caCertificateRef {}: only a ConfigMap can be one", reference.name);
            return Err(Reason::new("InvalidCACertificateKind", message));
        }
        if !self.permits(gateway, "", "ConfigMap", map) {
            let message = format!("no ReferenceGrant of {} permits ConfigMap {}", map.namespace, map.name);
            return Err(Reason::new("RefNotPermitted", message));
        }
        match self.objects.get(&(Kind::ConfigMap, map.clone())).map(Arc::as_ref) {
            Some(Object::ConfigMap(crate::object::ConfigMap { authority: Some(text), .. })) => Ok(text),
            _ => {
                let message = format!("ConfigMap {} is missing or has no ca.crt", map.name);
                Err(Reason::new("InvalidCACertificateRef", message))
            }
        }
    }

    /// Whether an object may refer to another one, which may be in another
    /// namespace if a grant there says so.
    pub(super) fn permits(&self, from: &Key, group: &str, kind: &str, to: &Id) -> bool {
        from.1.namespace == to.namespace
            || self.grants.get(&*to.namespace).into_iter().flatten().any(|grant| {
                let Some(Object::ReferenceGrant(grant)) =
                    self.objects.get(&(Kind::ReferenceGrant, grant.clone())).map(Arc::as_ref)
                else {
                    return false;
                };
                let source = grant.spec.from.iter().any(|source| {
                    source.group == GROUP
                        && source.kind == from.0.as_str()
                        && *source.namespace == *from.1.namespace
                });
                source
                    && grant.spec.to.iter().any(|target| {
                        target.group == group
                            && target.kind == kind
                            && target.name.as_ref().is_none_or(|name| name.is_empty() || *name == to.name)
                    })
            })
    }

    /// The Gateway, if its class names us as its controller.
    pub(super) fn our_gateway(&self, id: &Id) -> Option<Arc<Object>> {
        let object = self.objects.get(&(Kind::Gateway, id.clone()))?;
        let Object::Gateway(gateway) = object.as_ref() else { return None };
        let class = Id::new("", &gateway.spec.gateway_class_name);
        match self.objects.get(&(Kind::GatewayClass, class))?.as_ref() {
            Object::GatewayClass(class) if class.controller == self.scope.controller => Some(object.clone()),
            _ => None,
        }
    }

    /// Puts the ports that lead to a Gateway into the table.
    pub(super) fn publish_entries(&mut self, id: &Id) {
        let mut ports = BTreeSet::new();
        if let Some(state) = self.gateways.get(id) {
            let targets = self.entrances.get(id).into_iter().flat_map(BTreeMap::values);
            for (port, target) in targets.flat_map(|entrance| &entrance.targets) {
                let listeners: Vec<_> = state
                    .listeners
                    .iter()
                    .filter(|listener| listener.port == *port)
                    .filter_map(Listener::served)
                    .collect();
                let theirs = self.table.entries.get(target).is_some_and(|entry| entry.gateway < *id);
                if !listeners.is_empty() && !theirs && ports.insert(*target) {
                    let identity = state.identity.as_ref().and_then(|shown| shown.as_ref().ok().cloned());
                    let entry =
                        Entry { gateway: id.clone(), port: *port, zone: state.zone, listeners, identity };
                    self.table.entries.set(*target, Some(Arc::new(entry)));
                }
            }
        }
        for gone in self.ports.get(id).into_iter().flatten().filter(|port| !ports.contains(port)) {
            if self.table.entries.get(gone).is_some_and(|entry| entry.gateway == *id) {
                self.table.entries.set(*gone, None);
            }
        }
        let same = self.ports.get(id).is_none_or(BTreeSet::is_empty) && ports.is_empty()
            || self.ports.get(id) == Some(&ports);
        if ports.is_empty() {
            self.ports.remove(id);
        } else {
            self.ports.insert(id.clone(), ports);
        }
        if !same {
            self.table.entries_changed.notify_one();
        }
    }
}

/// Whether routes attach to the one as they do to the other.
fn attaches_alike(before: &[Listener], after: &[Listener]) -> bool {
    before.len() == after.len()
        && before.iter().zip(after).all(|(a, b)| {
            a.name == b.name
                && a.slot == b.slot
                && a.port == b.port
                && a.hostname == b.hostname
                && a.kinds == b.kinds
                && a.from == b.from
        })
}
