//! What admission looks up: the workspaces above one that changes, and accounts. Each is
//! read as it is stored, not as somebody heard of it.

use api::tree::{LEVELS, Node, Tree};
use api::{Account, Workspace};
use axum::Json;
use axum::extract::State;
use kube::Client;
use kube::api::Api;
use serde_json::Value;
use tenancy::reference::{Change, Refused, Review};

/// Whether a workspace may be below the one that it names.
pub async fn parent(State(client): State<Client>, Json(review): Json<Review>) -> Json<Value> {
    let verdict = async {
        let change = review.change()?;
        let mut tree = Tree::default();
        read_above(&client, &mut tree, &change, &change.after).await?;
        change.may_join(&mut tree)
    };
    Json(review.answer(verdict.await))
}

/// Whether it may leave the one that it named.
pub async fn leaving(State(client): State<Client>, Json(review): Json<Review>) -> Json<Value> {
    let verdict = async {
        let change = review.change()?;
        let mut tree = Tree::default();
        for node in change.before.iter().chain([&change.after]) {
            read_above(&client, &mut tree, &change, node).await?;
        }
        change.may_leave(&mut tree)
    };
    Json(review.answer(verdict.await))
}

/// Whether there is the account that a new member names.
pub async fn member(State(client): State<Client>, Json(review): Json<Review>) -> Json<Value> {
    let verdict = async {
        let name = review.account()?;
        let accounts: Api<Account> = Api::all(client);
        match accounts.get_opt(name).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Refused::NoAccount(name.to_owned())),
            Err(error) => Err(unknown("spec.account", &error)),
        }
    };
    Json(review.answer(verdict.await))
}

fn unknown(what: &'static str, error: &kube::Error) -> Refused {
    tracing::warn!(%error, what, "looking up what is named");
    Refused::Unknown(what)
}

/// Reads what is above a workspace that is `node`, itself excepted.
async fn read_above(client: &Client, tree: &mut Tree, change: &Change, node: &Node) -> Result<(), Refused> {
    let workspaces: Api<Workspace> = Api::all(client.clone());
    let name_of = |node: &Node| node.wanted().map(|(_, name)| name.to_owned());
    let mut next = name_of(node);
    for _ in 0..=LEVELS {
        let Some(name) = next.filter(|name| *name != change.name && tree.get(name).is_none()) else { break };
        let found = workspaces.get_opt(&name).await.map_err(|error| unknown("spec.parent", &error))?;
        let Some(found) = found.map(|found| found.node()) else { break };
        next = name_of(&found);
        tree.set(&name, found);
    }
    Ok(())
}
