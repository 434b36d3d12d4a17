//! Which listeners a route is attached to, and why it isn't to others.

use std::collections::BTreeMap;

use super::GROUP;
use super::listeners::{Listener, Reason};
use crate::gateway_api::ObjectRef;
use crate::object::{HttpRoute, Id, Kind};
use crate::route::{Slots, Zone};
use crate::table::within;

/// A host that a route is served on, and by which listeners.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attached {
    pub zone: Zone,
    pub host: String,
    pub listeners: Slots,
}

/// What became of one of a route's parents.
#[derive(Debug, Clone, PartialEq)]
pub struct Parent {
    pub reference: ObjectRef,
    pub gateway: Id,
    /// The names of the listeners it is attached to.
    pub listeners: Vec<String>,
    pub accepted: Result<(), Reason>,
}

/// A Gateway as routes see it.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub zone: Zone,
    pub listeners: &'a [Listener],
}

/// The Gateways a route names.
pub(super) fn gateways(route: &HttpRoute) -> impl Iterator<Item = (&ObjectRef, Id)> {
    route
        .spec
        .parent_refs
        .iter()
        .filter(|parent| {
            parent.group.as_deref().is_none_or(|group| group == GROUP)
                && parent.kind.as_deref().is_none_or(|kind| kind == "Gateway")
        })
        .map(|parent| {
            (parent, Id::new(parent.namespace.as_deref().unwrap_or(&route.id.namespace), &parent.name))
        })
}

/// Attaches a route to those of its parents that are ours.
pub(super) fn attach<'a>(
    kind: Kind,
    route: &HttpRoute,
    labels: &BTreeMap<String, String>,
    seen: impl Fn(&Id) -> Option<Seen<'a>>,
) -> (Vec<Attached>, Vec<Parent>) {
    let mut attached: Vec<Attached> = Vec::new();
    let mut parents = Vec::new();
    for (reference, gateway) in gateways(route) {
        let Some(seen) = seen(&gateway) else { continue };
        let mut names = Vec::new();
        // How far the closest of the listeners came.
        let mut refusal =
            Reason::new("NoMatchingParent", "the Gateway has no listener of this name and port");
        let mut rank = 0;
        let mut refused = |to: u8, reason: Reason| {
            if to > rank {
                (rank, refusal) = (to, reason);
            }
        };
        for listener in seen.listeners {
            let named = reference.section_name.as_ref().is_none_or(|section| *section == listener.name)
                && reference.port.is_none_or(|port| port == i32::from(listener.port));
            if !named {
                continue;
            }
            if !listener.takes_routes() {
                refused(1, Reason::new("NoMatchingParent", "the listener is not served"));
                continue;
            }
            if !listener.kinds.contains(&kind) {
                let message = format!("no listener takes a {kind}");
                refused(2, Reason::new("NotAllowedByListeners", message));
                continue;
            }
            if !listener.lets_in(&gateway.namespace, &route.id.namespace, labels) {
                let message = "no listener lets routes of this namespace in";
                refused(3, Reason::new("NotAllowedByListeners", message));
                continue;
            }
            let hosts = hosts(&listener.hostname, &route.spec.hostnames);
            if hosts.is_empty() {
                let message = "no host name of the route is one of a listener's";
                refused(4, Reason::new("NoMatchingListenerHostname", message));
                continue;
            }
            names.push(listener.name.clone());
            let bit = listener.slot.map_or(0, |slot| 1 << slot);
            for host in hosts {
                match attached.iter_mut().find(|other| other.host == host && other.zone == seen.zone) {
                    Some(other) => other.listeners |= bit,
                    None => attached.push(Attached { zone: seen.zone, host, listeners: bit }),
                }
            }
        }
        let accepted = if names.is_empty() { Err(refusal) } else { Ok(()) };
        parents.push(Parent { reference: reference.clone(), gateway, listeners: names, accepted });
    }
    (attached, parents)
}

/// The intersection of a listener's host name with a route's.
fn hosts(listener: &str, route: &[String]) -> Vec<String> {
    if route.is_empty() {
        return vec![listener.to_owned()];
    }
    route
        .iter()
        .map(|host| host.to_ascii_lowercase())
        .filter_map(|host| {
            if within(listener, &host) {
                Some(host)
            } else if within(&host, listener) {
                Some(listener.to_owned())
            } else {
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_intersect() {
        let check = |listener: Option<&str>, route: &[&str], wanted: &[&str]| {
            let route: Vec<String> = route.iter().map(|host| (*host).to_owned()).collect();
            assert_eq!(hosts(listener.unwrap_or_default(), &route), wanted, "{listener:?} {route:?}");
        };
        check(None, &[], &[""]);
        check(None, &["a.example"], &["a.example"]);
        check(Some("a.example"), &[], &["a.example"]);
        check(
            Some("*.example"),
            &["a.example", "b.c.example", "example", "a.other"],
            &["a.example", "b.c.example"],
        );
        check(Some("a.example"), &["*.example"], &["a.example"]);
        check(Some("*.a.example"), &["*.example"], &["*.a.example"]);
        check(Some("a.example"), &["b.example"], &[]);
    }
}
