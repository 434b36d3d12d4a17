//! Getting at volumes that are somebody else's.

use super::attack::Protection::{NoRight, Policy};
use super::attack::{World, check};

fn claim(annotations: &str, spec: &str, reason: &str) {
    let world = World::shared();
    let manifest = format!(
        "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: attack, namespace: {}, annotations: \
         {{{annotations}}}}}, spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}, {spec}}}}}",
        world.namespace
    );
    check(world, reason, &[Policy("atoll-volumes")], || world.developer.tries(&manifest));
}

#[test]
fn claim_a_volume_by_its_name() {
    claim("", "volumeName: pvc-of-the-victim", "spec.volumeName: a claim doesn't choose its volume");
}

#[test]
fn claim_a_volume_by_its_labels() {
    claim("", "selector: {matchLabels: {a: b}}", "spec.selector: a claim doesn't choose its volume");
}

#[test]
fn claim_any_volume_that_is_free() {
    claim("", "storageClassName: ''", "spec.storageClassName: name one that the plan allows");
}

#[test]
fn claim_of_a_class_that_the_plan_does_not_allow() {
    claim("", "storageClassName: gold", "spec.storageClassName: name one that the plan allows");
}

/// An annotation that Kubernetes read before there was a field, and still does.
#[test]
fn claim_of_another_class_by_annotation() {
    let annotation = "volume.beta.kubernetes.io/storage-class: gold";
    claim(annotation, "storageClassName: local", "metadata.annotations: those of volume.kubernetes.io");
}

#[test]
fn claim_on_a_node_by_annotation() {
    let annotation = "volume.kubernetes.io/selected-node: x";
    claim(annotation, "storageClassName: local", "metadata.annotations: those of volume.kubernetes.io");
}

#[test]
fn claim_a_volume_by_its_name_later() {
    let world = World::shared();
    let namespace = &world.namespace;
    world.developer.apply(&format!(
        "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: later, namespace: {namespace}}}, spec: \
         {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}}}"
    ));
    let patch = r#"{"spec":{"volumeName":"pvc-of-the-victim"}}"#;
    let words = ["patch", "pvc", "later", "-n", namespace, "--type=merge", "--dry-run=server", "-p", patch];
    check(world, "spec.volumeName: a claim doesn't choose its volume", &[Policy("atoll-volumes")], || {
        world.developer.kubectl(&words)
    });
    world.developer.kubectl(&["delete", "pvc", "-n", namespace, "later"]).ok();
}

#[test]
fn make_a_volume_of_the_nodes_disk() {
    let world = World::shared();
    let manifest = "{apiVersion: v1, kind: PersistentVolume, metadata: {name: attack}, spec: {capacity: \
                    {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /}}}";
    let right = NoRight("atoll:mallory", "create", "persistentvolumes");
    check(world, "cannot create resource \"persistentvolumes\"", &[right], || world.owner.tries(manifest));
}
