//! Tells how an installed app is: how many of its workloads are ready, and
//! under which addresses it answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;

use api::names::INSTANCE_LABEL;
use api::{Instance, InstanceStatus};

/// The instance that an object's label names, in the object's namespace.
fn owner<K: Resource>(object: &K) -> Option<ObjectRef<Instance>> {
    let name = object.meta().labels.as_ref()?.get(INSTANCE_LABEL)?;
    Some(ObjectRef::new(name).within(object.meta().namespace.as_ref()?))
}

/// Watches apps and what they are made of.
pub async fn run(client: Client) -> anyhow::Result<()> {
    let labelled = watcher::Config::default().labels(INSTANCE_LABEL);
    Controller::new(Api::<Instance>::all(client.clone()), watcher::Config::default())
        .watches(Api::<Deployment>::all(client.clone()), labelled.clone(), |object| owner(&object))
        .watches(Api::<StatefulSet>::all(client.clone()), labelled.clone(), |object| owner(&object))
        .watches(Api::<Ingress>::all(client.clone()), labelled, |object| owner(&object))
        .run(reconcile, |_, error, _| again(error), Arc::new(client))
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "looking at an app");
            }
        })
        .await;
    anyhow::bail!("the watch of apps ended")
}

fn again(error: &kube::Error) -> Action {
    tracing::warn!(%error, "looking at an app");
    Action::requeue(Duration::from_secs(2))
}

async fn reconcile(instance: Arc<Instance>, client: Arc<Client>) -> Result<Action, kube::Error> {
    let namespace = instance.namespace().unwrap_or_default();
    let own = ListParams::default().labels(&format!("{INSTANCE_LABEL}={}", instance.name_any()));
    let client = Client::clone(&client);
    let deployments = Api::<Deployment>::namespaced(client.clone(), &namespace).list(&own).await?;
    let sets = Api::<StatefulSet>::namespaced(client.clone(), &namespace).list(&own).await?;
    let ingresses = Api::<Ingress>::namespaced(client.clone(), &namespace).list(&own).await?;
    let expected = instance
        .spec
        .objects
        .iter()
        .filter(|object| ["Deployment", "StatefulSet"].contains(&object.kind.as_str()))
        .count();
    let ready = deployments.iter().filter(|d| deployment_ready(d)).count()
        + sets.iter().filter(|s| stateful_set_ready(s)).count();
    let status = InstanceStatus {
        ready: Some(format!("{ready}/{expected}")),
        addresses: addresses(ingresses.iter()),
        observed_generation: instance.metadata.generation,
    };
    if instance.status.as_ref() != Some(&status) {
        let instances: Api<Instance> = Api::namespaced(client, &namespace);
        let patch = Patch::Merge(json!({ "status": status }));
        match instances.patch_status(&instance.name_any(), &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(answer)) if answer.code == 404 => {}
            other => drop(other?),
        }
    }
    Ok(Action::await_change())
}

fn deployment_ready(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas.unwrap_or(0) >= wanted
            && status.available_replicas.unwrap_or(0) >= wanted
    })
}

fn stateful_set_ready(set: &StatefulSet) -> bool {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    set.status.as_ref().is_some_and(|status| {
        status.observed_generation >= set.metadata.generation && status.ready_replicas.unwrap_or(0) >= wanted
    })
}

/// The https addresses of some Ingresses' hosts; a wildcard is no address.
fn addresses<'a>(ingresses: impl Iterator<Item = &'a Ingress>) -> Vec<String> {
    let hosts: BTreeSet<String> = ingresses
        .flat_map(|ingress| ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten()))
        .filter_map(|rule| rule.host.clone())
        .filter(|host| !host.starts_with('*'))
        .collect();
    hosts.into_iter().map(|host| format!("https://{host}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_without_wildcards_once_each() {
        let ingress: Ingress = serde_json::from_value(json!({
            "spec": { "rules": [{ "host": "b.x" }, { "host": "*.x" }, { "host": "a.x" }, { "host": "b.x" }, {}] }
        }))
        .unwrap();
        assert_eq!(addresses([&ingress, &ingress].into_iter()), ["https://a.x", "https://b.x"]);
    }

    #[test]
    fn an_older_rollout_is_not_ready() {
        let value = |observed: i64| -> Deployment {
            serde_json::from_value(json!({
                "metadata": { "generation": 2 },
                "spec": { "replicas": 1, "selector": {}, "template": {} },
                "status": { "observedGeneration": observed, "updatedReplicas": 1, "availableReplicas": 1 }
            }))
            .unwrap()
        };
        assert!(!deployment_ready(&value(1)));
        assert!(deployment_ready(&value(2)));
    }
}
