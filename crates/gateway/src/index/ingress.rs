//! An Ingress as routes, with the nginx annotations that app templates use.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use regex::{Regex, RegexBuilder};

use super::service::Services;
use super::{Compiled, Problem};
use crate::certificate::covers;
use crate::object::{Id, Ingress, IngressPath, PathType, ServiceRef};
use crate::route::{
    Action, CLEAR, HeaderEdit, Limits, Owner, PathMatch, PathRewrite, Precedence, Route, SECURE, SHARED,
    Target, Targets,
};

/// A compiled expression may take this much memory: nobody's pattern eats the
/// gateway's. Matching is linear in the path whatever the expression.
const REGEX_SIZE: usize = 256 << 10;

pub(super) fn regex(pattern: &str, ignore_case: bool) -> Result<Regex, Problem> {
    RegexBuilder::new(pattern)
        .case_insensitive(ignore_case)
        .size_limit(REGEX_SIZE)
        .dfa_size_limit(REGEX_SIZE)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => Problem(format!("the expression {pattern:?} is too large")),
            _ => Problem(format!("{pattern:?} is not a regular expression")),
        })
}

pub(super) fn compile(ingress: &Ingress, owner: &Arc<Owner>, services: &mut Services) -> Compiled {
    let mut compiled = Compiled::default();
    let settings = Settings::read(ingress, &mut compiled.problems);
    let mut place = 0;
    let mut push = |compiled: &mut Compiled, host: &str, path: PathMatch, service: &ServiceRef, tls: bool| {
        let id = Id::new(&ingress.id.namespace, &service.name);
        let backend = services.backend(&id, &service.port);
        compiled.backends.push((id, service.port.clone()));
        let rewrite_path = settings.rewrite.as_ref().map(|target| match path {
            PathMatch::Regex(_) => PathRewrite::Captures(target.clone()),
            _ => PathRewrite::Full(target.clone()),
        });
        let action = Action {
            targets: Targets::new(vec![(1, Target::Service(backend, None))]),
            to_https: settings.force_https || (tls && settings.https),
            rewrite_path,
            limits: settings.limits.clone(),
            request_headers: HeaderEdit::default(),
            ..Action::default()
        };
        let route = Route {
            owner: owner.clone(),
            path,
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
            precedence: Precedence {
                method: Reverse(false),
                headers: Reverse(0),
                query: Reverse(0),
                created: ingress.created,
                id: ingress.id.clone(),
                place: (place, 0),
            },
            one_label: true,
            listeners: CLEAR | SECURE,
            action: Arc::new(action),
        };
        place += 1;
        compiled.routes.push((SHARED, host.to_owned(), route));
    };

    for rule in &ingress.rules {
        let host = rule.host.to_ascii_lowercase();
        let mut tls = false;
        for entry in &ingress.tls {
            let named = entry.hosts.iter().any(|name| covers(&name.to_ascii_lowercase(), &host));
            if !named && !entry.hosts.is_empty() {
                continue;
            }
            tls = true;
            if let Some(secret) =
                entry.secret.as_ref().filter(|secret| !secret.is_empty() && !host.is_empty())
            {
                compiled.certificates.push((host.clone(), Id::new(&ingress.id.namespace, secret)));
            }
        }
        for path in &rule.paths {
            let matched = match settings.path(path) {
                Ok(matched) => matched,
                Err(problem) => {
                    compiled.problems.push(problem);
                    continue;
                }
            };
            match &path.backend {
                Some(service) => push(&mut compiled, &host, matched, service, tls),
                None => {
                    let problem = format!("the backend of {host}{} is not a port of a Service", path.path);
                    compiled.problems.push(Problem(problem));
                }
            }
        }
        // The Ingress's own default takes what its hosts have no path for.
        if let Some(service) = &ingress.default_backend {
            push(&mut compiled, &host, PathMatch::prefix("/"), service, tls);
        }
    }
    if let (Some(service), true) = (&ingress.default_backend, ingress.rules.is_empty()) {
        push(&mut compiled, "", PathMatch::prefix("/"), service, !ingress.tls.is_empty());
    }
    compiled
}

/// What the annotations say.
struct Settings {
    rewrite: Option<String>,
    regex: bool,
    https: bool,
    force_https: bool,
    limits: Limits,
}

impl Settings {
    fn read(ingress: &Ingress, problems: &mut Vec<Problem>) -> Self {
        let text = |name: &str| ingress.annotations.get(name).map(|value| value.trim());
        let mut parsed = |name: &str, parse: &dyn Fn(&str) -> Option<u64>| {
            let value = text(name)?;
            let number = parse(value);
            if number.is_none() {
                problems.push(Problem(format!("annotation {name}: {value:?} can't be read and is ignored")));
            }
            number
        };
        let body = parsed("proxy-body-size", &size);
        let connect = parsed("proxy-connect-timeout", &seconds);
        let read = parsed("proxy-read-timeout", &seconds);
        let send = parsed("proxy-send-timeout", &seconds);
        let mut flag = |name: &str, default: bool| match text(name) {
            None => default,
            Some("true") => true,
            Some("false") => false,
            Some(value) => {
                problems.push(Problem(format!("annotation {name}: {value:?} is neither true nor false")));
                default
            }
        };
        let settings = Self {
            rewrite: text("rewrite-target").filter(|target| !target.is_empty()).map(str::to_owned),
            regex: flag("use-regex", false),
            https: flag("ssl-redirect", true),
            force_https: flag("force-ssl-redirect", false),
            limits: Limits {
                // As in nginx, zero is no limit.
                body: body.filter(|bytes| *bytes > 0),
                connect: connect.map(Duration::from_secs),
                read: read.map(Duration::from_secs),
                send: send.map(Duration::from_secs),
            },
        };
        if let Some(protocol) =
            text("backend-protocol").filter(|protocol| !protocol.eq_ignore_ascii_case("http"))
        {
            problems.push(Problem(format!(
                "annotation backend-protocol: {protocol:?} is not served yet, HTTP is used"
            )));
        }
        settings
    }

    fn path(&self, path: &IngressPath) -> Result<PathMatch, Problem> {
        let text = if path.path.is_empty() { "/" } else { path.path.as_str() };
        if !text.starts_with('/') {
            return Err(Problem(format!("the path {text:?} doesn't begin with a slash")));
        }
        let expression = self.regex
            || self.rewrite.is_some() && text.contains(|char: char| "()[]{}|*+?^$\\".contains(char));
        match path.path_type {
            PathType::Exact => Ok(PathMatch::Exact(text.to_owned())),
            PathType::ImplementationSpecific | PathType::Prefix if expression => {
                Ok(PathMatch::Regex(regex(&format!("^{}", text.trim_start_matches('^')), true)?))
            }
            PathType::ImplementationSpecific | PathType::Prefix => Ok(PathMatch::prefix(text)),
        }
    }
}

/// `8m`, `1g`, `512k`, `1048576`.
fn size(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let (digits, shift) = match text.as_bytes().last()? {
        b'k' => (text.trim_end_matches('k'), 10),
        b'm' => (text.trim_end_matches('m'), 20),
        b'g' => (text.trim_end_matches('g'), 30),
        _ => (text.as_str(), 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `60` or `60s`; `0` can't be meant.
fn seconds(text: &str) -> Option<u64> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse::<u64>().ok()?;
    (1..=86_400 * 7).contains(&seconds).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_as_nginx_does() {
        let check = |text: &str, wanted: Option<u64>| assert_eq!(size(text), wanted, "{text}");
        check("0", Some(0));
        check("512", Some(512));
        check("8k", Some(8 << 10));
        check("32M", Some(32 << 20));
        check("1g", Some(1 << 30));
        check("", None);
        check("m", None);
        check("-1", None);
        check("99999999999999g", None);
        assert_eq!(
            [seconds("60"), seconds("60s"), seconds("0"), seconds("x")],
            [Some(60), Some(60), None, None]
        );
    }

    #[test]
    fn an_expression_that_explodes_is_refused() {
        assert!(regex("^/a(b|c)*", true).is_ok());
        assert_eq!(
            regex("^/(a{1000}){1000}", true).unwrap_err().0,
            r#"the expression "^/(a{1000}){1000}" is too large"#
        );
        assert_eq!(regex("^/(", true).unwrap_err().0, r#""^/(" is not a regular expression"#);
    }
}
