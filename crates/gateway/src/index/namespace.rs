//! Namespaces: whose they are, and what everything in one shares.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Index, Key};
use crate::object::{Id, Kind, Object};
use crate::route::Owner;
use crate::tenant::{self, Tenant};

impl Index {
    pub(super) fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        match self.objects.get(&(Kind::Namespace, Id::new("", namespace)))?.as_ref() {
            Object::Namespace(namespace) => Some(namespace.labels.clone()),
            _ => None,
        }
    }

    /// Who answers for what is in a namespace: its workspace, or the operator.
    /// A namespace that isn't known yet answers for itself alone.
    pub(super) fn tenant<'a>(&'a self, namespace: &'a str) -> (u8, &'a str) {
        match self.objects.get(&(Kind::Namespace, Id::new("", namespace))).map(Arc::as_ref) {
            Some(Object::Namespace(object)) => match object.labels.get(api::names::WORKSPACE_LABEL) {
                Some(workspace) => (1, workspace),
                None => (0, ""),
            },
            _ => (2, namespace),
        }
    }

    pub(super) fn place_namespace(&mut self, name: &str, old: Option<&Object>, new: Option<&Object>) {
        if new.is_none() {
            self.table.tenants.set(name.to_owned(), None);
        } else if let Some(tenant) = self.table.tenants.get(name) {
            tenant.set(self.limits(name));
        }
        if let (Some(Object::Namespace(old)), Some(Object::Namespace(new))) = (old, new)
            && old.labels == new.labels
        {
            return;
        }
        let first = (Id::new(name, ""), Kind::Ingress);
        let inside: Vec<Key> = self
            .placed
            .range(first..)
            .take_while(|((id, _), _)| *id.namespace == *name)
            .map(|((id, kind), _)| (*kind, id.clone()))
            .collect();
        for key in inside {
            self.place_again(&key);
        }
    }

    pub(super) fn owner(&self, kind: Kind, id: &Id) -> Arc<Owner> {
        let key = (kind, id.clone());
        self.table
            .owners
            .get(&key)
            .unwrap_or_else(|| Arc::new(Owner::new(kind, id.clone(), self.share(&id.namespace))))
    }

    /// What everything in a namespace takes of together.
    pub(super) fn share(&self, namespace: &str) -> Arc<Tenant> {
        self.table.tenants.get(namespace).unwrap_or_else(|| {
            let tenant = Arc::new(Tenant::new(namespace, self.limits(namespace)));
            self.table.tenants.set(namespace.to_owned(), Some(tenant.clone()));
            tenant
        })
    }

    /// What a namespace may take: the operator's as much as there is, a workspace's what
    /// its plan says, and one that isn't known yet no more than a plan's that says nothing.
    pub(super) fn limits(&self, namespace: &str) -> tenant::Limits {
        match self.objects.get(&(Kind::Namespace, Id::new("", namespace))).map(Arc::as_ref) {
            Some(Object::Namespace(object)) if object.labels.contains_key(api::names::WORKSPACE_LABEL) => {
                self.scope.workspace_limits.with(object.limits.as_deref().copied().unwrap_or_default())
            }
            Some(Object::Namespace(_)) => tenant::Limits::default(),
            _ => self.scope.workspace_limits,
        }
    }
}
