//! What a plan means where nothing is named, and the nodes that it places pods on.

use std::time::Duration;

use e2e::{Cluster, Person, Said, eventually};

use super::attack::Protection::Policy;
use super::attack::{World, check};

const LIMIT: Duration = Duration::from_secs(60);

/// Classes that aren't the cluster's own, and a plan that means them.
const MEANT: &str = r#"
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: meant}, provisioner: rancher.io/local-path,
 volumeBindingMode: WaitForFirstConsumer}
---
{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: meant}, spec: {controller: atoll.dev/gateway}}
---
{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: meant}, value: 7, preemptionPolicy: Never}
---
{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: meant}, handler: runc,
 overhead: {podFixed: {memory: 3Mi}}}
---
apiVersion: atoll.dev/v1alpha1
kind: Plan
metadata: {name: meant}
spec:
  podSecurity: baseline
  storageClasses: [meant]
  ingressClasses: [meant]
  priorityClasses: [meant]
  runtimeClasses: [meant]
  defaults: {storageClass: meant, ingressClass: meant, priorityClass: meant, runtimeClass: meant}
  nodeSelector: {kubernetes.io/os: linux}
"#;

fn object(head: &str, namespace: &str, spec: &str) -> String {
    format!("{{{head}, metadata: {{name: one, namespace: {namespace}}}, spec: {{{spec}}}}}")
}

fn pod(namespace: &str, spec: &str) -> String {
    let containers = "containers: [{name: c, image: 'busybox:1.35', command: [sleep, '3600']}]";
    object(
        "apiVersion: v1, kind: Pod",
        namespace,
        &format!("terminationGracePeriodSeconds: 0, {spec}{containers}"),
    )
}

fn claim(namespace: &str, spec: &str) -> String {
    let spec = format!("{spec}accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}");
    object("apiVersion: v1, kind: PersistentVolumeClaim", namespace, &spec)
}

fn ingress(namespace: &str, spec: &str) -> String {
    let spec = format!("{spec}rules: [{{host: meant.atollapps.localhost}}]");
    object("apiVersion: networking.k8s.io/v1, kind: Ingress", namespace, &spec)
}

/// Gives a workspace a plan, and waits until its namespace tells of it.
fn plan(cluster: &Cluster, workspace: &str, namespace: &str, plan: &str, nodes: &str) {
    cluster.atoll(&["workspace", "plan", workspace, plan]).ok();
    eventually("the plan is told", LIMIT, || {
        let path = r"jsonpath={.metadata.annotations.policy\.atoll\.dev/node-selector}";
        let said = cluster.kubectl(&["get", "namespace", namespace, "-o", path]).ok();
        if said == nodes { Ok(()) } else { Err(said) }
    });
}

fn refused(said: &Said, reason: &str) {
    assert!(said.code != Some(0) && said.err.contains(reason), "{reason}: {said:?}");
}

#[test]
fn what_is_not_named_is_what_the_plan_means() {
    let cluster = Cluster::shared();
    cluster.apply(MEANT);
    let rhea = Person::new(cluster, "rhea", "modest");
    let namespace = rhea.namespace.clone();
    plan(cluster, "modest", &namespace, "meant", "kubernetes.io/os=linux");

    for (manifest, kind, paths) in [
        (
            pod(&namespace, ""),
            "pod",
            "{.spec.priorityClassName} {.spec.priority} {.spec.preemptionPolicy} {.spec.runtimeClassName} \
             {.spec.overhead.memory} {.spec.nodeSelector}",
        ),
        (claim(&namespace, ""), "pvc", "{.spec.storageClassName}"),
        (ingress(&namespace, ""), "ingress", "{.spec.ingressClassName}"),
    ] {
        rhea.apply(&manifest);
        let words = ["get", kind, "one", "-n", &namespace, "-o", &format!("jsonpath={paths}")];
        let wanted =
            if kind == "pod" { r#"meant 7 Never meant 3Mi {"kubernetes.io/os":"linux"}"# } else { "meant" };
        assert_eq!(rhea.kubectl(&words).ok(), wanted);
    }
    rhea.kubectl(&["wait", "--for=condition=Ready", "pod/one", "-n", &namespace, "--timeout=60s"]).ok();
    rhea.kubectl(&["delete", "--grace-period=0", "pod/one", "pvc/one", "ingress/one", "-n", &namespace]).ok();

    // Named is named, and what the plan doesn't allow is no default of anybody's.
    refused(
        &rhea.tries(&claim(&namespace, "storageClassName: gold, ")),
        "name one that the plan allows, of meant",
    );
    refused(
        &rhea.tries(&ingress(&namespace, "ingressClassName: nginx, ")),
        "name one that the plan allows, of meant",
    );
    refused(&rhea.tries(&pod(&namespace, "priorityClassName: other, ")), "other");

    // With a plan that means nothing it is the cluster's own again.
    plan(cluster, "modest", &namespace, "standard", "");
    let words = ["-n", &namespace, "-o", "jsonpath={.spec.storageClassName}{.spec.priorityClassName}"];
    eventually("the cluster's own class is meant", LIMIT, || {
        rhea.apply(&claim(&namespace, ""));
        let said = rhea.kubectl(&[&["get", "pvc", "one"][..], &words].concat()).ok();
        rhea.kubectl(&["delete", "pvc/one", "-n", &namespace]).ok();
        if said == "local" { Ok(()) } else { Err(said) }
    });
    rhea.leave();
    eventually("nothing has the plan", LIMIT, || {
        let said = cluster.kubectl(&["delete", "plan/meant"]);
        if said.code == Some(0) { Ok(()) } else { Err(format!("{said:?}")) }
    });
    let classes = ["storageclass/meant", "ingressclass/meant", "priorityclass/meant", "runtimeclass/meant"];
    cluster.kubectl(&[&["delete"][..], &classes].concat()).ok();
}

#[test]
fn a_plan_means_only_what_it_allows() {
    let cluster = Cluster::shared();
    for (spec, reason) in [
        (
            "defaults: {storageClass: gold}, storageClasses: [silver]",
            "spec.defaults.storageClass: gold is not among",
        ),
        (
            "defaults: {ingressClass: gold}",
            "spec.defaults.ingressClass: gold is not among spec.ingressClasses",
        ),
        (
            "defaults: {priorityClass: gold}",
            "spec.defaults.priorityClass: gold is not among spec.priorityClasses",
        ),
        (
            "defaults: {runtimeClass: gold}",
            "spec.defaults.runtimeClass: gold is not among spec.runtimeClasses",
        ),
        ("nodeSelector: {'a,b': c}", "spec.nodeSelector: name labels and values as nodes have them"),
        ("nodeSelector: {a: 'b,c=d'}", "spec.nodeSelector: name labels and values as nodes have them"),
    ] {
        let plan = format!(
            "{{apiVersion: atoll.dev/v1alpha1, kind: Plan, metadata: {{name: wrong}}, spec: {{{spec}}}}}"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), plan).unwrap();
        let words = ["apply", "--dry-run=server", "-f", file.path().to_str().unwrap()];
        refused(&cluster.kubectl(&words), reason);
    }
}

#[test]
fn run_on_other_nodes_than_the_plans() {
    let world = World::shared();
    let cluster = world.cluster;
    cluster.apply(
        "{apiVersion: atoll.dev/v1alpha1, kind: Plan, metadata: {name: placed}, \
         spec: {podSecurity: baseline, nodeSelector: {example.com/pool: shared}}}",
    );
    plan(cluster, "lab", &world.namespace, "placed", "example.com/pool=shared");
    let outcome = std::panic::catch_unwind(|| {
        let manifest = world.pod("nodeSelector: {example.com/pool: own}", "");
        let reason = "the plan places pods on nodes with example.com/pool=shared";
        check(world, reason, &[Policy("atoll-pods")], || world.developer.tries(&manifest));
        let said = world.developer.tries(&world.pod("nodeSelector: {kubernetes.io/os: linux}", ""));
        assert_eq!(said.code, Some(0), "{said:?}");
    });
    plan(cluster, "lab", &world.namespace, "standard", "");
    cluster.kubectl(&["delete", "plan", "placed"]);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}
