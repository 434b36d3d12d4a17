//! What there is to copy. The watches tell it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt, future};
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::Value;

use super::{Known, lock};
use crate::propagation::{Key, MODE};

/// What is known, by namespace.
#[derive(Default)]
pub struct Sources {
    /// Objects that say of themselves that they are to be copied. Some hold secrets: none
    /// of this is printed.
    objects: Mutex<HashMap<String, BTreeMap<Key, Arc<Value>>>>,
}

/// The kinds that are copied.
pub fn kinds() -> [ApiResource; 6] {
    [
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<Role>(&()),
        ApiResource::erase::<RoleBinding>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<LimitRange>(&()),
    ]
}

impl Sources {
    /// The objects of a namespace that are to be copied.
    pub fn of(&self, namespace: &str) -> Vec<Arc<Value>> {
        lock(&self.objects).get(namespace).map(|all| all.values().cloned().collect()).unwrap_or_default()
    }

    fn set(&self, namespace: &str, key: Key, object: Option<Value>) {
        let mut all = lock(&self.objects);
        match object {
            Some(object) => drop(all.entry(namespace.to_owned()).or_default().insert(key, Arc::new(object))),
            None => {
                if let Some(objects) = all.get_mut(namespace) {
                    objects.remove(&key);
                    if objects.is_empty() {
                        all.remove(namespace);
                    }
                }
            }
        }
    }

    /// What happened to an object of a kind; says in which namespaces something changed.
    /// `listed` collects what a list names.
    fn hear(
        &self,
        of: &ApiResource,
        event: Event<DynamicObject>,
        listed: &mut BTreeSet<(String, String)>,
    ) -> Vec<String> {
        match event {
            Event::Init => {
                listed.clear();
                Vec::new()
            }
            Event::Apply(object) | Event::InitApply(object) => {
                let namespace = object.namespace().unwrap_or_default();
                listed.insert((namespace.clone(), object.name_any()));
                let key = (of.kind.clone(), object.name_any());
                let Ok(mut value) = serde_json::to_value(&object) else { return Vec::new() };
                // A list doesn't say it of each.
                value["apiVersion"] = of.api_version.as_str().into();
                value["kind"] = of.kind.as_str().into();
                // What doesn't matter to a copy isn't kept.
                if let Some(metadata) = value["metadata"].as_object_mut() {
                    metadata.retain(|field, _| {
                        matches!(field.as_str(), "name" | "namespace" | "labels" | "annotations")
                    });
                }
                self.set(&namespace, key, Some(value));
                vec![namespace]
            }
            Event::Delete(object) => {
                let namespace = object.namespace().unwrap_or_default();
                self.set(&namespace, (of.kind.clone(), object.name_any()), None);
                vec![namespace]
            }
            Event::InitDone => {
                let mut gone = Vec::new();
                for (namespace, objects) in &*lock(&self.objects) {
                    let of_kind = objects.keys().filter(|(kind, _)| *kind == of.kind);
                    let missing =
                        of_kind.filter(|(_, name)| !listed.contains(&(namespace.clone(), name.clone())));
                    gone.extend(missing.map(|key| (namespace.clone(), key.clone())));
                }
                gone.into_iter()
                    .map(|(namespace, key)| {
                        self.set(&namespace, key, None);
                        namespace
                    })
                    .collect()
            }
        }
    }
}

/// The namespaces in which what is to be copied has changed.
pub fn watch(
    client: &Client,
    sources: &Arc<Sources>,
    known: &Arc<Known>,
) -> impl Stream<Item = String> + Send + 'static {
    let watches = kinds().map(|resource| {
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let (sources, known) = (sources.clone(), known.clone());
        let (mut listed, mut names) = (false, BTreeSet::new());
        watcher(objects, watcher::Config::default().labels(MODE))
            .default_backoff()
            .filter_map(move |event| {
                let event = event.inspect_err(
                    |error| tracing::warn!(%error, kind = resource.kind, "watching what is copied"),
                );
                let heard = event.ok().map(|event| {
                    let is_done = matches!(event, Event::InitDone);
                    let changed = sources.hear(&resource, event, &mut names);
                    if is_done && !listed {
                        listed = true;
                        known.one_more();
                    }
                    futures::stream::iter(changed)
                });
                future::ready(heard)
            })
            .flatten()
            .boxed()
    });
    futures::stream::select_all(watches)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(namespace: &str, name: &str) -> DynamicObject {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": { "a": "b" },
            "metadata": { "name": name, "namespace": namespace, "uid": "u", "labels": { MODE: "all" } },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_a_list_does_not_name_is_gone() {
        let sources = Sources::default();
        let mut listed = BTreeSet::new();
        let [config_maps, secrets, ..] = kinds();
        let mut hear = |of: &ApiResource, event| sources.hear(of, event, &mut listed);
        for event in [
            Event::Init,
            Event::InitApply(object("a", "x")),
            Event::InitApply(object("b", "x")),
            Event::InitDone,
        ] {
            hear(&config_maps, event);
        }
        assert_eq!(
            sources.of("a")[0]["metadata"],
            json!({ "name": "x", "namespace": "a", "labels": { MODE: "all" } })
        );
        assert_eq!(hear(&config_maps, Event::Apply(object("a", "y"))), ["a"]);
        // Of another kind nothing is said.
        hear(&secrets, Event::Init);
        assert!(hear(&secrets, Event::InitDone).is_empty());
        assert_eq!(sources.of("a").len(), 2);
        hear(&config_maps, Event::Init);
        hear(&config_maps, Event::InitApply(object("a", "y")));
        let mut gone = hear(&config_maps, Event::InitDone);
        gone.sort();
        assert_eq!(gone, ["a", "b"]);
        assert_eq!((sources.of("a").len(), sources.of("b").len()), (1, 0));
        assert_eq!(hear(&config_maps, Event::Delete(object("a", "y"))), ["a"]);
        assert!(sources.of("a").is_empty());
    }
}
