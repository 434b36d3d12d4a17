//! Pods of two workspaces talk when both agree, and then where one lets them.

use std::time::Duration;

use super::attack::Protection::NoRight;
use super::attack::{World, check};
use e2e::{Cluster, Person, eventually};

const LIMIT: Duration = Duration::from_secs(60);
/// How soon it ends when one side ends it.
const SOON: Duration = Duration::from_secs(15);

/// Pods that listen at 80 and 8080, and one to ask from.
fn pods(person: &Person) {
    let namespace = &person.namespace;
    let web = |name: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}, \
             spec: {{containers: [{{name: c, image: 'busybox:1.35', command: [sh, -c, \
             'mkdir /www; echo here > /www/index.html; httpd -p 8080 -h /www; httpd -f -p 80 -h /www']}}], \
             terminationGracePeriodSeconds: 0}}}}"
        )
    };
    person.apply(&[web("web"), web("other")].join("\n---\n"));
    let words = ["wait", "-n", namespace, "--for=condition=Ready", "pod", "--all", "--timeout=120s"];
    person.kubectl(&words).ok();
}

fn address(person: &Person, pod: &str) -> String {
    let path = "jsonpath={.status.podIP}";
    person.kubectl(&["get", "pod", "-n", &person.namespace, pod, "-o", path]).ok()
}

/// Whether a person's pod `web` gets an answer.
fn reaches(person: &Person, address: &str, port: u16) -> bool {
    let fetch = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} {port}");
    let words = ["exec", "-n", &person.namespace, "web", "--", "sh", "-c", &fetch];
    person.kubectl(&words).out.contains("here")
}

fn until(what: &str, limit: Duration, wanted: bool, check: impl Fn() -> bool) {
    eventually(what, limit, || if check() == wanted { Ok(()) } else { Err(format!("{}", !wanted)) });
}

fn condition(person: &Person, peering: &str, field: &str) -> String {
    let path = format!("jsonpath={{.status.conditions[?(@.type=='InForce')].{field}}}");
    person.kubectl(&["get", "peering", peering, "-n", &person.namespace, "-o", &path]).ok()
}

#[test]
fn pods_of_two_workspaces_talk_while_both_agree() {
    let cluster = Cluster::shared();
    let (una, vic) = (Person::new(cluster, "una", "una-shop"), Person::new(cluster, "vito", "vito-bank"));
    pods(&una);
    pods(&vic);
    let (web, other, back) = (address(&vic, "web"), address(&vic, "other"), address(&una, "web"));
    let open = || reaches(&una, &web, 80);
    // Each reaches its own, so that what is shut below is shut by the fence.
    until("una's own pod", LIMIT, true, || reaches(&una, &address(&una, "other"), 80));
    assert!(!open());

    let shut_for_a_while = |why: &str| {
        for _ in 0..3 {
            assert!(!open(), "{why}");
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    una.atoll(&["peering", "create", "vito/vito-bank", "-w", "una-shop"]).ok();
    until("una's peering says that it waits", LIMIT, true, || {
        condition(&una, "vito.vito-bank", "reason") == "Waiting"
    });
    shut_for_a_while("one side alone");
    // With the most permissive policies there are.
    for person in [&una, &vic] {
        person.apply(&format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: all, namespace: {}}}, \
             spec: {{podSelector: {{}}, ingress: [{{}}], egress: [{{}}], policyTypes: [Ingress, Egress]}}}}",
            person.namespace
        ));
    }
    shut_for_a_while("one side, whatever policies say");

    let words = ["peering", "create", "una/una-shop", "-w", "vito-bank", "--port", "80", "--pods", "app=web"];
    vic.atoll(&words).ok();
    until("both agree", LIMIT, true, open);
    until("una is told where", LIMIT, true, || {
        una.atoll(&["peering", "list", "-w", "una-shop"]).ok().contains(&vic.namespace)
    });
    assert!(!reaches(&una, &web, 8080), "a port that isn't allowed");
    assert!(!reaches(&una, &other, 80), "a pod that isn't chosen");
    assert!(!reaches(&vic, &back, 80), "the other way");

    let end = |what: &str, end: &dyn Fn(), again: &dyn Fn()| {
        end();
        until(what, SOON, false, open);
        again();
        until(&format!("{what}: again"), LIMIT, true, open);
    };
    end(
        "its own side is gone",
        &|| drop(una.atoll(&["peering", "delete", "vito.vito-bank", "-w", "una-shop"]).ok()),
        &|| drop(una.atoll(&["peering", "create", "vito/vito-bank", "-w", "una-shop"]).ok()),
    );
    vic.atoll(&["peering", "delete", "una.una-shop", "-w", "vito-bank"]).ok();
    until("the other side is gone", SOON, false, open);
    assert_eq!(condition(&una, "vito.vito-bank", "status"), "False");
    vic.atoll(&words).ok();
    until("both agree again", LIMIT, true, open);
    cluster.atoll(&["workspace", "suspend", "vito-bank"]).ok();
    until("at rest it isn't in force", LIMIT, true, || {
        condition(&una, "vito.vito-bank", "reason") == "Waiting"
    });
    una.leave();
    vic.leave();
}

#[test]
fn learn_by_a_peering_what_a_neighbour_has() {
    let world = World::shared();
    let told = |name: &str| {
        world.owner.atoll(&["peering", "create", &format!("victor/{name}"), "-w", "lab"]).ok();
        let peering = format!("victor.{name}");
        let said = eventually("it waits", LIMIT, || {
            let said = condition(&world.owner, &peering, "message");
            if said.is_empty() { Err("nothing is said".into()) } else { Ok(said) }
        });
        world.owner.atoll(&["peering", "delete", &peering, "-w", "lab"]).ok();
        said.replace(name, "NAME")
    };
    let there = told("vault");
    assert!(there.starts_with("it waits for the other side: victor/NAME"), "{there}");
    assert_eq!(there, told("nowhere"));
}

fn peering(namespace: &str, with: &str) -> String {
    format!(
        "{{apiVersion: atoll.dev/v1alpha1, kind: Peering, metadata: {{name: attack, namespace: {namespace}}}, \
         spec: {{with: {with}, allow: [{{}}]}}}}"
    )
}

#[test]
fn open_a_workspace_as_a_developer() {
    let world = World::shared();
    let reason = "cannot create resource \"peerings\"";
    let right = NoRight("atoll:dev", "create", "peerings.atoll.dev");
    check(world, reason, &[right], || world.developer.tries(&peering(&world.namespace, "victor/vault")));
}

#[test]
fn open_a_neighbours_workspace() {
    let world = World::shared();
    let vault = world.victim.namespace.as_str();
    let reason = "cannot create resource \"peerings\"";
    let right = NoRight("atoll:mallory", "create", "peerings.atoll.dev");
    check(world, reason, &[right], || world.owner.tries(&peering(vault, "mallory/lab")));
}

/// By one's own peering alone, or by the annotation that nodes read.
#[test]
fn write_a_peering_for_both_sides() {
    let world = World::shared();
    // The nodes read it on the namespace, which isn't hers to write.
    let opened = format!(r#"policy.atoll.dev/peers=[{{"from":"{}","allow":[{{}}]}}]"#, world.namespace);
    for namespace in [&world.victim.namespace, &world.namespace] {
        let words = ["annotate", "namespace", namespace, &opened, "--dry-run=server"];
        let said = world.owner.kubectl(&words);
        assert!(said.code != Some(0), "{said:?}");
    }
    let told = |who: &Person| {
        let path = "jsonpath={.metadata.annotations.policy\\.atoll\\.dev/peers}";
        world.cluster.kubectl(&["get", "namespace", &who.namespace, "-o", path]).ok()
    };
    // Two of hers, which name each other and him, agree with nobody but each other.
    world.cluster.atoll(&["account", "limit", "mallory", "300"]).ok();
    world.cluster.atoll(&["workspace", "create", "lab-vault", "--owner", "mallory"]).ok();
    world.owner.atoll(&["peering", "create", "victor/vault", "-w", "lab", "--all-ports"]).ok();
    world.owner.atoll(&["peering", "create", "victor/vault", "-w", "lab-vault", "--all-ports"]).ok();
    eventually("it waits", LIMIT, || {
        let said = condition(&world.owner, "victor.vault", "reason");
        if said == "Waiting" { Ok(()) } else { Err(said) }
    });
    assert_eq!((told(&world.owner), told(&world.victim)), (String::new(), String::new()));
    world.owner.atoll(&["peering", "delete", "victor.vault", "-w", "lab"]).ok();
    world.cluster.atoll(&["workspace", "delete", "--now", "lab-vault"]).ok();
}
