//! Copies into a workspace what is above it and says that it is to be copied.

use std::collections::BTreeSet;

use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt};
use serde_json::Value;

use api::Workspace;
use api::names::SYSTEM_NAMESPACE;

use super::drift::{exact, fingerprint};
use super::sources::kinds;
use super::{Context, Error, FIELD_MANAGER, failed, lock};
use crate::desired::MANAGED_LABEL;
use crate::propagation::{self, ATOLL, FROM, Key, Target, key};

/// What is to be copied into a workspace from what is above it, and from Atoll's own
/// namespace.
pub fn wanted(context: &Context, workspace: &Workspace, namespace: &str) -> Vec<Value> {
    let name = workspace.name_any();
    let mut above = context.index.above(&name);
    let of_above = above.iter().filter_map(|name| Some((name.clone(), context.index.namespace_of(name)?)));
    let places: Vec<_> = of_above.chain([(ATOLL.to_owned(), SYSTEM_NAMESPACE.to_owned())]).collect();
    let sources: Vec<_> = places
        .iter()
        .flat_map(|(name, of)| context.sources.of(of).into_iter().map(move |source| (name, source)))
        .collect();
    above.push(ATOLL.to_owned());
    let target = Target { workspace: &name, namespace, labels: workspace.labels(), above: &above };
    propagation::copies(&target, sources.iter().map(|(name, source)| (name.as_str(), &**source)))
}

/// Copies, and removes copies; says what can't be copied.
pub async fn settle(context: &Context, namespace: &str, wanted: &[Value]) -> Result<Vec<String>, Error> {
    let own = context.sources.of(namespace);
    let mut problems: Vec<String> =
        own.iter().filter_map(|source| propagation::check(source).err()).collect();
    let names: BTreeSet<Key> = wanted.iter().map(key).collect();
    let there = lock(&context.kept).copies(namespace);
    for stale in there.difference(&names) {
        remove(context, namespace, stale).await?;
    }
    for copy in wanted {
        let (key, asked) = (key(copy), exact(copy));
        if lock(&context.kept).is_as(namespace, &key, asked) {
            continue;
        }
        match put(&context.client, namespace, copy).await? {
            Ok(stored) => lock(&context.kept).put(namespace, key, asked, fingerprint(&stored), true),
            Err(problem) => {
                let from = copy["metadata"]["labels"][FROM].as_str().unwrap_or_default();
                problems.push(format!("{} {} of {from} can't be copied here: {problem}", key.0, key.1));
            }
        }
    }
    Ok(problems)
}

/// Of a workspace of which nobody can say what is above it: what narrows stays as it is,
/// and what gives rights goes.
pub async fn hold(context: &Context, namespace: &str) -> Result<(), Error> {
    let there = lock(&context.kept).copies(namespace);
    for copy in there.iter().filter(|(kind, _)| propagation::gives_rights(kind)) {
        remove(context, namespace, copy).await?;
    }
    Ok(())
}

fn objects(client: &Client, namespace: &str, kind: &str) -> Option<Api<DynamicObject>> {
    let resource: ApiResource = kinds().into_iter().find(|resource| resource.kind == kind)?;
    Some(Api::namespaced_with(client.clone(), namespace, &resource))
}

async fn remove(context: &Context, namespace: &str, stale: &Key) -> Result<(), Error> {
    let Some(objects) = objects(&context.client, namespace, &stale.0) else { return Ok(()) };
    match objects.delete(&stale.1, &DeleteParams::default()).await {
        Err(kube::Error::Api(answer)) if answer.code == 404 => {}
        other => drop(other.map_err(failed(format!("removing the copy {} {}", stale.0, stale.1)))?),
    }
    lock(&context.kept).remove(namespace, stale);
    Ok(())
}

/// Writes a copy, and nothing over what somebody else made: as it was stored, or why it
/// isn't.
async fn put(client: &Client, namespace: &str, copy: &Value) -> Result<Result<Value, String>, Error> {
    let (kind, name) = key(copy);
    let action = || format!("copying {kind} {name} into {namespace}");
    let Some(objects) = objects(client, namespace, &kind) else { return Ok(Err("it is of no kind".into())) };
    let read = |value: &Value| {
        serde_json::from_value::<DynamicObject>(value.clone())
            .map_err(kube::Error::SerdeError)
            .map_err(failed(action()))
    };
    let mut object = read(copy)?;
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    let known = objects.get_metadata_opt(&name).await.map_err(failed(action()))?;
    let written = match known {
        None => objects.create(&parameters, &object).await,
        Some(known) if !known.labels().contains_key(FROM) || !known.labels().contains_key(MANAGED_LABEL) => {
            return Ok(Err("there is one of that name, which stays as it is".into()));
        }
        Some(known) => {
            object.metadata.resource_version = known.resource_version();
            match objects.replace(&name, &parameters, &object).await {
                // Part of it can't be changed: it is made anew.
                Err(kube::Error::Api(answer)) if answer.code == 422 => {
                    let deleted = objects.delete(&name, &DeleteParams::default()).await;
                    deleted.map_err(failed(action()))?;
                    object.metadata.resource_version = None;
                    objects.create(&parameters, &object).await
                }
                other => other,
            }
        }
    };
    match written {
        Ok(stored) => {
            serde_json::to_value(&stored).map(Ok).map_err(kube::Error::SerdeError).map_err(failed(action()))
        }
        // A quota, or a policy.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 403 | 422) => Ok(Err(answer.message.clone())),
        Err(error) => Err(failed(action())(error)),
    }
}
