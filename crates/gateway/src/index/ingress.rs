//! An Ingress as routes, with what its annotations ask for.

use std::sync::Arc;

use regex::Regex;

use super::service::Services;
use super::{Compiled, Problem};
use crate::annotation::{self, Annotations, WantedCheck, WantedGuard, WantedLogin};
use crate::certificate::covers;
use crate::check::Check;
use crate::client_auth::{ClientAuth, Guard};
use crate::extra::{Extra, FixedRedirect};
use crate::object::{Id, Ingress, IngressPath, PathType, PortRef, ServiceRef, Users};
use crate::password::{self, Login};
use crate::rare::Rare;
use crate::route::{
    Action, CLEAR, Owner, PathMatch, PathRewrite, Route, SECURE, SHARED, Seldom, Target, Targets,
};

pub(super) fn regex(pattern: &str, ignore_case: bool) -> Result<Regex, Problem> {
    crate::expression::regex(pattern, ignore_case).map_err(Problem)
}

/// What the routes of one Ingress have in common.
struct Common<'a> {
    ingress: &'a Ingress,
    owner: &'a Arc<Owner>,
    annotations: Annotations,
    extra: Option<Arc<Extra>>,
    services: &'a mut Services,
    compiled: Compiled,
    place: u32,
}

/// What is known of a Secret with users; None: nothing yet.
type KnownUsers<'a> = &'a dyn Fn(&Id) -> Option<&'a Users>;

pub(super) fn compile(
    ingress: &Ingress,
    owner: &Arc<Owner>,
    services: &mut Services,
    users: KnownUsers<'_>,
) -> Compiled {
    let mut annotations = annotation::read(&ingress.annotations);
    let mut compiled = Compiled::default();
    if let Some(wanted) = annotations.login.take().filter(|_| !annotations.canary) {
        match login(&ingress.id, &wanted, &mut compiled, users) {
            Ok(login) => annotations.extra.login = Some(login),
            Err(reason) => drop(annotations.refused.get_or_insert(reason.to_owned())),
        }
    }
    if let Some(wanted) = annotations.check.take().filter(|_| !annotations.canary) {
        match check(&ingress.id, wanted, &mut compiled, services) {
            Ok(check) => annotations.extra.check = Some(Arc::new(check)),
            Err(reason) => drop(annotations.refused.get_or_insert(reason.to_owned())),
        }
    }
    if let Some(wanted) = annotations.guard.take().filter(|_| !annotations.canary) {
        match guard(&ingress.id, wanted, &mut compiled, users) {
            Ok(guard) => {
                annotations.extra.guard = Some(Arc::new(guard));
                // Nobody can show anything in clear text.
                annotations.force_https = true;
            }
            Err(reason) => {
                // Nor is anybody by what others serve of the host.
                annotations.extra.guard = Some(Arc::default());
                annotations.refused.get_or_insert(reason.to_owned());
            }
        }
    }
    compiled.notes.extend(std::mem::take(&mut annotations.notes).into_iter().map(Problem));
    let extra = Some(std::mem::take(&mut annotations.extra)).filter(|extra| !extra.is_empty()).map(Arc::new);
    let mut common = Common { ingress, owner, annotations, extra, services, compiled, place: 0 };
    if !common.annotations.canary {
        common.compile();
    }
    common.compiled
}

/// The service that an Ingress wants to be asked, or why nobody can be let in.
fn check(
    ingress: &Id,
    wanted: WantedCheck,
    compiled: &mut Compiled,
    services: &mut Services,
) -> Result<Check, &'static str> {
    // What the gateway can reach is not for a tenant to ask by it.
    if *wanted.namespace != *ingress.namespace {
        let remedy = "name a Service of the Ingress' own namespace; nobody is let in";
        compiled.problems.push(Problem(format!("annotation auth-url: {remedy}")));
        return Err("its annotation auth-url can't be followed");
    }
    let (id, port) = (Id::new(wanted.namespace, wanted.service), PortRef::Number(wanted.port));
    let backend = services.backend(&id, &port);
    compiled.backends.push((id, port));
    let WantedCheck { host, path, method, pass, signin, .. } = wanted;
    Ok(Check { backend, host, path, method, pass, signin })
}

/// A Secret of an Ingress' own namespace, named with or without that.
fn own_secret(ingress: &Id, text: &str) -> Option<Id> {
    let own: &str = &ingress.namespace;
    let (namespace, name) = text.split_once('/').unwrap_or((own, text));
    (namespace == own).then(|| Id::new(namespace, name))
}

/// What an Ingress wants its clients to show, or why nobody can be let in.
fn guard(
    ingress: &Id,
    wanted: WantedGuard,
    compiled: &mut Compiled,
    users: KnownUsers<'_>,
) -> Result<Guard, &'static str> {
    const REFUSED: &str = "its annotation auth-tls-secret can't be followed";
    let deny = |compiled: &mut Compiled, what: String| {
        compiled.problems.push(Problem(format!("annotation auth-tls-secret: {what}; nobody is let in")));
        REFUSED
    };
    let Some(id) = own_secret(ingress, &wanted.secret) else {
        return Err(deny(compiled, "name a Secret of the Ingress' own namespace".to_owned()));
    };
    let name = &id.name;
    if !compiled.users.contains(&id) {
        compiled.users.push(id.clone());
    }
    let Some(known) = users(&id) else { return Err("whose certificates are good is not known yet") };
    let Some(data) = &known.data else {
        return Err(deny(compiled, format!("make Secret {name}, of at most 128 KiB")));
    };
    let text = |key: &str| data.get(key).map(|bytes| std::str::from_utf8(bytes));
    let auth = match (text("ca.crt"), text("ca.crl").unwrap_or(Ok(""))) {
        (Some(Ok(authority)), Ok(revoked)) => {
            ClientAuth::new(&[authority], revoked, wanted.mode, Some(wanted.depth))
        }
        _ => None,
    };
    let Some(auth) = auth else {
        let what = format!("Secret {name} has no certificates in ca.crt, or a ca.crl that can't be read");
        return Err(deny(compiled, what));
    };
    let WantedGuard { error_page, pass, subject, .. } = wanted;
    Ok(Guard { auth: Some(Arc::new(auth)), error_page, pass, subject })
}

/// The login that an Ingress wants, or why nobody can be let in.
fn login(
    ingress: &Id,
    wanted: &WantedLogin,
    compiled: &mut Compiled,
    users: KnownUsers<'_>,
) -> Result<Login, &'static str> {
    const REFUSED: &str = "its annotation auth-secret can't be followed";
    let deny = |compiled: &mut Compiled, what: String| {
        compiled.problems.push(Problem(format!("annotation auth-secret: {what}; nobody is let in")));
        REFUSED
    };
    let Some(id) = own_secret(ingress, &wanted.secret) else {
        return Err(deny(compiled, "name a Secret of the Ingress' own namespace".to_owned()));
    };
    let name = &id.name;
    compiled.users.push(id.clone());
    // Whether it is there is soon known: nothing to tell.
    let Some(known) = users(&id) else { return Err("who may log in is not known yet") };
    let Some(data) = &known.data else {
        return Err(deny(compiled, format!("make Secret {name}, of at most 128 KiB")));
    };
    let (users, unread) = match (wanted.map, data.get("auth")) {
        (true, _) => password::Users::map(data),
        (false, Some(file)) => password::Users::file(file),
        (false, None) => return Err(deny(compiled, format!("Secret {name} has no key auth"))),
    };
    if unread > 0 {
        let remedy = "keep their passwords with bcrypt at a cost of at most 12, as htpasswd -B does";
        let note = format!("annotation auth-secret: {unread} of Secret {name} can't log in; {remedy}");
        compiled.notes.push(Problem(note));
    }
    Ok(Login { users: Arc::new(users), challenge: wanted.challenge.clone() })
}

impl Common<'_> {
    fn compile(&mut self) {
        let ingress = self.ingress;
        for rule in &ingress.rules {
            let host = rule.host.to_ascii_lowercase();
            let tls = self.certificates(&host);
            self.app_root(&host, tls);
            for path in &rule.paths {
                let matched = match matched(path, &self.annotations) {
                    Ok(matched) => matched,
                    Err(problem) => {
                        self.compiled.problems.push(problem);
                        continue;
                    }
                };
                match &path.backend {
                    Some(service) => self.push(&host, matched, service, tls),
                    None => {
                        let problem =
                            format!("the backend of {host}{} is not a port of a Service", path.path);
                        self.compiled.problems.push(Problem(problem));
                    }
                }
            }
            // The Ingress's own default takes what its hosts have no path for.
            if let Some(service) = ingress.default_backend.as_deref() {
                self.push(&host, PathMatch::prefix("/"), service, tls);
            }
        }
        if let (Some(service), true) = (ingress.default_backend.as_deref(), ingress.rules.is_empty()) {
            let tls = !ingress.tls.is_empty();
            self.app_root("", tls);
            self.push("", PathMatch::prefix("/"), service, tls);
        }
    }

    /// Whether a host has TLS; the Secrets it wants are noted.
    fn certificates(&mut self, host: &str) -> bool {
        let mut tls = false;
        for entry in &self.ingress.tls {
            let named = entry.hosts.iter().any(|name| covers(&name.to_ascii_lowercase(), host));
            if !named && !entry.hosts.is_empty() {
                continue;
            }
            tls = true;
            if let Some(secret) =
                entry.secret.as_ref().filter(|secret| !secret.is_empty() && !host.is_empty())
            {
                let secret = Id::new(&self.ingress.id.namespace, secret);
                self.compiled.certificates.push((host.to_owned(), secret));
            }
        }
        tls
    }

    /// Requests for `/` alone are sent elsewhere, before any path is asked.
    fn app_root(&mut self, host: &str, tls: bool) {
        let Some(location) = self.annotations.app_root.clone() else { return };
        let redirect = Some(FixedRedirect { status: 302, location });
        let action = Action {
            to_https: self.to_https(tls),
            extra: Some(Arc::new(Extra { redirect, guard: self.guard(), ..Extra::default() })),
            ..Action::default()
        };
        self.route(host, PathMatch::Exact("/".to_owned()), action);
    }

    fn guard(&self) -> Option<Arc<Guard>> {
        self.extra.as_ref().and_then(|extra| extra.guard.clone())
    }

    fn to_https(&self, tls: bool) -> bool {
        self.annotations.force_https || (tls && self.annotations.https)
    }

    fn push(&mut self, host: &str, path: PathMatch, service: &ServiceRef, tls: bool) {
        let id = Id::new(&self.ingress.id.namespace, &service.name);
        let backend = self.services.backend(&id, &service.port);
        self.compiled.backends.push((id, service.port.clone()));
        let annotations = &self.annotations;
        let rewrite_path = annotations.rewrite.as_ref().map(|target| match path {
            PathMatch::Regex(_) => PathRewrite::Captures(target.clone()),
            _ => PathRewrite::Full(target.clone()),
        });
        let target = match &annotations.refused {
            Some(reason) => Target::Refused(reason.clone()),
            None => Target::Service(backend, None),
        };
        let action = Action {
            targets: Targets::new(vec![(1, target)]),
            to_https: self.to_https(tls),
            request_headers: annotations.request_headers.clone().into(),
            limits: annotations.limits.clone().into(),
            grpc: annotations.grpc,
            compress: annotations.compress,
            extra: self.extra.clone(),
            seldom: Rare::from(Seldom {
                rewrite_host: annotations.host.clone(),
                rewrite_path,
                cors: annotations.cors.clone(),
                retry: annotations.retry.clone(),
                ..Seldom::default()
            }),
            ..Action::default()
        };
        self.route(host, path, action);
    }

    fn route(&mut self, host: &str, path: PathMatch, action: Action) {
        let route = Route {
            owner: self.owner.clone(),
            path,
            conditions: Rare::default(),
            created: self.ingress.created,
            place: (self.place, 0),
            one_label: true,
            listeners: CLEAR | SECURE,
            action: Arc::new(action),
        };
        self.place += 1;
        self.compiled.routes.push((SHARED, host.to_owned(), route));
    }
}

fn matched(path: &IngressPath, annotations: &Annotations) -> Result<PathMatch, Problem> {
    let text = if path.path.is_empty() { "/" } else { path.path.as_str() };
    if !text.starts_with('/') {
        return Err(Problem(format!("the path {text:?} doesn't begin with a slash")));
    }
    let expression = annotations.regex
        || annotations.rewrite.is_some() && text.contains(|char: char| "()[]{}|*+?^$\\".contains(char));
    match path.path_type {
        PathType::Exact => Ok(PathMatch::Exact(text.to_owned())),
        PathType::ImplementationSpecific | PathType::Prefix if expression => {
            Ok(PathMatch::Regex(regex(&format!("^{}", text.trim_start_matches('^')), true)?))
        }
        PathType::ImplementationSpecific | PathType::Prefix => Ok(PathMatch::prefix(text)),
    }
}
