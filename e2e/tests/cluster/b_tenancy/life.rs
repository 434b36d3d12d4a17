//! A workspace's life: cordoned, suspended, resumed; invitations and their owners.

use std::time::Duration;

use super::attack::Protection::Policy;
use super::attack::{World, check};
use e2e::{Cluster, Person, eventually};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn make_something_new_in_a_cordoned_workspace() {
    let world = World::shared();
    world.owner.atoll(&["workspace", "cordon", "lab"]).ok();
    let manifest = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: attack, namespace: {}}}}}",
        world.namespace
    );
    eventually("it is cordoned", LIMIT, || {
        let said = world.developer.tries(&manifest);
        if said.code == Some(0) { Err("it isn't".into()) } else { Ok(()) }
    });
    let outcome = std::panic::catch_unwind(|| {
        check(world, "this workspace is cordoned", &[Policy("atoll-cordon")], || {
            world.developer.tries(&manifest)
        });
    });
    world.owner.atoll(&["workspace", "uncordon", "lab"]).ok();
    outcome.unwrap();
    eventually("it is open again", LIMIT, || {
        let said = world.developer.tries(&manifest);
        if said.code == Some(0) { Ok(()) } else { Err(format!("{said:?}")) }
    });
}

fn condition(cluster: &Cluster, workspace: &str) -> String {
    let path = "jsonpath={.status.conditions[?(@.type=='Suspended')].reason}";
    cluster.kubectl(&["get", "workspace", workspace, "-o", path]).ok()
}

fn is_at_rest(cluster: &Cluster, workspace: &str, wanted: &str) {
    eventually(&format!("{workspace} is {wanted:?}"), LIMIT, || {
        let now = condition(cluster, workspace);
        if now == wanted { Ok(()) } else { Err(now) }
    });
}

/// `name phase gates` of each pod.
fn pods(person: &Person) -> Vec<(String, String, bool)> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.status.phase} {.spec.schedulingGates[*].name}{'\\n'}{end}";
    let said = person.kubectl(&["get", "pods", "-n", &person.namespace, "-o", path]).ok();
    let line = |line: &str| {
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap_or_default().to_string();
        let (name, phase) = (next(), next());
        (name, phase, next() == "atoll.dev/suspended")
    };
    said.lines().map(line).collect()
}

#[test]
fn what_was_suspended_comes_back_as_it_was() {
    let cluster = Cluster::shared();
    let sue = Person::new(cluster, "sue", "sue-shop");
    let busybox = "containers: [{name: c, image: 'busybox:1.35', command: [sleep, '3600']}], terminationGracePeriodSeconds: 0";
    let namespace = &sue.namespace;
    sue.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: bare, namespace: {namespace}, labels: {{mine: 'yes'}}}}, spec: {{{busybox}}}}}\n---\n\
         {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: {namespace}}}, spec: {{replicas: 2, \
         selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, spec: {{{busybox}}}}}}}}}\n---\n\
         {{apiVersion: batch/v1, kind: Job, metadata: {{name: work, namespace: {namespace}}}, spec: {{backoffLimit: 0, template: \
         {{spec: {{restartPolicy: Never, {busybox}}}}}}}}}\n---\n\
         {{apiVersion: batch/v1, kind: CronJob, metadata: {{name: daily, namespace: {namespace}}}, spec: {{schedule: '0 0 * * *', \
         jobTemplate: {{spec: {{template: {{spec: {{restartPolicy: Never, {busybox}}}}}}}}}}}}}\n"
    ));
    let running = |wanted: usize| {
        eventually("all pods run", LIMIT, || {
            let pods = pods(&sue);
            let count = pods.iter().filter(|(_, phase, gated)| phase == "Running" && !gated).count();
            if count == wanted && pods.len() == wanted { Ok(()) } else { Err(format!("{pods:?}")) }
        });
    };
    running(4);
    cluster.atoll(&["workspace", "suspend", "sue-shop"]).ok();
    is_at_rest(cluster, "sue-shop", "Suspended");
    let at_rest = pods(&sue);
    assert!(at_rest.iter().all(|(_, phase, gated)| phase == "Pending" && *gated), "{at_rest:?}");
    assert_eq!(at_rest.len(), 3, "two of the Deployment and the bare one: {at_rest:?}");
    let replicas = ["get", "deployment", "web", "-n", namespace, "-o", "jsonpath={.spec.replicas}"];
    assert_eq!(sue.kubectl(&replicas).ok(), "2");
    // Its people can't let a pod through.
    let world = World::shared();
    let patch = r#"{"spec":{"schedulingGates":[{"name":"atoll.dev/suspended","$patch":"delete"}]}}"#;
    let words = ["patch", "pod", "bare", "-n", namespace, "--dry-run=server", "-p", patch];
    check(world, "the workspace is suspended, and its pods wait", &[Policy("atoll-gates")], || {
        sue.kubectl(&words)
    });
    // Nor make one that doesn't wait: it waits.
    sue.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: late, namespace: {namespace}}}, spec: {{{busybox}}}}}"
    ));
    assert!(pods(&sue).iter().any(|(name, _, gated)| name == "late" && *gated));

    cluster.atoll(&["workspace", "resume", "sue-shop"]).ok();
    is_at_rest(cluster, "sue-shop", "");
    running(5);
    let label = ["get", "pod", "bare", "-n", namespace, "-o", "jsonpath={.metadata.labels.mine}"];
    assert_eq!(sue.kubectl(&label).ok(), "yes");
    let rests =
        ["get", "job/work", "cronjob/daily", "-n", namespace, "-o", "jsonpath={.items[*].spec.suspend}"];
    assert_eq!(sue.kubectl(&rests).ok(), "false false");
    let templates = ["get", "podtemplates", "-n", namespace, "-o", "name"];
    assert_eq!(cluster.kubectl(&templates).ok(), "", "nothing is left written down");
    sue.leave();
}

#[test]
fn what_was_deleted_can_be_restored_until_it_goes() {
    let cluster = Cluster::shared();
    let mut rex = Person::new(cluster, "rex", "rex-shop");
    let namespace = rex.namespace.clone();
    rex.apply(&format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: kept, namespace: {namespace}}}, data: {{a: b}}}}\n---\n\
         {{apiVersion: v1, kind: Pod, metadata: {{name: bare, namespace: {namespace}}}, spec: {{containers: \
         [{{name: c, image: 'busybox:1.35', command: [sleep, '3600']}}], terminationGracePeriodSeconds: 0}}}}"
    ));
    let runs = || {
        eventually("the pod runs", LIMIT, || {
            let pods = pods(&rex);
            let is_well = |(name, phase, gated): &(String, String, bool)| {
                name == "bare" && phase == "Running" && !gated
            };
            if pods.iter().any(is_well) { Ok(()) } else { Err(format!("{pods:?}")) }
        });
    };
    runs();
    let said = cluster.atoll(&["workspace", "delete", "rex-shop"]).ok();
    assert!(said.contains("Workspace rex-shop rests, and goes at 20"), "{said}");
    is_at_rest(cluster, "rex-shop", "Suspended");
    let list = rex.atoll(&["workspace", "list", "-o", "json"]).ok();
    assert!(list.contains("`atoll workspace restore rex-shop` keeps it"), "{list}");
    rex.atoll(&["workspace", "restore", "rex-shop"]).ok();
    is_at_rest(cluster, "rex-shop", "");
    runs();
    let data = ["get", "configmap", "kept", "-n", &namespace, "-o", "jsonpath={.data.a}"];
    assert_eq!(rex.kubectl(&data).ok(), "b");
    let said = rex.atoll(&["workspace", "restore", "rex-shop"]);
    assert!(said.err.contains("was not deleted"), "{said:?}");
    // When its time has come it goes.
    cluster.atoll(&["workspace", "delete", "rex-shop"]).ok();
    let patch = r#"{"spec":{"deletion":"2020-01-01T00:00:00Z"}}"#;
    cluster.kubectl(&["patch", "workspace", "rex-shop", "--type=merge", "-p", patch]).ok();
    eventually("it is gone", LIMIT, || {
        let left = cluster.kubectl(&["get", "workspace,namespace", "-o", "name"]).ok();
        if left.contains("rex-shop") { Err(left) } else { Ok(()) }
    });
    rex.workspace.clear();
    rex.leave();
}

#[test]
fn a_workload_talks_to_kubernetes_through_front() {
    let cluster = Cluster::shared();
    let pia = Person::new(cluster, "pia", "pia-shop");
    let namespace = &pia.namespace;
    pia.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: client, namespace: {namespace}}}, spec: {{containers: \
         [{{name: c, image: 'busybox:1.35', command: [sleep, '3600']}}], terminationGracePeriodSeconds: 0}}}}"
    ));
    pia.kubectl(&["wait", "pod", "client", "-n", namespace, "--for=condition=Ready", "--timeout=60s"]).ok();
    let shell = |line: &str| pia.kubectl(&["exec", "-n", namespace, "client", "--", "sh", "-c", line]).ok();
    let told = shell("echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT");
    assert_eq!(told.trim(), "front.atoll-system.svc:6443");
    // It has the authority by which front's certificate is believed.
    let authority = shell("cat /var/run/secrets/kubernetes.io/serviceaccount/ca.crt");
    assert_eq!(authority.trim(), std::fs::read_to_string(cluster.authority().path()).unwrap().trim());
    // It gets there, and not to the API server itself.
    let reaches = |address: &str| {
        let line = format!("nc -w 2 {address} </dev/null && echo reached");
        pia.kubectl(&["exec", "-n", namespace, "client", "--", "sh", "-c", &line]).out.contains("reached")
    };
    eventually("the pod reaches front", LIMIT, || {
        if reaches("front.atoll-system.svc 6443") { Ok(()) } else { Err("no".into()) }
    });
    assert!(!reaches("10.96.0.1 443"));
    // Front passes its token on as it is: the API server knows who it is.
    let token = shell("cat /var/run/secrets/kubernetes.io/serviceaccount/token");
    let said = pia.kubectl_with(token.trim(), &["get", "pods", "-n", "default"]);
    let user = format!("system:serviceaccount:{namespace}:default");
    assert!(said.err.contains("Forbidden") && said.err.contains(&user), "{said:?}");
    pia.leave();
}

#[test]
fn an_invitation_is_accepted_once() {
    let cluster = Cluster::shared();
    let world = World::shared();
    let (ian, eve) = (Person::alone(cluster, "ian"), Person::alone(cluster, "eve"));
    let invite = |words: &[&str]| {
        let said =
            world.owner.atoll(&[&["invite", "create", "-w", "lab", "-o", "json"][..], words].concat()).ok();
        let value: serde_json::Value = serde_json::from_str(&said).unwrap();
        let text = |field: &str| value[field].as_str().unwrap().to_string();
        (text("name"), text("token"))
    };
    let (_, token) = invite(&["--role", "viewer"]);
    let said = ian.atoll(&["invite", "accept", &token]).ok();
    assert!(said.contains("you are a viewer of lab"), "{said}");
    eventually("ian sees the workspace", LIMIT, || {
        let said = ian.kubectl(&["get", "pods", "-n", &world.namespace]);
        if said.code == Some(0) { Ok(()) } else { Err(format!("{said:?}")) }
    });
    let unknown = "there is no such invitation";
    let refused = |person: &Person, token: &str, reason: &str| {
        // The answer to an earlier attempt is kept for some seconds.
        eventually(reason, Duration::from_secs(90), || {
            let said = person.atoll(&["invite", "accept", token]);
            assert_ne!(said.code, Some(0), "{said:?}");
            if said.err.contains(reason) { Ok(()) } else { Err(format!("{said:?}")) }
        });
    };
    // Neither by somebody else nor, once he has left, by himself.
    refused(&eve, &token, unknown);
    ian.atoll(&["member", "leave", "-w", "lab"]).ok();
    refused(&ian, &token, unknown);
    // For one account alone; revoked; wrong.
    let (_, token) = invite(&["--for", "ian"]);
    refused(&eve, &token, unknown);
    let (name, token) = invite(&[]);
    let list = world.owner.atoll(&["invite", "list", "-w", "lab"]).ok();
    assert!(list.contains(&name) && !list.contains(&token), "{list}");
    world.owner.atoll(&["invite", "revoke", "-w", "lab", &name]).ok();
    refused(&eve, &token, unknown);
    refused(&eve, "not-a-token", unknown);
    ian.leave();
    eve.leave();
}

#[test]
fn a_workspace_is_handed_over_to_who_agrees() {
    let cluster = Cluster::shared();
    let mut tom = Person::new(cluster, "tom", "tom-shop");
    let una = Person::alone(cluster, "una");
    let words = ["invite", "create", "-w", "tom-shop", "--role", "owner", "--for", "una", "-o", "json"];
    let value: serde_json::Value = serde_json::from_str(&tom.atoll(&words).ok()).unwrap();
    cluster.atoll(&["account", "limit", "una", "0"]).ok();
    let token = value["token"].as_str().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let said = una.atoll(&["invite", "accept", token]);
    assert!(said.err.contains("as many workspaces as you may"), "{said:?}");
    cluster.atoll(&["account", "limit", "una", "1"]).ok();
    eventually("una accepts", Duration::from_secs(90), || {
        let said = una.atoll(&["invite", "accept", token]);
        if said.out.contains("the owner of tom-shop") { Ok(()) } else { Err(format!("{said:?}")) }
    });
    let members = una.atoll(&["member", "list", "-w", "tom-shop"]).ok();
    assert!(
        members.contains("una                      owner")
            && members.contains("tom                      manager"),
        "{members}"
    );
    // A second one doesn't fit.
    cluster.apply(
        "{apiVersion: atoll.dev/v1alpha1, kind: Workspace, metadata: {name: una-two}, spec: {owner: una}}",
    );
    eventually("una-two has to wait", LIMIT, || {
        let path = "jsonpath={.status.conditions[0].reason} {.status.namespace}";
        let said = cluster.kubectl(&["get", "workspace", "una-two", "-o", path]).ok();
        if said.trim() == "TooManyWorkspaces" { Ok(()) } else { Err(said) }
    });
    cluster.atoll(&["account", "limit", "una", "2"]).ok();
    eventually("una-two fits", LIMIT, || {
        let path = "jsonpath={.status.conditions[0].reason}";
        let said = cluster.kubectl(&["get", "workspace", "una-two", "-o", path]).ok();
        if said == "Ready" { Ok(()) } else { Err(said) }
    });
    una.atoll(&["workspace", "delete", "--now", "una-two"]).ok();
    una.atoll(&["workspace", "delete", "--now", "tom-shop"]).ok();
    tom.workspace.clear();
    una.leave();
    tom.leave();
}

#[test]
fn kubectl_makes_and_deletes_a_workspace_of_ones_own() {
    let cluster = Cluster::shared();
    let ivy = Person::alone(cluster, "ivy");
    let manifest = |name: &str| {
        format!(
            "{{apiVersion: atoll.dev/v1alpha1, kind: Workspace, metadata: {{name: {name}}}, \
             spec: {{owner: ivy, displayName: Ivy}}}}"
        )
    };
    ivy.apply(&manifest("ivy-own"));
    ivy.kubectl(&["wait", "workspace/ivy-own", "--for=condition=Ready", "--timeout=60s"]).ok();
    let path = "jsonpath={.status.namespace}";
    let namespace = ivy.kubectl(&["get", "workspace", "ivy-own", "-o", path]).ok();
    ivy.kubectl(&["create", "configmap", "first", "-n", &namespace]).ok();
    // All at once: no more are stored than there is room for, give or take what the two
    // that answer don't know of each other.
    cluster.atoll(&["account", "limit", "ivy", "4"]).ok();
    let many: Vec<String> = (0..20).map(|number| manifest(&format!("ivy-{number}"))).collect();
    let said: Vec<_> = std::thread::scope(|scope| {
        let tries: Vec<_> = many
            .iter()
            .enumerate()
            .map(|(number, manifest)| {
                let file = ivy.file(&format!("{number}.yaml"), manifest);
                let ivy = &ivy;
                scope.spawn(move || ivy.kubectl(&["create", "-f", &file]))
            })
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let made = said.iter().filter(|said| said.code == Some(0)).count();
    assert!((3..=7).contains(&made), "{made} were made: {said:?}");
    let refused: Vec<_> = said.iter().filter(|said| said.code != Some(0)).collect();
    assert!(refused.iter().all(|said| said.err.contains("and may own 4: delete one")), "{refused:?}");
    let ready = || {
        let path = "jsonpath={range .items[?(@.status.namespace)]}{.metadata.name} {end}";
        ivy.kubectl(&["get", "workspaces", "-o", path]).ok()
    };
    let four = eventually("four are there", LIMIT, || {
        let names = ready();
        if names.split_whitespace().count() == 4 { Ok(names) } else { Err(names) }
    });
    assert_eq!(ready(), four, "no fifth one");
    ivy.kubectl(&["delete", "workspaces", "--all", "--wait=true", "--timeout=90s"]).ok();
    eventually("the namespace is gone", Duration::from_secs(90), || {
        let said =
            cluster.kubectl(&["get", "namespace", &namespace, "--ignore-not-found", "-o", "name"]).ok();
        if said.is_empty() { Ok(()) } else { Err(said) }
    });
    eventually("ivy leaves", LIMIT, || {
        let said = ivy.atoll(&["account", "delete", "ivy"]);
        if said.code == Some(0) { Ok(()) } else { Err(format!("{said:?}")) }
    });
}
