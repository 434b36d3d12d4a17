//! How long a role that is taken at the root of a tree is still good at its leaf, and
//! what it costs. `KUBECONFIG=... cargo bench -p tenancy --bench revocation [LEVELS]`
//! against a cluster that runs; the method is in docs/benchmarks/tenancy.md.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::{Account, AccountSpec, Member, MemberSpec, Role, Workspace, WorkspaceSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Client, ResourceExt};

const OWNER: &str = "bench-owner";
const GUEST: &str = "bench-guest";
const ROUNDS: usize = 5;

fn name(level: usize) -> String {
    format!("bench-{level}")
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().collect();
    // Not when all that there is is only tested.
    if !words.iter().any(|word| word == "--bench") {
        return;
    }
    let levels: usize = words.iter().find_map(|word| word.parse().ok()).unwrap_or(100);
    let client = Client::try_default().await.unwrap();
    let accounts: Api<Account> = Api::all(client.clone());
    for account in [OWNER, GUEST] {
        let spec = AccountSpec { workspace_limit: Some(1000), ..AccountSpec::default() };
        let _ = accounts.create(&PostParams::default(), &Account::new(account, spec)).await;
    }
    let namespaces = tree(&client, levels).await;
    let root: Api<Member> = Api::namespaced(client.clone(), &namespaces[0]);
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let member = Member::new(GUEST, MemberSpec { account: GUEST.into(), role: Role::Developer });
        root.create(&PostParams::default(), &member).await.unwrap();
        for namespace in &namespaces {
            until(&client, namespace, true).await;
        }
        // What follows from the granting is over.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = versions(&client).await;
        let started = Instant::now();
        root.delete(GUEST, &DeleteParams::default()).await.unwrap();
        until(&client, &namespaces[levels], false).await;
        let leaf = started.elapsed();
        for namespace in &namespaces {
            until(&client, namespace, false).await;
        }
        let all = started.elapsed();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = versions(&client).await;
        let written = after.iter().filter(|(object, version)| before.get(*object) != Some(*version)).count();
        println!(
            "{levels} levels: the leaf after {} ms, all after {} ms, {written} objects written",
            leaf.as_millis(),
            all.as_millis()
        );
        took.push(all);
    }
    took.sort();
    println!("median {} ms, longest {} ms", took[ROUNDS / 2].as_millis(), took[ROUNDS - 1].as_millis());
    let workspaces: Api<Workspace> = Api::all(client.clone());
    for level in (0..=levels).rev() {
        // What was below it is counted until that is seen to have gone.
        while workspaces.delete(&name(level), &DeleteParams::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    for account in [GUEST, OWNER] {
        while accounts.delete(account, &DeleteParams::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Workspaces one below the other; their namespaces.
async fn tree(client: &Client, levels: usize) -> Vec<String> {
    let workspaces: Api<Workspace> = Api::all(client.clone());
    let started = Instant::now();
    for level in 0..=levels {
        let parent = (level > 0).then(|| name(level - 1));
        let spec = WorkspaceSpec { owner: OWNER.into(), parent, ..WorkspaceSpec::default() };
        workspaces.create(&PostParams::default(), &Workspace::new(&name(level), spec)).await.unwrap();
    }
    let mut namespaces = Vec::new();
    for level in 0..=levels {
        namespaces.push(loop {
            let status = workspaces.get(&name(level)).await.unwrap().status.unwrap_or_default();
            let is_ready = status.conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
            if let Some(namespace) = status.namespace.filter(|_| is_ready) {
                break namespace;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        });
    }
    println!("{} workspaces made in {:.1} s", levels + 1, started.elapsed().as_secs_f64());
    namespaces
}

/// Asks the API server until it says that the guest may, or may not.
async fn until(client: &Client, namespace: &str, wanted: bool) {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let attributes = ResourceAttributes {
        namespace: Some(namespace.into()),
        verb: Some("create".into()),
        resource: Some("pods".into()),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        user: Some(api::names::user(GUEST)),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    loop {
        let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
        if answer.status.is_some_and(|status| status.allowed) == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The version of every workspace, namespace and role binding.
async fn versions(client: &Client) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let mut note = |kind: &str, namespace: Option<String>, name: String, version: Option<String>| {
        let place = format!("{kind} {}/{name}", namespace.unwrap_or_default());
        versions.insert(place, version.unwrap_or_default());
    };
    let all = ListParams::default();
    let bindings: Vec<PartialObjectMeta<RoleBinding>> =
        Api::<RoleBinding>::all(client.clone()).list_metadata(&all).await.unwrap().items;
    for one in bindings {
        note("RoleBinding", one.namespace(), one.name_any(), one.resource_version());
    }
    for one in Api::<Namespace>::all(client.clone()).list_metadata(&all).await.unwrap().items {
        note("Namespace", None, one.name_any(), one.resource_version());
    }
    for one in Api::<Workspace>::all(client.clone()).list_metadata(&all).await.unwrap().items {
        note("Workspace", None, one.name_any(), one.resource_version());
    }
    versions
}
