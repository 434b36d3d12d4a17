//! What only an Ingress's annotations can ask for. Few routes have any of it, so
//! it is kept apart from what all have.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use ipnet::IpNet;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex::Regex;

use crate::affinity::Affinity;
use crate::check::Check;
use crate::client::ClientLimits;
use crate::client_auth::Guard;
use crate::password::Login;
use crate::route::{HeaderEdit, Request};
use crate::upstream_tls::BackendTls;

#[derive(Debug, Default)]
pub struct Extra {
    /// Every request is sent elsewhere.
    pub redirect: Option<FixedRedirect>,
    /// Who may ask at all.
    pub sources: Option<Sources>,
    /// What each client may ask for.
    pub clients: Option<ClientLimits>,
    /// Only who logs in is let in.
    pub login: Option<Login>,
    /// Only whom the app's own service lets in.
    pub check: Option<Arc<Check>>,
    pub affinity: Option<Affinity>,
    pub backend_tls: Option<BackendSecurity>,
    /// What clients have to show over TLS.
    pub guard: Option<Arc<Guard>>,
    pub responses: Vec<ResponseRule>,
}

impl Extra {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.redirect.is_none()
            && self.sources.is_none()
            && self.clients.is_none()
            && self.login.is_none()
            && self.check.is_none()
            && self.affinity.is_none()
            && self.backend_tls.is_none()
            && self.guard.is_none()
            && self.responses.is_empty()
    }
}

/// How a backend is spoken to for which no BackendTLSPolicy says it.
#[derive(Debug, Clone)]
pub enum BackendSecurity {
    /// Over TLS, whoever it is.
    Unverified(Arc<BackendTls>),
    /// Only as a policy says: without one it isn't.
    ByPolicy,
}

/// The addresses from which requests are taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// None: all that are not denied.
    pub allowed: Option<Vec<IpNet>>,
    pub denied: Vec<IpNet>,
}

impl Sources {
    pub fn admit(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        !within(&self.denied) && self.allowed.as_ref().is_none_or(|allowed| within(allowed))
    }
}

/// A redirect whose target is written out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedRedirect {
    pub status: u16,
    pub location: Location,
}

/// The target of a redirect, with what is filled in from the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(Variable),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    /// Path and query.
    RequestUri,
    /// The same, as a part of another query.
    EscapedRequestUri,
    Path,
    Query,
    /// `?` where there is a query.
    IsQuery,
    Host,
    Scheme,
}

/// nginx' names; a longer one before one that it begins with.
const VARIABLES: [(&str, Variable); 10] = [
    ("escaped_request_uri", Variable::EscapedRequestUri),
    ("pass_access_scheme", Variable::Scheme),
    ("request_uri", Variable::RequestUri),
    ("is_args", Variable::IsQuery),
    ("http_host", Variable::Host),
    ("query_string", Variable::Query),
    ("scheme", Variable::Scheme),
    ("args", Variable::Query),
    ("host", Variable::Host),
    ("uri", Variable::Path),
];

impl Location {
    /// An address of the web, or a path; an error says what of it can't be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let absolute = ["http://", "https://", "$scheme://"].iter().any(|start| lower.starts_with(start));
        // Two slashes begin a host, which whoever wrote a path did not mean.
        let path = text.starts_with('/') && !text.starts_with("//");
        if !absolute && !path {
            return Err("it begins neither with http:// or https:// nor with a slash".to_owned());
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it has characters that an address can't have".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let name = after.strip_prefix('{').unwrap_or(after);
            let found = VARIABLES.iter().find_map(|(known, variable)| {
                let rest = name.strip_prefix(known)?;
                let rest = if name.len() < after.len() { rest.strip_prefix('}')? } else { rest };
                let ends = !rest.starts_with(|char: char| char.is_ascii_alphanumeric() || char == '_');
                (ends || name.len() < after.len()).then_some((variable, rest))
            });
            let Some((variable, after)) = found else {
                return Err(format!("the variable in {:?} is not known here", format!("${after}")));
            };
            parts.push(Part::Variable(*variable));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    pub fn fill(&self, request: &Request<'_>, authority: &str) -> String {
        let mut location = String::new();
        for part in &self.0 {
            let query = request.query;
            match part {
                Part::Text(text) => location.push_str(text),
                Part::Variable(Variable::Path) => location.push_str(request.path),
                Part::Variable(Variable::Query) => location.push_str(query.unwrap_or_default()),
                Part::Variable(Variable::IsQuery) => {
                    location.push_str(if query.is_some() { "?" } else { "" });
                }
                Part::Variable(Variable::Host) => location.push_str(authority),
                Part::Variable(Variable::Scheme) => {
                    location.push_str(if request.secure { "https" } else { "http" });
                }
                Part::Variable(Variable::RequestUri) => {
                    location.push_str(request.path);
                    if let Some(query) = query {
                        location.push('?');
                        location.push_str(query);
                    }
                }
                Part::Variable(Variable::EscapedRequestUri) => {
                    let all =
                        [request.path, if query.is_some() { "?" } else { "" }, query.unwrap_or_default()];
                    location
                        .extend(all.into_iter().flat_map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC)));
                }
            }
        }
        location
    }
}

/// What is changed of some answers' headers.
#[derive(Debug, Clone)]
pub struct ResponseRule {
    /// Of requests whose path and query match; None: of all.
    pub request: Option<Regex>,
    /// Only of answers that are what was asked for, or say where it is.
    pub only_usual: bool,
    pub edit: HeaderEdit,
}

impl ResponseRule {
    pub fn applies(&self, asked: &Uri, status: StatusCode) -> bool {
        let usual = matches!(status.as_u16(), 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308);
        (usual || !self.only_usual)
            && self.request.as_ref().is_none_or(|wanted| {
                wanted.is_match(asked.path_and_query().map_or("/", |text| text.as_str()))
            })
    }
}

/// The pairs of all `Cookie` headers.
pub(crate) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

/// A header's edit that sets one value in place of all that were there.
pub(crate) fn replace(name: HeaderName, value: HeaderValue) -> HeaderEdit {
    HeaderEdit { set: vec![(name, value)], ..HeaderEdit::default() }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::route::View;

    #[test]
    fn a_location_is_filled_from_the_request() {
        let (method, headers) = (Method::GET, HeaderMap::new());
        let request = |query: Option<&'static str>| Request {
            host: "a.example",
            path: "/x",
            query,
            method: &method,
            headers: &headers,
            secure: true,
            view: View::shared(true),
        };
        let check = |text: &str, query: Option<&'static str>, wanted: &str| {
            let location = Location::parse(text).unwrap();
            assert_eq!(location.fill(&request(query), "a.example:8443"), wanted, "{text}");
        };
        check("https://b.example/", None, "https://b.example/");
        check("https://b.example$request_uri", Some("q=1"), "https://b.example/x?q=1");
        check("https://b.example$request_uri", None, "https://b.example/x");
        check("$scheme://$host/y$is_args$args", Some("q"), "https://a.example:8443/y?q");
        check("$scheme://$host/y$is_args$args", None, "https://a.example:8443/y");
        check("/y${uri}er", None, "/y/xer");
        check("/login?from=$uri", None, "/login?from=/x");
        check(
            "https://b.example/?rd=$escaped_request_uri&x",
            Some("a=b"),
            "https://b.example/?rd=%2Fx%3Fa%3Db&x",
        );
    }

    #[test]
    fn what_is_no_location_says_why() {
        let check = |text: &str, saying: &str| {
            let error = Location::parse(text).unwrap_err();
            assert!(error.contains(saying), "{text}: {error}");
        };
        check("b.example", "neither");
        check("javascript:alert(1)", "neither");
        check("//evil.example", "neither");
        check("https://b.example/ x", "characters");
        check("https://b.example/\r\nx: y", "characters");
        check("https://b.example/$cookie_a", "\"$cookie_a\" is not known");
        check("https://b.example/$urix", "not known");
        check("https://b.example/$", "not known");
        check("https://b.example/${uri", "not known");
    }

    #[test]
    fn sources_are_denied_before_they_are_allowed() {
        let networks = |all: &[&str]| all.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let check = |sources: &Sources, address: &str, wanted: bool| {
            assert_eq!(sources.admit(address.parse().unwrap()), wanted, "{address}");
        };
        let both = Sources {
            allowed: Some(networks(&["10.0.0.0/8", "fd00::/8"])),
            denied: networks(&["10.1.0.0/16"]),
        };
        check(&both, "10.0.0.1", true);
        check(&both, "::ffff:10.0.0.1", true);
        check(&both, "10.1.0.1", false);
        check(&both, "11.0.0.1", false);
        check(&both, "fd00::1", true);
        check(&both, "fe80::1", false);
        check(&Sources { allowed: Some(Vec::new()), denied: Vec::new() }, "10.0.0.1", false);
        check(&Sources { allowed: None, denied: networks(&["10.0.0.0/8"]) }, "11.0.0.1", true);
    }

    #[test]
    fn a_rule_is_for_some_requests_and_some_answers() {
        let rule = |pattern: &str, only_usual| ResponseRule {
            request: Some(Regex::new(pattern).unwrap()),
            only_usual,
            edit: HeaderEdit::default(),
        };
        let check = |rule: &ResponseRule, uri: &str, status: u16, wanted: bool| {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(rule.applies(&uri.parse().unwrap(), status), wanted, "{uri} {status}");
        };
        let cached = rule(r"\.(js|css)", true);
        check(&cached, "/a.js?v=1", 200, true);
        check(&cached, "/a?file=b.css", 304, true);
        check(&cached, "/a.js", 404, false);
        check(&cached, "/a", 200, false);
        check(&rule("a", false), "/a", 500, true);
    }
}
