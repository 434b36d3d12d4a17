//! Cross-origin requests: who may ask, as the browser is told.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// What a route lets other origins do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cors {
    /// `https://a.example`, `https://*.a.example`, or `*`.
    pub origins: Vec<String>,
    pub credentials: bool,
    pub methods: Vec<String>,
    pub headers: Vec<String>,
    pub expose: Vec<String>,
    /// Seconds.
    pub max_age: u32,
}

/// A browser that asks beforehand whether it may.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl Cors {
    fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| match allowed.split_once('*') {
            None => allowed.eq_ignore_ascii_case(origin),
            Some(("", "")) => true,
            Some((before, after)) => {
                let origin = origin.to_ascii_lowercase();
                let (before, after) = (before.to_ascii_lowercase(), after.to_ascii_lowercase());
                origin
                    .strip_prefix(&before)
                    .and_then(|rest| rest.strip_suffix(&after))
                    .is_some_and(|middle| !middle.is_empty() && !middle.contains('/'))
            }
        })
    }

    /// The headers of an answer; none for an origin that may not ask.
    pub(crate) fn answer(&self, request: &HeaderMap, preflight: bool) -> Vec<(HeaderName, HeaderValue)> {
        let text = |name: &HeaderName| request.get(name).and_then(|value| value.to_str().ok());
        let Some(origin) = text(&header::ORIGIN).filter(|origin| self.allows(origin)) else {
            return Vec::new();
        };
        let mut answer = Vec::new();
        let mut add = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                answer.push((name, value));
            }
        };
        add(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.to_owned());
        add(header::VARY, "origin".to_owned());
        if self.credentials {
            add(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true".to_owned());
        }
        // With credentials a star means itself, so what was asked for is named.
        let listed = |all: &[String], asked: Option<&str>| {
            if all.iter().any(|one| one == "*") { asked.map(str::to_owned) } else { Some(all.join(", ")) }
        };
        if !self.expose.is_empty() {
            let all = if self.credentials { None } else { Some("*") };
            if let Some(value) = listed(&self.expose, all) {
                add(header::ACCESS_CONTROL_EXPOSE_HEADERS, value);
            }
        }
        if preflight {
            let asked = text(&header::ACCESS_CONTROL_REQUEST_METHOD);
            if let Some(value) = listed(&self.methods, asked).filter(|value| !value.is_empty()) {
                add(header::ACCESS_CONTROL_ALLOW_METHODS, value);
            }
            let asked = text(&header::ACCESS_CONTROL_REQUEST_HEADERS);
            if let Some(value) = listed(&self.headers, asked).filter(|value| !value.is_empty()) {
                add(header::ACCESS_CONTROL_ALLOW_HEADERS, value);
            }
            add(header::ACCESS_CONTROL_MAX_AGE, self.max_age.to_string());
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        Cors {
            origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            credentials,
            methods: vec!["*".to_owned()],
            headers: vec!["x-one".to_owned(), "x-two".to_owned()],
            expose: vec!["*".to_owned()],
            max_age: 5,
        }
    }

    #[test]
    fn an_origin_is_compared_as_a_whole() {
        let cors = cors(&["https://a.test", "https://*.b.test:8443", "http://c.test:*"], false);
        for (origin, wanted) in [
            ("https://a.test", true),
            ("HTTPS://A.test", true),
            ("https://a.test.evil", false),
            ("http://a.test", false),
            ("https://x.y.b.test:8443", true),
            ("https://b.test:8443", false),
            ("https://x.b.test", false),
            ("https://evil/.b.test:8443", false),
            ("http://c.test:80", true),
            ("null", false),
        ] {
            assert_eq!(cors.allows(origin), wanted, "{origin}");
        }
    }

    #[test]
    fn who_may_not_ask_gets_no_header_and_a_star_never_goes_with_credentials() {
        let mut request = HeaderMap::new();
        request.insert(header::ORIGIN, HeaderValue::from_static("https://a.test"));
        request.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT"));
        assert!(is_preflight(&Method::OPTIONS, &request) && !is_preflight(&Method::PUT, &request));
        assert!(cors(&["https://b.test"], true).answer(&request, true).is_empty());
        let answer = cors(&["*"], true).answer(&request, true);
        let get =
            |wanted: HeaderName| answer.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
        assert_eq!(get(header::ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), "https://a.test");
        assert_eq!(get(header::ACCESS_CONTROL_ALLOW_METHODS).unwrap(), "PUT");
        assert_eq!(get(header::ACCESS_CONTROL_ALLOW_HEADERS).unwrap(), "x-one, x-two");
        assert!(get(header::ACCESS_CONTROL_EXPOSE_HEADERS).is_none());
        assert!(answer.iter().all(|(_, value)| value != "*"));
    }
}
