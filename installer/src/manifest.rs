//! The cluster image's manifests: filling in what differs between clusters, and
//! the order in which objects are applied.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Result};

/// Replaces `${NAME}` by its value and `${IMAGE:path}` by the full name of the
/// image whose path that is, such as `registry.atoll.local/system/atolld:1`.
/// A name that is not known is an error: nothing is left to chance.
pub fn render(
    name: &str,
    text: &str,
    values: &BTreeMap<String, String>,
    images: &BTreeMap<String, String>,
) -> Result<String> {
    let unknown = |what: &str| Error::Manifest {
        name: name.into(),
        reason: format!("`{what}` is not known: use one of {}", {
            let names: Vec<&str> = values.keys().map(String::as_str).collect();
            names.join(", ")
        }),
    };
    let mut rendered = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (key, behind) = after.split_once('}').ok_or_else(|| unknown("${"))?;
        let value = match key.strip_prefix("IMAGE:") {
            Some(path) => images.get(path).ok_or_else(|| Error::Manifest {
                name: name.into(),
                reason: format!("the cluster image holds no container image `{path}`: build it again"),
            })?,
            None => values.get(key).ok_or_else(|| unknown(key))?,
        };
        rendered.push_str(before);
        rendered.push_str(value);
        rest = behind;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

/// Reads a stream of YAML documents; empty ones are passed over.
pub fn parse(name: &str, text: &str) -> Result<Vec<Value>> {
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| {
            Value::deserialize(document)
                .map_err(|error| Error::Manifest { name: name.into(), reason: error.to_string() })
        })
        .filter(|parsed| !matches!(parsed, Ok(Value::Null)))
        .collect()
}

/// The path of an image's name, without its registry and tag:
/// `registry.k8s.io/coredns/coredns:v1.12.1` is `coredns/coredns`.
pub fn image_path(name: &str) -> &str {
    let path = name.split_once('/').map_or(name, |(_, path)| path);
    path.rsplit_once(':').map_or(path, |(path, _)| path)
}

/// Puts objects into the order in which they can be applied: what others need
/// comes first, otherwise as they came.
pub fn order(objects: &mut [Value]) {
    objects.sort_by_key(|object| match object["kind"].as_str().unwrap_or_default() {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "ServiceAccount" | "ClusterRole" | "Role" | "StorageClass" | "IngressClass" => 2,
        "ClusterRoleBinding" | "RoleBinding" | "ConfigMap" | "Secret" | "Service" => 3,
        "Deployment" | "DaemonSet" | "StatefulSet" => 5,
        _ => 4,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> std::result::Result<String, String> {
        let values = BTreeMap::from([("A".to_string(), "1".to_string())]);
        let images = BTreeMap::from([("system/x".to_string(), "r/system/x:9".to_string())]);
        render("m.yaml", text, &values, &images).map_err(|error| error.to_string())
    }

    #[test]
    fn values_and_images_are_filled_in() {
        assert_eq!(check("a ${A} b ${IMAGE:system/x}$ {A}").unwrap(), "a 1 b r/system/x:9$ {A}");
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert!(check("${B}").unwrap_err().contains("`B`"));
        assert!(check("${IMAGE:system/y}").unwrap_err().contains("system/y"));
        assert!(check("${A").unwrap_err().contains("m.yaml"));
    }

    #[test]
    fn paths_of_images() {
        assert_eq!(image_path("registry.k8s.io/coredns/coredns:v1.12.1"), "coredns/coredns");
        assert_eq!(image_path("docker.io/library/nginx:1.22"), "library/nginx");
    }

    #[test]
    fn what_others_need_comes_first() {
        let kinds = ["Deployment", "GatewayClass", "Service", "CustomResourceDefinition", "Namespace"];
        let mut objects: Vec<Value> = kinds.iter().map(|kind| serde_json::json!({ "kind": kind })).collect();
        order(&mut objects);
        let sorted: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(
            sorted,
            ["Namespace", "CustomResourceDefinition", "Service", "GatewayClass", "Deployment"]
        );
    }

    #[test]
    fn every_manifest_of_ours_can_be_rendered() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/manifests");
        let mut values = crate::cluster::manifest_values(&crate::record::sample("one"));
        values.insert("AUTHORITY".into(), "cGVt".into());
        let mut seen = 0;
        for directory in [directory.clone(), directory.join("static")] {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let images = text
                    .split("${IMAGE:")
                    .skip(1)
                    .map(|after| after.split_once('}').unwrap().0.to_string())
                    .map(|path| (path.clone(), format!("registry.atoll.local/{path}:1")))
                    .collect();
                let rendered = render("x", &text, &values, &images).unwrap();
                assert!(!parse("x", &rendered).unwrap().is_empty(), "{}", path.display());
                seen += 1;
            }
        }
        assert!(seen >= 8, "{seen}");
    }
}
