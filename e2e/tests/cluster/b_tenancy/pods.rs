//! What a pod might do to its node and to its neighbours.

use std::time::{Duration, Instant};

use e2e::Said;

use super::attack::Protection::{NoRight, PodSecurity, Policy};
use super::attack::{Attack, Protection, World, campaign, check};

/// A pod with this in its spec and its container.
fn pod(
    spec: &str,
    container: &str,
    reason: &'static str,
    protections: &[Protection<'static>],
) -> Attack<'static> {
    let world = World::shared();
    let manifest = world.pod(spec, container);
    Attack {
        attempt: Box::new(move || world.developer.tries(&manifest)),
        reason,
        protections: protections.to_vec(),
    }
}

const SECURITY: &str = "violates PodSecurity \"baseline:latest\"";

fn node() -> String {
    let words = ["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"];
    World::shared().cluster.kubectl(&words).ok()
}

/// What becomes of the pod of a Deployment, which the controller manager makes.
fn through_a_deployment(spec: &str) -> Said {
    let world = World::shared();
    let namespace = &world.namespace;
    world.developer.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: attack, namespace: {namespace}}}\nspec:\n  \
         selector: {{matchLabels: {{app: attack}}}}\n  template:\n    metadata: {{labels: {{app: attack}}}}\n    \
         spec:\n      {spec}\n      terminationGracePeriodSeconds: 0\n      containers: [{{name: c, image: 'busybox:1.35', command: [sleep, '3600']}}]\n"
    ));
    let started = Instant::now();
    let said = loop {
        let words = ["get", "pods", "-n", namespace, "-l", "app=attack", "-o", "name"];
        let pods = world.developer.kubectl(&words);
        let message = "jsonpath={.items[0].status.conditions[?(@.type=='ReplicaFailure')].message}";
        let words = ["get", "replicasets", "-n", namespace, "-l", "app=attack", "-o", message];
        let refusal = world.developer.kubectl(&words);
        if !pods.out.trim().is_empty() {
            break pods;
        }
        if !refusal.out.trim().is_empty() || started.elapsed() > Duration::from_secs(60) {
            break Said { code: Some(1), ..refusal };
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let words = ["delete", "deployment", "-n", namespace, "attack", "--cascade=foreground"];
    world.developer.kubectl(&words).ok();
    said
}

#[test]
fn choose_a_node_through_a_deployment() {
    let world = World::shared();
    let spec = format!("nodeName: {}", node());
    check(world, "a pod doesn't choose its node by spec.nodeName", &[Policy("atoll-pods")], || {
        through_a_deployment(&spec)
    });
}

#[test]
fn run_where_the_control_plane_does_through_a_deployment() {
    let world = World::shared();
    let spec = "tolerations: [{operator: Exists}]";
    check(world, "a toleration names one key", &[Policy("atoll-pods")], || through_a_deployment(spec));
}

/// A pod that runs, for attacks that change one.
fn with_a_pod(work: impl FnOnce(&World)) {
    let world = World::shared();
    world
        .developer
        .apply(&world.pod("terminationGracePeriodSeconds: 0", "").replace("name: attack", "name: runs"));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(world)));
    world.developer.kubectl(&["delete", "pod", "-n", &world.namespace, "runs", "--force"]).ok();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn tolerate_everything_later() {
    with_a_pod(|world| {
        let patch = r#"[{"op":"add","path":"/spec/tolerations/-","value":{"operator":"Exists"}}]"#;
        let words = ["patch", "pod", "runs", "-n", &world.namespace, "--type=json", "-p", patch];
        check(world, "a toleration names one key", &[Policy("atoll-pods")], || {
            world.developer.kubectl(&[&words[..], &["--dry-run=server"]].concat())
        });
    });
}

#[test]
fn run_under_another_runtime() {
    let world = World::shared();
    world
        .cluster
        .apply("{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: attack}, handler: x}");
    let manifest = world.pod("runtimeClassName: attack", "");
    check(world, "the plan doesn't allow the class attack", &[Policy("atoll-pods")], || {
        world.developer.tries(&manifest)
    });
    world.cluster.kubectl(&["delete", "runtimeclass", "attack"]).ok();
}

/// With a plan that allows images from one registry alone.
fn walled_in(work: impl FnOnce(&World)) {
    let world = World::shared();
    world.cluster.apply(
        "{apiVersion: atoll.dev/v1alpha1, kind: Plan, metadata: {name: walled}, \
         spec: {podSecurity: baseline, registries: [docker.io/library]}}",
    );
    let plan = |plan: &str, registries: &str| {
        let patch = format!(r#"{{"spec":{{"plan":"{plan}"}}}}"#);
        world.cluster.kubectl(&["patch", "workspace", "lab", "--type=merge", "-p", &patch]).ok();
        e2e::eventually("the plan is told", Duration::from_secs(20), || {
            let path = r"jsonpath={.metadata.annotations.policy\.atoll\.dev/registries}";
            let said = world.cluster.kubectl(&["get", "namespace", &world.namespace, "-o", path]).ok();
            if said == registries { Ok(()) } else { Err(said) }
        });
    };
    plan("walled", "docker.io/library");
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(world)));
    plan("standard", "*");
    world.cluster.kubectl(&["delete", "plan", "walled"]);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn run_an_image_from_elsewhere() {
    const REASON: &str = "the plan allows images from docker.io/library alone";
    walled_in(|world| {
        world.developer.tries(&world.pod("", "")).ok();
        for image in ["evil.example.com/x", "evil/x:1", "docker.io/library-evil/x", "localhost/library/x"] {
            let manifest = world.pod("", "").replace("busybox:1.35", image);
            let said = world.developer.tries(&manifest);
            assert!(said.err.contains(REASON), "{image}: {said:?}");
        }
        let manifest = world.pod("initContainers: [{name: i, image: evil.example.com/x}]", "");
        check(world, REASON, &[Policy("atoll-images")], || world.developer.tries(&manifest));
    });
}

#[test]
fn change_the_image_later() {
    walled_in(|_| {
        with_a_pod(|world| {
            let patch =
                r#"[{"op":"replace","path":"/spec/containers/0/image","value":"evil.example.com/x"}]"#;
            let words = ["patch", "pod", "runs", "-n", &world.namespace, "--type=json", "-p", patch];
            let words = [&words[..], &["--dry-run=server"]].concat();
            let reason = "the plan allows images from docker.io/library alone";
            check(world, reason, &[Policy("atoll-images")], || world.developer.kubectl(&words));
            let patch = r#"{"spec":{"ephemeralContainers":[{"name":"e","image":"evil.example.com/x"}]}}"#;
            let words = ["patch", "pod", "runs", "-n", &world.namespace, "--subresource=ephemeralcontainers"];
            let words = [&words[..], &["--dry-run=server", "-p", patch]].concat();
            check(world, reason, &[Policy("atoll-images")], || world.developer.kubectl(&words));
        });
    });
}

#[test]
fn break_out_by_an_ephemeral_container() {
    with_a_pod(|world| {
        let patch = r#"{"spec":{"ephemeralContainers":[{"name":"e","image":"busybox:1.35","securityContext":{"privileged":true}}]}}"#;
        let words = ["patch", "pod", "runs", "-n", &world.namespace, "--subresource=ephemeralcontainers"];
        let words = [&words[..], &["--dry-run=server", "-p", patch]].concat();
        check(world, SECURITY, &[PodSecurity], || world.developer.kubectl(&words));
    });
}

#[test]
fn run_programs_as_a_viewer() {
    with_a_pod(|world| {
        let words = ["wait", "pod", "runs", "-n", &world.namespace, "--for=condition=Ready", "--timeout=60s"];
        world.developer.kubectl(&words).ok();
        let right = NoRight("atoll:vic", "get,create", "pods/exec");
        check(world, "cannot create resource \"pods/exec\"", &[right], || {
            world.viewer.kubectl(&["exec", "-n", &world.namespace, "runs", "--", "true"])
        });
    });
}

campaign! {
    mount_a_folder_of_the_node => {
        let spec = "volumes: [{name: v, hostPath: {path: /}}]";
        pod(spec, "volumeMounts: [{name: v, mountPath: /v}]", "hostPath", &[PodSecurity, Policy("atoll-pods")])
    };
    use_the_nodes_network => pod("hostNetwork: true", "", SECURITY, &[PodSecurity]);
    see_the_nodes_processes => pod("hostPID: true", "", SECURITY, &[PodSecurity]);
    use_the_nodes_shared_memory => pod("hostIPC: true", "", SECURITY, &[PodSecurity]);
    take_a_port_of_the_node => {
        pod("", "ports: [{containerPort: 80, hostPort: 6443}]", SECURITY, &[PodSecurity])
    };
    run_privileged => pod("", "securityContext: {privileged: true}", SECURITY, &[PodSecurity]);
    add_capabilities => {
        pod("", "securityContext: {capabilities: {add: [SYS_ADMIN]}}", SECURITY, &[PodSecurity])
    };
    go_without_seccomp => {
        pod("", "securityContext: {seccompProfile: {type: Unconfined}}", SECURITY, &[PodSecurity])
    };
    change_the_nodes_settings => {
        let spec = "securityContext: {sysctls: [{name: kernel.msgmax, value: '1'}]}";
        pod(spec, "", SECURITY, &[PodSecurity])
    };
    mount_nfs_in_the_nodes_name => {
        let spec = "volumes: [{name: v, nfs: {server: 169.254.169.254, path: /}}]";
        pod(spec, "", "would be mounted in the node's name", &[Policy("atoll-pods")])
    };
    /// CVE-2024-10220: the node ran programs of a repository that a pod named.
    have_the_node_clone_a_repository => {
        let spec = "volumes: [{name: v, gitRepo: {repository: 'https://example.com/x.git', directory: x}}]";
        pod(spec, "", "would be mounted in the node's name", &[Policy("atoll-pods")])
    };
    choose_a_node => {
        let spec = format!("nodeName: {}", node());
        pod(&spec, "", "a pod doesn't choose its node by spec.nodeName", &[Policy("atoll-pods")])
    };
    tolerate_everything => {
        pod("tolerations: [{operator: Exists}]", "", "a toleration names one key", &[Policy("atoll-pods")])
    };
    tolerate_a_nodes_cordon => {
        let spec = "tolerations: [{key: node.kubernetes.io/unschedulable, operator: Exists}]";
        pod(spec, "", "a toleration names one key", &[Policy("atoll-pods")])
    };
    move_in_with_a_node_by_its_name => {
        let spec = format!("nodeSelector: {{kubernetes.io/hostname: {}}}", node());
        pod(&spec, "", "nodes are chosen by labels that the plan allows", &[Policy("atoll-pods")])
    };
    move_in_with_a_node_by_affinity => {
        let spec = "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, \
                    preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: Exists}]}}]}}";
        pod(spec, "", "nodes are chosen by labels that the plan allows", &[Policy("atoll-pods")])
    };
    move_in_with_a_node_by_fields => {
        let spec = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
                    [{matchFields: [{key: metadata.name, operator: In, values: [x]}]}]}}}";
        pod(spec, "", "doesn't choose its node by matchFields", &[Policy("atoll-pods")])
    };
    move_in_with_a_neighbours_pod => {
        let victim = &World::shared().victim.namespace;
        let spec = format!(
            "affinity: {{podAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: [{{topologyKey: \
             kubernetes.io/hostname, namespaces: [{victim}], labelSelector: {{}}}}]}}}}"
        );
        pod(&spec, "", "placed by its own workspace's pods alone", &[Policy("atoll-pods")])
    };
    find_out_what_runs_anywhere_by_where_a_pod_may_not_be => {
        let spec = "affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, \
                    podAffinityTerm: {topologyKey: kubernetes.io/hostname, namespaceSelector: {}}}]}}";
        pod(spec, "", "placed by its own workspace's pods alone", &[Policy("atoll-pods")])
    };
    push_others_off_the_node => {
        let spec = "priorityClassName: system-node-critical";
        pod(spec, "", "the plan doesn't allow the class system-node-critical", &[Policy("atoll-pods")])
    };
}
