//! Whether a workspace may be below the one that it names, and whether the account
//! that a member names is there: what the API server asks before it stores them. Pure:
//! what has to be looked up for it is looked up by who answers.

use api::Workspace;
use api::tree::{self, Node, Problem, Tree};
use serde::Deserialize;
use serde_json::{Value, json};

/// The path of what is asked about a workspace that names a parent.
pub const PARENT: &str = "/parent";
/// The path of what is asked about a workspace that leaves its parent.
pub const LEAVING: &str = "/leaving";
/// The path of what is asked about a new member.
pub const MEMBER: &str = "/member";

/// What the API server asks.
#[derive(Debug, Deserialize)]
pub struct Review {
    request: Request,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
}

/// A workspace that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// What it was, unless it is new.
    pub before: Option<Node>,
    /// What it is to be.
    pub after: Node,
}

/// Why something isn't stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The parent that a workspace names.
    #[error("{0}")]
    Parent(Problem),
    /// What is above it has to let it go.
    #[error(
        "spec.parent: `{0}` is above this workspace, and what its people have here isn't taken from them by its owner alone: ask the owner of `{0}` to release it"
    )]
    Held(String),
    /// Nobody has that name.
    #[error(
        "spec.account: there is no account `{0}`: check the name, or invite whom you mean by `atoll invite create`"
    )]
    NoAccount(String),
    /// It couldn't be looked up.
    #[error("{0} can't be looked up at the moment: try again")]
    Unknown(&'static str),
    /// The question makes no sense.
    #[error("the question about {0} can't be read")]
    Unreadable(&'static str),
}

impl Refused {
    const fn code(&self) -> u16 {
        match self {
            Self::Held(_) => 403,
            Self::Parent(_) | Self::NoAccount(_) => 422,
            Self::Unknown(_) | Self::Unreadable(_) => 503,
        }
    }

    const fn reason(&self) -> &'static str {
        match self {
            Self::Held(_) => "Forbidden",
            Self::Parent(_) | Self::NoAccount(_) => "Invalid",
            Self::Unknown(_) | Self::Unreadable(_) => "ServiceUnavailable",
        }
    }
}

impl Review {
    /// The workspace that it is about.
    ///
    /// # Errors
    /// When it is about no workspace.
    pub fn change(&self) -> Result<Change, Refused> {
        let read = |value: &Value| {
            serde_json::from_value::<Workspace>(value.clone()).map_err(|_| Refused::Unreadable("a workspace"))
        };
        let after = read(&self.request.object)?;
        let before = match &self.request.old_object {
            Value::Null => None,
            before => Some(read(before)?.node()),
        };
        let name = after.metadata.name.clone().ok_or(Refused::Unreadable("a workspace"))?;
        Ok(Change { name, before, after: after.node() })
    }

    /// The account that the member names.
    ///
    /// # Errors
    /// When it names none.
    pub fn account(&self) -> Result<&str, Refused> {
        self.request.object["spec"]["account"].as_str().ok_or(Refused::Unreadable("a member"))
    }

    /// The answer.
    pub fn answer(&self, verdict: Result<(), Refused>) -> Value {
        let mut response = json!({ "uid": self.request.uid, "allowed": verdict.is_ok() });
        if let Err(refused) = verdict {
            response["status"] = json!({
                "status": "Failure",
                "code": refused.code(),
                "reason": refused.reason(),
                "message": refused.to_string(),
            });
        }
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
    }
}

impl Change {
    /// Whether it may be below what it names. `tree` has what is above that.
    ///
    /// # Errors
    /// Why not.
    pub fn may_join(self, tree: &mut Tree) -> Result<(), Refused> {
        tree.set(&self.name, self.after);
        tree.parent(&self.name).map(drop).map_err(Refused::Parent)
    }

    /// Whether it may leave what it is below. `tree` has what is above the old and the
    /// new parent.
    ///
    /// # Errors
    /// Who has to let it go.
    pub fn may_leave(self, tree: &mut Tree) -> Result<(), Refused> {
        let Some(before) = self.before else { return Ok(()) };
        tree::may_leave(tree, &self.name, before, self.after).map_err(Refused::Held)
    }
}

/// The webhooks as they are registered.
pub fn registration(authority: &str) -> Value {
    let webhook = |name: &str, path: &str, rule: Value, conditions: &[(&str, &str)]| {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(name, expression)| json!({ "name": name, "expression": expression }))
            .collect();
        json!({
            "name": name,
            "admissionReviewVersions": ["v1"],
            "clientConfig": {
                "caBundle": crate::admission::base64(authority.as_bytes()),
                "service": { "namespace": api::names::SYSTEM_NAMESPACE, "name": "admission", "path": path, "port": 443 },
            },
            // What can't be asked is refused; it is asked of nothing else.
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "matchConditions": conditions,
            "namespaceSelector": {},
            "objectSelector": {},
            "rules": [rule],
            "sideEffects": "None",
            "timeoutSeconds": 5,
        })
    };
    let rule = |resource: &str, operations: &[&str], scope: &str| {
        json!({
            "apiGroups": [api::names::GROUP], "apiVersions": ["*"], "resources": [resource],
            "operations": operations, "scope": scope,
        })
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": crate::admission::NAME },
        "webhooks": [
            webhook(
                "parent.admission.atoll.dev",
                PARENT,
                rule("workspaces", &["CREATE", "UPDATE"], "Cluster"),
                &[("names-another", NAMES_ANOTHER)],
            ),
            webhook(
                "leaving.admission.atoll.dev",
                LEAVING,
                rule("workspaces", &["UPDATE"], "Cluster"),
                &[("leaves", LEAVES), ("not-atoll", NOT_ATOLL), ("not-an-operator", NOT_AN_OPERATOR)],
            ),
            webhook("member.admission.atoll.dev", MEMBER, rule("members", &["CREATE"], "Namespaced"), &[]),
        ],
    })
}

const NAMES_ANOTHER: &str = "has(object.spec.parent) && (oldObject == null || object.spec.parent != oldObject.spec.?parent.orValue('') || object.spec.owner != oldObject.spec.owner)";
const LEAVES: &str = "has(oldObject.spec.parent) && object.spec.?parent.orValue('') != oldObject.spec.parent";
// It hands workspaces over, and so out of their tree.
const NOT_ATOLL: &str = "request.userInfo.username != 'system:serviceaccount:atoll-system:controller'";
const NOT_AN_OPERATOR: &str = "!authorizer.group('*').resource('*').check('*').allowed()";

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(owner: &str, parent: Option<&str>) -> Value {
        json!({ "metadata": { "name": "leaf" }, "spec": { "owner": owner, "parent": parent } })
    }

    fn review(before: &Value, after: &Value) -> Review {
        serde_json::from_value(json!({ "request": { "uid": "u-1", "object": after, "oldObject": before } }))
            .unwrap()
    }

    /// What is said of a change, below `ada/root`, which accepts bob's leaf.
    fn said(before: &Value, after: &Value, ask: fn(Change, &mut Tree) -> Result<(), Refused>) -> String {
        let mut tree = Tree::default();
        tree.set("root", Node { accepted: ["bob/leaf".to_owned()].into(), ..Node::of("ada") });
        tree.set("twig", Node { parent: Some("leaf".into()), ..Node::of("bob") });
        let review = review(before, after);
        let answer = review.answer(review.change().and_then(|change| ask(change, &mut tree)));
        assert_eq!(answer["response"]["uid"], "u-1");
        let status = &answer["response"]["status"];
        assert_eq!(answer["response"]["allowed"] == true, status.is_null());
        format!("{} {}", status["code"], status["message"].as_str().unwrap_or_default())
    }

    #[test]
    fn a_parent_is_there_and_agrees() {
        let join = |owner, parent| said(&Value::Null, &workspace(owner, Some(parent)), Change::may_join);
        assert_eq!(join("bob", "ada/root"), "null ");
        assert!(join("bob", "root").starts_with("422 spec.parent: bob has no workspace `root`"));
        assert!(join("eve", "ada/root").contains("has not accepted `eve/leaf` below it"));
        assert!(join("bob", "ada/other").contains("ada has no workspace `other`, or has not accepted"));
        assert!(join("bob", "twig").contains("(leaf below twig below leaf)"));
        assert!(join("bob", "leaf").contains("(leaf below leaf)"));
    }

    #[test]
    fn nobody_leaves_anothers_parent_alone() {
        let leave =
            |before, after| said(&workspace("bob", before), &workspace("bob", after), Change::may_leave);
        assert!(leave(Some("ada/root"), None).starts_with("403 spec.parent: `ada/root` is above"));
        assert_eq!(leave(Some("ada/gone"), None), "null ");
        assert_eq!(leave(None, Some("ada/root")), "null ");
    }

    #[test]
    fn what_is_no_workspace_is_refused() {
        assert!(said(&Value::Null, &json!({}), Change::may_join).starts_with("503 the question"));
        let member = review(&Value::Null, &json!({ "spec": { "account": "bob" } }));
        assert_eq!(member.account(), Ok("bob"));
        assert!(review(&Value::Null, &json!({})).account().is_err());
    }

    #[test]
    fn what_is_not_asked_about_is_not_held_up() {
        let registered = registration("pem");
        for webhook in registered["webhooks"].as_array().unwrap() {
            assert_eq!(webhook["failurePolicy"], "Fail");
            assert_eq!(webhook["rules"].as_array().unwrap().len(), 1);
            assert_eq!(webhook["rules"][0]["apiGroups"], json!(["atoll.dev"]));
        }
    }
}
