//! What a request asks of Kubernetes: verb, resource, namespace and name, read
//! from method, path and query as the API server itself reads them. A path that
//! could be read in two ways is refused.

use percent_encoding::percent_decode_str;

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `get`, `list`, `watch`, `create`, ...; for what is no resource, the
    /// method in lower case.
    pub verb: String,
    /// The resource; None: a path that is no resource, such as `/version`.
    pub resource: Option<Resource>,
}

/// A resource that is asked for. What isn't there is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// The API group; empty for the core one.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// The namespace; for a namespace itself, its own name.
    pub namespace: String,
    /// In the plural, such as `pods`.
    pub resource: String,
    /// One object's name.
    pub name: String,
    /// Such as `log`.
    pub subresource: String,
    /// The form `/api/v1/watch/...`, which Kubernetes still serves.
    pub watch_path: bool,
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// Doesn't begin with a slash, such as the form with a host.
    #[error("the path must begin with /")]
    NoSlash,
    /// `//` before an object's name is over.
    #[error("the path has an empty segment: remove the double slash")]
    Empty,
    /// `.` or `..`, plain or encoded.
    #[error("the path has a segment of dots: write it without . and ..")]
    Dots,
    /// `%2F`, `%5C`, `%00` and their like, or a backslash.
    #[error("the path has an encoded slash, backslash or control character")]
    Encoded,
    /// `%` without two hexadecimal digits, or what is no text.
    #[error("the path is not valid percent-encoded UTF-8")]
    Encoding,
    /// `/api/v1/watch` and `/api/v1/proxy` without a resource.
    #[error("the path ends before the resource")]
    Short,
}

impl Asked {
    /// Whether the answer may take as long as the client wants.
    pub fn is_long(&self) -> bool {
        self.verb == "watch"
            || self.resource.as_ref().is_some_and(|resource| {
                matches!(resource.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy" | "log")
            })
    }

    /// Whether it changes something at once.
    pub fn is_write(&self) -> bool {
        let changes = ["create", "update", "patch", "delete", "deletecollection"];
        changes.contains(&self.verb.as_str()) && !self.is_long()
    }

    /// Whether it is for every namespace's objects of a kind, or for a kind that
    /// has no namespace.
    pub fn is_across(&self) -> bool {
        self.resource.as_ref().is_some_and(|resource| resource.namespace.is_empty())
    }

    /// The resource, if it is this one as a whole and no subresource of it.
    pub fn plain(&self, group: &str, resource: &str) -> Option<&Resource> {
        self.resource.as_ref().filter(|asked| {
            asked.group == group && asked.resource == resource && asked.subresource.is_empty()
        })
    }
}

/// Reads a request. `path` is as it was sent, percent-encoding included.
///
/// # Errors
/// Why the path is refused.
pub fn classify(method: &str, path: &str, query: &str) -> Result<Asked, Unclear> {
    let segments = segments(path)?;
    let mut verb = method.to_ascii_lowercase();
    let mut rest = segments.as_slice();
    let group = match rest {
        // Only what is deep enough to name a resource does.
        [prefix, _, _, ..] if prefix == "api" => {
            rest = &rest[1..];
            String::new()
        }
        [prefix, group, _, _, ..] if prefix == "apis" => {
            let group = group.clone();
            rest = &rest[2..];
            group
        }
        _ => return Ok(Asked { verb, resource: None }),
    };
    let mut asked = Resource { group, ..Resource::default() };
    if let [version, tail @ ..] = rest {
        asked.version.clone_from(version);
        rest = tail;
    }
    let special = rest.first().filter(|word| matches!(word.as_str(), "watch" | "proxy")).cloned();
    if let Some(word) = special {
        if rest.len() < 2 {
            return Err(Unclear::Short);
        }
        asked.watch_path = word == "watch";
        verb = word;
        rest = &rest[1..];
    } else {
        verb = match verb.as_str() {
            "post" => "create",
            "get" | "head" => "get",
            "put" => "update",
            "patch" => "patch",
            "delete" => "delete",
            _ => "",
        }
        .to_owned();
    }
    if let [word, namespace, tail @ ..] = rest
        && word == "namespaces"
    {
        asked.namespace.clone_from(namespace);
        // `status` and `finalize` are the namespace's own, all else is in it.
        if tail.first().is_some_and(|next| !matches!(next.as_str(), "status" | "finalize")) {
            rest = tail;
        }
    }
    let mut parts = rest.iter().cloned();
    asked.resource = parts.next().unwrap_or_default();
    asked.name = parts.next().unwrap_or_default();
    if verb != "proxy" {
        asked.subresource = parts.next().unwrap_or_default();
    }
    if asked.name.is_empty() {
        if verb == "get" {
            verb = if watches(query) { "watch" } else { "list" }.to_owned();
        } else if verb == "delete" {
            verb = "deletecollection".to_owned();
        }
    }
    Ok(Asked { verb, resource: Some(asked) })
}

/// `watch` as Kubernetes reads a boolean: the first value counts, and all but
/// `0` and `false` is true, the empty one included.
fn watches(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == "watch")
        .is_some_and(|(_, value)| value != "0" && !value.eq_ignore_ascii_case("false"))
}

/// The path's segments, decoded. Behind `proxy/` the path belongs to somebody's
/// app: there, empty segments and encoded slashes are its own business.
fn segments(path: &str) -> Result<Vec<String>, Unclear> {
    let path = path.strip_prefix('/').ok_or(Unclear::NoSlash)?;
    let mut segments = Vec::new();
    if path.is_empty() {
        return Ok(segments);
    }
    let mut raw = path.split('/').peekable();
    let mut of_app = false;
    while let Some(segment) = raw.next() {
        check_encoding(segment)?;
        let text = percent_decode_str(segment).decode_utf8().map_err(|_| Unclear::Encoding)?;
        // Encoded slashes count: what follows decodes them first.
        if text.split(['/', '\\']).any(|part| part == "." || part == "..") {
            return Err(Unclear::Dots);
        }
        if text.chars().any(char::is_control) {
            return Err(Unclear::Encoded);
        }
        if !of_app {
            if text.contains(['/', '\\']) {
                return Err(Unclear::Encoded);
            }
            // One slash at the end changes nothing.
            if text.is_empty() {
                if raw.peek().is_none() {
                    break;
                }
                return Err(Unclear::Empty);
            }
        }
        of_app |= text == "proxy" && is_app_proxy(&segments);
        segments.push(text.into_owned());
    }
    Ok(segments)
}

/// Whether `proxy` behind these segments is the subresource of one object.
fn is_app_proxy(before: &[String]) -> bool {
    let words: Vec<&str> = before.iter().map(String::as_str).collect();
    matches!(
        words.as_slice(),
        ["api", "v1", "namespaces", _, "pods" | "services", _] | ["api", "v1", "nodes", _]
    )
}

fn check_encoding(segment: &str) -> Result<(), Unclear> {
    let mut parts = segment.split('%');
    parts.next();
    let valid = |part: &str| part.len() >= 2 && part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if parts.all(valid) { Ok(()) } else { Err(Unclear::Encoding) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `verb group/version namespace resource name subresource`, `-` for empty.
    fn line(method: &str, target: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let asked = match classify(method, path, query) {
            Ok(asked) => asked,
            Err(error) => return format!("{error:?}"),
        };
        let Some(resource) = asked.resource else { return asked.verb };
        let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let Resource { group, version, namespace, resource, name, subresource, .. } = resource;
        format!(
            "{} {}/{} {} {} {} {}",
            or(&asked.verb),
            or(&group),
            or(&version),
            or(&namespace),
            or(&resource),
            or(&name),
            or(&subresource)
        )
    }

    #[test]
    fn requests_are_read_as_kubernetes_reads_them() {
        for (method, target, wanted) in [
            ("GET", "/api/v1/namespaces", "list -/v1 - namespaces - -"),
            ("GET", "/api/v1/namespaces/", "list -/v1 - namespaces - -"),
            ("HEAD", "/api/v1/namespaces", "list -/v1 - namespaces - -"),
            ("GET", "/api/v1/namespaces?watch=true", "watch -/v1 - namespaces - -"),
            ("GET", "/api/v1/namespaces?watch", "watch -/v1 - namespaces - -"),
            ("GET", "/api/v1/namespaces?watch=0&watch=1", "list -/v1 - namespaces - -"),
            ("GET", "/api/v1/namespaces?w%61tch=1", "watch -/v1 - namespaces - -"),
            ("GET", "/api/v1/namespaces?watch=FALSE", "list -/v1 - namespaces - -"),
            ("GET", "/api/v1/namespaces?watch=no", "watch -/v1 - namespaces - -"),
            ("GET", "/api/v1/namespaces/a", "get -/v1 a namespaces a -"),
            ("GET", "/api/v1/namespaces/a?watch=1", "get -/v1 a namespaces a -"),
            ("PUT", "/api/v1/namespaces/a/finalize", "update -/v1 a namespaces a finalize"),
            ("GET", "/api/v1/namespaces/a/status", "get -/v1 a namespaces a status"),
            ("GET", "/api/v1/namespaces/a/pods", "list -/v1 a pods - -"),
            ("GET", "/api/v1/n%61mespaces/a/pods", "list -/v1 a pods - -"),
            ("GET", "/api/v1/pods", "list -/v1 - pods - -"),
            ("POST", "/api/v1/namespaces/a/pods", "create -/v1 a pods - -"),
            ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection -/v1 a pods - -"),
            ("DELETE", "/api/v1/namespaces/a/pods/p", "delete -/v1 a pods p -"),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                "patch apps/v1 a deployments d scale",
            ),
            ("GET", "/api/v1/namespaces/a/pods/p/exec?command=sh", "get -/v1 a pods p exec"),
            ("POST", "/api/v1/namespaces/a/pods/p/exec", "create -/v1 a pods p exec"),
            ("GET", "/api/v1/namespaces/a/pods/p/log?follow=1", "get -/v1 a pods p log"),
            ("GET", "/api/v1/namespaces/a/services/s:80/proxy/x//y%2Fz", "get -/v1 a services s:80 proxy"),
            ("GET", "/api/v1/watch/namespaces", "watch -/v1 - namespaces - -"),
            ("GET", "/api/v1/watch/namespaces/a", "watch -/v1 a namespaces a -"),
            ("GET", "/api/v1/watch/namespaces/a/pods", "watch -/v1 a pods - -"),
            ("GET", "/apis/apps/v1/watch/deployments", "watch apps/v1 - deployments - -"),
            ("GET", "/api/v1/watch", "Short"),
            ("GET", "/api/v1/proxy/nodes/n/x", "proxy -/v1 - nodes n -"),
            ("GET", "/apis/atoll.dev/v1alpha1/workspaces", "list atoll.dev/v1alpha1 - workspaces - -"),
            (
                "GET",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "get rbac.authorization.k8s.io/v1 - clusterroles system:node -",
            ),
            ("FOO", "/api/v1/pods", "- -/v1 - pods - -"),
            ("GET", "/", "get"),
            ("GET", "/api", "get"),
            ("GET", "/api/v1", "get"),
            ("GET", "/apis", "get"),
            ("GET", "/apis/apps", "get"),
            ("GET", "/apis/apps/v1", "get"),
            ("GET", "/version", "get"),
            ("GET", "/openapi/v3/apis/apps/v1", "get"),
            (
                "POST",
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                "create authorization.k8s.io/v1 - selfsubjectaccessreviews - -",
            ),
        ] {
            assert_eq!(line(method, target), wanted, "{method} {target}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (path, wanted) in [
            ("", "NoSlash"),
            ("*", "NoSlash"),
            ("api/v1/pods", "NoSlash"),
            ("//api/v1/namespaces", "Empty"),
            ("/api//v1/namespaces", "Empty"),
            ("/api/v1//namespaces", "Empty"),
            ("/api/v1/namespaces//", "Empty"),
            ("/api/v1/namespaces/a//pods", "Empty"),
            ("/api/v1/./namespaces", "Dots"),
            ("/api/v1/namespaces/..", "Dots"),
            ("/api/v1/namespaces/a/../b/pods", "Dots"),
            ("/api/v1/namespaces/a/%2e%2e/b", "Dots"),
            ("/api/v1/namespaces/a/%2E./b", "Dots"),
            ("/api/v1/namespaces/a/services/s/proxy/../../../b", "Dots"),
            ("/api/v1/namespaces/a/services/s/proxy/x%2f..%2fy", "Dots"),
            ("/api/v1/namespaces/a/services/s/proxy/x%5c..%5cy", "Dots"),
            ("/api/v1/namespaces%2Fa/pods", "Encoded"),
            ("/api/v1/namespaces/a%2fpods", "Encoded"),
            ("/api/v1/namespaces/a%5cpods", "Encoded"),
            ("/api/v1/namespaces/a\\pods", "Encoded"),
            ("/api/v1/namespaces/a%00", "Encoded"),
            ("/api/v1/namespaces/a%0a", "Encoded"),
            ("/api/v1/namespaces/%", "Encoding"),
            ("/api/v1/namespaces/%2", "Encoding"),
            ("/api/v1/namespaces/%zz", "Encoding"),
            ("/api/v1/namespaces/%ff", "Encoding"),
            ("/x/proxy//y", "Empty"),
            ("/apis/proxy//y", "Empty"),
        ] {
            assert_eq!(line("GET", path), wanted, "{path}");
        }
    }

    #[test]
    fn long_and_across() {
        let check = |target: &str, long: bool, across: bool| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let asked = classify("GET", path, query).unwrap();
            assert_eq!((asked.is_long(), asked.is_across()), (long, across), "{target}");
        };
        check("/api/v1/pods", false, true);
        check("/api/v1/pods?watch=1", true, true);
        check("/api/v1/namespaces/a/pods/p/exec", true, false);
        check("/api/v1/namespaces/a/pods/p/log", true, false);
        check("/api/v1/namespaces/a/pods", false, false);
        check("/version", false, false);
    }
}
