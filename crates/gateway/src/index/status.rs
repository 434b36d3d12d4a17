//! What the Gateway API's objects are told about themselves. The gateway
//! computes it and writes nothing: the controller does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{GROUP, GatewayState, Index, Key, Listener, Placed, Reason};
use crate::gateway_api::FrontendValidation;
use crate::object::{Gateway, HttpRoute, Id, Kind, Object};

/// The features of the Gateway API, besides its core, that its conformance
/// suite has seen here. In the order in which a GatewayClass wants them.
pub const SUPPORTED_FEATURES: &[&str] = &[
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
];

/// At most so many ancestors fit into a policy's status.
const MOST_ANCESTORS: usize = 16;

/// The status an object should have, and no longer has.
pub type Patch = Value;

type Condition<'a> = (&'a str, Result<(&'a str, &'a str), &'a Reason>);

impl Index {
    /// Whose status may have changed since the last call.
    pub fn take_touched(&mut self) -> Vec<Key> {
        self.touched.as_mut().map(std::mem::take).unwrap_or_default().into_iter().collect()
    }

    /// The status that an object should have in place of `current`; None: it
    /// has it, or it is not for us to say. `now` is the time in RFC 3339.
    pub fn status(&self, kind: Kind, id: &Id, current: &Value, now: &str) -> Option<Patch> {
        let object = self.objects.get(&(kind, id.clone()))?;
        let wanted = match object.as_ref() {
            Object::GatewayClass(class) if class.controller == self.scope.controller => {
                let unknown = Reason::new("InvalidParameters", "no parametersRef is known here");
                let accepted = if class.parameters { Err(&unknown) } else { Ok(("Accepted", "")) };
                let features: Vec<_> =
                    SUPPORTED_FEATURES.iter().map(|name| json!({ "name": name })).collect();
                json!({
                    "conditions": conditions(&[("Accepted", accepted)], class.generation, &current["conditions"], now),
                    "supportedFeatures": features,
                })
            }
            Object::Gateway(gateway) => self.gateway_status(gateway, current, now)?,
            Object::HttpRoute(route) | Object::GrpcRoute(route) | Object::TlsRoute(route) => {
                let own = self.parents(kind, route, &current["parents"], now);
                let parents = merged(&current["parents"], own, &self.scope.controller);
                if parents.is_empty() && current["parents"].as_array().is_none_or(Vec::is_empty) {
                    return None;
                }
                json!({ "parents": parents })
            }
            Object::BackendTlsPolicy(_) => {
                let own = self.ancestors(id, &current["ancestors"], now);
                let mut ancestors = merged(&current["ancestors"], own, &self.scope.controller);
                ancestors.truncate(MOST_ANCESTORS);
                if ancestors.is_empty() && current["ancestors"].as_array().is_none_or(Vec::is_empty) {
                    return None;
                }
                json!({ "ancestors": ancestors })
            }
            _ => return None,
        };
        let fields = wanted.as_object()?;
        let same = fields.iter().all(|(name, value)| current.get(name) == Some(value));
        (!same).then_some(wanted)
    }

    /// The hosts that an object asks for and doesn't get, because another
    /// workspace has had them longer.
    pub fn lost_hosts(&self, kind: Kind, id: &Id) -> Vec<&str> {
        let placed = self.placed.get(&(id.clone(), kind));
        placed.into_iter().flat_map(|placed| &placed.lost).map(|(_, host)| &**host).collect()
    }

    fn gateway_status(&self, gateway: &Gateway, current: &Value, now: &str) -> Option<Value> {
        let state = self.gateways.get(&gateway.id)?;
        let entrances = || self.entrances.get(&gateway.id).into_iter().flat_map(|all| all.values());
        let addresses: BTreeSet<_> = entrances().flat_map(|entrance| &entrance.addresses).collect();
        let open =
            |port: u16| entrances().any(|entrance| entrance.targets.iter().any(|(own, _)| *own == port));
        let (accepted, word) = self.accepts(gateway, state);
        let wanted: Vec<_> =
            gateway.spec.addresses.iter().filter_map(|address| address.value.as_deref()).collect();
        let missing = wanted
            .iter()
            .find(|wanted| !addresses.iter().any(|address| address.to_string() == **wanted))
            .map(|wanted| Reason::new("AddressNotUsable", format!("{wanted} can't be had")));
        let none = Reason::new("AddressNotAssigned", "it waits for an address");
        let programmed = match (&accepted, &missing) {
            (Err(reason), _) => Err(Reason::new("Invalid", reason.message.clone())),
            (Ok(()), Some(missing)) => Err(missing.clone()),
            (Ok(()), None) if addresses.is_empty() => Err(none),
            (Ok(()), None) => Ok(()),
        };
        let mut all = vec![
            ("Accepted", accepted.as_ref().map(|()| (word, ""))),
            ("Programmed", programmed.as_ref().map(|()| ("Programmed", ""))),
        ];
        if let Some(identity) = &state.identity {
            all.push(("ResolvedRefs", identity.as_ref().map(|_| ("ResolvedRefs", ""))));
        }
        let insecure =
            |validation: &FrontendValidation| validation.mode.as_deref() == Some("AllowInsecureFallback");
        if gateway.spec.validations().any(insecure) {
            let message = "clients are let in whatever certificate they show, or none";
            all.push(("InsecureFrontendValidationMode", Ok(("ConfigurationChanged", message))));
        }
        let listeners: Vec<_> = state
            .listeners
            .iter()
            .map(|listener| {
                let now_there = current["listeners"].as_array().into_iter().flatten();
                let before = now_there.clone().find(|other| other["name"] == listener.name.as_str());
                let ready = programmed.is_ok() && open(listener.port);
                let before = before.map_or(&Value::Null, |before| &before["conditions"]);
                listener_status(gateway, state, listener, ready, before, now)
            })
            .collect();
        let points: Vec<_> =
            addresses.iter().map(|address| json!({ "type": "IPAddress", "value": address })).collect();
        Some(json!({
            "addresses": points,
            "conditions": conditions(&all, gateway.generation, &current["conditions"], now),
            "listeners": listeners,
        }))
    }

    /// Whether a Gateway is taken at all, and with which word.
    fn accepts(&self, gateway: &Gateway, state: &GatewayState) -> (Result<(), Reason>, &'static str) {
        if gateway.spec.infrastructure.as_ref().is_some_and(|wanted| wanted.parameters_ref.is_some()) {
            let message = "infrastructure.parametersRef: none is known here";
            return (Err(Reason::new("InvalidParameters", message)), "");
        }
        let foreign = |kind: &str| kind != "IPAddress";
        if gateway.spec.addresses.iter().any(|address| address.kind.as_deref().is_some_and(foreign)) {
            let message = "addresses: only those of the type IPAddress can be had";
            return (Err(Reason::new("UnsupportedAddress", message)), "");
        }
        let valid = state.listeners.iter().filter(|listener| listener.accepted.is_ok()).count();
        if valid == 0 {
            return (Err(Reason::new("ListenersNotValid", "no listener can be served")), "");
        }
        (Ok(()), if valid == state.listeners.len() { "Accepted" } else { "ListenersNotValid" })
    }

    fn parents(&self, kind: Kind, route: &HttpRoute, current: &Value, now: &str) -> Vec<Value> {
        let Some(placed) = self.placed.get(&(route.id.clone(), kind)) else { return Vec::new() };
        let resolved = self.resolved(placed);
        let lost: Vec<_> = placed.lost.iter().map(|(_, host)| &**host).collect();
        // Whose they are is not for this one to know.
        let lost = (!lost.is_empty() && placed.lost.len() == placed.hosts.len()).then(|| {
            Reason::new("HostnameConflict", format!("{}: claimed by another workspace", lost.join(", ")))
        });
        let problems: Vec<_> = placed.problems.iter().map(|problem| problem.0.as_str()).collect();
        let problems = problems.join("; ");
        let broken = (placed.rules > 0 && placed.broken_rules == placed.rules)
            .then(|| Reason::new("UnsupportedValue", problems.clone()));
        placed
            .parents
            .iter()
            .map(|parent| {
                let accepted = match (&parent.accepted, &broken, &lost) {
                    (Err(reason), ..) | (_, Some(reason), _) | (_, _, Some(reason)) => Err(reason),
                    _ => Ok(("Accepted", "")),
                };
                let mut all = vec![
                    ("Accepted", accepted),
                    ("ResolvedRefs", resolved.as_ref().map(|()| ("ResolvedRefs", ""))),
                ];
                if placed.broken_rules > 0 && broken.is_none() {
                    all.push(("PartiallyInvalid", Ok(("UnsupportedValue", &problems))));
                }
                let reference = serde_json::to_value(&parent.reference).unwrap_or_default();
                let before = own(current, &self.scope.controller)
                    .find(|other| same_reference(&other["parentRef"], &reference));
                let before = before.map_or(&Value::Null, |before| &before["conditions"]);
                json!({
                    "parentRef": reference,
                    "controllerName": self.scope.controller,
                    "conditions": conditions(&all, route.generation, before, now),
                })
            })
            .collect()
    }

    /// Whether everything that routes refer to is there.
    fn resolved(&self, placed: &Placed) -> Result<(), Reason> {
        if let Some(reason) = placed.unresolved.first() {
            return Err(reason.clone());
        }
        match placed.backends.iter().find(|(service, port)| !self.services.has(service, port)) {
            Some((service, port)) => {
                let backend = crate::backend::Backend::new(service.clone(), port.clone());
                Err(Reason::new("BackendNotFound", format!("there is no Service {backend}")))
            }
            None => Ok(()),
        }
    }

    /// A policy's say for each Gateway through which its Services are reached.
    fn ancestors(&self, id: &Id, current: &Value, now: &str) -> Vec<Value> {
        let Some(policy) = self.policy(id) else { return Vec::new() };
        let mut gateways = BTreeSet::new();
        let mut conflicted = false;
        for (service, section) in super::policy::targets(policy) {
            for key in self.service_routes.get(&service).into_iter().flat_map(|routes| routes.keys()) {
                let placed = self.placed.get(&(key.1.clone(), key.0));
                let accepted =
                    placed.into_iter().flat_map(|placed| &placed.parents).filter(|p| p.accepted.is_ok());
                gateways.extend(accepted.map(|parent| parent.gateway.clone()));
            }
            let others = self.service_policies.get(&service).into_iter().flatten();
            conflicted |= others.filter_map(|other| self.policy(other)).any(|other| {
                (other.created, &other.id) < (policy.created, &policy.id)
                    && super::policy::targets(other)
                        .any(|(target, other)| target == service && other == section)
            });
        }
        let resolved = self.backend_tls(policy).map(|_| ());
        let conflict = Reason::new("Conflicted", "an older policy has the same target");
        let invalid = Reason::new("NoValidCACertificate", "no caCertificateRef can be used");
        let accepted = match (&resolved, conflicted) {
            (_, true) => Err(&conflict),
            (Err(_), false) => Err(&invalid),
            (Ok(()), false) => Ok(("Accepted", "")),
        };
        let all =
            [("Accepted", accepted), ("ResolvedRefs", resolved.as_ref().map(|()| ("ResolvedRefs", "")))];
        gateways
            .iter()
            .map(|gateway| {
                let reference = json!({
                    "group": GROUP,
                    "kind": "Gateway",
                    "namespace": &*gateway.namespace,
                    "name": gateway.name,
                });
                let before = own(current, &self.scope.controller)
                    .find(|other| same_reference(&other["ancestorRef"], &reference));
                let before = before.map_or(&Value::Null, |before| &before["conditions"]);
                json!({
                    "ancestorRef": reference,
                    "controllerName": self.scope.controller,
                    "conditions": conditions(&all, policy.generation, before, now),
                })
            })
            .collect()
    }
}

fn listener_status(
    gateway: &Gateway,
    state: &GatewayState,
    listener: &Listener,
    ready: bool,
    current: &Value,
    now: &str,
) -> Value {
    let pending = Reason::new("Pending", "the Gateway is not programmed yet");
    let invalid = Reason::new("Invalid", "it can't be served as it is");
    let programmed = match (listener.served(), ready) {
        (None, _) => Err(&invalid),
        (Some(_), false) => Err(&pending),
        (Some(_), true) => Ok(("Programmed", "")),
    };
    let mut all: Vec<Condition<'_>> = vec![
        ("Accepted", listener.accepted.as_ref().map(|()| ("Accepted", ""))),
        ("ResolvedRefs", listener.resolved.as_ref().map(|()| ("ResolvedRefs", ""))),
        ("Programmed", programmed),
    ];
    let conflict = listener.conflicted.as_ref();
    if let Some(conflict) = conflict {
        all.push(("Conflicted", Ok((conflict.word, &conflict.message))));
    }
    let none = Reason::new("NoConflicts", "");
    if conflict.is_none() {
        all.push(("Conflicted", Err(&none)));
    }
    let kinds: Vec<_> =
        listener.kinds.iter().map(|kind| json!({ "group": GROUP, "kind": kind.as_str() })).collect();
    json!({
        "name": listener.name,
        "supportedKinds": kinds,
        "attachedRoutes": state.attached.get(&listener.name).copied().unwrap_or_default(),
        "conditions": conditions(&all, gateway.generation, current, now),
    })
}

/// Conditions in the form of the API. One whose status stays keeps its time.
fn conditions(wanted: &[Condition<'_>], generation: i64, current: &Value, now: &str) -> Vec<Value> {
    wanted
        .iter()
        .map(|(kind, how)| {
            let (status, reason, message) = match how {
                Ok((reason, message)) => ("True", *reason, *message),
                Err(reason) => ("False", reason.word, reason.message.as_str()),
            };
            let before = current.as_array().into_iter().flatten().find(|other| other["type"] == *kind);
            let since = before
                .filter(|before| before["status"] == status)
                .and_then(|before| before["lastTransitionTime"].as_str())
                .unwrap_or(now);
            json!({
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "observedGeneration": generation,
                "lastTransitionTime": since,
            })
        })
        .collect()
}

/// The entries that are ours.
fn own<'a>(current: &'a Value, controller: &'a str) -> impl Iterator<Item = &'a Value> {
    current.as_array().into_iter().flatten().filter(move |entry| entry["controllerName"] == controller)
}

/// Other controllers' entries as they are, and ours anew.
fn merged(current: &Value, ours: Vec<Value>, controller: &str) -> Vec<Value> {
    let others =
        current.as_array().into_iter().flatten().filter(|entry| entry["controllerName"] != controller);
    others.cloned().chain(ours).collect()
}

/// Whether two references mean one thing: the API server fills some fields in.
fn same_reference(a: &Value, b: &Value) -> bool {
    ["group", "kind", "namespace", "name", "sectionName", "port"].iter().all(|field| a[field] == b[field])
}
