//! Which objects of the workspaces above one are copied into it. Pure.
//!
//! An object says by a label that it is to be copied, and by annotations where: into all
//! that is below its workspace, into some, and with which exceptions. What is higher
//! counts first, so that nobody below replaces it.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Expression, Selector, SelectorExt};
use serde_json::{Value, json};

use crate::desired::MANAGED_LABEL;

/// Label on an object: `all`, `select` or `none`.
pub const MODE: &str = "atoll.dev/propagate";
/// Annotation: the labels of workspaces into which it is copied, such as
/// `stage=test,!secret`.
pub const SELECT: &str = "atoll.dev/propagate-select";
/// Annotation: the workspaces into which it is copied, each with what is below it; a `!`
/// before a name excepts it, with what is below it.
pub const TREE: &str = "atoll.dev/propagate-tree";
/// Label on a copy: the workspace that it comes from.
pub const FROM: &str = "atoll.dev/propagated-from";

/// What is above every workspace: the objects in Atoll's own namespace that operators
/// label. No workspace can have that name.
pub const ATOLL: &str = "Atoll";

/// The kinds that are copied.
pub const KINDS: [&str; 6] = ["ConfigMap", "Secret", "Role", "RoleBinding", "NetworkPolicy", "LimitRange"];

/// Whether a copy of that kind gives anybody a right.
pub fn gives_rights(kind: &str) -> bool {
    kind == "RoleBinding"
}

/// A workspace into which something may be copied.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Its name.
    pub workspace: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// What is above it, the nearest first; the last is [`ATOLL`].
    pub above: &'a [String],
}

/// An object's kind and name.
pub type Key = (String, String);

/// The kind and name of an object.
pub fn key(object: &Value) -> Key {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&object["kind"]), text(&object["metadata"]["name"]))
}

/// What is to be in a workspace, of the objects of what is above it: `sources` has those
/// with the name of their workspace, in any order.
pub fn copies<'a>(
    target: &Target<'_>,
    sources: impl IntoIterator<Item = (&'a str, &'a Value)>,
) -> Vec<Value> {
    let mut chosen: BTreeMap<Key, (usize, &str, &Value)> = BTreeMap::new();
    for (from, source) in sources {
        let Some(distance) = target.above.iter().position(|above| above == from) else { continue };
        if !reaches(source, distance, target) {
            continue;
        }
        let known = chosen.entry(key(source)).or_insert((distance, from, source));
        if known.0 < distance {
            *known = (distance, from, source);
        }
    }
    chosen.into_values().map(|(_, from, source)| copy(source, from, target)).collect()
}

/// What is wrong with an object that is to be copied: then it is copied nowhere.
///
/// # Errors
/// What is wrong, and what to do.
pub fn check(source: &Value) -> Result<(), String> {
    let (kind, name) = key(source);
    let wrong = |what: String| Err(format!("{kind} {name} is copied nowhere: {what}"));
    let mode = &source["metadata"]["labels"][MODE];
    if !matches!(mode.as_str(), Some("all" | "select" | "none")) {
        return wrong(format!("the label {MODE} is all, select or none"));
    }
    if let Err(word) = selector(source) {
        return wrong(format!(
            "the annotation {SELECT} has KEY=VALUE, KEY!=VALUE, KEY or !KEY, and not `{word}`"
        ));
    }
    if mode == "select" && annotation(source, SELECT).is_none() && annotation(source, TREE).is_none() {
        return wrong(format!("select takes the annotation {SELECT} or {TREE}"));
    }
    if kind == "RoleBinding" && source["roleRef"]["kind"] != "Role" {
        return wrong("roleRef: of RoleBindings those of a Role are copied".into());
    }
    if kind == "Secret" && source["type"] == "kubernetes.io/service-account-token" {
        return wrong("a ServiceAccount's token stays where it is".into());
    }
    if source["metadata"]["labels"].get(MANAGED_LABEL).is_some() {
        return wrong("it is kept by Atoll".into());
    }
    Ok(())
}

fn annotation<'a>(source: &'a Value, name: &str) -> Option<&'a str> {
    source["metadata"]["annotations"][name].as_str()
}

/// Whether an object is copied into a workspace that is so many levels further below
/// than just below it.
fn reaches(source: &Value, distance: usize, target: &Target<'_>) -> bool {
    if check(source).is_err() || source["metadata"]["labels"][MODE] == "none" {
        return false;
    }
    // The workspace itself and what is between.
    let way: BTreeSet<&str> =
        target.above[..distance].iter().map(String::as_str).chain([target.workspace]).collect();
    let names = annotation(source, TREE).unwrap_or_default();
    let (mut some, mut found) = (false, false);
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match name.strip_prefix('!') {
            Some(excepted) if way.contains(excepted.trim()) => return false,
            Some(_) => {}
            None => {
                some = true;
                found |= way.contains(name);
            }
        }
    }
    (found || !some) && selector(source).is_ok_and(|selector| selector.matches(target.labels))
}

/// The labels that are asked for, or the word that says nothing.
fn selector(source: &Value) -> Result<Selector, &str> {
    let words = annotation(source, SELECT).unwrap_or_default();
    let expressions = words.split(',').map(str::trim).filter(|word| !word.is_empty()).map(|word| {
        let is_key = |key: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
            !key.is_empty() && key.bytes().all(known)
        };
        let (key, expression) = if let Some((key, value)) = word.split_once("!=") {
            (key, Expression::NotEqual(key.to_owned(), value.to_owned()))
        } else if let Some((key, value)) = word.split_once('=') {
            (key, Expression::Equal(key.to_owned(), value.to_owned()))
        } else if let Some(key) = word.strip_prefix('!') {
            (key, Expression::DoesNotExist(key.to_owned()))
        } else {
            (word, Expression::Exists(word.to_owned()))
        };
        if is_key(key) { Ok(expression) } else { Err(word) }
    });
    let mut selector = Selector::default();
    selector.extend(expressions.collect::<Result<Vec<_>, _>>()?);
    Ok(selector)
}

/// An object as it is copied: what it is, and not what was said about it.
fn copy(source: &Value, from: &str, target: &Target<'_>) -> Value {
    let mut labels = source["metadata"]["labels"].clone();
    if let Value::Object(labels) = &mut labels {
        labels.retain(|label, _| !label.contains("atoll.dev/"));
        labels.insert(MANAGED_LABEL.into(), "true".into());
        labels.insert(FROM.into(), from.into());
    }
    let mut copy = source.clone();
    copy["metadata"] = json!({
        "name": source["metadata"]["name"],
        "namespace": target.namespace,
        "labels": labels,
    });
    if let Value::Object(fields) = &mut copy {
        fields.remove("status");
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, mode: &str, annotations: &[(&str, &str)]) -> Value {
        let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
        let mut object = json!({
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {
                "name": "it", "namespace": "root-x", "uid": "u", "resourceVersion": "7",
                "labels": { MODE: mode, "mine": "yes", "atoll.dev/instance": "a" }, "annotations": annotations,
            },
            "data": { "a": "b" },
            "status": { "x": 1 },
        });
        if kind == "RoleBinding" {
            object["roleRef"] = json!({ "kind": "Role", "name": "r" });
        }
        object
    }

    /// Into which of root > team > leaf and root > other an object of root is copied;
    /// `leaf` and `other` have the label stage=test.
    fn reached(source: &Value) -> String {
        let test = BTreeMap::from([("stage".to_owned(), "test".to_owned())]);
        let none = BTreeMap::new();
        let root = ["root".to_owned()];
        let team = ["team".to_owned(), "root".to_owned()];
        let targets = [("team", &none, &root[..]), ("leaf", &test, &team[..]), ("other", &test, &root[..])];
        let reached = targets.iter().filter(|(workspace, labels, above)| {
            let target = Target { workspace, namespace: "n", labels, above };
            !copies(&target, [("root", source)]).is_empty()
        });
        reached.map(|(workspace, ..)| *workspace).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_object_goes_where_it_says() {
        let check = |mode: &str, annotations: &[(&str, &str)], wanted: &str| {
            assert_eq!(reached(&object("ConfigMap", mode, annotations)), wanted, "{mode} {annotations:?}");
        };
        check("all", &[], "team leaf other");
        check("none", &[], "");
        check("none", &[(TREE, "team")], "");
        check("all", &[(TREE, "!other")], "team leaf");
        check("all", &[(TREE, "!team")], "other");
        check("select", &[(TREE, "team")], "team leaf");
        check("select", &[(TREE, "team, !leaf")], "team");
        check("select", &[(SELECT, "stage=test")], "leaf other");
        check("select", &[(SELECT, "stage!=test")], "team");
        check("select", &[(SELECT, "!stage")], "team");
        check("select", &[(SELECT, "stage"), (TREE, "team")], "leaf");
    }

    #[test]
    fn what_says_nothing_clear_goes_nowhere() {
        let check = |object: Value, wanted: &str| {
            assert_eq!(reached(&object), "");
            let said = check(&object).unwrap_err();
            assert!(said.contains(wanted), "{said}");
        };
        check(object("ConfigMap", "yes", &[]), "is all, select or none");
        check(object("ConfigMap", "select", &[]), "select takes the annotation");
        check(object("ConfigMap", "all", &[(SELECT, "stage in (a)")]), "not `stage in (a)`");
        check(object("ConfigMap", "all", &[(SELECT, "=a")]), "not `=a`");
        let mut binding = object("RoleBinding", "all", &[]);
        assert_eq!(reached(&binding), "team leaf other");
        binding["roleRef"]["kind"] = "ClusterRole".into();
        check(binding, "those of a Role");
        let mut secret = object("Secret", "all", &[]);
        secret["type"] = "kubernetes.io/service-account-token".into();
        check(secret, "token stays");
        let mut kept = object("ConfigMap", "all", &[]);
        kept["metadata"]["labels"][MANAGED_LABEL] = "true".into();
        check(kept, "kept by Atoll");
    }

    #[test]
    fn what_is_higher_counts_first() {
        let labels = BTreeMap::new();
        let above = ["team".to_owned(), "root".to_owned()];
        let target = Target { workspace: "leaf", namespace: "leaf-x", labels: &labels, above: &above };
        let source = object("ConfigMap", "all", &[]);
        for order in [["team", "root"], ["root", "team"]] {
            let copies = copies(&target, order.map(|from| (from, &source)));
            assert_eq!(copies.len(), 1);
            assert_eq!(copies[0]["metadata"]["labels"][FROM], "root");
        }
        // Nor does anything come from beside or below.
        assert!(copies(&target, [("other", &source), ("leaf", &source)]).is_empty());
        assert_eq!(copies(&target, [("other", &source), ("root", &source)]).len(), 1);
    }

    #[test]
    fn a_copy_is_what_the_object_is() {
        let labels = BTreeMap::new();
        let above = ["root".to_owned()];
        let target = Target { workspace: "leaf", namespace: "leaf-x", labels: &labels, above: &above };
        let copies = copies(&target, [("root", &object("ConfigMap", "all", &[("a", "b")]))]);
        let wanted = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "it",
                "namespace": "leaf-x",
                "labels": { "mine": "yes", MANAGED_LABEL: "true", FROM: "root" },
            },
            "data": { "a": "b" },
        });
        assert_eq!(copies, [wanted]);
    }
}
