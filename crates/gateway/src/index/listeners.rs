//! A Gateway's listeners: what each serves, who may attach to it, and what is
//! wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::GROUP;
use crate::certificate::Certificate;
use crate::client_auth::{ClientAuth, Mode};
use crate::gateway_api::{self, FrontendValidation, ObjectRef, RouteKind, Selector};
use crate::object::{Gateway, Id, Kind};
use crate::route::FIRST_SLOT;
use crate::table::{self, Protocol};

/// A word of the Gateway API for what is wrong, and a sentence of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub word: &'static str,
    pub message: String,
}

impl Reason {
    pub fn new(word: &'static str, message: impl Into<String>) -> Self {
        Self { word, message: message.into() }
    }
}

/// Why a Secret can't be shown by a listener, or the certificate to show.
pub(super) type Shown = Result<Arc<Certificate>, Reason>;

#[derive(Debug, Clone)]
pub struct Listener {
    pub name: String,
    /// None: it is not served, and `accepted` says why.
    pub slot: Option<u8>,
    pub port: u16,
    pub hostname: String,
    pub protocol: Option<Protocol>,
    /// The kinds of routes it takes.
    pub kinds: Vec<Kind>,
    pub from: From,
    pub certificates: Vec<Arc<Certificate>>,
    /// What its clients are asked for.
    pub client: Option<Arc<ClientAuth>>,
    pub accepted: Result<(), Reason>,
    pub conflicted: Option<Reason>,
    pub resolved: Result<(), Reason>,
}

/// The namespaces whose routes may attach.
#[derive(Debug, Clone, PartialEq)]
pub enum From {
    Same,
    All,
    Chosen(Selector),
    /// What can't be decided is denied.
    Nobody,
}

impl Listener {
    /// Whether it is there to be attached to: one whose certificate is missing
    /// is, one that conflicts with another is not.
    pub fn takes_routes(&self) -> bool {
        self.slot.is_some()
    }

    pub fn lets_in(&self, gateway: &str, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        match &self.from {
            From::All => true,
            From::Same => gateway == namespace,
            From::Chosen(selector) => selector.accepts(labels),
            From::Nobody => false,
        }
    }

    /// What the table needs of it; None: it can't serve.
    pub fn served(&self) -> Option<table::Listener> {
        let protocol = self.protocol?;
        let needs = matches!(protocol, Protocol::Https | Protocol::Tls);
        if needs && self.certificates.is_empty() {
            return None;
        }
        Some(table::Listener {
            slot: self.slot?,
            hostname: self.hostname.clone(),
            protocol,
            certificates: self.certificates.clone(),
            client: self.client.clone(),
        })
    }
}

/// The Secrets that a Gateway names, right or wrong.
pub(super) fn secrets(gateway: &Gateway) -> BTreeSet<Id> {
    let listeners = gateway.spec.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let references = listeners.flat_map(|tls| &tls.certificate_refs);
    references.chain(gateway.spec.client_certificate()).map(|reference| named(gateway, reference)).collect()
}

/// The ConfigMaps whose authorities its clients are believed by.
pub(super) fn authorities(gateway: &Gateway) -> BTreeSet<Id> {
    let references = gateway.spec.validations().flat_map(|validation| &validation.ca_certificate_refs);
    references.map(|reference| named(gateway, reference)).collect()
}

pub(super) fn named(gateway: &Gateway, reference: &ObjectRef) -> Id {
    Id::new(reference.namespace.as_deref().unwrap_or(&gateway.id.namespace), &reference.name)
}

/// Reads a Gateway's listeners. `slots` are the ones of last time: a listener
/// keeps its slot as long as it keeps its name, so that a route which isn't
/// placed anew yet is never seen through another listener.
pub(super) fn read<'a>(
    gateway: &Gateway,
    slots: &BTreeMap<String, u8>,
    shown: impl Fn(&ObjectRef, &Id) -> Shown,
    authority: impl Fn(&ObjectRef, &Id) -> Result<&'a str, Reason>,
) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = gateway
        .spec
        .listeners
        .iter()
        .map(|listener| read_one(gateway, listener, &shown, &authority))
        .collect();
    for reason in conflicts(&listeners) {
        let (place, reason) = reason;
        listeners[place].accepted = Err(reason.clone());
        listeners[place].conflicted = Some(reason);
    }
    let names: BTreeSet<&String> = listeners.iter().map(|listener| &listener.name).collect();
    let mut taken: BTreeSet<u8> =
        slots.iter().filter(|(name, _)| names.contains(name)).map(|(_, slot)| *slot).collect();
    for listener in &mut listeners {
        if listener.accepted.is_err() {
            continue;
        }
        let slot = slots.get(&listener.name).copied().or_else(|| {
            // One that a listener had until now may still be on routes.
            (FIRST_SLOT..128).find(|slot| !taken.contains(slot) && !slots.values().any(|old| old == slot))
        });
        taken.extend(slot);
        listener.slot = slot;
    }
    listeners
}

fn read_one<'a>(
    gateway: &Gateway,
    listener: &gateway_api::Listener,
    shown: &impl Fn(&ObjectRef, &Id) -> Shown,
    authority: &impl Fn(&ObjectRef, &Id) -> Result<&'a str, Reason>,
) -> Listener {
    let mode = listener.tls.as_ref().and_then(|tls| tls.mode.as_deref()).unwrap_or("Terminate");
    let protocol = match (listener.protocol.as_str(), mode) {
        ("HTTP", _) => Ok(Protocol::Http),
        ("HTTPS", "Terminate") => Ok(Protocol::Https),
        ("TLS", "Terminate") => Ok(Protocol::Tls),
        ("TLS", "Passthrough") => Ok(Protocol::Passthrough),
        ("HTTPS" | "TLS", other) => {
            Err(Reason::new("UnsupportedProtocol", format!("mode {other} is not served with this protocol")))
        }
        (other, _) => Err(Reason::new("UnsupportedProtocol", format!("protocol {other} is not served"))),
    };
    let mut resolved = Ok(());
    let served: &[Kind] = match protocol {
        Ok(Protocol::Http | Protocol::Https) => &[Kind::HttpRoute, Kind::GrpcRoute],
        Ok(Protocol::Tls | Protocol::Passthrough) => &[Kind::TlsRoute],
        Err(_) => &[],
    };
    let allowed = listener.allowed_routes.clone().unwrap_or_default();
    let mut kinds: Vec<Kind> = served.to_vec();
    if !allowed.kinds.is_empty() {
        let known = |wanted: &RouteKind| {
            let ours = wanted.group.as_deref().is_none_or(|group| group == GROUP);
            served.iter().copied().find(|kind| ours && kind.as_str() == wanted.kind)
        };
        kinds = allowed.kinds.iter().filter_map(known).collect();
        if let Some(wrong) = allowed.kinds.iter().find(|kind| known(kind).is_none()) {
            let message = format!("routes of the kind {} can't attach to this protocol", wrong.kind);
            resolved = Err(Reason::new("InvalidRouteKinds", message));
        }
    }
    let mut certificates = Vec::new();
    if matches!(protocol, Ok(Protocol::Https | Protocol::Tls)) {
        let references = listener.tls.iter().flat_map(|tls| &tls.certificate_refs);
        let mut any = false;
        for reference in references {
            any = true;
            match shown(reference, &named(gateway, reference)) {
                Ok(certificate) => certificates.push(certificate),
                Err(reason) => resolved = Err(reason),
            }
        }
        if !any {
            resolved = Err(Reason::new("InvalidCertificateRef", "tls.certificateRefs names no Secret"));
        }
    }
    let mut accepted = protocol.as_ref().map(|_| ()).map_err(Clone::clone);
    let mut client = None;
    if let (Ok(Protocol::Https), Some(validation)) = (&protocol, gateway.spec.validation(listener.port)) {
        let (asked, wrong) = asked(gateway, validation, authority);
        if let Some(reason) = wrong {
            resolved = Err(reason);
        }
        if asked.is_none() {
            let message = "no caCertificateRef of tls.frontend can be used";
            accepted = Err(Reason::new("NoValidCACertificate", message));
        }
        client = asked;
    }
    let port = u16::try_from(listener.port).unwrap_or_default();
    let namespaces = allowed.namespaces.unwrap_or_default();
    Listener {
        name: listener.name.clone(),
        slot: None,
        port,
        hostname: listener.hostname.clone().unwrap_or_default().to_ascii_lowercase(),
        accepted,
        protocol: protocol.ok(),
        kinds,
        from: match (namespaces.from.as_deref(), namespaces.selector) {
            (None | Some("Same"), _) => From::Same,
            (Some("All"), _) => From::All,
            (Some("Selector"), Some(selector)) => From::Chosen(selector),
            _ => From::Nobody,
        },
        certificates,
        client,
        conflicted: None,
        resolved,
    }
}

/// What clients are asked for, by those references that can be used, and what is
/// wrong with the others.
fn asked<'a>(
    gateway: &Gateway,
    validation: &FrontendValidation,
    authority: &impl Fn(&ObjectRef, &Id) -> Result<&'a str, Reason>,
) -> (Option<Arc<ClientAuth>>, Option<Reason>) {
    let (mut texts, mut wrong) = (Vec::new(), None);
    let mode = match validation.mode.as_deref() {
        Some("AllowInsecureFallback") => Mode::Insecure,
        _ => Mode::Connection,
    };
    for reference in &validation.ca_certificate_refs {
        let id = named(gateway, reference);
        let good = authority(reference, &id).and_then(|text| {
            let message = || format!("ca.crt of ConfigMap {} holds no certificate", id.name);
            match ClientAuth::new(&[text], "", mode, None) {
                Some(_) => Ok(text),
                None => Err(Reason::new("InvalidCACertificateRef", message())),
            }
        });
        match good {
            Ok(text) => texts.push(text),
            Err(reason) => wrong = Some(reason),
        }
    }
    (ClientAuth::new(&texts, "", mode, None).map(Arc::new), wrong)
}

/// Listeners that can't both be served: neither is.
fn conflicts(listeners: &[Listener]) -> Vec<(usize, Reason)> {
    let mut found = Vec::new();
    for (place, listener) in listeners.iter().enumerate() {
        let Some(protocol) = listener.protocol else { continue };
        let others = listeners.iter().enumerate().filter(|(other, candidate)| {
            *other != place && candidate.port == listener.port && candidate.protocol.is_some()
        });
        for (_, other) in others {
            let clear = |protocol| protocol == Some(Protocol::Http);
            if clear(Some(protocol)) != clear(other.protocol) {
                let message = format!("listener {} has the same port and another protocol", other.name);
                found.push((place, Reason::new("ProtocolConflict", message)));
                break;
            }
            if other.hostname == listener.hostname {
                let message = format!("listener {} has the same port and host name", other.name);
                found.push((place, Reason::new("HostnameConflict", message)));
                break;
            }
        }
    }
    found
}
