//! Telling whether an object is still what was applied.

use std::hash::{DefaultHasher, Hash, Hasher};

use api::names::POLICY_PREFIX;
use serde_json::Value;

/// An object without what changes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

/// The fingerprint of an object as the API server stores it.
pub fn fingerprint(object: &Value) -> Fingerprint {
    let mut hasher = DefaultHasher::new();
    let Value::Object(fields) = object else { return Fingerprint(0) };
    for (field, value) in fields {
        match field.as_str() {
            "status" | "apiVersion" | "kind" => {}
            "metadata" => {
                for kept in ["name", "labels", "ownerReferences", "deletionTimestamp"] {
                    value[kept].to_string().hash(&mut hasher);
                }
                // Others' annotations are theirs.
                for (annotation, text) in value["annotations"].as_object().into_iter().flatten() {
                    if annotation.starts_with(POLICY_PREFIX) {
                        (annotation, text.to_string()).hash(&mut hasher);
                    }
                }
            }
            _ => (field, value.to_string()).hash(&mut hasher),
        }
    }
    Fingerprint(hasher.finish())
}

/// The fingerprint of an object as it is asked for: all of it counts.
pub fn exact(object: &Value) -> Fingerprint {
    let mut hasher = DefaultHasher::new();
    object.to_string().hash(&mut hasher);
    Fingerprint(hasher.finish())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changes_by_itself_does_not_count() {
        let object = |version: &str, used: &str, cpu: &str| {
            fingerprint(&json!({
                "metadata": { "name": "plan", "resourceVersion": version, "labels": { "a": "b" } },
                "spec": { "hard": { "cpu": cpu } },
                "status": { "used": { "cpu": used } },
            }))
        };
        assert_eq!(object("1", "0", "4"), object("2", "3", "4"));
        assert_ne!(object("1", "0", "4"), object("1", "0", "40"));
    }

    #[test]
    fn of_annotations_the_policies_count() {
        let object =
            |annotation: &str| fingerprint(&json!({ "metadata": { "annotations": { annotation: "x" } } }));
        assert_eq!(object("kubectl.kubernetes.io/a"), object("b"));
        assert_ne!(object("b"), object("policy.atoll.dev/registries"));
    }

    #[test]
    fn labels_and_deletion_count() {
        let object = |metadata: Value| fingerprint(&json!({ "metadata": metadata }));
        let whole = object(json!({ "name": "a", "labels": { "x": "1" } }));
        assert_ne!(whole, object(json!({ "name": "a" })));
        assert_ne!(whole, object(json!({ "name": "a", "labels": { "x": "1" }, "deletionTimestamp": "t" })));
    }
}
