//! What a list or a watch of namespaces or workspaces becomes, so that the API
//! server itself gives only the caller's: a label selector in front of theirs.
//!
//! Selectors have no "or": what stands first can only be narrowed by the rest.

use api::names::WORKSPACE_LABEL;

/// What Kubernetes knows of a list; anything else is dropped.
const KNOWN: [&str; 13] = [
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "timeoutSeconds",
    "watch",
    "allowWatchBookmarks",
    "sendInitialEvents",
    "includeObject",
    "pretty",
    "timeout",
];

/// The parameters of a list or a watch, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(&'static str, String)>,
}

impl Query {
    /// Reads a query. Of a parameter that is there twice the first counts, as in
    /// Kubernetes.
    pub fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            if let Some(known) = KNOWN.iter().find(|known| **known == key)
                && parsed.get(known).is_none()
            {
                parsed.pairs.push((known, value.into_owned()));
            }
        }
        parsed
    }

    /// A parameter's value.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())
    }

    /// Sets a parameter.
    pub fn set(&mut self, key: &'static str, value: impl Into<String>) {
        self.remove(key);
        self.pairs.push((key, value.into()));
    }

    /// Removes a parameter.
    pub fn remove(&mut self, key: &str) {
        self.pairs.retain(|(known, _)| *known != key);
    }

    /// The same for these workspaces only.
    pub fn narrowed<'a>(&self, workspaces: impl IntoIterator<Item = &'a str>) -> Self {
        let mut narrowed = self.clone();
        let names: Vec<&str> = workspaces.into_iter().collect();
        let mut selector = if names.is_empty() {
            // What has the label and doesn't: nothing.
            format!("{WORKSPACE_LABEL},!{WORKSPACE_LABEL}")
        } else {
            format!("{WORKSPACE_LABEL} in ({})", names.join(","))
        };
        if let Some(theirs) = self.get("labelSelector").filter(|theirs| !theirs.trim().is_empty()) {
            selector.push(',');
            selector.push_str(theirs);
        }
        narrowed.set("labelSelector", selector);
        narrowed
    }

    /// As it is sent.
    pub fn encode(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.pairs).finish()
    }
}

/// What of an `Accept` header is JSON, for streams that are looked into; None:
/// the client takes none.
pub fn json_only(accept: Option<&str>) -> Option<String> {
    let accept = accept.unwrap_or("*/*");
    let types = accept.split(',').map(str::trim).filter_map(|wanted| {
        let (media, parameters) = wanted.split_once(';').unwrap_or((wanted, ""));
        match media.trim() {
            "application/json" if !parameters.contains("stream=") => Some(wanted.to_owned()),
            // The API server streams JSON by default.
            "application/json" | "*/*" | "application/*" => Some("application/json".to_owned()),
            _ => None,
        }
    });
    let types: Vec<String> = types.collect();
    (!types.is_empty()).then(|| types.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_stands_first_and_theirs_can_only_narrow() {
        let check = |query: &str, workspaces: &[&str], wanted: &str| {
            let narrowed = Query::parse(query).narrowed(workspaces.iter().copied());
            assert_eq!(narrowed.get("labelSelector"), Some(wanted), "{query}");
        };
        check("", &["a", "b"], "atoll.dev/workspace in (a,b)");
        check("", &[], "atoll.dev/workspace,!atoll.dev/workspace");
        check("labelSelector=x%3Dy", &["a"], "atoll.dev/workspace in (a),x=y");
        check("labelSelector=x%3Dy&labelSelector=z", &["a"], "atoll.dev/workspace in (a),x=y");
        check("labelSelector=", &["a"], "atoll.dev/workspace in (a)");
        check("labelSelector=x)", &["a"], "atoll.dev/workspace in (a),x)");
        check("l%61belSelector=x", &[], "atoll.dev/workspace,!atoll.dev/workspace,x");
    }

    #[test]
    fn only_what_is_known_goes_on_and_once() {
        let query = Query::parse("watch=1&watch=0&limit=5&as=admin&fieldSelector=metadata.name%3Da&x=y");
        assert_eq!(query.encode(), "watch=1&limit=5&fieldSelector=metadata.name%3Da");
    }

    #[test]
    fn streams_are_json() {
        let check = |accept: Option<&str>, wanted: Option<&str>| {
            assert_eq!(json_only(accept).as_deref(), wanted, "{accept:?}");
        };
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        check(None, Some("application/json"));
        check(Some("*/*"), Some("application/json"));
        check(Some(table), Some(table));
        check(Some(&format!("{table},application/json")), Some(&format!("{table},application/json")));
        check(Some("application/json;stream=watch"), Some("application/json"));
        check(Some("application/vnd.kubernetes.protobuf,application/json"), Some("application/json"));
        check(Some("application/vnd.kubernetes.protobuf;stream=watch"), None);
        check(Some("application/cbor"), None);
        check(Some("application/yaml"), None);
    }
}
