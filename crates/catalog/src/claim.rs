//! What makes an app's objects belong together: a label on each of them, and
//! the Instance as their owner, so that they go when it goes.

use api::names::INSTANCE_LABEL;
use api::{Instance, ObjectReference, Resource};
use serde_json::{Map, Value, json};

use crate::App;

/// The label by which the same app is known to tools for this template format.
const DEPLOYED_LABEL: &str = "cloud.sealos.io/deploy-on-sealos";

/// The objects of an app, as its Instance lists them.
pub fn references(app: &App) -> Vec<ObjectReference> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    app.objects
        .iter()
        .map(|object| ObjectReference {
            api_version: text(&object["apiVersion"]),
            kind: text(&object["kind"]),
            name: text(&object["metadata"]["name"]),
        })
        .collect()
}

/// Labels every object of an app, the pods and the volumes they make, and makes
/// the Instance with this `uid` their owner.
pub fn claim(app: &mut App, uid: &str) {
    let name = app.name.clone();
    let owner = json!([{
        "apiVersion": Instance::api_version(&()),
        "kind": Instance::kind(&()),
        "name": name,
        "uid": uid,
        "controller": true,
        "blockOwnerDeletion": true,
    }]);
    for object in &mut app.objects {
        label(object, &name);
        // Volumes outlive the app when they are to be kept; the label finds them.
        if object["kind"] != "PersistentVolumeClaim"
            && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.insert("ownerReferences".into(), owner.clone());
        }
        if let Some(templates) =
            object.pointer_mut("/spec/volumeClaimTemplates").and_then(Value::as_array_mut)
        {
            for template in templates {
                label(template, &name);
            }
        }
        for pods in ["/spec/template", "/spec/jobTemplate/spec/template"] {
            if let Some(template) = object.pointer_mut(pods) {
                label(template, &name);
            }
        }
    }
}

/// Labels an object; one of another shape is left for the API server to refuse.
fn label(object: &mut Value, name: &str) {
    let labels = object.as_object_mut().and_then(|object| below(object, "metadata"));
    if let Some(labels) = labels.and_then(|metadata| below(metadata, "labels")) {
        labels.insert(INSTANCE_LABEL.into(), json!(name));
        labels.insert(DEPLOYED_LABEL.into(), json!(name));
    }
}

/// The map under a key, made when there is none.
fn below<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let value = map.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Template};
    use std::collections::BTreeMap;

    #[test]
    fn objects_of_odd_shapes_are_left_alone() {
        let odd = [
            json!({ "metadata": { "labels": "a" } }),
            json!({ "metadata": [] }),
            json!({ "metadata": {}, "spec": { "template": { "metadata": 1 }, "volumeClaimTemplates": [1] } }),
            json!({ "metadata": null, "spec": { "template": "a" } }),
        ];
        let template = Template::parse(
            "apiVersion: app.sealos.io/v1\nkind: Template\nmetadata: {name: t}\nspec: {title: T}\n",
        );
        let mut app = template.unwrap().evaluate(&BTreeMap::new(), &Context::default(), &mut || 0).unwrap();
        app.objects.extend(odd);
        claim(&mut app, "u1");
        assert_eq!(app.objects[3]["metadata"]["labels"][INSTANCE_LABEL], "t");
    }

    #[test]
    fn everything_of_an_app_is_labelled_and_owned() {
        let source = "apiVersion: app.sealos.io/v1\nkind: Template\nmetadata: {name: t}\nspec: {title: T}\n---\n\
                      apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: a}\nspec:\n  \
                      template: {metadata: {labels: {app: a}}}\n  volumeClaimTemplates: [{metadata: {name: d}}]\n";
        let template = Template::parse(source).unwrap();
        let mut app = template.evaluate(&BTreeMap::new(), &Context::default(), &mut || 0).unwrap();
        assert_eq!(references(&app)[0].kind, "StatefulSet");
        claim(&mut app, "u1");
        let set = &app.objects[0];
        assert_eq!(set["metadata"]["ownerReferences"][0]["uid"], "u1");
        assert_eq!(set["metadata"]["ownerReferences"][0]["kind"], "Instance");
        for place in ["/metadata", "/spec/template/metadata", "/spec/volumeClaimTemplates/0/metadata"] {
            assert_eq!(set.pointer(place).unwrap()["labels"][INSTANCE_LABEL], "t", "{place}");
        }
        assert_eq!(set["spec"]["template"]["metadata"]["labels"]["app"], "a");
    }
}
