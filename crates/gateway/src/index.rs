//! Applies one object's change to the [`Table`] as that object's work.
//!
//! No client, no clock, no socket: what is watched comes in through
//! [`Index::apply`] and [`Index::delete`], what is served comes out in the
//! table. An object that makes no sense costs itself its routes, and a
//! [`Problem`] says why.

mod httproute;
mod ingress;
mod service;
#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::certificate::Certificate;
use crate::object::{Id, Kind, Object, PortRef};
use crate::route::{Owner, Route};
use crate::table::{Host, Table};
use service::Services;

/// What is wrong with an object, in the words of its own fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(pub String);

/// The names the index has to know.
#[derive(Debug, Clone)]
pub struct Scope {
    pub ingress_classes: Vec<String>,
    pub controller: String,
    pub default_certificate: Id,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            ingress_classes: api::names::INGRESS_CLASSES.map(str::to_owned).into(),
            controller: api::names::GATEWAY_CONTROLLER.to_owned(),
            default_certificate: Id::new(api::names::SYSTEM_NAMESPACE, api::names::GATEWAY_CERTIFICATE),
        }
    }
}

/// Orders the objects that want one host: the oldest first.
type Claim = (i64, Id, Kind);

#[derive(Default)]
struct HostState {
    routes: BTreeMap<Claim, Vec<Arc<Route>>>,
    /// The Secrets with which objects want the host to be served.
    certificates: BTreeMap<Claim, Id>,
}

#[derive(Default)]
struct SecretState {
    certificate: Option<Arc<Certificate>>,
    /// Hosts that want it, with how many claims.
    hosts: HashMap<Arc<str>, usize>,
}

/// What an object has put where.
struct Placed {
    claim: Claim,
    hosts: BTreeSet<Arc<str>>,
    secrets: Vec<(Arc<str>, Id)>,
    backends: Vec<(Id, PortRef)>,
    problems: Vec<Problem>,
}

/// An object's routes, before they are placed.
#[derive(Default)]
struct Compiled {
    routes: Vec<(String, Route)>,
    /// Hosts and the Secrets they want.
    certificates: Vec<(String, Id)>,
    backends: Vec<(Id, PortRef)>,
    problems: Vec<Problem>,
}

pub struct Index {
    scope: Scope,
    table: Arc<Table>,
    objects: HashMap<(Kind, Id), Arc<Object>>,
    placed: HashMap<(Kind, Id), Placed>,
    hosts: HashMap<Arc<str>, HostState>,
    secrets: HashMap<Id, SecretState>,
    services: Services,
    gateway_routes: HashMap<Id, BTreeSet<Id>>,
    class_gateways: HashMap<String, BTreeSet<Id>>,
    generation: u64,
}

impl Index {
    pub fn new(scope: Scope, table: Arc<Table>) -> Self {
        Self {
            scope,
            table,
            objects: HashMap::new(),
            placed: HashMap::new(),
            hosts: HashMap::new(),
            secrets: HashMap::new(),
            services: Services::default(),
            gateway_routes: HashMap::new(),
            class_gateways: HashMap::new(),
            generation: 0,
        }
    }

    /// Grows with every change; equal means nothing to save.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn objects(&self) -> Vec<Arc<Object>> {
        self.objects.values().cloned().collect()
    }

    /// What is wrong with an Ingress or a route.
    pub fn problems(&self, kind: Kind, id: &Id) -> &[Problem] {
        self.placed.get(&(kind, id.clone())).map_or(&[], |placed| placed.problems.as_slice())
    }

    /// Forgets every object of a kind that a full list did not name.
    pub fn retain(&mut self, kind: Kind, listed: &HashSet<Id>) {
        let gone: Vec<Id> = self
            .objects
            .keys()
            .filter(|(of, id)| *of == kind && !listed.contains(id))
            .map(|(_, id)| id.clone())
            .collect();
        for id in gone {
            self.delete(kind, &id);
        }
    }

    pub fn apply(&mut self, object: Object) {
        let key = (object.kind(), object.id().clone());
        let object = Arc::new(object);
        let old = self.objects.get(&key).cloned();
        if old.as_ref().is_some_and(|old| **old == *object) {
            return;
        }
        self.generation += 1;
        self.objects.insert(key.clone(), object.clone());
        self.changed(&key, old.as_deref(), Some(&object));
    }

    pub fn delete(&mut self, kind: Kind, id: &Id) {
        let key = (kind, id.clone());
        if let Some(old) = self.objects.remove(&key) {
            self.generation += 1;
            self.changed(&key, Some(&old), None);
        }
    }

    fn changed(&mut self, key: &(Kind, Id), old: Option<&Object>, new: Option<&Object>) {
        let id = &key.1;
        match key.0 {
            Kind::Ingress => self.place_ingress(id),
            Kind::HttpRoute => {
                for (object, add) in [(old, false), (new, true)] {
                    let Some(Object::HttpRoute(route)) = object else { continue };
                    for parent in httproute::parents(route) {
                        link(&mut self.gateway_routes, parent, id, add);
                    }
                }
                self.place_route(id);
            }
            Kind::Gateway => {
                for (object, add) in [(old, false), (new, true)] {
                    let Some(Object::Gateway(gateway)) = object else { continue };
                    link(&mut self.class_gateways, gateway.spec.gateway_class_name.clone(), id, add);
                }
                self.place_gateway(id);
            }
            Kind::GatewayClass => {
                for gateway in self.class_gateways.get(&id.name).cloned().unwrap_or_default() {
                    self.place_gateway(&gateway);
                }
            }
            Kind::Service => match new {
                Some(Object::Service(service)) => self.services.set_service(id, Some(service.ports.clone())),
                _ => self.services.set_service(id, None),
            },
            Kind::EndpointSlice => {
                let service = |object: Option<&Object>| match object {
                    Some(Object::EndpointSlice(slice)) => Some(Id::new(&id.namespace, &slice.service)),
                    _ => None,
                };
                let (before, after) = (service(old), service(new));
                if let Some(before) = before.filter(|before| Some(before) != after.as_ref()) {
                    self.services.set_slice(&before, &id.name, None);
                }
                if let (Some(after), Some(Object::EndpointSlice(slice))) = (after, new) {
                    self.services.set_slice(&after, &id.name, Some(slice.clone()));
                }
            }
            Kind::Secret => self.place_secret(id, new),
        }
    }

    fn place_ingress(&mut self, id: &Id) {
        let object = self.objects.get(&(Kind::Ingress, id.clone())).cloned();
        let compiled = match object.as_deref() {
            Some(Object::Ingress(ingress))
                if ingress.class.as_ref().is_none_or(|class| self.scope.ingress_classes.contains(class)) =>
            {
                let owner = self.owner(Kind::Ingress, id);
                Some((ingress.created, ingress::compile(ingress, &owner, &mut self.services)))
            }
            _ => None,
        };
        self.place(Kind::Ingress, id, compiled);
    }

    fn place_route(&mut self, id: &Id) {
        let object = self.objects.get(&(Kind::HttpRoute, id.clone())).cloned();
        let compiled = match object.as_deref() {
            Some(Object::HttpRoute(route)) => {
                let attached = httproute::attach(route, |gateway| self.our_gateway(gateway));
                if attached.is_empty() {
                    None
                } else {
                    let owner = self.owner(Kind::HttpRoute, id);
                    Some((route.created, httproute::compile(route, &attached, &owner, &mut self.services)))
                }
            }
            _ => None,
        };
        self.place(Kind::HttpRoute, id, compiled);
    }

    fn place_gateway(&mut self, id: &Id) {
        for route in self.gateway_routes.get(id).cloned().unwrap_or_default() {
            self.place_route(&route);
        }
    }

    /// The Gateway, if its class names us as its controller.
    fn our_gateway(&self, id: &Id) -> Option<Arc<Object>> {
        let object = self.objects.get(&(Kind::Gateway, id.clone()))?;
        let Object::Gateway(gateway) = object.as_ref() else { return None };
        let class = Id::new("", &gateway.spec.gateway_class_name);
        match self.objects.get(&(Kind::GatewayClass, class))?.as_ref() {
            Object::GatewayClass(class) if class.controller == self.scope.controller => Some(object.clone()),
            _ => None,
        }
    }

    fn owner(&self, kind: Kind, id: &Id) -> Arc<Owner> {
        let key = (kind, id.clone());
        self.table.owners.get(&key).unwrap_or_else(|| Arc::new(Owner::new(kind, id.clone())))
    }

    /// Replaces what an object has in the table by what it wants now. Hosts it
    /// keeps are swapped once, never emptied in between.
    fn place(&mut self, kind: Kind, id: &Id, compiled: Option<(i64, Compiled)>) {
        let key = (kind, id.clone());
        let mut touched = BTreeSet::new();
        let old = self.placed.remove(&key);
        if let Some(old) = &old {
            for host in &old.hosts {
                if let Some(state) = self.hosts.get_mut(host) {
                    state.routes.remove(&old.claim);
                    state.certificates.remove(&old.claim);
                }
                touched.insert(host.clone());
            }
            for (host, secret) in &old.secrets {
                self.unclaim(host, secret);
            }
        }
        if let Some((created, compiled)) = compiled {
            let claim = (created, id.clone(), kind);
            let mut placed = Placed {
                claim: claim.clone(),
                hosts: BTreeSet::new(),
                secrets: Vec::new(),
                backends: compiled.backends,
                problems: compiled.problems,
            };
            if let Some(route) = compiled.routes.first()
                && self.table.owners.get(&key).is_none()
            {
                self.table.owners.set(key.clone(), Some(route.1.owner.clone()));
            }
            for (host, route) in compiled.routes {
                let host = self.host(&host);
                let state = self.hosts.entry(host.clone()).or_default();
                state.routes.entry(claim.clone()).or_default().push(Arc::new(route));
                placed.hosts.insert(host);
            }
            for (host, secret) in compiled.certificates {
                let host = self.host(&host);
                let state = self.hosts.entry(host.clone()).or_default();
                // Of several that one object names for a host the first counts.
                match state.certificates.entry(claim.clone()) {
                    Entry::Occupied(_) => continue,
                    Entry::Vacant(entry) => entry.insert(secret.clone()),
                };
                *self.secrets.entry(secret.clone()).or_default().hosts.entry(host.clone()).or_default() += 1;
                placed.hosts.insert(host.clone());
                placed.secrets.push((host, secret));
            }
            touched.extend(placed.hosts.iter().cloned());
            self.placed.insert(key.clone(), placed);
        }
        for host in touched {
            self.publish(&host);
        }
        if !self.placed.contains_key(&key) && self.table.owners.get(&key).is_some() {
            self.table.owners.set(key, None);
        }
        // After the new ones are in: a backend that stays keeps its turn and its list.
        for (service, port) in old.into_iter().flat_map(|old| old.backends) {
            self.services.release(&service, &port);
        }
    }

    fn unclaim(&mut self, host: &Arc<str>, secret: &Id) {
        let Some(state) = self.secrets.get_mut(secret) else { return };
        if let Some(claims) = state.hosts.get_mut(host) {
            *claims -= 1;
            if *claims == 0 {
                state.hosts.remove(host);
            }
        }
        self.tidy_secret(secret);
    }

    fn tidy_secret(&mut self, secret: &Id) {
        let unused = |state: &SecretState| state.hosts.is_empty() && state.certificate.is_none();
        if self.secrets.get(secret).is_some_and(unused) {
            self.secrets.remove(secret);
        }
    }

    /// The one shared copy of a host's name.
    fn host(&self, host: &str) -> Arc<str> {
        self.hosts.get_key_value(host).map_or_else(|| Arc::from(host), |(host, _)| host.clone())
    }

    fn place_secret(&mut self, id: &Id, new: Option<&Object>) {
        let certificate = match new {
            Some(Object::Secret(secret)) => match Certificate::parse(&secret.certificate, &secret.key) {
                Ok(certificate) => Some(Arc::new(certificate)),
                Err(error) => {
                    tracing::info!(secret = %id, %error, "a TLS Secret can't be served");
                    None
                }
            },
            _ => None,
        };
        if *id == self.scope.default_certificate {
            self.table.default_certificate.store(certificate.clone());
        }
        let state = self.secrets.entry(id.clone()).or_default();
        state.certificate = certificate;
        let hosts: Vec<Arc<str>> = state.hosts.keys().cloned().collect();
        for host in hosts {
            self.publish_certificate(&host);
        }
        self.tidy_secret(id);
    }

    /// Puts the state of one host into the table.
    fn publish(&mut self, host: &Arc<str>) {
        let Some(state) = self.hosts.get(host) else { return };
        if state.routes.is_empty() {
            if self.table.hosts.get(&**host).is_some() {
                self.table.hosts.set(host.clone(), None);
            }
        } else {
            let routes = state.routes.values().flatten().cloned();
            self.table.hosts.set(host.clone(), Some(Arc::new(Host::new(routes))));
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
    fn publish_certificate(&self, host: &Arc<str>) {
        let Some(state) = self.hosts.get(host) else { return };
        let namespace = state.routes.keys().next().map(|(_, id, _)| &id.namespace);
        let chosen = state
            .certificates
            .iter()
            .filter(|((_, id, _), _)| namespace.is_none_or(|namespace| *namespace == id.namespace))
            .filter_map(|(_, secret)| self.secrets.get(secret)?.certificate.as_ref())
            .find(|certificate| certificate.covers(host));
        let current = self.table.certificates.get(&**host);
        let same = match (&current, chosen) {
            (Some(current), Some(chosen)) => Arc::ptr_eq(current, chosen),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.table.certificates.set(host.clone(), chosen.cloned());
        }
    }
}

fn link<K: Eq + std::hash::Hash>(links: &mut HashMap<K, BTreeSet<Id>>, from: K, to: &Id, add: bool) {
    if add {
        links.entry(from).or_default().insert(to.clone());
    } else if let Some(all) = links.get_mut(&from) {
        all.remove(to);
        if all.is_empty() {
            links.remove(&from);
        }
    }
}
