//! What is copied into the workspaces below.

use std::time::Duration;

use super::attack::Protection::Policy;
use super::attack::{check, even_with, with_the_right};
use e2e::{Cluster, Person, eventually};

const LIMIT: Duration = Duration::from_secs(60);

fn config_map(namespace: &str, value: &str, label: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: shared, namespace: {namespace}, labels: {{{label}}}}}, \
         data: {{a: {value}}}}}"
    )
}

#[test]
fn what_is_to_be_copied_is_and_stays_equal() {
    let cluster = Cluster::shared();
    let pat = Person::new(cluster, "pat", "pat-root");
    let below = ["pat-team", "pat-leaf"];
    for (name, parent) in below.into_iter().zip(["pat-root", "pat-team"]) {
        cluster.atoll(&["workspace", "create", name, "--owner", "pat", "--parent", parent]).ok();
    }
    let namespaces = below
        .map(|name| cluster.kubectl(&["get", "workspace", name, "-o", "jsonpath={.status.namespace}"]).ok());
    let [team, leaf] = namespaces.each_ref().map(String::as_str);
    let has = |namespace: &str, kind: &str, name: &str, wanted: Option<&str>| {
        eventually(&format!("{kind} {name} in {namespace} is {wanted:?}"), LIMIT, || {
            let words =
                ["get", kind, name, "-n", namespace, "--ignore-not-found", "-o", "jsonpath={.data.a}{.kind}"];
            let said = pat.kubectl(&words).ok();
            if said == wanted.unwrap_or_default() { Ok(()) } else { Err(said) }
        });
    };
    pat.apply(&config_map(&pat.namespace, "one", "atoll.dev/propagate: all"));
    has(team, "configmap", "shared", Some("oneConfigMap"));
    has(leaf, "configmap", "shared", Some("oneConfigMap"));
    // It follows, and nobody edits or removes a copy.
    pat.apply(&config_map(&pat.namespace, "two", "atoll.dev/propagate: all"));
    has(leaf, "configmap", "shared", Some("twoConfigMap"));
    let said = pat.kubectl(&[
        "patch",
        "configmap",
        "shared",
        "-n",
        leaf,
        "--type=merge",
        "-p",
        r#"{"data":{"a":"x"}}"#,
    ]);
    assert!(said.err.contains("this ConfigMap is kept by Atoll"), "{said:?}");
    let said = pat.kubectl(&["delete", "configmap", "shared", "-n", leaf]);
    assert!(said.err.contains("this ConfigMap is kept by Atoll"), "{said:?}");
    // Who may do everything can, and it comes back.
    cluster.kubectl(&["delete", "configmap", "shared", "-n", leaf]).ok();
    has(leaf, "configmap", "shared", Some("twoConfigMap"));
    // An exception takes it back where it is.
    let words =
        ["annotate", "configmap", "shared", "-n", &pat.namespace, "atoll.dev/propagate-tree=!pat-leaf"];
    pat.kubectl(&words).ok();
    has(leaf, "configmap", "shared", None);
    has(team, "configmap", "shared", Some("twoConfigMap"));
    // What somebody made stays, and it is told.
    pat.apply(&config_map(leaf, "own", ""));
    let words = ["annotate", "configmap", "shared", "-n", &pat.namespace, "atoll.dev/propagate-tree-"];
    pat.kubectl(&words).ok();
    eventually("it is told", LIMIT, || {
        let path = "jsonpath={.status.conditions[?(@.type=='Propagation')].message}";
        let said = cluster.kubectl(&["get", "workspace", "pat-leaf", "-o", path]).ok();
        if said.contains("ConfigMap shared of pat-root can't be copied here") { Ok(()) } else { Err(said) }
    });
    has(leaf, "configmap", "shared", Some("ownConfigMap"));
    // A workload of the root may do below what it may do there.
    pat.apply(&format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: robot, namespace: {0}, labels: \
         {{atoll.dev/propagate: all}}}}, rules: [{{apiGroups: [''], resources: [pods], verbs: [list]}}]}}\n---\n\
         {{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: robot, namespace: {0}, labels: \
         {{atoll.dev/propagate: all}}}}, roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: robot}}, \
         subjects: [{{kind: ServiceAccount, name: robot, namespace: {0}}}]}}",
        pat.namespace
    ));
    let robot = format!("system:serviceaccount:{}:robot", pat.namespace);
    let may = || {
        cluster.kubectl(&["auth", "can-i", "list", "pods", "-n", leaf, "--as", &robot]).out.starts_with("yes")
    };
    eventually("the robot sees the leaf's pods", LIMIT, || if may() { Ok(()) } else { Err("no".into()) });
    pat.kubectl(&["delete", "rolebinding", "robot", "-n", &pat.namespace]).ok();
    eventually("the robot doesn't any more", LIMIT, || if may() { Err("yes".into()) } else { Ok(()) });
    // With the original the copies go, and what isn't below any more has none.
    pat.kubectl(&["delete", "configmap", "shared", "-n", &pat.namespace]).ok();
    has(team, "configmap", "shared", None);
    has(team, "role", "robot", Some("Role"));
    pat.atoll(&["workspace", "move", "pat-team", "--root"]).ok();
    has(team, "role", "robot", None);
    has(leaf, "configmap", "shared", Some("ownConfigMap"));
    cluster.atoll(&["workspace", "delete", "--now", "pat-team", "--subtree"]).ok();
    pat.leave();
}

#[test]
fn what_operators_share_is_in_every_workspace_that_they_choose() {
    let cluster = Cluster::shared();
    let people = ["una", "ugo"].map(|name| Person::new(cluster, name, &format!("{name}-own")));
    let [una, ugo] = &people;
    let name = "for-everybody";
    let label = |workspace: &str, label: &str| {
        cluster.kubectl(&["label", "workspace", workspace, label, "--overwrite"]).ok();
    };
    let has = |person: &Person, wanted: &str| {
        eventually(&format!("{} has `{wanted}`", person.namespace), LIMIT, || {
            let words = ["get", "configmap", name, "--ignore-not-found", "-o", "jsonpath={.data.a}"];
            let said = person.kubectl(&[&words[..], &["-n", &person.namespace]].concat()).ok();
            if said == wanted { Ok(()) } else { Err(said) }
        });
    };
    let share = |value: &str| {
        let manifest = format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, namespace: atoll-system, labels: \
             {{atoll.dev/propagate: select}}, annotations: {{atoll.dev/propagate-select: 'stage=test'}}}}, \
             data: {{a: {value}}}}}"
        );
        let file = una.file("shared.yaml", &manifest);
        cluster.kubectl(&["apply", "-f", &file]).ok();
    };
    label("una-own", "stage=test");
    share("one");
    has(una, "one");
    has(ugo, "");
    share("two");
    has(una, "two");
    // It goes where the labels say, and comes where they do.
    label("una-own", "stage=live");
    label("ugo-own", "stage=test");
    has(una, "");
    has(ugo, "two");
    let said = ugo.kubectl(&["delete", "configmap", name, "-n", &ugo.namespace]);
    assert!(said.err.contains("this ConfigMap is kept by Atoll"), "{said:?}");
    cluster.kubectl(&["delete", "configmap", name, "-n", "atoll-system"]).ok();
    has(ugo, "");
    for person in people {
        person.leave();
    }
}

#[test]
fn reach_below_as_a_workload() {
    let world = super::attack::World::shared();
    let robot = format!("system:serviceaccount:{}:robot", world.namespace);
    let manifest = config_map(&world.namespace, "x", "atoll.dev/propagate: all");
    let file = world.owner.file("propagated.yaml", &manifest);
    let words = ["create", "--dry-run=server", "-f", &file];
    even_with(&robot, "create", "configmaps", |world| {
        with_the_right(|| world.kubectl_as(&robot, &words));
        let reason = "is copied into the workspaces below, and is for those to change";
        check(world, reason, &[Policy("atoll-propagation")], || world.kubectl_as(&robot, &words));
    });
    // A developer may, who is one below as well.
    world.developer.tries(&manifest).ok();
}
