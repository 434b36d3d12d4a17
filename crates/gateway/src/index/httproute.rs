//! An HTTPRoute as routes, by the listeners it is attached to.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::ingress::regex;
use super::service::Services;
use super::{Compiled, Problem};
use crate::gateway_api::{
    BackendRef, Filter, HeaderModifier, Listener, Match, NamedValue, PathModifier, PathValue, Rule,
};
use crate::object::{Gateway, HttpRoute, Id, Object, PortRef};
use crate::route::{
    Action, HeaderEdit, Limits, Owner, PathMatch, PathRewrite, Precedence, Redirect, Route, Target, Targets,
    ValueMatch,
};

const GROUP: &str = "gateway.networking.k8s.io";

/// A host the route is served on, and how.
pub(super) struct Attached {
    host: String,
    http: bool,
    https: bool,
    /// The Secret its listener wants for it.
    certificate: Option<Id>,
}

/// The Gateways a route names.
pub(super) fn parents(route: &HttpRoute) -> impl Iterator<Item = Id> {
    route
        .spec
        .parent_refs
        .iter()
        .filter(|parent| {
            parent.group.as_deref().is_none_or(|group| group == GROUP)
                && parent.kind.as_deref().is_none_or(|kind| kind == "Gateway")
        })
        .map(|parent| Id::new(parent.namespace.as_ref().unwrap_or(&route.id.namespace), &parent.name))
}

/// The hosts that the route's Gateways let it have.
pub(super) fn attach(route: &HttpRoute, gateway: impl Fn(&Id) -> Option<Arc<Object>>) -> Vec<Attached> {
    let mut attached: Vec<Attached> = Vec::new();
    for parent in &route.spec.parent_refs {
        let id = Id::new(parent.namespace.as_ref().unwrap_or(&route.id.namespace), &parent.name);
        let ours = parents(route).any(|candidate| candidate == id);
        let Some(object) = gateway(&id).filter(|_| ours) else { continue };
        let Object::Gateway(gateway) = object.as_ref() else { continue };
        let listeners = gateway.spec.listeners.iter().filter(|listener| {
            parent.section_name.as_ref().is_none_or(|section| *section == listener.name)
                && parent.port.is_none_or(|port| port == listener.port)
                && allows(gateway, listener, &route.id.namespace)
        });
        for listener in listeners {
            let (http, https) = match listener.protocol.as_str() {
                "HTTP" => (true, false),
                "HTTPS" => (false, true),
                _ => continue,
            };
            let certificate = listener.tls.iter().flat_map(|tls| &tls.certificate_refs).find(|secret| {
                secret.namespace.as_ref().is_none_or(|namespace| *namespace == gateway.id.namespace)
            });
            let certificate = certificate.map(|secret| Id::new(&gateway.id.namespace, &secret.name));
            for host in hosts(listener.hostname.as_deref(), &route.spec.hostnames) {
                match attached.iter_mut().find(|other| other.host == host) {
                    Some(other) => {
                        other.http |= http;
                        other.https |= https;
                        other.certificate = other.certificate.take().or_else(|| certificate.clone());
                    }
                    None => attached.push(Attached { host, http, https, certificate: certificate.clone() }),
                }
            }
        }
    }
    attached
}

fn allows(gateway: &Gateway, listener: &Listener, namespace: &str) -> bool {
    let from = listener
        .allowed_routes
        .as_ref()
        .and_then(|allowed| allowed.namespaces.as_ref())
        .and_then(|namespaces| namespaces.from.as_deref());
    match from {
        Some("All") => true,
        None | Some("Same") => gateway.id.namespace == namespace,
        // What can't be decided is denied.
        Some(_) => false,
    }
}

/// The intersection of a listener's host name with a route's.
fn hosts(listener: Option<&str>, route: &[String]) -> Vec<String> {
    let listener = listener.unwrap_or_default().to_ascii_lowercase();
    if route.is_empty() {
        return vec![listener];
    }
    let within = |wide: &str, narrow: &str| {
        wide.is_empty()
            || wide == narrow
            || wide
                .strip_prefix('*')
                .is_some_and(|suffix| narrow.ends_with(suffix) && narrow.len() > suffix.len())
    };
    route
        .iter()
        .map(|host| host.to_ascii_lowercase())
        .filter_map(|host| {
            if within(&listener, &host) {
                Some(host)
            } else if within(&host, &listener) {
                Some(listener.clone())
            } else {
                None
            }
        })
        .collect()
}

pub(super) fn compile(
    route: &HttpRoute,
    attached: &[Attached],
    owner: &Arc<Owner>,
    services: &mut Services,
) -> Compiled {
    let mut compiled = Compiled::default();
    for host in attached.iter().filter(|host| !host.host.is_empty()) {
        compiled.certificates.extend(host.certificate.clone().map(|secret| (host.host.clone(), secret)));
    }
    for (place, rule) in route.spec.rules.iter().enumerate() {
        let action = match action(route, rule, services, &mut compiled) {
            Ok(action) => Arc::new(action),
            Err(problem) => {
                compiled.problems.push(Problem(format!("rules[{place}]: {}", problem.0)));
                // A rule that can't be served as it is written must not be served half.
                Arc::new(Action {
                    targets: Targets::new(vec![(1, Target::Refused(problem.0))]),
                    ..Action::default()
                })
            }
        };
        let any = [Match::default()];
        let matches = if rule.matches.is_empty() { any.as_slice() } else { rule.matches.as_slice() };
        for (number, wanted) in matches.iter().enumerate() {
            for host in attached {
                match matcher(route, wanted, (place, number), host, owner, &action) {
                    Ok(route) => compiled.routes.push((host.host.clone(), route)),
                    Err(problem) => {
                        compiled
                            .problems
                            .push(Problem(format!("rules[{place}].matches[{number}]: {}", problem.0)));
                        break;
                    }
                }
            }
        }
    }
    compiled
}

fn matcher(
    route: &HttpRoute,
    wanted: &Match,
    place: (usize, usize),
    host: &Attached,
    owner: &Arc<Owner>,
    action: &Arc<Action>,
) -> Result<Route, Problem> {
    let PathValue { kind, value } = wanted.path.clone().unwrap_or_default();
    let value = value.unwrap_or_else(|| "/".to_owned());
    let path = match kind.as_deref() {
        None | Some("PathPrefix") => PathMatch::prefix(&value),
        Some("Exact") => PathMatch::Exact(value),
        Some("RegularExpression") => PathMatch::Regex(regex(&format!("^(?:{value})$"), false)?),
        Some(other) => return Err(Problem(format!("path type {other} is not known"))),
    };
    let method = wanted
        .method
        .as_ref()
        .map(|method| {
            Method::from_bytes(method.as_bytes()).map_err(|_| Problem(format!("{method:?} is not a method")))
        })
        .transpose()?;
    let mut headers: Vec<(HeaderName, ValueMatch)> = Vec::new();
    for header in &wanted.headers {
        let name = header_name(&header.name)?;
        // Of several with one name the first counts.
        if headers.iter().all(|(other, _)| *other != name) {
            headers.push((name, value_match(header)?));
        }
    }
    let mut query: Vec<(String, ValueMatch)> = Vec::new();
    for parameter in &wanted.query_params {
        if query.iter().all(|(other, _)| *other != parameter.name) {
            query.push((parameter.name.clone(), value_match(parameter)?));
        }
    }
    Ok(Route {
        owner: owner.clone(),
        path,
        precedence: Precedence {
            method: Reverse(method.is_some()),
            headers: Reverse(headers.len()),
            query: Reverse(query.len()),
            created: route.created,
            id: route.id.clone(),
            place,
        },
        method,
        headers,
        query,
        one_label: false,
        over_http: host.http,
        over_https: host.https,
        action: action.clone(),
    })
}

fn value_match(wanted: &NamedValue) -> Result<ValueMatch, Problem> {
    match wanted.kind.as_deref() {
        None | Some("Exact") => Ok(ValueMatch::Exact(wanted.value.clone())),
        Some("RegularExpression") => Ok(ValueMatch::Regex(regex(&format!("^(?:{})$", wanted.value), false)?)),
        Some(other) => Err(Problem(format!("match type {other} is not known"))),
    }
}

fn header_name(name: &str) -> Result<HeaderName, Problem> {
    name.parse().map_err(|_| Problem(format!("{name:?} is not a header's name")))
}

fn action(
    route: &HttpRoute,
    rule: &Rule,
    services: &mut Services,
    compiled: &mut Compiled,
) -> Result<Action, Problem> {
    let mut action = Action::default();
    for filter in &rule.filters {
        apply(filter, &mut action)?;
    }
    if let Some(timeout) = rule.timeouts.as_ref().and_then(|timeouts| timeouts.backend_request.as_deref()) {
        let timeout =
            duration(timeout).ok_or_else(|| Problem(format!("timeout {timeout:?} can't be read")))?;
        action.limits = Limits { read: (!timeout.is_zero()).then_some(timeout), ..Limits::default() };
    }
    if action.redirect.is_some() {
        return Ok(action);
    }
    let mut targets = Vec::new();
    for backend in &rule.backend_refs {
        let weight = u32::try_from(backend.weight.unwrap_or(1)).unwrap_or(0);
        let target = match service(route, backend) {
            Ok((id, port)) => {
                let target = Target::Service(services.backend(&id, &port));
                compiled.backends.push((id, port));
                target
            }
            Err(problem) => {
                compiled.problems.push(problem.clone());
                Target::Refused(problem.0)
            }
        };
        targets.push((weight, target));
    }
    if targets.is_empty() {
        targets.push((1, Target::Refused("the route names no backend".to_owned())));
    }
    action.targets = Targets::new(targets);
    Ok(action)
}

fn service(route: &HttpRoute, backend: &BackendRef) -> Result<(Id, PortRef), Problem> {
    let target = &backend.target;
    let name = &target.name;
    if target.group.as_deref().is_some_and(|group| !group.is_empty())
        || target.kind.as_deref().is_some_and(|kind| kind != "Service")
    {
        return Err(Problem(format!("backend {name}: only a Service can be one")));
    }
    if target.namespace.as_ref().is_some_and(|namespace| *namespace != route.id.namespace) {
        return Err(Problem(format!("backend {name}: it is in another namespace")));
    }
    if !backend.filters.is_empty() {
        return Err(Problem(format!("backend {name}: filters on a backend are not served")));
    }
    let port = target.port.and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or_else(|| Problem(format!("backend {name}: it has no port")))?;
    Ok((Id::new(&route.id.namespace, name), PortRef::Number(port)))
}

fn apply(filter: &Filter, action: &mut Action) -> Result<(), Problem> {
    let missing = || Problem(format!("filter {}: its settings are missing", filter.kind));
    match filter.kind.as_str() {
        "RequestHeaderModifier" => {
            action.request_headers =
                header_edit(filter.request_header_modifier.as_ref().ok_or_else(missing)?)?;
        }
        "ResponseHeaderModifier" => {
            action.response_headers =
                header_edit(filter.response_header_modifier.as_ref().ok_or_else(missing)?)?;
        }
        "RequestRedirect" => {
            let wanted = filter.request_redirect.as_ref().ok_or_else(missing)?;
            action.redirect = Some(Redirect {
                scheme: wanted.scheme.as_ref().map(|scheme| scheme.to_ascii_lowercase()),
                host: wanted.hostname.clone(),
                port: wanted.port,
                path: wanted.path.as_ref().map(path_rewrite).transpose()?,
                status: wanted.status_code.unwrap_or(302),
            });
        }
        "URLRewrite" => {
            let wanted = filter.url_rewrite.as_ref().ok_or_else(missing)?;
            action.rewrite_host.clone_from(&wanted.hostname);
            action.rewrite_path = wanted.path.as_ref().map(path_rewrite).transpose()?;
        }
        other => return Err(Problem(format!("filter {other} is not served"))),
    }
    Ok(())
}

fn path_rewrite(modifier: &PathModifier) -> Result<PathRewrite, Problem> {
    match (modifier.kind.as_str(), &modifier.replace_full_path, &modifier.replace_prefix_match) {
        ("ReplaceFullPath", Some(path), _) => Ok(PathRewrite::Full(path.clone())),
        ("ReplacePrefixMatch", _, Some(path)) => Ok(PathRewrite::Prefix(path.clone())),
        (other, ..) => Err(Problem(format!("path modifier {other} can't be read"))),
    }
}

fn header_edit(modifier: &HeaderModifier) -> Result<HeaderEdit, Problem> {
    let pairs = |values: &[NamedValue]| {
        values
            .iter()
            .map(|pair| {
                let value = HeaderValue::from_str(&pair.value);
                let value =
                    value.map_err(|_| Problem(format!("header {}: its value is not allowed", pair.name)))?;
                Ok((header_name(&pair.name)?, value))
            })
            .collect::<Result<Vec<_>, Problem>>()
    };
    Ok(HeaderEdit {
        remove: modifier.remove.iter().map(|name| header_name(name)).collect::<Result<_, _>>()?,
        set: pairs(&modifier.set)?,
        add: pairs(&modifier.add)?,
    })
}

/// `1h30m`, `500ms`, `10s`: GEP-2257.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit())?;
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let unit = rest.find(|char: char| char.is_ascii_digit()).unwrap_or(rest.len());
        total += match rest.get(..unit)? {
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return None,
        };
        rest = rest.get(unit..)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_follow_gep_2257() {
        let check = |text: &str, wanted: Option<u64>| {
            assert_eq!(duration(text), wanted.map(Duration::from_millis), "{text}");
        };
        check("10s", Some(10_000));
        check("1h30m", Some(5_400_000));
        check("500ms", Some(500));
        check("1m500ms", Some(60_500));
        check("0s", Some(0));
        check("", None);
        check("10", None);
        check("s", None);
        check("1d", None);
    }

    #[test]
    fn host_names_intersect() {
        let check = |listener: Option<&str>, route: &[&str], wanted: &[&str]| {
            let route: Vec<String> = route.iter().map(|host| (*host).to_owned()).collect();
            assert_eq!(hosts(listener, &route), wanted, "{listener:?} {route:?}");
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
