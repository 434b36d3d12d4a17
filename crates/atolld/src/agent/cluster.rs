//! What the agent knows of the cluster: one watch of each kind, for the data path
//! and the meter alike.

use std::fmt::Debug;
use std::sync::Arc;

use anyhow::bail;
use api::Workspace;
use futures::StreamExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, PodSpec};
use kube::api::Api;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

/// All pods, namespaces, nodes and workspaces, without what nobody here looks at.
pub struct Cluster {
    pub pods: Store<Pod>,
    pub namespaces: Store<Namespace>,
    pub nodes: Store<Node>,
    pub workspaces: Store<Workspace>,
    changed: Arc<Notify>,
}

impl Cluster {
    /// The second value keeps it up to date, and ends when a watch does.
    pub fn watch(client: &Client) -> (Self, impl Future<Output = anyhow::Result<()>> + use<>) {
        let changed = Arc::new(Notify::new());
        let (pods, keep_pods) = watch(client, &changed, |pod: &mut Pod| {
            if let Some(spec) = &mut pod.spec {
                *spec = PodSpec {
                    host_network: spec.host_network,
                    node_name: spec.node_name.take(),
                    ..PodSpec::default()
                };
            }
        });
        let (namespaces, keep_namespaces) = watch(client, &changed, |_| {});
        let (nodes, keep_nodes) = watch(client, &changed, |node: &mut Node| {
            if let Some(status) = &mut node.status {
                status.images = None;
            }
        });
        let (workspaces, keep_workspaces) = watch(client, &changed, |_| {});
        let keep = async {
            tokio::select! {
                () = keep_pods => bail!("the watch of pods ended"),
                () = keep_namespaces => bail!("the watch of namespaces ended"),
                () = keep_nodes => bail!("the watch of nodes ended"),
                () = keep_workspaces => bail!("the watch of workspaces ended"),
            }
        };
        (Self { pods, namespaces, nodes, workspaces, changed }, keep)
    }

    /// Waits until every kind was listed once.
    pub async fn ready(&self) -> anyhow::Result<()> {
        self.pods.wait_until_ready().await?;
        self.namespaces.wait_until_ready().await?;
        self.nodes.wait_until_ready().await?;
        Ok(self.workspaces.wait_until_ready().await?)
    }

    /// Waits for a change, or returns at once when there was one meanwhile. For one
    /// listener.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// Whether a pod's containers have all ended for good.
pub fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A store of all objects of a kind, and what keeps it up to date and tells.
fn watch<K>(
    client: &Client,
    changed: &Arc<Notify>,
    trim: impl Fn(&mut K) + Send + 'static,
) -> (Store<K>, BoxFuture<'static, ()>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let changed = changed.clone();
    let changes = watcher(Api::<K>::all(client.clone()), watcher::Config::default())
        .modify(move |object| {
            object.managed_fields_mut().clear();
            trim(object);
        })
        .default_backoff()
        .reflect(writer)
        .touched_objects();
    let keep = changes.for_each(move |change| {
        match change {
            Ok(_) => changed.notify_one(),
            Err(error) => tracing::warn!(%error, kind = %K::kind(&()), "watching"),
        }
        futures::future::ready(())
    });
    (store, Box::pin(keep))
}
