//! Whether a workspace may be below the one that it names, whether its owner may own
//! another, and whether the account that it or a member names is there: what the API
//! server asks before it stores them. Pure: what has to be looked up for it is looked up
//! by who answers.

use api::tree::{self, Node, Problem, Tree};
use api::{AccountSpec, Workspace};
use serde_json::{Value, json};

use crate::review::{self, Refusal, Review};

/// The path of what is asked about a workspace that names a parent.
pub const PARENT: &str = "/parent";
/// The path of what is asked about a workspace that leaves its parent.
pub const LEAVING: &str = "/leaving";
/// The path of what is asked about a new workspace that an operator makes.
pub const OWNER: &str = "/owner";
/// The path of what is asked about a new workspace that somebody makes for themselves.
pub const ANOTHER: &str = "/another";
/// The path of what is asked about a new member.
pub const MEMBER: &str = "/member";

/// A workspace that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// What it was, unless it is new.
    pub before: Option<Node>,
    /// What it is to be.
    pub after: Node,
    /// Whether nothing comes of it.
    pub dry_run: bool,
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
    /// Nobody has the owner's name.
    #[error("spec.owner: there is no account `{0}`: check the name, or make the account first")]
    NoOwner(String),
    /// The owner owns enough.
    #[error(
        "spec.owner: you own {owned} workspaces and may own {limit}: delete one, or ask an operator for more"
    )]
    TooMany { owned: usize, limit: u32 },
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

impl Refusal for Refused {
    fn status(&self) -> (u16, &'static str) {
        match self {
            Self::Held(_) | Self::TooMany { .. } => (403, "Forbidden"),
            Self::Parent(_) | Self::NoOwner(_) | Self::NoAccount(_) => (422, "Invalid"),
            Self::Unknown(_) | Self::Unreadable(_) => (503, "ServiceUnavailable"),
        }
    }
}

impl Change {
    /// The workspace that a question is about.
    ///
    /// # Errors
    /// When it is about no workspace.
    pub fn of(review: &Review) -> Result<Self, Refused> {
        let read = |value: &Value| {
            serde_json::from_value::<Workspace>(value.clone()).map_err(|_| Refused::Unreadable("a workspace"))
        };
        let after = read(&review.request.object)?;
        let before = match &review.request.old_object {
            Value::Null => None,
            before => Some(read(before)?.node()),
        };
        let name = after.metadata.name.clone().ok_or(Refused::Unreadable("a workspace"))?;
        Ok(Self { name, before, after: after.node(), dry_run: review.request.dry_run })
    }

    /// Whether it may be below what it names, and accept whom it does. `tree` has what is
    /// above it, and `known` what names it as its parent, and what names that.
    ///
    /// # Errors
    /// Why not.
    pub fn may_join(self, tree: &mut Tree, known: &Tree) -> Result<(), Refused> {
        let same = |before: &Node| before.wanted() == self.after.wanted() && before.owner == self.after.owner;
        let moves = self.after.parent.is_some() && !self.before.as_ref().is_some_and(same);
        tree.set(&self.name, self.after);
        if moves {
            tree.parent(&self.name).map_err(Refused::Parent)?;
        }
        tree.take_below(&self.name, known);
        let field = if moves { "spec.parent" } else { "spec.acceptedChildren" };
        tree.has_room(&self.name, field).map_err(Refused::Parent)
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

/// Whether an account that owns `owned` workspaces may own another.
///
/// # Errors
/// Why not.
pub fn may_own_another(account: &AccountSpec, owned: usize) -> Result<(), Refused> {
    let limit = account.workspace_limit();
    if account.operator || u32::try_from(owned).is_ok_and(|owned| owned < limit) {
        Ok(())
    } else {
        Err(Refused::TooMany { owned, limit })
    }
}

/// The account that a member names.
///
/// # Errors
/// When it names none.
pub fn account(review: &Review) -> Result<&str, Refused> {
    review.request.object["spec"]["account"].as_str().ok_or(Refused::Unreadable("a member"))
}

/// The answer.
pub fn answer(review: &Review, verdict: Result<(), Refused>) -> Value {
    review.answer(verdict)
}

/// The webhooks as they are registered.
pub fn registration(authority: &str) -> Value {
    let webhook = |name: &str, path: &str, rule: Value, conditions: &[(&str, &str)]| {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(name, expression)| json!({ "name": name, "expression": expression }))
            .collect();
        // What can't be asked is refused; it is asked of nothing else.
        let more = json!({ "matchConditions": conditions, "rules": [rule] });
        review::webhook(name, path, authority, more)
    };
    let rule = |resource: &str, operations: &[&str], scope: &str| {
        json!({
            "apiGroups": [api::names::GROUP], "apiVersions": ["*"], "resources": [resource],
            "operations": operations, "scope": scope,
        })
    };
    let webhooks = vec![
        webhook(
            "parent.admission.atoll.dev",
            PARENT,
            rule("workspaces", &["CREATE", "UPDATE"], "Cluster"),
            &[("concerns-the-tree", CONCERNS_THE_TREE)],
        ),
        webhook(
            "leaving.admission.atoll.dev",
            LEAVING,
            rule("workspaces", &["UPDATE"], "Cluster"),
            &[("leaves", LEAVES), ("not-atoll", NOT_ATOLL), ("not-an-operator", NOT_AN_OPERATOR)],
        ),
        webhook(
            "owner.admission.atoll.dev",
            OWNER,
            rule("workspaces", &["CREATE"], "Cluster"),
            &[("an-operator", AN_OPERATOR)],
        ),
        // What it lets in counts for a moment, but nothing outside it changes.
        webhook(
            "another.admission.atoll.dev",
            ANOTHER,
            rule("workspaces", &["CREATE"], "Cluster"),
            &[("not-an-operator", NOT_AN_OPERATOR)],
        ),
        webhook("member.admission.atoll.dev", MEMBER, rule("members", &["CREATE"], "Namespaced"), &[]),
    ];
    review::registration("ValidatingWebhookConfiguration", crate::admission::NAME, &webhooks)
}

// It names another parent, or accepts another child.
const CONCERNS_THE_TREE: &str = "(has(object.spec.parent) && (oldObject == null || object.spec.parent != oldObject.spec.?parent.orValue('') || object.spec.owner != oldObject.spec.owner)) || object.spec.?acceptedChildren.orValue([]).exists(child, oldObject == null || !(child in oldObject.spec.?acceptedChildren.orValue([])))";
const LEAVES: &str = "has(oldObject.spec.parent) && object.spec.?parent.orValue('') != oldObject.spec.parent";
// It hands workspaces over, and so out of their tree.
const NOT_ATOLL: &str = "request.userInfo.username != 'system:serviceaccount:atoll-system:controller'";
const AN_OPERATOR: &str = "authorizer.group('*').resource('*').check('*').allowed()";
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
        let answer = review.answer(Change::of(&review).and_then(|change| ask(change, &mut tree)));
        assert_eq!(answer["response"]["uid"], "u-1");
        let status = &answer["response"]["status"];
        assert_eq!(answer["response"]["allowed"] == true, status.is_null());
        format!("{} {}", status["code"], status["message"].as_str().unwrap_or_default())
    }

    #[test]
    fn a_parent_is_there_and_agrees() {
        let join = |owner, parent| {
            let nothing = |change: Change, tree: &mut Tree| change.may_join(tree, &Tree::default());
            said(&Value::Null, &workspace(owner, Some(parent)), nothing)
        };
        assert_eq!(join("bob", "ada/root"), "null ");
        assert!(join("bob", "root").starts_with("422 spec.parent: bob has no workspace `root`"));
        assert!(join("eve", "ada/root").contains("has not accepted `eve/leaf` below it"));
        assert!(join("bob", "ada/other").contains("ada has no workspace `other`, or has not accepted"));
        assert!(join("bob", "twig").contains("(leaf below twig below leaf)"));
        assert!(join("bob", "leaf").contains("(leaf below leaf)"));
    }

    /// What is said of `leaf`, below which 128 workspaces hang, or `eve`'s which is to be
    /// accepted.
    fn deep(before: &Value, after: &Value) -> String {
        said(before, after, |change, tree| {
            let mut known = Tree::default();
            for level in 0..128 {
                let above = if level == 0 { "leaf".to_owned() } else { format!("w{}", level - 1) };
                known.set(&format!("w{level}"), Node { parent: Some(above), ..Node::of("bob") });
            }
            known.set("low", Node { parent: Some("bob/w127".into()), ..Node::of("eve") });
            change.may_join(tree, &known)
        })
    }

    #[test]
    fn nothing_comes_too_far_down_by_what_is_above_it() {
        let top = workspace("bob", None);
        let told = deep(&top, &workspace("bob", Some("ada/root")));
        assert!(told.starts_with("422 spec.parent: what is below would have 129 levels above it"), "{told}");
        // Of one that stays where it is only what it accepts is asked.
        let mut accepting = workspace("bob", None);
        accepting["spec"]["acceptedChildren"] = json!(["eve/other"]);
        assert_eq!(deep(&top, &accepting), "null ");
        let lost = workspace("bob", Some("ada/gone"));
        let mut accepting = lost.clone();
        accepting["spec"]["acceptedChildren"] = json!(["eve/other"]);
        assert_eq!(deep(&lost, &accepting), "null ");
        // What others' workspaces hold is below only when it is accepted.
        let last = json!({ "metadata": { "name": "w127" }, "spec": { "owner": "bob", "parent": "w126" } });
        let mut accepting = last.clone();
        accepting["spec"]["acceptedChildren"] = json!(["eve/low"]);
        let told = said(&last, &accepting, |change, tree| {
            let mut known = Tree::default();
            tree.set("w0", Node::of("bob"));
            for level in 1..127 {
                let above = Some(format!("w{}", level - 1));
                tree.set(&format!("w{level}"), Node { parent: above, ..Node::of("bob") });
            }
            known.set("low", Node { parent: Some("bob/w127".into()), ..Node::of("eve") });
            known.set("lower", Node { parent: Some("low".into()), ..Node::of("eve") });
            change.may_join(tree, &known)
        });
        assert!(told.starts_with("422 spec.acceptedChildren: what is below would have 129 levels"), "{told}");
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
    fn an_account_owns_as_many_as_it_may() {
        let account = |limit| AccountSpec { workspace_limit: limit, ..AccountSpec::default() };
        assert_eq!(may_own_another(&account(None), 9), Ok(()));
        let told = may_own_another(&account(None), 10).unwrap_err();
        assert_eq!(told.status(), (403, "Forbidden"));
        assert!(told.to_string().starts_with("spec.owner: you own 10 workspaces and may own 10:"));
        assert!(may_own_another(&account(Some(0)), 0).is_err());
        let operator = AccountSpec { operator: true, ..account(Some(0)) };
        assert_eq!(may_own_another(&operator, 100), Ok(()));
    }

    #[test]
    fn what_is_no_workspace_is_refused() {
        assert!(said(&Value::Null, &json!({}), Change::may_leave).starts_with("503 the question"));
        let member = review(&Value::Null, &json!({ "spec": { "account": "bob" } }));
        assert_eq!(account(&member), Ok("bob"));
        assert!(account(&review(&Value::Null, &json!({}))).is_err());
    }

    #[test]
    fn what_is_not_asked_about_is_not_held_up() {
        let registered = registration("pem");
        for webhook in registered["webhooks"].as_array().unwrap() {
            assert_eq!(webhook["failurePolicy"], "Fail");
            assert!(webhook["matchConditions"].is_array());
            assert_eq!(webhook["rules"].as_array().unwrap().len(), 1);
            assert_eq!(webhook["rules"][0]["apiGroups"], json!(["atoll.dev"]));
        }
    }
}
