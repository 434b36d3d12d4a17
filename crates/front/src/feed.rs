//! Tells an [`Index`] of the cluster's Accounts, Workspaces and Members.

use std::collections::HashSet;
use std::fmt::Debug;

use api::{Account, Member, Resource, Workspace};
use futures::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::directory::Index;

/// Changes that wait to be applied; a full channel slows the watches down.
const WAITING: usize = 1024;

/// An object's change.
enum Heard {
    Account(Account, bool),
    Workspace(Workspace, bool),
    Member(Member, bool),
    /// A full list of a kind has gone by: everything else of it is gone.
    Listed(Kind, HashSet<(String, String)>),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Account,
    Workspace,
    Member,
}

/// Feeds `index` until the future is dropped. The index is ready when each kind
/// was listed once. While the API server is away, what was last heard holds.
pub async fn run(client: Client, mut index: Index) {
    let (to, mut from) = mpsc::channel(WAITING);
    let mut watches = JoinSet::new();
    watches.spawn(watch(client.clone(), Kind::Account, Heard::Account, to.clone()));
    watches.spawn(watch(client.clone(), Kind::Workspace, Heard::Workspace, to.clone()));
    watches.spawn(watch(client, Kind::Member, Heard::Member, to));
    let mut missing = HashSet::from([Kind::Account, Kind::Workspace, Kind::Member]);
    // The newest version that any object has had: what a list no longer names
    // went after it.
    let mut newest = 0;
    while let Some(heard) = from.recv().await {
        match heard {
            Heard::Account(account, gone) => {
                newest = newest.max(version(&account));
                let name = account.metadata.name.unwrap_or_default();
                if gone {
                    index.remove_account(&name);
                } else {
                    index.set_account(&name, account.spec.operator, account.spec.disabled);
                }
            }
            Heard::Workspace(workspace, gone) => {
                let version = version(&workspace);
                newest = newest.max(version);
                let node = workspace.node();
                let name = workspace.metadata.name.unwrap_or_default();
                let namespace = workspace.status.and_then(|status| status.namespace);
                if gone {
                    index.remove_workspace(&name, version);
                } else {
                    index.set_workspace(&name, node, namespace.as_deref(), version);
                }
            }
            Heard::Member(member, gone) => {
                let version = version(&member);
                newest = newest.max(version);
                let namespace = member.metadata.namespace.unwrap_or_default();
                // The definition demands that the name is the account's.
                let account = member.metadata.name.unwrap_or_default();
                if gone {
                    index.remove_member(&namespace, &account, version);
                } else {
                    index.set_member(&namespace, &account, member.spec.role, version);
                }
            }
            Heard::Listed(kind, names) => {
                let only =
                    |names: HashSet<(String, String)>| names.into_iter().map(|(_, name)| name).collect();
                match kind {
                    Kind::Account => index.retain_accounts(&only(names)),
                    Kind::Workspace => index.retain_workspaces(&only(names), newest),
                    Kind::Member => index.retain_members(&names, newest),
                }
                if missing.remove(&kind) && missing.is_empty() {
                    index.set_ready();
                    tracing::info!("accounts, workspaces and members are known");
                }
            }
        }
    }
}

fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default()
}

async fn watch<K>(client: Client, kind: Kind, heard: fn(K, bool) -> Heard, to: mpsc::Sender<Heard>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events =
        std::pin::pin!(watcher(Api::<K>::all(client), watcher::Config::default()).default_backoff());
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        let change = match event {
            Ok(Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                let meta = object.meta();
                listed.insert((
                    meta.namespace.clone().unwrap_or_default(),
                    meta.name.clone().unwrap_or_default(),
                ));
                heard(object, false)
            }
            Ok(Event::InitDone) => Heard::Listed(kind, std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => heard(object, false),
            Ok(Event::Delete(object)) => heard(object, true),
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %error, "the watch has failed; going on with what is known");
                continue;
            }
        };
        if to.send(change).await.is_err() {
            return;
        }
    }
}
