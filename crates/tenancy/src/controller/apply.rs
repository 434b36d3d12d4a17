//! Puts a workspace's objects into its namespace, as far as they aren't there.

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Namespace, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use serde_json::Value;

use super::drift::{exact, fingerprint};
use super::{Context, Error, FIELD_MANAGER, failed, lock};
use crate::propagation::{Key, key};

/// Applies what is not as it was applied last, and removes what must not be there: a
/// change of one object costs one request.
pub async fn apply(
    context: &Context,
    namespace: &str,
    wanted: &[Value],
    absent: Vec<Key>,
) -> Result<(), Error> {
    // Roles are taken away first: what is granted afterwards is never more than wanted.
    for key in absent {
        let is_there = lock(&context.kept).is_there(namespace, &key);
        if is_there {
            remove(context, namespace, &key).await?;
        }
    }
    // What holds a workspace is there before anybody may do something in it. Those of a
    // stage don't wait for each other: who waits for a workspace waits for all of them.
    let stage = |object: &&Value| match object["kind"].as_str() {
        Some("Namespace") => 0,
        Some("RoleBinding") => 2,
        _ => 1,
    };
    for number in 0..3 {
        let puts = wanted.iter().filter(|object| stage(object) == number);
        try_join_all(puts.map(|object| put(context, namespace, object))).await?;
    }
    Ok(())
}

/// Applies an object, unless it is as it was applied last.
async fn put(context: &Context, namespace: &str, object: &Value) -> Result<(), Error> {
    let (key, asked) = (key(object), exact(object));
    if lock(&context.kept).is_as(namespace, &key, asked) {
        return Ok(());
    }
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let answer = api_of(&context.client, &key.0, namespace)
        .patch(&key.1, &parameters, &Patch::Apply(object))
        .await
        .map_err(failed(format!("applying {} {} in {namespace}", key.0, key.1)))?;
    let value = serde_json::to_value(&answer)
        .map_err(|error| failed("reading an answer")(kube::Error::SerdeError(error)))?;
    lock(&context.kept).put(namespace, key, asked, fingerprint(&value), false);
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

async fn remove(context: &Context, namespace: &str, key: &Key) -> Result<(), Error> {
    match api_of(&context.client, &key.0, namespace).delete(&key.1, &DeleteParams::default()).await {
        Err(kube::Error::Api(answer)) if answer.code == 404 => {}
        other => drop(other.map_err(failed(format!("removing {} {} in {namespace}", key.0, key.1)))?),
    }
    lock(&context.kept).remove(namespace, key);
    Ok(())
}
