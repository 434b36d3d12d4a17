//! Applies one object's change to the [`Table`] as that object's work.
//!
//! No client, no clock, no socket: what is watched comes in through
//! [`Index::apply`] and [`Index::delete`], what is served comes out in the
//! table. An object that makes no sense costs itself its routes, and a
//! [`Problem`] says why.

mod attach;
mod httproute;
mod ingress;
mod listeners;
mod policy;
mod service;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::certificate::Certificate;
use crate::few::Few;
use crate::gateway_api::ObjectRef;
use crate::object::{self, Entrance, Gateway, Id, Kind, Object, PortRef};
use crate::route::{Owner, Route, SHARED, Zone};
use crate::table::{Entry, Host, HostKey, Table};
use crate::tenant::{self, Tenant};
use attach::{Parent, Seen};
pub use listeners::{Listener, Reason};
use service::Services;
pub use status::{Patch, SUPPORTED_FEATURES};

/// The Gateway API's group.
pub(crate) const GROUP: &str = "gateway.networking.k8s.io";

/// What is wrong with an object, in the words of its own fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(pub String);

/// The names the index has to know.
#[derive(Debug, Clone)]
pub struct Scope {
    pub ingress_classes: Vec<String>,
    pub controller: String,
    pub default_certificate: Id,
    /// The Gateway whose hosts Ingresses share.
    pub default_gateway: Id,
    /// What a workspace may take of each gateway.
    pub workspace_limits: tenant::Limits,
}

impl Default for Scope {
    fn default() -> Self {
        let system = |name| Id::new(api::names::SYSTEM_NAMESPACE, name);
        Self {
            ingress_classes: api::names::INGRESS_CLASSES.map(str::to_owned).into(),
            controller: api::names::GATEWAY_CONTROLLER.to_owned(),
            default_certificate: system(api::names::GATEWAY_CERTIFICATE),
            default_gateway: system(api::names::DEFAULT_GATEWAY),
            workspace_limits: tenant::Limits::default(),
        }
    }
}

/// Orders the objects that want one host: the oldest first.
type Claim = (i64, Id, Kind);
type Key = (Kind, Id);

#[derive(Default)]
struct HostState {
    routes: Few<Claim, Vec<Arc<Route>>>,
    /// The Secrets with which objects want the host to be served.
    certificates: Few<Claim, Id>,
}

#[derive(Default)]
struct SecretState {
    certificate: Option<Arc<Certificate>>,
    /// Hosts that want it, with how many claims.
    hosts: Few<Arc<str>, usize>,
    /// Gateways that name it.
    gateways: BTreeSet<Id>,
}

/// What an object has put where.
#[derive(Default)]
struct Placed {
    claim: Option<Claim>,
    hosts: Few<HostKey, ()>,
    secrets: Vec<(Arc<str>, Id)>,
    backends: Vec<(Id, PortRef)>,
    /// Other namespaces that it refers to.
    foreign: BTreeSet<String>,
    problems: Vec<Problem>,
    notes: Vec<Problem>,
    unresolved: Vec<Reason>,
    /// Rules that can't be served, of how many.
    broken_rules: usize,
    rules: usize,
    parents: Vec<Parent>,
    /// Hosts that belong to another workspace.
    lost: BTreeSet<HostKey>,
    /// The Secret with the users who may log in.
    users: Option<Id>,
}

/// An object's routes, before they are placed.
#[derive(Default)]
struct Compiled {
    routes: Vec<(Zone, String, Route)>,
    /// Hosts and the Secrets they want.
    certificates: Vec<(String, Id)>,
    backends: Vec<(Id, PortRef)>,
    foreign: BTreeSet<String>,
    problems: Vec<Problem>,
    /// What is served otherwise than it is written.
    notes: Vec<Problem>,
    unresolved: Vec<Reason>,
    broken_rules: usize,
    rules: usize,
    parents: Vec<Parent>,
    users: Option<Id>,
}

/// A Gateway of ours.
struct GatewayState {
    object: Arc<Object>,
    zone: Zone,
    slots: BTreeMap<String, u8>,
    listeners: Vec<Listener>,
    secrets: BTreeSet<Id>,
    foreign: BTreeSet<String>,
    /// Routes on each listener.
    attached: HashMap<String, usize>,
}

pub struct Index {
    scope: Scope,
    table: Arc<Table>,
    objects: HashMap<Key, Arc<Object>>,
    /// By namespace first, so that one namespace's are found.
    placed: BTreeMap<(Id, Kind), Box<Placed>>,
    hosts: HashMap<HostKey, HostState>,
    secrets: HashMap<Id, SecretState>,
    services: Services,
    gateways: HashMap<Id, GatewayState>,
    last_zone: Zone,
    /// The Services that lead to Gateways.
    entrances: HashMap<Id, BTreeMap<Id, Entrance>>,
    /// The ports that lead to a Gateway now.
    ports: HashMap<Id, BTreeSet<u16>>,
    gateway_routes: HashMap<Id, BTreeSet<Key>>,
    class_gateways: HashMap<String, BTreeSet<Id>>,
    service_routes: HashMap<Id, Few<Key, ()>>,
    service_policies: HashMap<Id, BTreeSet<Id>>,
    /// Policies by the ConfigMap they name.
    authority_policies: HashMap<Id, BTreeSet<Id>>,
    /// What wants the users of a Secret.
    users: HashMap<Id, BTreeSet<Key>>,
    /// Grows when those change.
    users_generation: u64,
    /// What refers into a namespace from outside.
    strangers: HashMap<String, BTreeSet<Key>>,
    grants: HashMap<String, BTreeSet<Id>>,
    /// Objects whose status may have changed; None: nobody asks.
    touched: Option<BTreeSet<Key>>,
    generation: u64,
}

impl Index {
    pub fn new(scope: Scope, table: Arc<Table>) -> Self {
        Self {
            scope,
            table,
            objects: HashMap::new(),
            placed: BTreeMap::new(),
            hosts: HashMap::new(),
            secrets: HashMap::new(),
            services: Services::default(),
            gateways: HashMap::new(),
            last_zone: SHARED,
            entrances: HashMap::new(),
            ports: HashMap::new(),
            gateway_routes: HashMap::new(),
            class_gateways: HashMap::new(),
            service_routes: HashMap::new(),
            service_policies: HashMap::new(),
            authority_policies: HashMap::new(),
            users: HashMap::new(),
            users_generation: 0,
            strangers: HashMap::new(),
            grants: HashMap::new(),
            touched: None,
            generation: 0,
        }
    }

    /// From now on remembers whose status may have changed.
    pub fn with_statuses(mut self) -> Self {
        self.touched = Some(BTreeSet::new());
        self
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
        self.placed.get(&(id.clone(), kind)).map_or(&[], |placed| placed.problems.as_slice())
    }

    /// What of an Ingress is not done as it is written, and is served otherwise.
    pub fn notes(&self, kind: Kind, id: &Id) -> &[Problem] {
        self.placed.get(&(id.clone(), kind)).map_or(&[], |placed| placed.notes.as_slice())
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
        // One that is on its way when nobody wants it any more.
        if key.0 == Kind::Users && !self.wants_users(&key.1) {
            return;
        }
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

    /// The Secrets with users that are to be watched.
    pub fn wanted_users(&self) -> impl Iterator<Item = &Id> {
        self.users.keys()
    }

    pub fn wants_users(&self, id: &Id) -> bool {
        self.users.contains_key(id)
    }

    /// Grows when other users may be wanted.
    pub fn users_generation(&self) -> u64 {
        self.users_generation
    }

    pub(crate) fn default_gateway(&self) -> Id {
        self.scope.default_gateway.clone()
    }

    /// The Services that lead to a Gateway now.
    pub(crate) fn entrances_of(&self, gateway: &Id) -> Vec<(Id, Entrance)> {
        let all = self.entrances.get(gateway).into_iter().flatten();
        all.map(|(id, entrance)| (id.clone(), entrance.clone())).collect()
    }

    /// The ports on which a Gateway of ours has something to serve.
    pub(crate) fn wanted_ports(&self, gateway: &Id) -> Option<(BTreeSet<u16>, &Gateway)> {
        let state = self.gateways.get(gateway)?;
        let Object::Gateway(object) = state.object.as_ref() else { return None };
        let served = state.listeners.iter().filter(|listener| listener.takes_routes());
        Some((served.map(|listener| listener.port).collect(), object))
    }

    /// The ports of ours that lead to other Gateways; of several the smallest.
    pub(crate) fn taken_ports(&self, but: &Id) -> BTreeMap<u16, Id> {
        let mut taken: BTreeMap<u16, Id> = BTreeMap::new();
        for (gateway, all) in self.entrances.iter().filter(|(gateway, _)| *gateway != but) {
            for (_, target) in all.values().flat_map(|entrance| &entrance.targets) {
                let first = taken.entry(*target).or_insert_with(|| gateway.clone());
                if gateway < first {
                    first.clone_from(gateway);
                }
            }
        }
        taken
    }

    fn touch(&mut self, kind: Kind, id: &Id) {
        if let Some(touched) = &mut self.touched {
            touched.insert((kind, id.clone()));
        }
    }

    fn changed(&mut self, key: &Key, old: Option<&Object>, new: Option<&Object>) {
        let id = &key.1;
        self.touch(key.0, id);
        match key.0 {
            Kind::Ingress => self.place_ingress(id),
            Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute => {
                for (object, add) in [(old, false), (new, true)] {
                    let Some(route) = object.and_then(Object::route) else { continue };
                    for (_, parent) in attach::gateways(route) {
                        link(&mut self.gateway_routes, parent, key, add);
                    }
                }
                self.place_route(key);
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
            Kind::ReferenceGrant => {
                link(&mut self.grants, id.namespace.clone(), id, new.is_some());
                for key in self.strangers.get(&id.namespace).cloned().unwrap_or_default() {
                    self.place_again(&key);
                }
            }
            Kind::BackendTlsPolicy => self.place_policy(id, old, new),
            Kind::ConfigMap => self.place_authority(id),
            Kind::Namespace => self.place_namespace(&id.name, old, new),
            Kind::Service => self.place_service(id, old, new),
            Kind::EndpointSlice => {
                let service = |object: Option<&Object>| match object {
                    Some(Object::EndpointSlice(slice)) => Some(Id::new(&id.namespace, &slice.service)),
                    _ => None,
                };
                let (before, after) = (service(old), service(new));
                if let Some(before) = before.filter(|before| Some(before) != after.as_ref()) {
                    self.services.set_slice(&before, id, None);
                }
                if let Some(after) = after {
                    let slice = self.objects.get(key).cloned();
                    self.services.set_slice(&after, id, slice);
                }
            }
            Kind::Secret => self.place_secret(id),
            Kind::Users => {
                for key in self.users.get(id).cloned().unwrap_or_default() {
                    self.place_again(&key);
                }
            }
        }
    }

    fn place_again(&mut self, key: &Key) {
        match key.0 {
            Kind::Ingress => self.place_ingress(&key.1),
            Kind::Gateway => self.place_gateway(&key.1),
            _ => self.place_route(key),
        }
    }

    fn place_ingress(&mut self, id: &Id) {
        let object = self.objects.get(&(Kind::Ingress, id.clone())).cloned();
        let compiled = match object.as_deref() {
            Some(Object::Ingress(ingress))
                if ingress.class.as_ref().is_none_or(|class| self.scope.ingress_classes.contains(class)) =>
            {
                let owner = self.owner(Kind::Ingress, id);
                let objects = &self.objects;
                let users = |id: &Id| match objects.get(&(Kind::Users, id.clone())).map(Arc::as_ref) {
                    Some(Object::Users(users)) => Some(users),
                    _ => None,
                };
                Some((ingress.created, ingress::compile(ingress, &owner, &mut self.services, &users)))
            }
            _ => None,
        };
        self.place(&(Kind::Ingress, id.clone()), compiled);
    }

    fn place_route(&mut self, key: &Key) {
        let object = self.objects.get(key).cloned();
        let compiled = object.as_deref().and_then(Object::route).and_then(|route| {
            let labels = self.labels(&route.id.namespace);
            let seen = |gateway: &Id| {
                let state = self.gateways.get(gateway)?;
                Some(Seen { zone: state.zone, listeners: &state.listeners })
            };
            let empty = BTreeMap::new();
            let (attached, parents) = attach::attach(key.0, route, labels.as_ref().unwrap_or(&empty), seen);
            if parents.is_empty() {
                return None;
            }
            let owner = self.owner(key.0, &key.1);
            let mut services = std::mem::take(&mut self.services);
            let permitted = |service: &Id| self.permits(key, "", "Service", service);
            let mut context = httproute::Context {
                kind: key.0,
                owner: &owner,
                services: &mut services,
                permitted: &permitted,
            };
            let mut compiled = httproute::compile(route, &attached, &mut context);
            self.services = services;
            compiled.parents = parents;
            Some((route.created, compiled))
        });
        self.place(key, compiled);
    }

    /// Reads a Gateway again, and places its routes anew where that changed
    /// what they may be attached to.
    fn place_gateway(&mut self, id: &Id) {
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
        let foreign: BTreeSet<String> = secrets
            .iter()
            .map(|secret| &secret.namespace)
            .filter(|namespace| **namespace != id.namespace)
            .cloned()
            .collect();
        for namespace in &foreign {
            link(&mut self.strangers, namespace.clone(), &key, true);
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
        let listeners =
            listeners::read(gateway, &slots, |reference, secret| self.shown(&key, reference, secret));
        let slots =
            listeners.iter().filter_map(|listener| Some((listener.name.clone(), listener.slot?))).collect();
        let same = before.is_some_and(|before| attaches_alike(&before, &listeners));
        let state = GatewayState { object, zone, slots, listeners, secrets, foreign, attached };
        self.gateways.insert(id.clone(), state);
        // Routes first: a listener that is new finds them there.
        if !same {
            self.place_routes_of(id);
        }
        self.publish_entries(id);
    }

    fn place_routes_of(&mut self, gateway: &Id) {
        for route in self.gateway_routes.get(gateway).cloned().unwrap_or_default() {
            self.place_route(&route);
        }
    }

    /// The certificate that a Gateway may show for a reference.
    fn shown(&self, gateway: &Key, reference: &ObjectRef, secret: &Id) -> listeners::Shown {
        let invalid = |message: String| Err(Reason::new("InvalidCertificateRef", message));
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

    /// Whether an object may refer to another one, which may be in another
    /// namespace if a grant there says so.
    fn permits(&self, from: &Key, group: &str, kind: &str, to: &Id) -> bool {
        from.1.namespace == to.namespace
            || self.grants.get(&to.namespace).into_iter().flatten().any(|grant| {
                let Some(Object::ReferenceGrant(grant)) =
                    self.objects.get(&(Kind::ReferenceGrant, grant.clone())).map(Arc::as_ref)
                else {
                    return false;
                };
                let source = grant.spec.from.iter().any(|source| {
                    source.group == GROUP
                        && source.kind == from.0.as_str()
                        && source.namespace == from.1.namespace
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
    fn our_gateway(&self, id: &Id) -> Option<Arc<Object>> {
        let object = self.objects.get(&(Kind::Gateway, id.clone()))?;
        let Object::Gateway(gateway) = object.as_ref() else { return None };
        let class = Id::new("", &gateway.spec.gateway_class_name);
        match self.objects.get(&(Kind::GatewayClass, class))?.as_ref() {
            Object::GatewayClass(class) if class.controller == self.scope.controller => Some(object.clone()),
            _ => None,
        }
    }

    fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        match self.objects.get(&(Kind::Namespace, Id::new("", namespace)))?.as_ref() {
            Object::Namespace(namespace) => Some(namespace.labels.clone()),
            _ => None,
        }
    }

    /// Who answers for what is in a namespace: its workspace, or the operator.
    /// A namespace that isn't known yet answers for itself alone.
    fn tenant<'a>(&'a self, namespace: &'a str) -> (u8, &'a str) {
        match self.objects.get(&(Kind::Namespace, Id::new("", namespace))).map(Arc::as_ref) {
            Some(Object::Namespace(object)) => match object.labels.get(api::names::WORKSPACE_LABEL) {
                Some(workspace) => (1, workspace),
                None => (0, ""),
            },
            _ => (2, namespace),
        }
    }

    fn place_namespace(&mut self, name: &str, old: Option<&Object>, new: Option<&Object>) {
        let labels = |object: Option<&Object>| match object {
            Some(Object::Namespace(namespace)) => namespace.labels.clone(),
            _ => BTreeMap::new(),
        };
        if old.is_some() && new.is_some() && labels(old) == labels(new) {
            return;
        }
        if new.is_none() {
            self.table.tenants.set(name.to_owned(), None);
        } else if let Some(tenant) = self.table.tenants.get(name) {
            tenant.set(self.limits(name));
        }
        let first = (Id::new(name, ""), Kind::Ingress);
        let inside: Vec<Key> = self
            .placed
            .range(first..)
            .take_while(|((id, _), _)| id.namespace == name)
            .map(|((id, kind), _)| (*kind, id.clone()))
            .collect();
        for key in inside {
            self.place_again(&key);
        }
    }

    fn place_service(&mut self, id: &Id, old: Option<&Object>, new: Option<&Object>) {
        fn service(object: Option<&Object>) -> Option<&object::Service> {
            match object {
                Some(Object::Service(service)) => Some(service),
                _ => None,
            }
        }
        let (old, new) = (service(old), service(new));
        self.services.set_service(id, new.map(|service| service.ports.clone()));
        let routes = self.service_routes.get(id).map(|routes| routes.keys().cloned().collect::<Vec<_>>());
        for key in routes.unwrap_or_default() {
            self.touch(key.0, &key.1);
        }
        let entrance = |service: &object::Service| service.entrance.clone();
        let (before, after) = (old.and_then(entrance), new.and_then(entrance));
        if before == after {
            return;
        }
        for (entrance, add) in [(&before, false), (&after, true)] {
            let Some(entrance) = entrance else { continue };
            let all = self.entrances.entry(entrance.gateway.clone()).or_default();
            if add {
                all.insert(id.clone(), entrance.clone());
            } else {
                all.remove(id);
            }
            let gateway = entrance.gateway.clone();
            if all.is_empty() {
                self.entrances.remove(&gateway);
            }
            self.touch(Kind::Gateway, &gateway);
            self.publish_entries(&gateway);
        }
    }

    /// Puts the ports that lead to a Gateway into the table.
    fn publish_entries(&mut self, id: &Id) {
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
                    let entry = Entry { gateway: id.clone(), port: *port, zone: state.zone, listeners };
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

    fn owner(&self, kind: Kind, id: &Id) -> Arc<Owner> {
        let key = (kind, id.clone());
        self.table
            .owners
            .get(&key)
            .unwrap_or_else(|| Arc::new(Owner::new(kind, id.clone(), self.share(&id.namespace))))
    }

    /// What everything in a namespace takes of together.
    fn share(&self, namespace: &str) -> Arc<Tenant> {
        self.table.tenants.get(namespace).unwrap_or_else(|| {
            let tenant = Arc::new(Tenant::new(namespace, self.limits(namespace)));
            self.table.tenants.set(namespace.to_owned(), Some(tenant.clone()));
            tenant
        })
    }

    /// What a namespace may take: the operator's as much as there is, and one that
    /// isn't known yet no more than a workspace's.
    fn limits(&self, namespace: &str) -> tenant::Limits {
        match self.tenant(namespace) {
            (0, _) => tenant::Limits::default(),
            _ => self.scope.workspace_limits,
        }
    }

    /// What else has to know of an object that is placed: added, or taken away.
    fn relate(&mut self, key: &Key, placed: &Placed, add: bool) {
        for (service, _) in &placed.backends {
            if add {
                self.service_routes.entry(service.clone()).or_default().insert(key.clone(), ());
            } else if let Some(routes) = self.service_routes.get_mut(service) {
                routes.remove(key);
                if routes.is_empty() {
                    self.service_routes.remove(service);
                }
            }
            for policy in self.service_policies.get(service).cloned().unwrap_or_default() {
                self.touch(Kind::BackendTlsPolicy, &policy);
            }
        }
        for namespace in &placed.foreign {
            link(&mut self.strangers, namespace.clone(), key, add);
        }
        if let Some(users) = &placed.users {
            link(&mut self.users, users.clone(), key, add);
            self.users_generation += 1;
        }
        let mut counted = BTreeSet::new();
        for parent in &placed.parents {
            for listener in &parent.listeners {
                if !counted.insert((&parent.gateway, listener)) {
                    continue;
                }
                if let Some(state) = self.gateways.get_mut(&parent.gateway) {
                    let count = state.attached.entry(listener.clone()).or_default();
                    *count = if add { *count + 1 } else { count.saturating_sub(1) };
                }
            }
        }
        for parent in &placed.parents {
            self.touch(Kind::Gateway, &parent.gateway);
        }
    }

    /// Replaces what an object has in the table by what it wants now. Hosts it
    /// keeps are swapped once, never emptied in between.
    fn place(&mut self, key: &Key, compiled: Option<(i64, Compiled)>) {
        let (kind, id) = key;
        self.touch(*kind, id);
        let place = (id.clone(), *kind);
        let mut touched = BTreeSet::new();
        let old = self.placed.remove(&place);
        let users = old.as_ref().and_then(|old| old.users.clone());
        if let Some(old) = &old {
            for host in old.hosts.keys() {
                if let (Some(state), Some(claim)) = (self.hosts.get_mut(host), &old.claim) {
                    state.routes.remove(claim);
                    state.certificates.remove(claim);
                }
                touched.insert(host.clone());
            }
            for (host, secret) in &old.secrets {
                self.unclaim(host, secret);
            }
            self.relate(key, old, false);
        }
        if let Some((created, compiled)) = compiled {
            let claim = (created, id.clone(), *kind);
            let mut placed = Placed {
                claim: Some(claim.clone()),
                backends: compiled.backends,
                foreign: compiled.foreign,
                problems: compiled.problems,
                notes: compiled.notes,
                unresolved: compiled.unresolved,
                broken_rules: compiled.broken_rules,
                rules: compiled.rules,
                parents: compiled.parents,
                users: compiled.users,
                ..Placed::default()
            };
            if let Some(route) = compiled.routes.first()
                && self.table.owners.get(key).is_none()
            {
                self.table.owners.set(key.clone(), Some(route.2.owner.clone()));
            }
            for (zone, host, route) in compiled.routes {
                let host = self.host(zone, &host);
                let state = self.hosts.entry(host.clone()).or_default();
                state.routes.or_insert_with(claim.clone(), Vec::new).push(Arc::new(route));
                placed.hosts.insert(host, ());
            }
            for (host, secret) in compiled.certificates {
                let host = self.host(SHARED, &host);
                let state = self.hosts.entry(host.clone()).or_default();
                // Of several that one object names for a host the first counts.
                if state.certificates.contains_key(&claim) {
                    continue;
                }
                let wanted = self.secrets.entry(secret);
                let secret = wanted.key().clone();
                *wanted.or_default().hosts.or_insert_with(host.1.clone(), || 0) += 1;
                state.certificates.insert(claim.clone(), secret.clone());
                placed.secrets.push((host.1.clone(), secret));
                placed.hosts.insert(host, ());
            }
            touched.extend(placed.hosts.keys().cloned());
            for (service, _) in &mut placed.backends {
                *service = self.services.known(service.clone());
            }
            placed.backends.shrink_to_fit();
            placed.secrets.shrink_to_fit();
            self.relate(key, &placed, true);
            self.placed.insert(place.clone(), Box::new(placed));
        }
        for host in touched {
            self.publish(&host);
        }
        if !self.placed.contains_key(&place) && self.table.owners.get(key).is_some() {
            self.table.owners.set(key.clone(), None);
        }
        if let Some(users) = users.filter(|users| !self.wants_users(users)) {
            self.objects.remove(&(Kind::Users, users));
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
        let unused = |state: &SecretState| {
            state.hosts.is_empty() && state.gateways.is_empty() && state.certificate.is_none()
        };
        if self.secrets.get(secret).is_some_and(unused) {
            self.secrets.remove(secret);
        }
    }

    /// The one shared copy of a host's name.
    fn host(&self, zone: Zone, host: &str) -> HostKey {
        let key = (zone, host);
        let known = self.hosts.get_key_value(&key as &dyn crate::table::HostName);
        known.map_or_else(|| (zone, Arc::from(host)), |(host, _)| host.clone())
    }

    fn place_secret(&mut self, id: &Id) {
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
    fn publish(&mut self, host: &HostKey) {
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
            let news = if lost { placed.lost.insert(host.clone()) } else { placed.lost.remove(host) };
            if news {
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
    fn publish_certificate(&self, host: &HostKey) {
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

fn link<K: Eq + std::hash::Hash, V: Ord + Clone>(
    links: &mut HashMap<K, BTreeSet<V>>,
    from: K,
    to: &V,
    add: bool,
) {
    if add {
        links.entry(from).or_default().insert(to.clone());
    } else if let Some(all) = links.get_mut(&from) {
        all.remove(to);
        if all.is_empty() {
            links.remove(&from);
        }
    }
}
