//! Session affinity: a cookie names the endpoint that answered first.
//!
//! The cookie holds a hash of the endpoint, so every gateway of the cluster reads
//! it alike and none keeps anything.

use std::fmt::Write as _;
use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};

use crate::backend::Backend;
use crate::extra::cookies;
use crate::route::PathMatch;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affinity {
    /// The cookie's name.
    pub cookie: String,
    /// None: the route's own path.
    pub path: Option<String>,
    pub domain: Option<String>,
    /// Seconds; None: until the browser is closed.
    pub max_age: Option<u64>,
    /// Also where the request came by clear text.
    pub secure: bool,
    pub same_site: Option<&'static str>,
    /// A client whose endpoint can't be reached stays with the one that answered.
    pub change_on_failure: bool,
}

/// What stands for an endpoint of a backend in a cookie.
pub(crate) fn tag(backend: &Backend, endpoint: SocketAddr) -> String {
    let hash = Sha256::digest(format!("{backend} {endpoint}"));
    hash.iter().take(12).fold(String::with_capacity(24), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Affinity {
    /// The endpoint that a request's cookie names, if it is still there.
    pub(crate) fn find(&self, headers: &HeaderMap, backend: &Backend) -> Option<SocketAddr> {
        let (_, wanted) = cookies(headers).find(|(name, _)| *name == self.cookie)?;
        backend.endpoints().iter().copied().find(|endpoint| tag(backend, *endpoint) == wanted)
    }

    /// The cookie that names an endpoint.
    pub(crate) fn cookie(&self, tag: &str, route: &PathMatch, tls: bool) -> Option<HeaderValue> {
        let path = match (&self.path, route) {
            (Some(path), _) => path.as_str(),
            (None, PathMatch::Exact(path) | PathMatch::Prefix(path)) if !path.is_empty() => path,
            (None, _) => "/",
        };
        let mut text = format!("{}={tag}; Path={path}", self.cookie);
        if let Some(domain) = &self.domain {
            let _ = write!(text, "; Domain={domain}");
        }
        if let Some(seconds) = self.max_age {
            let _ = write!(text, "; Max-Age={seconds}");
        }
        if self.secure || tls {
            text.push_str("; Secure");
        }
        text.push_str("; HttpOnly");
        if let Some(same_site) = self.same_site {
            let _ = write!(text, "; SameSite={same_site}");
        }
        HeaderValue::from_str(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;
    use crate::object::{Id, PortRef};

    #[test]
    fn a_cookie_leads_to_its_endpoint_while_that_is_there() {
        let backend = Backend::new(Id::new("a", "web"), PortRef::Number(80));
        let (one, two) = (SocketAddr::from(([10, 0, 0, 1], 80)), SocketAddr::from(([10, 0, 0, 2], 80)));
        backend.set(vec![one, two]);
        let affinity = Affinity { cookie: "stay".into(), ..Affinity::default() };
        let find = |cookie: &str| {
            let mut headers = HeaderMap::new();
            headers.append(header::COOKIE, HeaderValue::from_static("a=b"));
            headers.append(header::COOKIE, cookie.parse().unwrap());
            affinity.find(&headers, &backend)
        };
        let cookie = format!("x=y; stay={}", tag(&backend, two));
        assert_eq!(find(&cookie), Some(two));
        assert_eq!(find("stay=10.0.0.2:80"), None);
        assert_eq!(find(&format!("other={}", tag(&backend, two))), None);
        backend.set(vec![one]);
        assert_eq!(find(&cookie), None);
        // Another Service's cookie, for the same address, is not this one's.
        let other = Backend::new(Id::new("b", "web"), PortRef::Number(80));
        assert_ne!(tag(&other, one), tag(&backend, one));
    }

    #[test]
    fn a_cookie_says_what_was_asked_for() {
        let check = |affinity: &Affinity, route: PathMatch, tls: bool, wanted: &str| {
            assert_eq!(affinity.cookie("T", &route, tls).unwrap(), wanted);
        };
        let plain = Affinity { cookie: "stay".into(), ..Affinity::default() };
        check(&plain, PathMatch::prefix("/"), false, "stay=T; Path=/; HttpOnly");
        check(&plain, PathMatch::prefix("/app"), true, "stay=T; Path=/app; Secure; HttpOnly");
        let full = Affinity {
            path: Some("/p".into()),
            domain: Some("a.example".into()),
            max_age: Some(60),
            secure: true,
            same_site: Some("Lax"),
            ..plain
        };
        let wanted = "stay=T; Path=/p; Domain=a.example; Max-Age=60; Secure; HttpOnly; SameSite=Lax";
        check(&full, PathMatch::prefix("/app"), false, wanted);
    }
}
