//! Getting rights that nobody gave: the namespace's fences, tokens, other people's
//! places, and the cluster itself.

use e2e::Said;

use super::attack::Protection::{NoRight, Policy};
use super::attack::{World, check, even_with, with_the_right};

fn patch_namespace(namespace: &str, patch: &str, reason: &str) {
    even_with("atoll:mallory", "get,patch,update", "namespaces", |world| {
        // As the API server hears it: front shows accounts their own namespaces alone.
        let words = ["patch", "namespace", namespace, "--type=merge", "--dry-run=server", "-p", patch];
        with_the_right(|| world.owner.kubectl(&words));
        check(world, reason, &[Policy("atoll-namespaces")], || world.owner.kubectl(&words));
    });
}

/// CVE-2024-39690: who could change their namespace's labels took another tenant's.
#[test]
fn make_the_own_namespace_anothers() {
    let patch = r#"{"metadata":{"labels":{"atoll.dev/workspace":"vault"}}}"#;
    patch_namespace(&World::shared().namespace, patch, "the label atoll.dev/workspace is set by Atoll");
}

/// CVE-2024-39690: or one of the system's.
#[test]
fn make_the_systems_namespace_a_workspaces() {
    let patch = r#"{"metadata":{"labels":{"atoll.dev/workspace":"lab"}}}"#;
    let reason = "the label atoll.dev/workspace is set by Atoll";
    even_with("atoll:mallory", "get,patch,update", "namespaces", |world| {
        let words = ["patch", "namespace", "kube-system", "--type=merge", "--dry-run=server", "-p", patch];
        let words = [&words[..], &["--as-group=atoll:accounts"]].concat();
        with_the_right(|| world.kubectl_as("atoll:mallory", &words));
        check(world, reason, &[Policy("atoll-namespaces")], || world.kubectl_as("atoll:mallory", &words));
    });
}

/// CVE-2024-39690: or said that it is owned by another tenant.
#[test]
fn say_that_a_namespace_belongs_to_another_workspace() {
    let patch = r#"{"metadata":{"ownerReferences":[{"apiVersion":"atoll.dev/v1alpha1","kind":"Workspace","name":"vault","uid":"x"}]}}"#;
    patch_namespace(
        &World::shared().namespace,
        patch,
        "which workspace a namespace belongs to is set by Atoll",
    );
}

#[test]
fn lift_pod_security() {
    let patch = r#"{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}"#;
    patch_namespace(
        &World::shared().namespace,
        patch,
        "metadata.labels: those of atoll.dev and pod-security",
    );
}

#[test]
fn allow_oneself_what_the_plan_does_not() {
    let patch =
        r#"{"metadata":{"annotations":{"policy.atoll.dev/priority-classes":"system-node-critical"}}}"#;
    patch_namespace(
        &World::shared().namespace,
        patch,
        "metadata.annotations: those of atoll.dev are set by Atoll",
    );
}

#[test]
fn take_the_workspaces_label_off() {
    let patch = r#"{"metadata":{"labels":{"atoll.dev/workspace":null}}}"#;
    patch_namespace(&World::shared().namespace, patch, "the label atoll.dev/workspace is set by Atoll");
}

#[test]
fn make_a_namespace() {
    let world = World::shared();
    let right = NoRight("atoll:mallory", "create", "namespaces");
    check(world, "cannot create resource \"namespaces\"", &[right], || {
        world.owner.tries("{apiVersion: v1, kind: Namespace, metadata: {name: attack}}")
    });
}

#[test]
fn raise_the_own_quota() {
    even_with("atoll:dev", "get,patch", "resourcequotas", |world| {
        let patch = r#"{"spec":{"hard":{"pods":"9999"}}}"#;
        let words = ["patch", "resourcequota", "plan", "-n", &world.namespace, "--type=merge"];
        let words = [&words[..], &["--dry-run=server", "-p", patch]].concat();
        with_the_right(|| world.developer.kubectl(&words));
        check(world, "is kept by Atoll", &[Policy("atoll-managed")], || world.developer.kubectl(&words));
    });
}

#[test]
fn take_the_fence_away() {
    let world = World::shared();
    let words = ["delete", "networkpolicy", "isolation", "-n", &world.namespace, "--dry-run=server"];
    check(world, "is kept by Atoll", &[Policy("atoll-managed")], || world.developer.kubectl(&words));
}

#[test]
fn give_a_role_to_a_stranger_by_a_binding() {
    let world = World::shared();
    let manifest = binding(&world.namespace, "Role", "own", "{kind: User, name: 'atoll:victor'}");
    with_own_role(world);
    check(
        world,
        "a RoleBinding is for the workspace's own ServiceAccounts",
        &[Policy("atoll-bindings")],
        || world.manager.tries(&manifest),
    );
}

#[test]
fn give_a_role_to_a_workload_elsewhere() {
    let world = World::shared();
    let victim = &world.victim.namespace;
    let subject = format!("{{kind: ServiceAccount, name: default, namespace: {victim}}}");
    let manifest = binding(&world.namespace, "Role", "own", &subject);
    with_own_role(world);
    check(
        world,
        "a RoleBinding is for the workspace's own ServiceAccounts",
        &[Policy("atoll-bindings")],
        || world.manager.tries(&manifest),
    );
}

#[test]
fn make_a_workload_a_manager() {
    let world = World::shared();
    let subject = format!("{{kind: ServiceAccount, name: default, namespace: {}}}", world.namespace);
    let manifest = binding(&world.namespace, "ClusterRole", "atoll:manager", &subject);
    check(world, "the roles of members are given by", &[Policy("atoll-bindings")], || {
        world.manager.tries(&manifest)
    });
}

#[test]
fn bind_a_role_that_one_does_not_hold() {
    let world = World::shared();
    let subject = format!("{{kind: ServiceAccount, name: default, namespace: {}}}", world.namespace);
    let manifest = binding(&world.namespace, "ClusterRole", "cluster-admin", &subject);
    let right = NoRight("atoll:max", "bind", "clusterroles");
    check(world, "is attempting to grant RBAC permissions not currently held", &[right], || {
        world.manager.tries(&manifest)
    });
}

#[test]
fn write_a_role_with_more_than_one_holds() {
    let world = World::shared();
    let manifest = format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: attack, namespace: {}}}, rules: \
         [{{apiGroups: ['*'], resources: ['*'], verbs: ['*']}}]}}",
        world.namespace
    );
    let right = NoRight("atoll:max", "escalate", "roles");
    check(world, "is attempting to grant RBAC permissions not currently held", &[right], || {
        world.manager.tries(&manifest)
    });
}

/// A role of the workspace's own, which grants what a manager holds.
fn with_own_role(world: &World) {
    world.manager.apply(&format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: own, namespace: {}}}, rules: \
         [{{apiGroups: [''], resources: [configmaps], verbs: [get]}}]}}",
        world.namespace
    ));
}

fn binding(namespace: &str, kind: &str, role: &str, subject: &str) -> String {
    format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: attack, namespace: \
         {namespace}}}, roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: '{role}'}}, subjects: \
         [{subject}]}}"
    )
}

#[test]
fn have_a_token_that_never_expires() {
    let world = World::shared();
    let manifest = format!(
        "{{apiVersion: v1, kind: Secret, type: kubernetes.io/service-account-token, metadata: {{name: attack, \
         namespace: {}, annotations: {{kubernetes.io/service-account.name: default}}}}}}",
        world.namespace
    );
    check(world, "tokens that never expire are not given out", &[Policy("atoll-secrets")], || {
        world.developer.tries(&manifest)
    });
}

#[test]
fn have_a_workloads_token() {
    let world = World::shared();
    let right = NoRight("atoll:dev", "create", "serviceaccounts/token");
    check(world, "cannot create resource \"serviceaccounts/token\"", &[right], || {
        world.developer.kubectl(&["create", "token", "default", "-n", &world.namespace])
    });
}

#[test]
fn read_secrets_as_a_viewer() {
    let world = World::shared();
    let right = NoRight("atoll:vic", "list", "secrets");
    check(world, "cannot list resource \"secrets\"", &[right], || {
        world.viewer.kubectl(&["get", "secrets", "-n", &world.namespace])
    });
}

#[test]
fn read_a_neighbours_secrets() {
    let world = World::shared();
    let right = NoRight("atoll:mallory", "list", "secrets");
    check(world, "cannot list resource \"secrets\"", &[right], || {
        world.owner.kubectl(&["get", "secrets", "-n", &world.victim.namespace])
    });
}

#[test]
fn reach_pods_through_kubelet() {
    let world = World::shared();
    let node = world.cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]).ok();
    let right = NoRight("atoll:mallory", "get", "nodes/proxy");
    let path = format!("/api/v1/nodes/{node}/proxy/pods");
    check(world, "cannot get resource \"nodes/proxy\"", &[right], || {
        world.owner.kubectl(&["get", "--raw", &path])
    });
}

/// CVE-2023-33190: tenants' roles reached the whole cluster by wildcards.
#[test]
fn do_anything_anywhere() {
    let world = World::shared();
    for person in [&world.owner, &world.manager, &world.developer, &world.viewer] {
        let said = person.kubectl(&["auth", "can-i", "*", "*", "--all-namespaces"]);
        assert!(said.out.starts_with("no"), "{}: {said:?}", person.account);
    }
    let right = NoRight("atoll:mallory", "*", "*.*");
    let attempt = || {
        let said = world.owner.kubectl(&["auth", "can-i", "*", "*.*", "--all-namespaces"]);
        Said { err: said.out.clone(), ..said }
    };
    check(world, "no", &[right], attempt);
}

/// CVE-2023-36815: anybody could write the object by which an account is credited.
#[test]
fn have_a_better_plan_for_nothing() {
    let world = World::shared();
    let manifest = "{apiVersion: atoll.dev/v1alpha1, kind: Plan, metadata: {name: attack}, spec: {}}";
    let right = NoRight("atoll:mallory", "create", "plans.atoll.dev");
    check(world, "cannot create resource \"plans\"", &[right], || world.owner.tries(manifest));
    let patch = r#"{"spec":{"plan":"attack"}}"#;
    let words = ["patch", "workspace", "lab", "--type=merge", "--dry-run=server", "-p", patch];
    check(world, "spec.plan: which plan a workspace has", &[Policy("atoll-workspaces")], || {
        world.owner.kubectl(&words)
    });
}

#[test]
fn make_oneself_an_operator() {
    let world = World::shared();
    let words = [
        "patch",
        "account",
        "mallory",
        "--type=merge",
        "--dry-run=server",
        "-p",
        r#"{"spec":{"operator":true}}"#,
    ];
    let right = NoRight("atoll:mallory", "get,patch", "accounts.atoll.dev");
    check(world, "cannot", &[right], || world.owner.kubectl(&words));
}

/// CVE-2026-22872: what a tenant had made for them reached beyond their namespaces.
#[test]
fn have_a_template_reach_the_cluster() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("attack.yaml");
    let head = "apiVersion: app.sealos.io/v1\nkind: Template\nmetadata: {name: t}\nspec: {title: T}\n---\n";
    let object = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: attack}\n\
                  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\n\
                  subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: 'atoll:mallory'}]\n";
    std::fs::write(&file, format!("{head}{object}")).unwrap();
    let said = world.owner.atoll(&["app", "install", &file.display().to_string(), "--workspace", "lab"]);
    assert!(said.code != Some(0) && said.err.contains("ClusterRoleBinding"), "{said:?}");
    // What the template holds is refused by the caller's rights, too.
    let right = NoRight("atoll:mallory", "*", "*.*");
    check(world, "cannot create resource \"clusterrolebindings\"", &[right], || world.owner.tries(object));
}
