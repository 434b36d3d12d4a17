//! An HTTPRoute, and what is like one, as routes by the listeners it is attached to.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::attach::Attached;
use super::ingress::regex;
use super::listeners::Reason;
use super::service::Services;
use super::{Compiled, Problem};
use crate::backend::Backend;
use crate::cors::Cors;
use crate::gateway_api::{
    self, Filter, HeaderModifier, Match, NamedValue, ObjectRef, PathModifier, PathValue, RequestMirror, Rule,
};
use crate::object::{HttpRoute, Id, Kind, PortRef};
use crate::retry::{Failures, MOST_RETRIES, Retry};
use crate::route::{
    Action, Conditions, Edits, HeaderEdit, Limits, Mirror, Owner, PathMatch, PathRewrite, Redirect, Route,
    Seldom, Target, Targets, ValueMatch,
};

/// What a route is compiled with.
pub(super) struct Context<'a> {
    pub kind: Kind,
    pub owner: &'a Arc<Owner>,
    pub services: &'a mut Services,
    /// Whether the route may refer to a Service of another namespace.
    pub permitted: &'a dyn Fn(&Id) -> bool,
}

pub(super) fn compile(route: &HttpRoute, attached: &[Attached], context: &mut Context<'_>) -> Compiled {
    let mut compiled = Compiled { rules: route.spec.rules.len(), ..Compiled::default() };
    for (place, rule) in route.spec.rules.iter().enumerate() {
        let action = match action(route, rule, context, &mut compiled) {
            Ok(action) => Arc::new(action),
            Err(problem) => {
                compiled.problems.push(Problem(format!("rules[{place}]: {}", problem.0)));
                compiled.broken_rules += 1;
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
            let at = (count(place), count(number));
            for host in attached {
                match matcher(route, wanted, at, host, context.owner, &action) {
                    Ok(route) => compiled.routes.push((host.zone, host.host.clone(), route)),
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

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn matcher(
    route: &HttpRoute,
    wanted: &Match,
    place: (u32, u32),
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
        conditions: Conditions { method, headers, query }.into(),
        created: route.created,
        place,
        one_label: false,
        listeners: host.listeners,
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
    context: &mut Context<'_>,
    compiled: &mut Compiled,
) -> Result<Action, Problem> {
    let mut action =
        Action { grpc: context.kind == Kind::GrpcRoute, compress: route.compress, ..Action::default() };
    let mut seldom = Seldom::default();
    for filter in &rule.filters {
        if let ("RequestMirror", Some(wanted)) = (filter.kind.as_str(), &filter.request_mirror) {
            match service(route, &wanted.backend_ref, context, compiled) {
                Ok(backend) => seldom.mirrors.push(Mirror::new(backend, share(wanted))),
                // What is copied is not what is asked for: the request goes on.
                Err(reason) => compiled.unresolved.push(reason),
            }
            continue;
        }
        apply(filter, &mut action, &mut seldom)?;
    }
    let timeouts = rule.timeouts.clone().unwrap_or_default();
    let time = |text: Option<String>| match text {
        None => Ok(None),
        Some(text) => match duration(&text) {
            Some(time) => Ok(Some(time).filter(|time| !time.is_zero())),
            None => Err(Problem(format!("timeout {text:?} can't be read"))),
        },
    };
    seldom.timeout = time(timeouts.request)?;
    action.limits = Limits { read: time(timeouts.backend_request)?, ..Limits::default() }.into();
    if let Some(wanted) = &rule.retry {
        seldom.retry = Some(Retry {
            on: Failures { timeout: true, ..Failures::default() },
            codes: wanted.codes.clone(),
            attempts: wanted.attempts.unwrap_or(1).min(MOST_RETRIES),
            backoff: time(wanted.backoff.clone())?.unwrap_or_default(),
            any_method: true,
            ..Retry::default()
        });
    }
    let redirects = seldom.redirect.is_some();
    action.seldom = seldom.into();
    if redirects {
        return Ok(action);
    }
    let mut targets = Vec::new();
    for backend in &rule.backend_refs {
        let weight = u32::try_from(backend.weight.unwrap_or(1)).unwrap_or(0);
        let (mut own, mut seldom) = (Action::default(), Seldom::default());
        for filter in &backend.filters {
            apply(filter, &mut own, &mut seldom)?;
        }
        if seldom.redirect.is_some() || seldom.rewrite_path.is_some() || seldom.cors.is_some() {
            return Err(Problem("only headers can be changed for one backend of several".to_owned()));
        }
        let edits = (!backend.filters.is_empty())
            .then(|| Arc::new(Edits { request: own.request_headers, response: own.response_headers }));
        let target = match service(route, &backend.target, context, compiled) {
            Ok(backend) => Target::Service(backend, edits),
            Err(reason) => {
                let message = reason.message.clone();
                compiled.unresolved.push(reason);
                Target::Refused(message)
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

/// How many of how many requests are copied.
fn share(mirror: &RequestMirror) -> (u32, u32) {
    match (&mirror.fraction, mirror.percent) {
        (Some(fraction), _) => (fraction.numerator, fraction.denominator.unwrap_or(100).max(1)),
        (None, Some(percent)) => (percent, 100),
        (None, None) => (1, 1),
    }
}

/// The backend that a reference means.
fn service(
    route: &HttpRoute,
    target: &ObjectRef,
    context: &mut Context<'_>,
    compiled: &mut Compiled,
) -> Result<Arc<Backend>, Reason> {
    let name = &target.name;
    if target.group.as_deref().is_some_and(|group| !group.is_empty())
        || target.kind.as_deref().is_some_and(|kind| kind != "Service")
    {
        return Err(Reason::new("InvalidKind", format!("backend {name}: only a Service can be one")));
    }
    let id = Id::new(target.namespace.as_deref().unwrap_or(&route.id.namespace), name);
    if id.namespace != route.id.namespace {
        compiled.foreign.insert(id.namespace.to_string());
        if !(context.permitted)(&id) {
            // Whether it is there at all is not for this namespace to know.
            let message = format!("backend {name}: no ReferenceGrant of {} permits it", id.namespace);
            return Err(Reason::new("RefNotPermitted", message));
        }
    }
    let port = target.port.and_then(|port| u16::try_from(port).ok());
    let port = port
        .map(PortRef::Number)
        .ok_or_else(|| Reason::new("InvalidKind", format!("backend {name}: it has no port")))?;
    let backend = context.services.backend(&id, &port);
    compiled.backends.push((id, port));
    Ok(backend)
}

fn apply(filter: &Filter, action: &mut Action, seldom: &mut Seldom) -> Result<(), Problem> {
    let missing = || Problem(format!("filter {}: its settings are missing", filter.kind));
    match filter.kind.as_str() {
        "RequestHeaderModifier" => {
            action.request_headers =
                header_edit(filter.request_header_modifier.as_ref().ok_or_else(missing)?)?.into();
        }
        "ResponseHeaderModifier" => {
            action.response_headers =
                header_edit(filter.response_header_modifier.as_ref().ok_or_else(missing)?)?.into();
        }
        "RequestRedirect" => {
            let wanted = filter.request_redirect.as_ref().ok_or_else(missing)?;
            seldom.redirect = Some(Redirect {
                scheme: wanted.scheme.as_ref().map(|scheme| scheme.to_ascii_lowercase()),
                host: wanted.hostname.clone(),
                port: wanted.port,
                path: wanted.path.as_ref().map(path_rewrite).transpose()?,
                status: wanted.status_code.unwrap_or(302),
            });
        }
        "URLRewrite" => {
            let wanted = filter.url_rewrite.as_ref().ok_or_else(missing)?;
            seldom.rewrite_host.clone_from(&wanted.hostname);
            seldom.rewrite_path = wanted.path.as_ref().map(path_rewrite).transpose()?;
        }
        "CORS" => seldom.cors = Some(cors(filter.cors.as_ref().ok_or_else(missing)?)?),
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

fn cors(wanted: &gateway_api::Cors) -> Result<Cors, Problem> {
    let names = |names: &[String]| {
        names
            .iter()
            .map(|name| if name == "*" { Ok(name.clone()) } else { header_name(name).map(|_| name.clone()) })
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Cors {
        origins: wanted.allow_origins.clone(),
        credentials: wanted.allow_credentials.unwrap_or(false),
        methods: wanted.allow_methods.clone(),
        headers: names(&wanted.allow_headers)?,
        expose: names(&wanted.expose_headers)?,
        max_age: wanted.max_age.unwrap_or(5),
    })
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
}
