//! What is counted besides pods, in a workspace and what is below it.

use std::time::Duration;

use e2e::{Cluster, Person, Said, eventually};

const LIMIT: Duration = Duration::from_secs(60);

/// A kind that Atoll doesn't know, and the right to count it.
const DATABASES: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: databases.quota.example.com}
spec:
  group: quota.example.com
  scope: Namespaced
  names: {plural: databases, singular: database, kind: Database}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {size: {type: string}, copies: {type: integer}}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: counts-databases, labels: {atoll.dev/counted: "true"}}
rules:
- {apiGroups: [quota.example.com], resources: [databases], verbs: [get, list, watch]}
"#;

const QUOTA: &str = r#"
apiVersion: atoll.dev/v1alpha1
kind: SharedQuota
metadata: {name: rita}
spec:
  workspace: rita-top
  hard:
    requests.storage: 3Gi
    count/secrets: "1"
    services: "1"
    limits.memory: 100Mi
    example.com/size: 500Gi
    example.com/stored: 1Ti
  measures:
    example.com/size: {resource: databases.quota.example.com, field: spec.size}
    example.com/stored:
      resource: databases.quota.example.com
      expression: quantity(object.spec.copies) * quantity(object.spec.size)
"#;

fn database(namespace: &str, size: &str) -> String {
    format!(
        "{{apiVersion: quota.example.com/v1, kind: Database, metadata: {{name: one, namespace: {namespace}}}, \
         spec: {{size: {size}, copies: 2}}}}"
    )
}

/// Of each kind one that fits, and leaves no room for a second one; all of the same name.
fn objects(namespace: &str) -> [(&'static str, String); 4] {
    let object = |head: &str, rest: &str| {
        format!("{{{head}, metadata: {{name: one, namespace: {namespace}}}, {rest}}}")
    };
    [
        (
            "requests.storage",
            object(
                "apiVersion: v1, kind: PersistentVolumeClaim",
                "spec: {accessModes: [ReadWriteOnce], storageClassName: local, \
                 resources: {requests: {storage: 2Gi}}}",
            ),
        ),
        ("count/secrets", object("apiVersion: v1, kind: Secret", "stringData: {a: b}")),
        ("services", object("apiVersion: v1, kind: Service", "spec: {ports: [{port: 80}]}")),
        (
            "limits.memory",
            object(
                "apiVersion: v1, kind: Pod",
                "spec: {schedulingGates: [{name: example.com/never}], containers: [{name: c, \
                 image: 'busybox:1.35', resources: {limits: {memory: 60Mi, cpu: 9m}}}]}",
            ),
        ),
    ]
}

fn has_no_room(said: &Said, resource: &str) {
    let reason = format!("the shared quota rita has no room: {resource}: ");
    assert!(said.code != Some(0) && said.err.contains(&reason), "{resource}: {said:?}");
}

fn fits(what: &str, attempt: impl Fn() -> Said) {
    eventually(what, LIMIT, || {
        let said = attempt();
        if said.code == Some(0) { Ok(()) } else { Err(format!("{said:?}")) }
    });
}

#[test]
fn what_is_below_counts_with_what_is_above() {
    let cluster = Cluster::shared();
    let rita = Person::new(cluster, "rita", "rita-top");
    cluster.atoll(&["workspace", "create", "rita-low", "--owner", "rita", "--parent", "rita-top"]).ok();
    let path = "jsonpath={.status.namespace}";
    let low = cluster.kubectl(&["get", "workspace", "rita-low", "-o", path]).ok();
    let top = rita.namespace.clone();
    cluster.apply(DATABASES);
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/databases.quota.example.com"]).ok();
    cluster.apply(QUOTA);
    let used = || cluster.kubectl(&["get", "sharedquota", "rita", "-o", "jsonpath={.status.used}"]).ok();
    eventually("all kinds are counted", LIMIT, || {
        let said = used();
        let kinds = ["requests.storage", "count/secrets", "services", "limits.memory", "example.com/size"];
        if kinds.iter().all(|kind| said.contains(&format!("\"{kind}\":\"0\""))) { Ok(()) } else { Err(said) }
    });

    // What is taken above is missing below, and comes back when it goes.
    for ((resource, above), (_, below)) in objects(&top).into_iter().zip(objects(&low)) {
        fits(resource, || rita.try_apply(&above));
        has_no_room(&rita.try_apply(&below), resource);
        rita.kubectl(&["delete", "--grace-period=0", "-f", &rita.file("above.yaml", &above)]).ok();
        fits(resource, || rita.try_apply(&below));
        has_no_room(&rita.tries(&above), resource);
    }

    // What a field says, also when it grows; whoever asks.
    let databases = |text: &str| cluster.kubectl(&["apply", "-f", &rita.file("database.yaml", text)]);
    databases(&database(&top, "300Gi")).ok();
    has_no_room(&databases(&database(&low, "300Gi")), "example.com/size");
    databases(&database(&low, "200Gi")).ok();
    has_no_room(&databases(&database(&low, "201Gi")), "example.com/size");
    eventually("the book says so, in bytes", LIMIT, || {
        let said = used();
        if said.contains(r#""example.com/size":"536870912000""#) { Ok(()) } else { Err(said) }
    });

    // What an expression computes of several fields, and what it can't be told of.
    let copies = |text: &str, copies: &str| databases(&text.replace("copies: 2", copies));
    has_no_room(&copies(&database(&low, "200Gi"), "copies: 3"), "example.com/stored");
    let said = copies(&database(&low, "200Gi").replace("one", "two"), "");
    let reason = "the shared quota rita measures example.com/stored, and `quantity(object.spec.copies)";
    assert!(
        said.code != Some(0) && said.err.contains(reason) && said.err.contains("No such key"),
        "{said:?}"
    );
    // Nobody gets rid of what they use by making it unreadable.
    let patch = r#"[{"op":"remove","path":"/spec/copies"}]"#;
    let words = ["patch", "database", "one", "-n", &low, "--type=json", "-p", patch];
    let said = cluster.kubectl(&words);
    assert!(said.code != Some(0) && said.err.contains(reason), "{said:?}");

    // What is moved away counts there no longer.
    rita.atoll(&["workspace", "move", "rita-low", "--root"]).ok();
    fits("there is room above", || databases(&database(&top, "500Gi")));
    fits("and no limit for what was below", || databases(&database(&low, "900Gi")));

    // An expression that is none is told of.
    let broken = r#"{"spec":{"measures":{"example.com/stored":{"expression":"object.spec."}}}}"#;
    cluster.kubectl(&["patch", "sharedquota", "rita", "--type=merge", "-p", broken]).ok();
    eventually("the expression is told of", LIMIT, || {
        let path = "jsonpath={.status.conditions[0].reason} {.status.conditions[0].message}";
        let said = cluster.kubectl(&["get", "sharedquota", "rita", "-o", path]).ok();
        let wanted = "BadExpression spec.measures[example.com/stored].expression: `object.spec.` is no CEL";
        if said.starts_with(wanted) { Ok(()) } else { Err(said) }
    });
    let both = r#"{"spec":{"measures":{"example.com/stored":{"field":"spec.size"}}}}"#;
    let said = cluster.kubectl(&["patch", "sharedquota", "rita", "--type=merge", "-p", both]);
    assert!(said.err.contains("by a field or by an expression, and not by both"), "{said:?}");

    cluster.atoll(&["quota", "delete", "rita"]).ok();
    cluster.atoll(&["workspace", "delete", "--now", "rita-low"]).ok();
    rita.leave();
    cluster.kubectl(&["delete", "crd/databases.quota.example.com", "clusterrole/counts-databases"]).ok();
}
