//! What is changed of pods in workspaces before they are stored. Pure: the API
//! server's question goes in, the answer comes out.
//!
//! The API server decides by the namespace's labels which question it asks, so
//! nothing has to be looked up here.

use api::names::SUSPENDED_GATE;
use serde_json::{Value, json};

use crate::defaults;
use crate::review::{self, Review};

/// The path of what is asked about every pod of a workspace.
pub const PODS: &str = "/pods";
/// The path of what is asked about the pods of a suspended workspace as well.
pub const SUSPENDED: &str = "/suspended";

/// Where pods reach the Kubernetes API, and how they know that it is that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// Its name, which its certificate is for.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The ConfigMap with the authority of its certificate, in every workspace.
    pub authority: String,
}

/// The ConfigMap by which Kubernetes gives pods the authority of its own API.
const KUBERNETES_AUTHORITY: &str = "kube-root-ca.crt";

/// Which question it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// About every pod.
    Pods,
    /// About a pod of a suspended workspace.
    Suspended,
}

/// The answer: allowed, with what is to be changed. Nothing is refused here; what a
/// pod may be is the policies' to say.
pub fn answer(review: &Review, question: Question, front: &Front) -> Value {
    let pod = &review.request.object;
    let changes = match question {
        Question::Pods => {
            let mut changes = pull_always(pod);
            changes.extend(reach_front(pod, front));
            changes
        }
        Question::Suspended => wait(pod),
    };
    review.change(&changes)
}

/// Every container, with its path.
fn containers(pod: &Value) -> impl Iterator<Item = (String, &Value)> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|list| {
        let all = pod["spec"][list].as_array().map_or(&[][..], Vec::as_slice);
        all.iter().enumerate().map(move |(index, one)| (format!("/spec/{list}/{index}"), one))
    })
}

/// An image is pulled each time, by the pod's own credentials: what a neighbour has
/// pulled onto the node can't be borrowed.
fn pull_always(pod: &Value) -> Vec<Value> {
    let lax = containers(pod).filter(|(_, one)| one["imagePullPolicy"] != "Always");
    lax.map(|(path, _)| json!({ "op": "add", "path": format!("{path}/imagePullPolicy"), "value": "Always" }))
        .collect()
}

/// Programs that talk to the Kubernetes API find front, and believe its certificate.
fn reach_front(pod: &Value, front: &Front) -> Vec<Value> {
    let mut changes = Vec::new();
    // An ephemeral container's environment can't be changed after it was made, nor
    // can the pod's volumes: only a new pod is told.
    if pod["metadata"]["uid"].is_string() && pod["spec"]["nodeName"].is_string() {
        return changes;
    }
    let told = [
        ("KUBERNETES_SERVICE_HOST", front.host.clone()),
        ("KUBERNETES_SERVICE_PORT", front.port.to_string()),
    ];
    for (path, container) in containers(pod).filter(|(path, _)| !path.starts_with("/spec/ephemeral")) {
        let environment = container["env"].as_array();
        let missing: Vec<Value> = told
            .iter()
            .filter(|(name, _)| !environment.is_some_and(|all| all.iter().any(|one| one["name"] == *name)))
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect();
        match environment {
            _ if missing.is_empty() => {}
            None => changes.push(json!({ "op": "add", "path": format!("{path}/env"), "value": missing })),
            Some(_) => changes.extend(
                missing
                    .into_iter()
                    .map(|one| json!({ "op": "add", "path": format!("{path}/env/-"), "value": one })),
            ),
        }
    }
    for (volume, value) in pod["spec"]["volumes"].as_array().into_iter().flatten().enumerate() {
        let name = value["name"].as_str().unwrap_or_default();
        if !name.starts_with("kube-api-access-") {
            continue;
        }
        for (source, value) in value["projected"]["sources"].as_array().into_iter().flatten().enumerate() {
            if value["configMap"]["name"] == KUBERNETES_AUTHORITY {
                let path = format!("/spec/volumes/{volume}/projected/sources/{source}/configMap/name");
                changes.push(json!({ "op": "replace", "path": path, "value": front.authority }));
            }
        }
    }
    changes
}

/// The pod waits until the workspace is resumed.
fn wait(pod: &Value) -> Vec<Value> {
    let gate = json!({ "name": SUSPENDED_GATE });
    match pod["spec"]["schedulingGates"].as_array() {
        Some(gates) if gates.contains(&gate) => Vec::new(),
        Some(_) => vec![json!({ "op": "add", "path": "/spec/schedulingGates/-", "value": gate })],
        None => vec![json!({ "op": "add", "path": "/spec/schedulingGates", "value": [gate] })],
    }
}

/// The webhooks as they are registered.
pub fn registration(authority: &str) -> Value {
    let webhook = |name: &str, path: &str, label: &str, resources: &[(&str, &str)]| {
        let rules: Vec<Value> = resources
            .iter()
            .map(|(resource, operation)| {
                json!({
                    "apiGroups": [""], "apiVersions": ["v1"], "resources": [resource],
                    "operations": [operation], "scope": "Namespaced",
                })
            })
            .collect();
        // What can't be asked is refused, in workspaces and nowhere else.
        let more = json!({
            "reinvocationPolicy": "IfNeeded",
            "namespaceSelector": { "matchExpressions": [
                { "key": api::names::WORKSPACE_LABEL, "operator": "Exists" },
                { "key": label, "operator": "Exists" },
            ] },
            "rules": rules,
        });
        review::webhook(name, path, authority, more)
    };
    let webhooks = vec![
        webhook(
            "pods.admission.atoll.dev",
            PODS,
            api::names::WORKSPACE_LABEL,
            &[("pods", "CREATE"), ("pods/ephemeralcontainers", "UPDATE")],
        ),
        webhook(
            "suspended.admission.atoll.dev",
            SUSPENDED,
            api::names::SUSPENDED_LABEL,
            &[("pods", "CREATE")],
        ),
        defaults::webhook(authority),
    ];
    review::registration("MutatingWebhookConfiguration", NAME, &webhooks)
}

/// The registration's name.
pub const NAME: &str = "atoll";

#[cfg(test)]
mod tests {
    use super::*;

    fn front() -> Front {
        Front { host: "front.test".into(), port: 6443, authority: "atoll-ca".into() }
    }

    /// What is changed of a pod, as `operation path value`.
    fn changes(pod: &Value, question: Question) -> Vec<String> {
        let review = json!({ "request": { "uid": "u-1", "object": pod } });
        let review: Review = serde_json::from_value(review).unwrap();
        let answer = answer(&review, question, &front());
        assert_eq!(answer["response"]["uid"], "u-1");
        assert_eq!(answer["response"]["allowed"], true);
        let Some(patch) = answer["response"].get("patch") else { return Vec::new() };
        let patch: k8s_openapi::ByteString = serde_json::from_value(patch.clone()).unwrap();
        let patch: Vec<Value> = serde_json::from_slice(&patch.0).unwrap();
        let text = |one: &Value| {
            format!("{} {} {}", one["op"].as_str().unwrap(), one["path"].as_str().unwrap(), one["value"])
        };
        patch.iter().map(text).collect()
    }

    #[test]
    fn every_image_is_pulled_each_time() {
        let env = json!([{ "name": "KUBERNETES_SERVICE_HOST", "value": "x" }, { "name": "KUBERNETES_SERVICE_PORT", "value": "1" }]);
        let pod = json!({ "spec": {
            "initContainers": [{ "env": env, "imagePullPolicy": "Never" }],
            "containers": [{ "env": env, "imagePullPolicy": "Always" }, { "env": env }],
            "ephemeralContainers": [{ "imagePullPolicy": "IfNotPresent" }],
        } });
        assert_eq!(
            changes(&pod, Question::Pods),
            [
                "add /spec/initContainers/0/imagePullPolicy \"Always\"",
                "add /spec/containers/1/imagePullPolicy \"Always\"",
                "add /spec/ephemeralContainers/0/imagePullPolicy \"Always\"",
            ]
        );
    }

    #[test]
    fn programs_find_front_and_believe_it() {
        let pod = json!({ "spec": {
            "containers": [
                { "imagePullPolicy": "Always" },
                { "imagePullPolicy": "Always", "env": [{ "name": "KUBERNETES_SERVICE_HOST", "value": "own" }] },
            ],
            "volumes": [
                { "name": "own", "projected": { "sources": [{ "configMap": { "name": "kube-root-ca.crt" } }] } },
                { "name": "kube-api-access-abcde", "projected": { "sources": [
                    { "serviceAccountToken": { "path": "token" } },
                    { "configMap": { "name": "kube-root-ca.crt" } },
                ] } },
            ],
        } });
        assert_eq!(
            changes(&pod, Question::Pods),
            [
                "add /spec/containers/0/env [{\"name\":\"KUBERNETES_SERVICE_HOST\",\"value\":\"front.test\"},\
             {\"name\":\"KUBERNETES_SERVICE_PORT\",\"value\":\"6443\"}]",
                "add /spec/containers/1/env/- {\"name\":\"KUBERNETES_SERVICE_PORT\",\"value\":\"6443\"}",
                "replace /spec/volumes/1/projected/sources/1/configMap/name \"atoll-ca\"",
            ]
        );
    }

    #[test]
    fn of_a_pod_that_runs_only_new_containers_change() {
        let pod = json!({ "metadata": { "uid": "u" }, "spec": {
            "nodeName": "n",
            "containers": [{ "imagePullPolicy": "Always" }],
            "ephemeralContainers": [{ "imagePullPolicy": "IfNotPresent" }],
        } });
        assert_eq!(
            changes(&pod, Question::Pods),
            ["add /spec/ephemeralContainers/0/imagePullPolicy \"Always\""]
        );
    }

    #[test]
    fn in_a_suspended_workspace_pods_wait() {
        let gate = json!({ "name": "atoll.dev/suspended" });
        let pod = |gates: Value| json!({ "spec": { "schedulingGates": gates } });
        let all = [format!("add /spec/schedulingGates [{gate}]")];
        assert_eq!(changes(&pod(Value::Null), Question::Suspended), all);
        let one = [format!("add /spec/schedulingGates/- {gate}")];
        assert_eq!(changes(&pod(json!([{ "name": "other" }])), Question::Suspended), one);
        assert!(changes(&pod(json!([gate])), Question::Suspended).is_empty());
    }

    #[test]
    fn only_workspaces_fail_when_nobody_answers() {
        let registered = registration("pem");
        for webhook in registered["webhooks"].as_array().unwrap() {
            assert_eq!(webhook["failurePolicy"], "Fail");
            let selected = &webhook["namespaceSelector"]["matchExpressions"];
            assert_eq!(selected[0], json!({ "key": "atoll.dev/workspace", "operator": "Exists" }));
            for rule in webhook["rules"].as_array().unwrap() {
                assert_ne!(rule["resources"], json!(["pods/status"]));
            }
        }
    }
}
