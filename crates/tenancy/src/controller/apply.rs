//! Puts a workspace's objects into its namespace, as far as they aren't there.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Namespace, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt};

use super::drift::{Fingerprint, exact, fingerprint};
use super::{Context, Error, FIELD_MANAGER, failed, lock};
use crate::desired::{self, Input, MANAGED_LABEL};
use crate::propagation::{Key, key};

/// What a workspace's objects, by kind and name, were when they were last applied: as
/// they were asked for, and as the API server stored them.
#[derive(Default)]
pub struct Applied {
    pub objects: HashMap<Key, (Fingerprint, Fingerprint)>,
    /// A role binding is there that nobody asked for.
    pub is_strange: bool,
}

/// Applies what is not as it was applied last: a change of one object costs one
/// request.
pub async fn apply(context: &Context, input: &Input<'_>) -> Result<(), Error> {
    let mut wanted = vec![desired::namespace(input)];
    wanted.extend(desired::objects(input));
    let absent = desired::absent_bindings(input);
    // What isn't known to be there may be: an earlier life of ours may have made it.
    let superfluous = match lock(&context.applied).get(input.namespace) {
        Some(applied) if !applied.is_strange => {
            wanted.retain(|object| {
                applied.objects.get(&key(object)).is_none_or(|(before, _)| *before != exact(object))
            });
            let there = absent
                .iter()
                .filter(|name| applied.objects.contains_key(&("RoleBinding".to_owned(), (*name).clone())));
            Some(there.cloned().collect::<Vec<_>>())
        }
        _ => None,
    };
    let is_known = superfluous.is_some();
    let superfluous = match superfluous {
        Some(known) => known,
        None => superfluous_bindings(context, input, &absent).await?,
    };
    // Roles are taken away first: what is granted afterwards is never more than wanted.
    remove_bindings(context, input, &superfluous).await?;
    let mut objects = HashMap::new();
    for object in wanted {
        let (kind, name) = key(&object);
        let place = api_of(&context.client, &kind, input.namespace);
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let answer = place.patch(&name, &parameters, &Patch::Apply(&object)).await;
        let answer = answer.map_err(failed(format!("applying {kind} {name} in {}", input.namespace)))?;
        let value = serde_json::to_value(&answer)
            .map_err(|error| failed("reading an answer")(kube::Error::SerdeError(error)))?;
        objects.insert((kind, name), (exact(&object), fingerprint(&value)));
    }
    let mut all = lock(&context.applied);
    let applied = all.entry(input.namespace.to_string()).or_default();
    for name in superfluous {
        applied.objects.remove(&("RoleBinding".to_owned(), name));
    }
    applied.objects.extend(objects);
    applied.is_strange &= is_known;
    Ok(())
}

fn api_of(client: &Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let resource = match kind {
        "Namespace" => return Api::all_with(client.clone(), &ApiResource::erase::<Namespace>(&())),
        "RoleBinding" => ApiResource::erase::<RoleBinding>(&()),
        "NetworkPolicy" => ApiResource::erase::<NetworkPolicy>(&()),
        "ConfigMap" => ApiResource::erase::<ConfigMap>(&()),
        "ResourceQuota" => ApiResource::erase::<ResourceQuota>(&()),
        _ => ApiResource::erase::<LimitRange>(&()),
    };
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// The role bindings that are there and shouldn't be.
async fn superfluous_bindings(
    context: &Context,
    input: &Input<'_>,
    absent: &[String],
) -> Result<Vec<String>, Error> {
    let bindings: Api<RoleBinding> = Api::namespaced(context.client.clone(), input.namespace);
    let managed = ListParams::default().labels(MANAGED_LABEL);
    let there = bindings.list_metadata(&managed).await.map_err(failed("listing role bindings"))?;
    Ok(there.iter().map(ResourceExt::name_any).filter(|name| absent.contains(name)).collect())
}

async fn remove_bindings(context: &Context, input: &Input<'_>, names: &[String]) -> Result<(), Error> {
    let bindings: Api<RoleBinding> = Api::namespaced(context.client.clone(), input.namespace);
    for binding in names {
        match bindings.delete(binding, &DeleteParams::default()).await {
            Err(kube::Error::Api(answer)) if answer.code == 404 => {}
            other => drop(other.map_err(failed(format!("removing the role binding {binding}")))?),
        }
    }
    Ok(())
}
