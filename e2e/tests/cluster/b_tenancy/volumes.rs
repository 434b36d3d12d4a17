//! Getting at volumes that are somebody else's.

use super::attack::Protection::{NoRight, Policy};
use super::attack::{Attack, World, campaign, check};

fn claim(annotations: &str, spec: &str, reason: &'static str) -> Attack<'static> {
    let world = World::shared();
    let manifest = format!(
        "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: attack, namespace: {}, annotations: \
         {{{annotations}}}}}, spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}, {spec}}}}}",
        world.namespace
    );
    Attack {
        attempt: Box::new(move || world.developer.tries(&manifest)),
        reason,
        protections: vec![Policy("atoll-volumes")],
    }
}

const BY_NAME: &str = "spec.volumeName: a claim doesn't choose its volume";
const BY_LABELS: &str = "spec.selector: a claim doesn't choose its volume";
const CLASS: &str = "spec.storageClassName: name one that the plan allows";
const ANNOTATION: &str = "metadata.annotations: those of volume.kubernetes.io";

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
    check(world, BY_NAME, &[Policy("atoll-volumes")], || world.developer.kubectl(&words));
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

campaign! {
    claim_a_volume_by_its_name => claim("", "volumeName: pvc-of-the-victim", BY_NAME);
    claim_a_volume_by_its_labels => claim("", "selector: {matchLabels: {a: b}}", BY_LABELS);
    claim_any_volume_that_is_free => claim("", "storageClassName: ''", CLASS);
    claim_of_a_class_that_the_plan_does_not_allow => claim("", "storageClassName: gold", CLASS);
    /// An annotation that Kubernetes read before there was a field, and still does.
    claim_of_another_class_by_annotation => {
        let annotation = "volume.beta.kubernetes.io/storage-class: gold";
        claim(annotation, "storageClassName: local", ANNOTATION)
    };
    claim_on_a_node_by_annotation => {
        let annotation = "volume.kubernetes.io/selected-node: x";
        claim(annotation, "storageClassName: local", ANNOTATION)
    };
}
