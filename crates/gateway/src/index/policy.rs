//! BackendTLSPolicies: which of them holds for a Service.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Index, Reason, link};
use crate::object::{BackendTlsPolicy, Id, Kind, Object};
use crate::upstream_tls::BackendTls;

/// The Services of its namespace that a policy names, with the ports' names.
pub(super) fn targets(policy: &BackendTlsPolicy) -> impl Iterator<Item = (Id, Option<&String>)> {
    let services = policy.spec.target_refs.iter().filter(|target| {
        target.group.as_deref().is_none_or(str::is_empty)
            && target.kind.as_deref().is_none_or(|kind| kind == "Service")
    });
    services.map(|target| (Id::new(&policy.id.namespace, &target.name), target.section_name.as_ref()))
}

fn authorities(policy: &BackendTlsPolicy) -> impl Iterator<Item = Id> {
    let references = policy.spec.validation.ca_certificate_refs.iter();
    references.map(|reference| Id::new(&policy.id.namespace, &reference.name))
}

impl Index {
    pub(super) fn policy(&self, id: &Id) -> Option<&BackendTlsPolicy> {
        match self.objects.get(&(Kind::BackendTlsPolicy, id.clone()))?.as_ref() {
            Object::BackendTlsPolicy(policy) => Some(policy),
            _ => None,
        }
    }

    pub(super) fn place_policy(&mut self, id: &Id, old: Option<&Object>, new: Option<&Object>) {
        let mut services = BTreeSet::new();
        for (object, add) in [(old, false), (new, true)] {
            let Some(Object::BackendTlsPolicy(policy)) = object else { continue };
            for (service, _) in targets(policy) {
                link(&mut self.service_policies, service.clone(), id, add);
                services.insert(service);
            }
            for authority in authorities(policy) {
                link(&mut self.authority_policies, authority, id, add);
            }
        }
        for service in services {
            self.secure(&service);
        }
    }

    /// A ConfigMap changed that policies and Gateways may name.
    pub(super) fn place_authority(&mut self, id: &Id) {
        for gateway in self.authority_gateways.get(id).cloned().unwrap_or_default() {
            self.place_gateway(&gateway);
        }
        for policy in self.authority_policies.get(id).cloned().unwrap_or_default() {
            let services: Vec<Id> = self
                .policy(&policy)
                .map(|policy| targets(policy).map(|(service, _)| service).collect())
                .unwrap_or_default();
            for service in services {
                self.secure(&service);
            }
        }
    }

    /// Applies to a Service the policies that name it, the oldest first.
    fn secure(&mut self, service: &Id) {
        let mut policies: Vec<&BackendTlsPolicy> = self
            .service_policies
            .get(service)
            .into_iter()
            .flatten()
            .filter_map(|policy| self.policy(policy))
            .collect();
        policies.sort_by_key(|policy| (policy.created, &policy.id));
        let mut tls = Vec::new();
        for policy in &policies {
            let how = self.backend_tls(policy).map_err(|reason| reason.message);
            let sections = targets(policy).filter(|(target, _)| target == service);
            tls.extend(sections.map(|(_, section)| (section.cloned(), how.clone())));
        }
        let names: Vec<Id> = policies.iter().map(|policy| policy.id.clone()).collect();
        self.services.set_tls(service, tls);
        for policy in names {
            self.touch(Kind::BackendTlsPolicy, &policy);
        }
    }

    /// What a policy asks for; a reason is of its reference to an authority.
    pub(super) fn backend_tls(&self, policy: &BackendTlsPolicy) -> Result<Arc<BackendTls>, Reason> {
        let validation = &policy.spec.validation;
        if validation.well_known_ca_certificates.is_some() {
            let message = "wellKnownCACertificates is not served: name a ConfigMap with the authority";
            return Err(Reason::new("InvalidCACertificateRef", message));
        }
        let mut texts = Vec::new();
        for reference in &validation.ca_certificate_refs {
            if reference.group.as_deref().is_some_and(|group| !group.is_empty())
                || reference.kind.as_deref() != Some("ConfigMap")
            {
                let message = format!("caCertificateRef {}: only a ConfigMap can be one", reference.name);
                return Err(Reason::new("InvalidKind", message));
            }
            let id = Id::new(&policy.id.namespace, &reference.name);
            match self.objects.get(&(Kind::ConfigMap, id)).map(Arc::as_ref) {
                Some(Object::ConfigMap(map)) if map.authority.is_some() => {
                    texts.extend(map.authority.as_deref());
                }
                _ => {
                    let message = format!("ConfigMap {} is missing or has no ca.crt", reference.name);
                    return Err(Reason::new("InvalidCACertificateRef", message));
                }
            }
        }
        let unreadable = || {
            Reason::new("InvalidCACertificateRef", "ca.crt holds no certificate, or the host name is none")
        };
        BackendTls::new(validation, &texts).map(Arc::new).ok_or_else(unreadable)
    }
}
