//! Clusters of a test's own: several nodes, no way out, and what they leave.

use std::process::Command;
use std::time::Duration;

use e2e::{Cluster, Guard, atoll, eventually, machine, run};

#[test]
fn down_leaves_the_machine_as_it_was() {
    // The shared clusters would move under the comparison.
    for shared in ["shared", "tenants"] {
        Cluster::named(shared).atoll(&["down"]);
    }
    let before = machine::look();
    let cluster = Cluster::named("traces");
    let guard = Guard(cluster.clone());
    cluster.atoll(&["up", "--nodes", "2"]).ok();
    two_nodes_are_one_network(&cluster);
    cluster.atoll(&["down"]).ok();
    drop(guard);
    assert!(!cluster.directory().exists());
    let after = machine::look();
    let left: Vec<_> = after.difference(&before).collect();
    let gone: Vec<_> = before.difference(&after).collect();
    assert!(left.is_empty() && gone.is_empty(), "left behind: {left:#?}\ngone: {gone:#?}");
}

/// Pods on two nodes reach each other under their own addresses.
fn two_nodes_are_one_network(cluster: &Cluster) {
    let pod = |name: &str, node: &str, rest: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeName: {node}, \
             containers: [{{name: c, {rest}}}]}}}}\n"
        )
    };
    let busybox = "image: 'busybox:1.35', command: [sleep, '3600']";
    cluster.apply(
        &[
            pod("web", "traces-1", "image: 'nginx:1.22'"),
            pod("near", "traces-1", busybox),
            pod("far", "traces-2", busybox),
        ]
        .concat(),
    );
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=90s"]).ok();
    let address = |name: &str| cluster.kubectl(&["get", "pod", name, "-o", "jsonpath={.status.podIP}"]).ok();
    let web = address("web");
    for from in ["near", "far"] {
        let fetch = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {web} 80");
        eventually(&format!("{from} reaches the server"), Duration::from_secs(30), || {
            let said = cluster.kubectl(&["exec", from, "--", "sh", "-c", &fetch]);
            if said.out.contains("200 OK") { Ok(()) } else { Err(format!("{said:?}")) }
        });
        // Its own address is what the server saw.
        let log = cluster.kubectl(&["logs", "web"]).ok();
        assert!(log.contains(&address(from)), "{log}");
    }
}

#[test]
fn nothing_reaches_outside_once_the_image_is_there() {
    // A namespace with a loopback and no route at all: whatever tries to leave
    // fails, and what works needed nothing from outside.
    let name = "offline";
    let script = format!(
        "set -e; ip link set lo up; test -z \"$(ip route)\"; \
         {atoll} --name {name} --state /var/lib/atoll-e2e up --no-install --image atoll/cluster; \
         {atoll} --name {name} --state /var/lib/atoll-e2e app install {example} --set whom=nobody -o json > $OUT/app; \
         A=$(sed -n 's/.*\\(https:[^\"]*\\)\".*/\\1/p' $OUT/app | head -1); \
         curl --silent --insecure --max-time 10 --retry 5 --retry-all-errors \"$A\"",
        atoll = atoll().display(),
        example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello.yaml"),
    );
    let folder = tempfile::tempdir().unwrap();
    let said = run(Command::new("unshare").args(["--net", "sh", "-c", &script]).env("OUT", folder.path()));
    let down = Cluster::named(name).atoll(&["down"]);
    assert!(said.out.contains("Hello, nobody!"), "{said:?}");
    down.ok();
}
