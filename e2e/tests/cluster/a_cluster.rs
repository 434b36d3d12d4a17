//! What a cluster can do once `up` has said that it is ready.

use std::process::Command;
use std::time::{Duration, Instant};

use e2e::{Cluster, eventually, run};

#[test]
fn up_again_finds_that_all_is_well() {
    let cluster = Cluster::shared();
    let started = Instant::now();
    let said = cluster.atoll(&["up"]).ok();
    assert!(said.contains("nothing was to do"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    assert_eq!(cluster.status()["ready"], true);
}

#[test]
fn nodes_are_ready() {
    let cluster = Cluster::shared();
    let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"]).ok();
    assert!(nodes.contains("shared-1") && nodes.contains(" Ready"), "{nodes}");
}

#[test]
fn usage_is_served() {
    let cluster = Cluster::shared();
    eventually("kubectl top", Duration::from_secs(60), || {
        let said = cluster.kubectl(&["top", "nodes", "--no-headers"]);
        if said.code == Some(0) && said.out.contains("shared-1") { Ok(()) } else { Err(format!("{said:?}")) }
    });
}

#[test]
fn the_clusters_own_addresses_never_leave_it() {
    let cluster = Cluster::shared();
    // A pod range that no node has. Outside somebody might answer.
    let pid = cluster.node_pid(1).to_string();
    let connect = ["--target", &pid, "--net", "curl", "--silent", "--max-time", "5", "http://10.244.200.1/"];
    let said = run(Command::new("nsenter").args(connect));
    assert_eq!(said.code, Some(7), "curl's code for a refused connection: {said:?}");
}

#[test]
fn pods_run_and_are_looked_into() {
    let cluster = Cluster::shared();
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: probe}, spec: {containers: [{name: c, \
         image: 'busybox:1.35', command: [sh, -c, 'echo started; sleep 3600']}], terminationGracePeriodSeconds: 0}}",
    );
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/probe", "--timeout=60s"]).ok();
    // Logs and exec go through kubelet's own certificate.
    assert!(cluster.kubectl(&["logs", "probe"]).ok().contains("started"));
    let exec = |line: &str| cluster.kubectl(&["exec", "probe", "--", "sh", "-c", line]);
    assert!(exec("nslookup kubernetes.default.svc.cluster.local").ok().contains("10.96.0.1"));
    assert!(exec("nslookup any.atollapps.localhost").ok().contains("10.96.0.80"));
    // The node's own settings are shadows: the machine's are not the pod's.
    assert!(!exec("cat /proc/1/comm").ok().contains("atoll"));
    cluster.kubectl(&["delete", "pod", "probe", "--grace-period=0", "--force"]).ok();
}

#[test]
fn network_policies_are_enforced() {
    let cluster = Cluster::shared();
    cluster.apply(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: policy}\n---\n\
         {apiVersion: v1, kind: Pod, metadata: {name: server, namespace: policy, labels: {app: server}}, \
         spec: {containers: [{name: c, image: 'nginx:1.22'}]}}\n---\n\
         {apiVersion: v1, kind: Pod, metadata: {name: client, namespace: policy, labels: {app: client}}, \
         spec: {containers: [{name: c, image: 'busybox:1.35', command: [sleep, '3600']}]}}\n",
    );
    cluster.kubectl(&["wait", "-n", "policy", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]).ok();
    let words = ["get", "pod", "-n", "policy", "server", "-o", "jsonpath={.status.podIP}"];
    let address = cluster.kubectl(&words).ok();
    let reaches = || {
        let fetch = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80");
        cluster.kubectl(&["exec", "-n", "policy", "client", "--", "sh", "-c", &fetch]).out.contains("200 OK")
    };
    let until = |wanted: bool, what: &str| {
        eventually(what, Duration::from_secs(30), || {
            if reaches() == wanted { Ok(()) } else { Err("no".into()) }
        });
    };
    until(true, "without a policy the server is reached");
    cluster.apply(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: policy}, \
         spec: {podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress]}}",
    );
    until(false, "a policy that allows nothing shuts it off");
    cluster.kubectl(&["delete", "networkpolicy", "-n", "policy", "deny"]).ok();
    until(true, "without the policy it is reached again");
    cluster.kubectl(&["delete", "namespace", "policy", "--wait=false"]).ok();
}
