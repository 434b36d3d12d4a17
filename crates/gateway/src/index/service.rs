//! Services, their slices and the backends that routes use.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Index;
use crate::backend::{Backend, Facts};
use crate::few::Few;
use crate::object::{self, EndpointSlice, Id, Kind, Object, PortRef, ServicePort};
use crate::upstream_tls::BackendTls;

/// How the port of a name is spoken to, or every port; an error says why it
/// can't be.
pub(super) type Sectioned = (Option<String>, Result<Arc<BackendTls>, String>);

#[derive(Default)]
struct State {
    /// The same object that the index has; None: no such Service.
    service: Option<Arc<Object>>,
    /// The same objects that the index has.
    slices: Few<Id, Arc<Object>>,
    /// By section, which is a port's name; the first that fits counts.
    tls: Vec<Sectioned>,
    /// With the number of routes' references.
    backends: Few<PortRef, (Arc<Backend>, usize)>,
}

impl State {
    fn port(&self, port: &PortRef) -> Option<&ServicePort> {
        let ports = match self.service.as_deref() {
            Some(Object::Service(service)) => service.ports.as_slice(),
            _ => &[],
        };
        ports.iter().find(|candidate| match port {
            PortRef::Number(number) => candidate.number == *number,
            PortRef::Name(name) => candidate.name == *name,
        })
    }

    fn facts(&self, port: &PortRef) -> Facts {
        let Some(port) = self.port(port) else { return Facts::default() };
        let section =
            |wanted: Option<&str>| self.tls.iter().find(|(section, _)| section.as_deref() == wanted);
        // What names the port comes before what means all of them.
        let tls = section(Some(port.name.as_str())).or_else(|| section(None)).map(|(_, tls)| tls);
        Facts {
            exists: true,
            protocol: port.protocol,
            tls: tls.and_then(|tls| tls.as_ref().ok().cloned()),
            refused: tls.and_then(|tls| tls.as_ref().err().cloned()),
        }
    }

    /// Those that are ready, of a zone where all say for which zones they are and
    /// some are for this one; with none ready, those on their way out.
    fn endpoints(&self, port: &PortRef, zone: Option<&str>) -> Vec<SocketAddr> {
        let Some(wanted) = self.port(port) else { return Vec::new() };
        let slices = || {
            let slices = self.slices.values().filter_map(|object| match object.as_ref() {
                Object::EndpointSlice(slice) => Some(slice),
                _ => None,
            });
            slices.flat_map(|slice| {
                let ports = slice.ports.iter().filter(|(name, _)| *name == wanted.name);
                ports.map(move |(_, port)| (slice, *port))
            })
        };
        let all = |slice: &EndpointSlice, port| -> Vec<SocketAddr> {
            slice.addresses.iter().map(|address| SocketAddr::new(*address, port)).collect()
        };
        let mut endpoints: Vec<SocketAddr> = Vec::new();
        let hinted = slices().all(|(slice, _)| slice.zones.len() == slice.addresses.len());
        if let Some(zone) = zone.filter(|_| hinted) {
            for (slice, port) in slices() {
                let near = slice.addresses.iter().zip(&slice.zones);
                let near = near.filter(|(_, zones)| zones.iter().any(|other| other == zone));
                endpoints.extend(near.map(|(address, _)| SocketAddr::new(*address, port)));
            }
        }
        if endpoints.is_empty() {
            endpoints = slices().flat_map(|(slice, port)| all(slice, port)).collect();
        }
        if endpoints.is_empty() {
            for (slice, port) in slices() {
                endpoints.extend(slice.leaving.iter().map(|address| SocketAddr::new(*address, port)));
            }
        }
        endpoints.sort_unstable();
        endpoints.dedup();
        endpoints
    }

    fn refresh(&self, zone: Option<&str>) {
        for (port, (backend, _)) in &self.backends {
            backend.set_facts(self.facts(port));
            backend.set(self.endpoints(port, zone));
        }
    }

    fn unused(&self) -> bool {
        self.service.is_none() && self.slices.is_empty() && self.backends.is_empty() && self.tls.is_empty()
    }
}

#[derive(Default)]
pub(super) struct Services {
    all: HashMap<Id, State>,
    /// The zone of the gateway's node, where that is known.
    zone: Option<String>,
}

impl Services {
    pub fn new(zone: Option<String>) -> Self {
        Self { all: HashMap::new(), zone }
    }

    fn change(&mut self, service: &Id, change: impl FnOnce(&mut State)) {
        let state = self.all.entry(service.clone()).or_default();
        change(state);
        state.refresh(self.zone.as_deref());
        if state.unused() {
            self.all.remove(service);
        }
    }

    pub fn set_service(&mut self, id: &Id, service: Option<Arc<Object>>) {
        self.change(id, |state| state.service = service);
    }

    pub fn set_slice(&mut self, service: &Id, id: &Id, slice: Option<Arc<Object>>) {
        self.change(service, |state| {
            match slice {
                Some(slice) => state.slices.insert(id.clone(), slice),
                None => state.slices.remove(id),
            };
        });
    }

    pub fn set_tls(&mut self, service: &Id, tls: Vec<Sectioned>) {
        self.change(service, |state| state.tls = tls);
    }

    /// Whether there is a Service with such a port.
    pub fn has(&self, service: &Id, port: &PortRef) -> bool {
        self.all.get(service).is_some_and(|state| state.port(port).is_some())
    }

    /// The backend for a Service's port, which needn't be there yet. To be
    /// [released](Self::release) once for each call.
    pub fn backend(&mut self, service: &Id, port: &PortRef) -> Arc<Backend> {
        let entry = self.all.entry(service.clone());
        let service = entry.key().clone();
        let state = entry.or_default();
        if let Some((backend, uses)) = state.backends.get_mut(port) {
            *uses += 1;
            return backend.clone();
        }
        let backend = Arc::new(Backend::new(service, port.clone()));
        backend.set_facts(state.facts(port));
        backend.set(state.endpoints(port, self.zone.as_deref()));
        state.backends.insert(port.clone(), (backend.clone(), 1));
        backend
    }

    /// The one shared copy of a Service's name.
    pub fn known(&self, service: Id) -> Id {
        self.all.get_key_value(&service).map_or(service, |(known, _)| known.clone())
    }

    pub fn release(&mut self, service: &Id, port: &PortRef) {
        let Some(state) = self.all.get_mut(service) else { return };
        if let Some((_, uses)) = state.backends.get_mut(port) {
            *uses -= 1;
            if *uses == 0 {
                state.backends.remove(port);
            }
        }
        if state.unused() {
            self.all.remove(service);
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.all.len()
    }
}

impl Index {
    pub(super) fn place_service(&mut self, id: &Id, old: Option<&Object>, new: Option<&Object>) {
        fn service(object: Option<&Object>) -> Option<&object::Service> {
            match object {
                Some(Object::Service(service)) => Some(service),
                _ => None,
            }
        }
        let (old, new) = (service(old), service(new));
        self.services.set_service(id, self.objects.get(&(Kind::Service, id.clone())).cloned());
        let routes = self.service_routes.get(id).map(|routes| routes.keys().cloned().collect::<Vec<_>>());
        for key in routes.unwrap_or_default() {
            self.touch(key.0, &key.1);
        }
        let entrance = |service: &object::Service| service.entrance.as_deref().cloned();
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
}
