//! What the API server asks before it stores an object, what it is told, and how a
//! webhook is registered: the one form of all of admission's questions. Pure.

use serde::Deserialize;
use serde_json::{Value, json};

/// A question.
#[derive(Debug, Deserialize)]
pub struct Review {
    pub(crate) request: Request,
}

/// What is asked about.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Request {
    /// The question's own; the answer has it, too.
    pub uid: String,
    pub resource: Resource,
    pub namespace: String,
    /// Null when it is deleted.
    pub object: Value,
    /// Null when it is new.
    pub old_object: Value,
    pub dry_run: bool,
}

/// Of which kind the object is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Resource {
    pub group: String,
    pub resource: String,
}

/// Why an object isn't stored.
pub(crate) trait Refusal: std::fmt::Display {
    /// The status' code and reason.
    fn status(&self) -> (u16, &'static str);
}

impl Review {
    /// The object is stored as it is, or isn't.
    pub(crate) fn answer<R: Refusal>(&self, verdict: Result<(), R>) -> Value {
        let mut response = json!({ "uid": self.request.uid, "allowed": verdict.is_ok() });
        if let Err(refusal) = verdict {
            let (code, reason) = refusal.status();
            response["status"] = json!({
                "apiVersion": "v1", "kind": "Status", "status": "Failure",
                "code": code, "reason": reason, "message": refusal.to_string(),
            });
        }
        answer(&response)
    }

    /// The object is stored with these changes, as a JSON patch has them.
    pub(crate) fn change(&self, changes: &[Value]) -> Value {
        let mut response = json!({ "uid": self.request.uid, "allowed": true });
        if !changes.is_empty() {
            response["patchType"] = "JSONPatch".into();
            response["patch"] = base64(json!(changes).to_string().as_bytes());
        }
        answer(&response)
    }
}

fn answer(response: &Value) -> Value {
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
}

/// A webhook that fails closed, with what all have; `more` has what is its own, rules
/// and selectors.
pub(crate) fn webhook(name: &str, path: &str, authority: &str, more: Value) -> Value {
    let mut webhook = json!({
        "name": name,
        "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "caBundle": base64(authority.as_bytes()),
            "service": { "namespace": api::names::SYSTEM_NAMESPACE, "name": "admission", "path": path, "port": 443 },
        },
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
        "sideEffects": "None",
        "timeoutSeconds": 5,
    });
    if let (Some(webhook), Value::Object(more)) = (webhook.as_object_mut(), more) {
        webhook.extend(more);
    }
    webhook
}

/// A registration of webhooks; `kind` says whether they change or refuse.
pub(crate) fn registration(kind: &str, name: &str, webhooks: &[Value]) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": { "name": name },
        "webhooks": webhooks,
    })
}

// Kubernetes' way of putting bytes into JSON, which k8s-openapi knows.
fn base64(bytes: &[u8]) -> Value {
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct No;

    impl std::fmt::Display for No {
        fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            out.write_str("no")
        }
    }

    impl Refusal for No {
        fn status(&self) -> (u16, &'static str) {
            (403, "Forbidden")
        }
    }

    #[test]
    fn an_answer_has_the_questions_uid() {
        let review: Review = serde_json::from_value(json!({ "request": { "uid": "u" } })).unwrap();
        let allowed: Result<(), No> = Ok(());
        assert_eq!(review.answer(allowed)["response"], json!({ "uid": "u", "allowed": true }));
        let refused = review.answer(Err(No))["response"].clone();
        assert_eq!((&refused["uid"], &refused["allowed"]), (&json!("u"), &json!(false)));
        assert_eq!((&refused["status"]["code"], &refused["status"]["message"]), (&json!(403), &json!("no")));
        assert_eq!(review.change(&[])["response"], json!({ "uid": "u", "allowed": true }));
        let changed = review.change(&[json!({ "op": "remove", "path": "/a" })])["response"].clone();
        assert_eq!((&changed["uid"], &changed["patchType"]), (&json!("u"), &json!("JSONPatch")));
    }

    #[test]
    fn a_webhook_fails_closed_unless_it_says_otherwise() {
        let plain = webhook("n", "/p", "pem", json!({ "rules": [1], "timeoutSeconds": 10 }));
        assert_eq!((&plain["failurePolicy"], &plain["rules"]), (&json!("Fail"), &json!([1])));
        assert_eq!(plain["timeoutSeconds"], 10);
    }
}
