//! The annotations that nginx' ingress controller understands, and that app
//! templates therefore carry, as settings with types.
//!
//! A value that can't be read costs itself and is told of. What keeps people out
//! is the exception: if it can't be understood, nobody is let in.

mod next_upstream;
mod snippet;
mod value;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Uri};
use regex::Regex;

use crate::affinity::Affinity;
use crate::client::ClientLimits;
use crate::client_auth::Mode;
use crate::cors::Cors;
use crate::expression::regex;
use crate::extra::{BackendSecurity, Extra, FixedRedirect, Location, Sources};
use crate::few::Few;
use crate::rate::Rate;
use crate::retry::Retry;
use crate::route::{HeaderEdit, Limits};
use crate::upstream_tls::BackendTls;
pub(crate) use value::flag;

/// What the annotations of one Ingress say.
#[derive(Debug)]
pub struct Annotations {
    /// What paths are replaced by.
    pub rewrite: Option<String>,
    /// Paths are regular expressions.
    pub regex: bool,
    /// Clear-text requests are sent to TLS where there is TLS,
    pub https: bool,
    /// or anyway.
    pub force_https: bool,
    pub limits: Limits,
    /// When a request is sent to another endpoint; None: as where nothing is said.
    pub retry: Option<Retry>,
    /// Where requests for `/` are sent.
    pub app_root: Option<Location>,
    /// The host that the backend is told.
    pub host: Option<String>,
    pub grpc: bool,
    /// Whether answers are compressed; None: as the gateway is set.
    pub compress: Option<bool>,
    pub cors: Option<Cors>,
    pub request_headers: HeaderEdit,
    /// Only who logs in is let in.
    pub login: Option<WantedLogin>,
    /// Only who shows a certificate.
    pub guard: Option<WantedGuard>,
    /// Only whom a service lets in.
    pub check: Option<WantedCheck>,
    /// Why it can't be served at all: what keeps people out is not understood.
    pub refused: Option<String>,
    /// It is a part of another Ingress' traffic, and serves nothing by itself.
    pub canary: bool,
    pub extra: Extra,
    /// What was not understood, or has no meaning here, and what to do.
    pub notes: Vec<String>,
}

/// Where the users are who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedLogin {
    /// A Secret, in the Ingress' own namespace or as `namespace/name`.
    pub secret: String,
    /// The Secret's keys are the users; else its `auth` is a file of them.
    pub map: bool,
    /// What asks a browser for a login.
    pub challenge: HeaderValue,
}

/// Whose client certificates are asked for.
#[derive(Debug, Clone)]
pub struct WantedGuard {
    /// A Secret with `ca.crt`, in the Ingress' own namespace or as `namespace/name`.
    pub secret: String,
    pub mode: Mode,
    pub depth: usize,
    pub error_page: Option<Location>,
    pub pass: bool,
    pub subject: Option<Regex>,
}

/// A service that says who may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedCheck {
    pub namespace: String,
    pub service: String,
    pub port: u16,
    /// As the service is called.
    pub host: String,
    /// With the query.
    pub path: String,
    pub method: Method,
    pub pass: Vec<HeaderName>,
    pub signin: Option<Location>,
}

impl Default for Annotations {
    fn default() -> Self {
        Self {
            rewrite: None,
            regex: false,
            https: true,
            force_https: false,
            limits: Limits::default(),
            retry: None,
            app_root: None,
            host: None,
            grpc: false,
            compress: None,
            cors: None,
            request_headers: HeaderEdit::default(),
            login: None,
            guard: None,
            check: None,
            refused: None,
            canary: false,
            extra: Extra::default(),
            notes: Vec::new(),
        }
    }
}

/// Settings of nginx' own workings for which there is nothing to do here: bodies
/// and answers stream, and buffers grow as they are needed.
const NEEDLESS: [&str; 12] = [
    "client-body-buffer-size",
    "enable-access-log",
    "enable-global-auth",
    "enable-rewrite-log",
    "proxy-buffer-size",
    "proxy-buffering",
    "proxy-buffers-number",
    "proxy-busy-buffers-size",
    "proxy-http-version",
    "proxy-max-temp-file-size",
    "proxy-request-buffering",
    "service-upstream",
];

/// What is often written and not served, and what serves instead.
const INSTEAD: [(&str, &str); 10] = [
    ("client-max-body-size", "use proxy-body-size"),
    ("client_max_body_size", "use proxy-body-size"),
    ("custom-headers", "use an HTTPRoute with a ResponseHeaderModifier"),
    ("mirror-target", "use an HTTPRoute with a RequestMirror"),
    ("server-alias", "add the host to spec.rules"),
    ("ssl-passthrough", "use a TLSRoute"),
    ("upstream-hash-by", "use affinity: cookie"),
    ("proxy-ssl-secret", "use a BackendTLSPolicy"),
    ("websocket-services", "remove it: WebSockets need nothing"),
    ("ws-services", "remove it: WebSockets need nothing"),
];

/// What browsers of other origins may send, where nothing else is said.
const CORS_HEADERS: &str = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization";
const CORS_METHODS: &str = "GET,PUT,POST,DELETE,PATCH,OPTIONS";
const CORS_AGE: u32 = 1_728_000;

/// Reads the annotations, given without their prefix.
pub fn read(all: &Few<String, String>) -> Annotations {
    let mut reader = Reader { all, seen: BTreeSet::new(), out: Annotations::default() };
    reader.routing();
    reader.limits();
    reader.out.retry = next_upstream::read(&mut reader);
    reader.backend();
    reader.redirects();
    reader.cors();
    reader.sources();
    reader.clients();
    reader.affinity();
    reader.authentication();
    for name in ["server-snippet", "configuration-snippet"] {
        if let Some(text) = reader.text(name) {
            snippet::read(name, text, &mut reader.out);
        }
    }
    reader.rest();
    reader.out
}

struct Reader<'a> {
    all: &'a Few<String, String>,
    /// The names that were asked for.
    seen: BTreeSet<&'static str>,
    out: Annotations,
}

impl<'a> Reader<'a> {
    fn text(&mut self, name: &'static str) -> Option<&'a str> {
        self.seen.insert(name);
        self.all.get(name).map(|value| value.trim())
    }

    /// As [`text`](Self::text), but nothing is the same as an empty text.
    fn filled(&mut self, name: &'static str) -> Option<&'a str> {
        self.text(name).filter(|text| !text.is_empty())
    }

    fn note(&mut self, name: &str, text: impl AsRef<str>) {
        self.out.notes.push(format!("annotation {name}: {}", text.as_ref()));
    }

    fn parsed<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let parsed = parse(text);
        if parsed.is_none() {
            self.note(name, format!("{text:?} is not {wanted}; it is ignored"));
        }
        parsed
    }

    fn flag(&mut self, name: &'static str, default: bool) -> bool {
        self.parsed(name, "true or false", flag).unwrap_or(default)
    }

    fn time(&mut self, name: &'static str) -> Option<Duration> {
        self.parsed(name, "a time to wait, such as 60 or 60s", value::timeout)
    }

    fn count(&mut self, name: &'static str) -> Option<u64> {
        self.parsed(name, "a number", value::number)
    }

    fn routing(&mut self) {
        // Certificates are the controller's to get.
        let _ = self.flag(api::names::ACME_ANNOTATION, false);
        self.out.compress = self.parsed(api::names::COMPRESSION_ANNOTATION, "on or off", flag);
        self.out.rewrite = self.filled("rewrite-target").map(str::to_owned);
        self.out.regex = self.flag("use-regex", false);
        self.out.https = self.flag("ssl-redirect", true);
        self.out.force_https = self.flag("force-ssl-redirect", false);
        self.out.canary = self.flag("canary", false);
        if self.out.canary {
            self.note("canary", "it is not served; use an HTTPRoute with two backends and their weights");
            self.seen.extend(["canary-weight", "canary-weight-total", "canary-by-cookie"]);
            self.seen.extend(["canary-by-header", "canary-by-header-value", "canary-by-header-pattern"]);
        }
        if let Some(text) = self.filled("x-forwarded-prefix") {
            match value::header_value(text) {
                Some(text) => {
                    let name = HeaderName::from_static("x-forwarded-prefix");
                    self.out.request_headers.set.push((name, text));
                }
                None => self.note("x-forwarded-prefix", "it is not a header's value; it is ignored"),
            }
        }
    }

    fn limits(&mut self) {
        let size = "a size, such as 8m or 1g";
        // As in nginx, zero is no limit.
        self.out.limits = Limits {
            body: self.parsed("proxy-body-size", size, value::size).filter(|bytes| *bytes > 0),
            connect: self.time("proxy-connect-timeout"),
            read: self.time("proxy-read-timeout"),
            send: self.time("proxy-send-timeout"),
        };
    }

    fn backend(&mut self) {
        let mut tls = false;
        if let Some(text) = self.filled("backend-protocol") {
            match text.to_ascii_uppercase().as_str() {
                // WebSockets begin as HTTP, and need nothing else.
                "HTTP" | "AUTO_HTTP" | "WS" => {}
                "HTTPS" | "WSS" => tls = true,
                "GRPC" => self.out.grpc = true,
                "GRPCS" => (tls, self.out.grpc) = (true, true),
                _ => {
                    let wanted = "is not HTTP, HTTPS, GRPC or GRPCS; HTTP is used";
                    self.note("backend-protocol", format!("{text:?} {wanted}"));
                }
            }
        }
        if let Some(text) = self.filled("upstream-vhost") {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
            if text.bytes().all(allowed) {
                self.out.host = Some(text.to_owned());
            } else {
                self.note("upstream-vhost", format!("{text:?} is not a host; it is ignored"));
            }
        }
        let verify = self.text("proxy-ssl-verify").is_some_and(|text| flag(text) != Some(false));
        let named = self.flag("proxy-ssl-server-name", false);
        let name = self.filled("proxy-ssl-name");
        if !tls {
            return;
        }
        // What asks to be verified is not spoken to unverified.
        self.out.extra.backend_tls = if verify {
            let remedy = "without a BackendTLSPolicy for the Service nothing is sent to it";
            self.note("proxy-ssl-verify", remedy);
            Some(BackendSecurity::ByPolicy)
        } else {
            let tls = BackendTls::unverified(name.filter(|_| named));
            if tls.is_none() {
                self.note("proxy-ssl-name", "it is not a host's name; nothing is sent to the backend");
            }
            Some(tls.map_or(BackendSecurity::ByPolicy, |tls| BackendSecurity::Unverified(Arc::new(tls))))
        };
    }

    fn location(&mut self, name: &'static str) -> Option<Location> {
        let text = self.filled(name)?;
        match Location::parse(text) {
            Ok(location) => Some(location),
            Err(error) => {
                self.note(name, format!("{error}; it is ignored"));
                None
            }
        }
    }

    fn redirects(&mut self) {
        self.out.app_root = self.location("app-root");
        let mut chosen = None;
        // The one for now comes before the one for ever.
        for (name, code, usual) in [
            ("temporal-redirect", "temporal-redirect-code", 302),
            ("permanent-redirect", "permanent-redirect-code", 301),
        ] {
            let location = self.location(name);
            let redirects = |text: &str| text.parse().ok().filter(|code: &u16| (300..=308).contains(code));
            let status = self.parsed(code, "a status from 300 to 308", redirects).unwrap_or(usual);
            if let Some(location) = location
                && chosen.is_none()
            {
                chosen = Some(FixedRedirect { status, location });
            }
        }
        self.out.extra.redirect = chosen;
    }

    fn cors(&mut self) {
        let enabled = self.flag("enable-cors", false);
        let origins = self.filled("cors-allow-origin").unwrap_or("*");
        let methods = self.filled("cors-allow-methods").unwrap_or(CORS_METHODS);
        let headers = self.filled("cors-allow-headers").unwrap_or(CORS_HEADERS);
        let expose = self.filled("cors-expose-headers").unwrap_or_default();
        let credentials = self.flag("cors-allow-credentials", true);
        let max_age = self.parsed("cors-max-age", "a number of seconds", |text| text.parse::<u32>().ok());
        if !enabled {
            return;
        }
        let mut good = Vec::new();
        for origin in value::list(origins) {
            if origin == "*" || origin == "null" || origin.contains("://") {
                good.push(origin.to_owned());
            } else {
                let wanted = "is not an origin, such as https://a.example; it is ignored";
                self.note("cors-allow-origin", format!("{origin:?} {wanted}"));
            }
        }
        let names = |text: &str| value::list(text).map(str::to_owned).collect::<Vec<_>>();
        self.out.cors = Some(Cors {
            // Browsers refuse credentials for a star: any page could use them.
            credentials: credentials && !good.iter().any(|origin| origin == "*"),
            origins: good,
            methods: names(methods),
            headers: names(headers),
            expose: names(expose),
            max_age: max_age.unwrap_or(CORS_AGE),
        });
    }

    /// The networks of a list, and those of its entries that are none.
    fn networks(&mut self, name: &'static str) -> Option<(Vec<ipnet::IpNet>, Vec<&'a str>)> {
        let text = self.filled(name)?;
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for entry in value::list(text) {
            match value::network(entry) {
                Some(network) => good.push(network),
                None => bad.push(entry),
            }
        }
        Some((good, bad))
    }

    fn sources(&mut self) {
        let mut sources = Sources::default();
        for name in ["whitelist-source-range", "allowlist-source-range"] {
            let Some((good, bad)) = self.networks(name) else { continue };
            if !bad.is_empty() {
                let rest = "not networks, such as 10.0.0.0/8; only the others are let in";
                self.note(name, format!("{bad:?} are {rest}"));
            }
            sources.allowed.get_or_insert_default().extend(good);
        }
        if let Some((good, bad)) = self.networks("denylist-source-range") {
            if !bad.is_empty() {
                let rest = "not networks, such as 10.0.0.0/8; nobody is let in until they are";
                self.note("denylist-source-range", format!("{bad:?} are {rest}"));
                self.refuse("its annotation denylist-source-range can't be read");
            }
            sources.denied = good;
        }
        self.out.extra.sources = Some(sources).filter(|sources| *sources != Sources::default());
    }

    fn clients(&mut self) {
        let second = self.count("limit-rps").filter(|count| *count > 0);
        let minute = self.count("limit-rpm").filter(|count| *count > 0);
        let open = self.count("limit-connections").filter(|count| *count > 0);
        let burst = self.count("limit-burst-multiplier").filter(|count| *count > 0).unwrap_or(5);
        let exempt = self.networks("limit-whitelist");
        if let Some((_, bad)) = exempt.as_ref().filter(|(_, bad)| !bad.is_empty()) {
            self.note("limit-whitelist", format!("{bad:?} are not networks, such as 10.0.0.0/8"));
        }
        if second.is_none() && minute.is_none() && open.is_none() {
            return;
        }
        let rate = |count: Option<u64>, each| {
            let count = count?;
            // As nginx counts: one, and what may come early.
            Rate::new(count, Duration::from_secs(each), count.saturating_mul(burst).saturating_add(1))
        };
        self.out.extra.clients = Some(ClientLimits {
            per_second: rate(second, 1),
            per_minute: rate(minute, 60),
            open: open.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
            exempt: exempt.map(|(good, _)| good).unwrap_or_default(),
        });
    }

    fn affinity(&mut self) {
        let wanted = match self.filled("affinity") {
            None => false,
            Some("cookie") => true,
            Some(other) => {
                self.note("affinity", format!("{other:?} is not cookie; it is ignored"));
                false
            }
        };
        let mode = self.filled("affinity-mode");
        if let Some(mode) = mode.filter(|mode| !["balanced", "persistent"].contains(mode)) {
            self.note("affinity-mode", format!("{mode:?} is neither balanced nor persistent"));
        }
        self.seen.insert("affinity-canary-behavior");
        self.seen.insert("session-cookie-conditional-samesite-none");
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let name = self.parsed("session-cookie-name", "a cookie's name", |text| {
            (!text.is_empty() && text.bytes().all(token)).then(|| text.to_owned())
        });
        let attribute = |text: &str| {
            let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b';' && byte != b',';
            (!text.is_empty() && text.bytes().all(allowed)).then(|| text.to_owned())
        };
        let path = self.parsed("session-cookie-path", "a path", attribute);
        let domain = self.parsed("session-cookie-domain", "a domain", attribute);
        let expires = self.count("session-cookie-expires");
        let max_age = self.count("session-cookie-max-age").or(expires);
        let secure = self.flag("session-cookie-secure", false);
        let change_on_failure = self.flag("session-cookie-change-on-failure", false);
        let same_site = self.parsed("session-cookie-samesite", "None, Lax or Strict", |text| {
            ["None", "Lax", "Strict"].into_iter().find(|known| known.eq_ignore_ascii_case(text))
        });
        let cookie = name.unwrap_or_else(|| "INGRESSCOOKIE".to_owned());
        let affinity = Affinity { cookie, path, domain, max_age, secure, same_site, change_on_failure };
        self.out.extra.affinity = wanted.then_some(affinity);
    }

    /// `auth-url`: a service of the cluster, and nothing beyond it.
    fn check(&mut self, text: &str) {
        let pass = self.filled("auth-response-headers").unwrap_or_default();
        let signin = self.filled("auth-signin");
        let method = self.filled("auth-method").unwrap_or("GET");
        let method = match method {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            _ => return self.deny("auth-method", "write GET or HEAD"),
        };
        let Some((namespace, service, url)) = service(text) else {
            let form = "http://SERVICE.NAMESPACE.svc.cluster.local:PORT/PATH";
            return self
                .deny("auth-url", &format!("name a Service of the Ingress' own namespace, as {form}"));
        };
        let mut names = Vec::new();
        for name in value::list(pass) {
            match value::header_name(name) {
                Some(name) => names.push(name),
                None => {
                    self.note("auth-response-headers", format!("{name:?} is no header that an app may get"));
                }
            }
        }
        let signin = signin.and_then(|text| {
            // Where to come back to, unless it is said.
            let back = "rd=$scheme://$host$escaped_request_uri";
            let text = match (text.contains("rd="), text.contains('?')) {
                (true, _) => text.to_owned(),
                (false, true) => format!("{text}&{back}"),
                (false, false) => format!("{text}?{back}"),
            };
            Location::parse(&text)
                .map_err(|error| self.note("auth-signin", format!("{error}; it is ignored")))
                .ok()
        });
        self.out.check = Some(WantedCheck {
            namespace,
            service,
            port: url.port_u16().unwrap_or(80),
            host: url.authority().map(ToString::to_string).unwrap_or_default(),
            path: url.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            method,
            pass: names,
            signin,
        });
    }

    fn deny(&mut self, name: &str, remedy: &str) {
        self.note(name, format!("nobody is let in; {remedy}"));
        self.refuse(&format!("its annotation {name} can't be followed"));
    }

    fn refuse(&mut self, reason: &str) {
        self.out.refused.get_or_insert_with(|| reason.to_owned());
    }

    /// Names and passwords are checked here. Who asks for anything else is not
    /// served.
    fn authentication(&mut self) {
        let basic = self.text("auth-type") == Some("basic");
        if basic {
            let realm = self.text("auth-realm").unwrap_or("Authentication Required");
            let map = match self.filled("auth-secret-type") {
                None | Some("auth-file") => Some(false),
                Some("auth-map") => Some(true),
                Some(_) => None,
            };
            let challenge = crate::password::challenge(realm);
            match (self.filled("auth-secret"), map, challenge) {
                (Some(secret), Some(map), Some(challenge)) => {
                    self.out.login = Some(WantedLogin { secret: secret.to_owned(), map, challenge });
                }
                (None, ..) => self.deny("auth-secret", "name the Secret with the users"),
                (_, None, _) => self.deny("auth-secret-type", "write auth-file or auth-map"),
                (.., None) => self.deny("auth-realm", "write plain letters without quotation marks"),
            }
        }
        let asks = self.filled("auth-url");
        if let Some(text) = asks {
            self.check(text);
        }
        if !basic && self.filled("auth-type").is_some_and(|text| text != "off") {
            self.deny("auth-type", "it is not served; use auth-type: basic, or authenticate in the app");
        }
        self.certificates();
        if self.out.refused.is_some() {
            let all: Vec<&'static str> = AUTHENTICATION.to_vec();
            self.seen.extend(all);
        }
    }

    /// Client certificates. What can't be followed keeps people out of all of the
    /// host, for which it would have been asked.
    fn certificates(&mut self) {
        if let Err((name, remedy)) = self.wanted_certificates() {
            self.deny(name, remedy);
            self.out.extra.guard = Some(Arc::default());
        }
    }

    fn wanted_certificates(&mut self) -> Result<(), (&'static str, &'static str)> {
        let mode = match self.filled("auth-tls-verify-client") {
            None | Some("on") => Some(Mode::Requests),
            Some("optional") => Some(Mode::Optional),
            Some("optional_no_ca") => Some(Mode::AnyAuthority),
            Some("off") => None,
            Some(_) => {
                return Err(("auth-tls-verify-client", "write on, off, optional or optional_no_ca"));
            }
        };
        let said = self.all.get("auth-tls-verify-client").is_some();
        let depth = self.filled("auth-tls-verify-depth").map_or(Some(1), |text| text.parse().ok());
        let page = self.filled("auth-tls-error-page").map(Location::parse);
        let pass = self.flag("auth-tls-pass-certificate-to-upstream", false);
        let subject = self.filled("auth-tls-match-cn").map(|text| regex(text, false));
        let Some(secret) = self.filled("auth-tls-secret") else {
            // Who asks for certificates without saying whose is not served.
            if said && mode.is_some() {
                return Err(("auth-tls-secret", "name the Secret with the authority's ca.crt"));
            }
            return Ok(());
        };
        let Some(mode) = mode else { return Ok(()) };
        let depth = depth.ok_or(("auth-tls-verify-depth", "write a number"))?;
        let unread = |_| ("auth-tls-match-cn", "its regular expression can't be read");
        let subject = subject.transpose().map_err(unread)?;
        let error_page = match page.transpose() {
            Ok(page) => page,
            Err(error) => {
                self.note("auth-tls-error-page", format!("{error}; it is ignored"));
                None
            }
        };
        self.out.guard =
            Some(WantedGuard { secret: secret.to_owned(), mode, depth, error_page, pass, subject });
        Ok(())
    }

    /// What nobody has asked for.
    fn rest(&mut self) {
        let all = self.all;
        let unknown: Vec<&String> = all
            .keys()
            .filter(|name| !self.seen.contains(name.as_str()) && !NEEDLESS.contains(&name.as_str()))
            .collect();
        for name in unknown {
            let instead = INSTEAD.iter().find(|(known, _)| known == name).map(|(_, instead)| *instead);
            let remedy = instead.unwrap_or("remove it, or see docs/gateway.md for what is served");
            self.note(name, format!("it is not served and is ignored; {remedy}"));
        }
    }
}

/// The namespace and the name of the Service in an address.
fn service(text: &str) -> Option<(String, String, Uri)> {
    let url: Uri =
        text.parse().ok().filter(|url: &Uri| url.scheme_str() == Some("http") && !text.contains('$'))?;
    let host = url.host()?;
    let host = host.strip_suffix(".cluster.local").unwrap_or(host);
    let (service, namespace) = host.strip_suffix(".svc").unwrap_or(host).split_once('.')?;
    let label = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let plain = label(service) && label(namespace) && !url.authority()?.as_str().contains('@');
    let (namespace, service) = (namespace.to_ascii_lowercase(), service.to_ascii_lowercase());
    plain.then_some((namespace, service, url))
}

/// Details of an authentication, which are told of with it.
const AUTHENTICATION: [&str; 10] = [
    "auth-cache-duration",
    "auth-cache-key",
    "auth-method",
    "auth-proxy-set-headers",
    "auth-realm",
    "auth-response-headers",
    "auth-secret",
    "auth-secret-type",
    "auth-signin",
    "auth-snippet",
];

#[cfg(test)]
mod tests;
