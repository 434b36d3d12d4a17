//! What an object has in the table, and its replacement by what it wants now.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use super::attach::Parent;
use super::{Claim, Index, Key, Problem, Reason, link};
use crate::few::Few;
use crate::object::{Id, Kind, PortRef};
use crate::rare::{Rare, Usual};
use crate::route::{Route, SHARED, Zone};
use crate::table::HostKey;

/// What an object has put where.
#[derive(Default)]
pub(super) struct Placed {
    pub claim: Option<Claim>,
    pub hosts: Few<HostKey, ()>,
    pub backends: Vec<(Id, PortRef)>,
    /// What an Ingress seldom has.
    pub more: Rare<More>,
}

#[derive(Default)]
pub(super) struct More {
    /// Other namespaces that it refers to.
    pub foreign: BTreeSet<String>,
    pub problems: Vec<Problem>,
    pub notes: Vec<Problem>,
    pub unresolved: Vec<Reason>,
    /// Rules that can't be served, of how many.
    pub broken_rules: usize,
    pub rules: usize,
    pub parents: Vec<Parent>,
    /// Hosts that belong to another workspace.
    pub lost: BTreeSet<HostKey>,
    /// The Secrets with the users who may log in, and with authorities.
    pub users: Vec<Id>,
}

impl Usual for More {
    fn usual() -> &'static Self {
        static USUAL: More = More {
            foreign: BTreeSet::new(),
            problems: Vec::new(),
            notes: Vec::new(),
            unresolved: Vec::new(),
            broken_rules: 0,
            rules: 0,
            parents: Vec::new(),
            lost: BTreeSet::new(),
            users: Vec::new(),
        };
        &USUAL
    }

    fn is_usual(&self) -> bool {
        let Self { foreign, problems, notes, unresolved, broken_rules, rules, parents, lost, users } = self;
        foreign.is_empty()
            && problems.is_empty()
            && notes.is_empty()
            && unresolved.is_empty()
            && (*broken_rules, *rules) == (0, 0)
            && parents.is_empty()
            && lost.is_empty()
            && users.is_empty()
    }
}

impl Deref for Placed {
    type Target = More;

    fn deref(&self) -> &More {
        &self.more
    }
}

/// An object's routes, before they are placed.
#[derive(Default)]
pub(super) struct Compiled {
    pub routes: Vec<(Zone, String, Route)>,
    /// Hosts and the Secrets they want.
    pub certificates: Vec<(String, Id)>,
    pub backends: Vec<(Id, PortRef)>,
    pub foreign: BTreeSet<String>,
    pub problems: Vec<Problem>,
    /// What is served otherwise than it is written.
    pub notes: Vec<Problem>,
    pub unresolved: Vec<Reason>,
    pub broken_rules: usize,
    pub rules: usize,
    pub parents: Vec<Parent>,
    pub users: Vec<Id>,
}

impl Index {
    /// What else has to know of an object that is placed: added, or taken away.
    pub(super) fn relate(&mut self, key: &Key, placed: &Placed, add: bool) {
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
        for users in &placed.users {
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
    pub(super) fn place(&mut self, key: &Key, compiled: Option<(i64, Compiled)>) {
        let (kind, id) = key;
        self.touch(*kind, id);
        let place = (id.clone(), *kind);
        let mut touched = BTreeSet::new();
        let old = self.placed.remove(&place);
        let users = old.as_ref().map(|old| old.users.clone()).unwrap_or_default();
        if let Some(old) = &old {
            for host in old.hosts.keys() {
                touched.insert(host.clone());
                let (Some(state), Some(claim)) = (self.hosts.get_mut(host), &old.claim) else { continue };
                state.routes.remove(claim);
                if let Some(secret) = state.certificates.remove(claim) {
                    self.unclaim(&host.1, &secret);
                }
            }
            self.relate(key, old, false);
        }
        if let Some((created, compiled)) = compiled {
            let claim = (created, id.clone(), *kind);
            let mut placed = Placed {
                claim: Some(claim.clone()),
                backends: compiled.backends,
                more: Rare::from(More {
                    foreign: compiled.foreign,
                    problems: compiled.problems,
                    notes: compiled.notes,
                    unresolved: compiled.unresolved,
                    broken_rules: compiled.broken_rules,
                    rules: compiled.rules,
                    parents: compiled.parents,
                    lost: BTreeSet::new(),
                    users: compiled.users,
                }),
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
                state.routes.or_insert_with(claim.clone(), || Vec::with_capacity(1)).push(Arc::new(route));
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
                state.certificates.insert(claim.clone(), secret);
                placed.hosts.insert(host, ());
            }
            touched.extend(placed.hosts.keys().cloned());
            for (service, _) in &mut placed.backends {
                *service = self.services.known(service.clone());
            }
            placed.backends.shrink_to_fit();
            self.relate(key, &placed, true);
            self.placed.insert(place.clone(), Box::new(placed));
        }
        for host in touched {
            self.publish(&host);
        }
        if !self.placed.contains_key(&place) && self.table.owners.get(key).is_some() {
            self.table.owners.set(key.clone(), None);
        }
        for users in users {
            if !self.wants_users(&users) {
                self.objects.remove(&(Kind::Users, users));
            }
        }
        // After the new ones are in: a backend that stays keeps its turn and its list.
        for (service, port) in old.into_iter().flat_map(|old| old.backends) {
            self.services.release(&service, &port);
        }
    }
}
