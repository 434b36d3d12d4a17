//! Applies one object's change to the [`Table`] as that object's work.
//!
//! No client, no clock, no socket: what is watched comes in through
//! [`Index::apply`] and [`Index::delete`], what is served comes out in the
//! table. An object that makes no sense costs itself its routes, and a
//! [`Problem`] says why.

mod attach;
pub mod certificates;
mod gateway;
mod host;
mod httproute;
mod ingress;
mod listeners;
mod namespace;
mod objects;
mod place;
mod policy;
mod service;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::few::Few;
use crate::object::{Entrance, Gateway, Id, Kind, Object};
use crate::route::{SHARED, Zone};
use crate::table::{HostKey, Table};
use crate::tenant;
use attach::Seen;
use gateway::GatewayState;
use host::{HostState, SecretState};
pub use listeners::{Listener, Reason};
use objects::Objects;
use place::{Compiled, Placed};
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
    /// The zone of the gateway's node, where that is known.
    pub node_zone: Option<String>,
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
            node_zone: None,
        }
    }
}

/// Orders the objects that want one host: the oldest first.
type Claim = (i64, Id, Kind);
type Key = (Kind, Id);

pub struct Index {
    scope: Scope,
    table: Arc<Table>,
    objects: Objects,
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
    /// And Gateways that believe their clients by it.
    authority_gateways: HashMap<Id, BTreeSet<Id>>,
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
        let services = Services::new(scope.node_zone.clone());
        Self {
            scope,
            table,
            objects: Objects::default(),
            placed: BTreeMap::new(),
            hosts: HashMap::new(),
            secrets: HashMap::new(),
            services,
            gateways: HashMap::new(),
            last_zone: SHARED,
            entrances: HashMap::new(),
            ports: HashMap::new(),
            gateway_routes: HashMap::new(),
            class_gateways: HashMap::new(),
            service_routes: HashMap::new(),
            service_policies: HashMap::new(),
            authority_policies: HashMap::new(),
            authority_gateways: HashMap::new(),
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
        self.objects.iter().cloned().collect()
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
            .iter()
            .filter(|object| object.kind() == kind && !listed.contains(object.id()))
            .map(|object| object.id().clone())
            .collect();
        for id in gone {
            self.delete(kind, &id);
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "a copy of it is kept")]
    pub fn apply(&mut self, object: Object) {
        let key = (object.kind(), object.id().clone());
        // One that is on its way when nobody wants it any more.
        if key.0 == Kind::Users && !self.wants_users(&key.1) {
            return;
        }
        let old = self.objects.get(&key).cloned();
        if old.as_ref().is_some_and(|old| **old == object) {
            return;
        }
        // What was parsed has room for more; a copy has not.
        let object = Arc::new(object.clone());
        self.generation += 1;
        self.objects.insert(object.clone());
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
                link(&mut self.grants, id.namespace.to_string(), id, new.is_some());
                for key in self.strangers.get(&*id.namespace).cloned().unwrap_or_default() {
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
