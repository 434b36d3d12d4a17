//! `kill -9` of anything, then `up`: all comes back, nothing is lost.

use std::process::Command;
use std::time::Duration;

use e2e::{Cluster, eventually, run};

fn kill(pid: &str) {
    run(Command::new("kill").args(["-9", pid])).ok();
}

/// The pids, on this machine, of a node's processes of that name, those in its
/// containers included.
fn inside(cluster: &Cluster, name: &str) -> Vec<String> {
    let node = cluster.node_pid(1).to_string();
    let all = run(Command::new("pgrep").args(["-x", name])).out;
    all.lines().filter(|pid| descends(pid, &node)).map(str::to_string).collect()
}

fn descends(pid: &str, from: &str) -> bool {
    let mut pid = pid.to_string();
    while pid != "0" && pid != "1" {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some(parent) = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)) else {
            return false;
        };
        if parent == from {
            return true;
        }
        pid = parent.to_string();
    }
    false
}

#[test]
fn what_is_killed_comes_back_and_nothing_is_lost() {
    let cluster = Cluster::shared();
    let (name, address) = cluster.install_hello("survivor", true);
    cluster.answers(&address, "Hello, survivor!");
    let exec = |line: &str| {
        let target = format!("deploy/{name}");
        cluster.kubectl(&["exec", &target, "--", "sh", "-c", line])
    };
    exec("echo kept > /var/lib/names/file").ok();

    let well = |what: &str| {
        cluster.atoll(&["up"]).ok();
        // kubelet looks at its pods again when it comes back.
        eventually(&format!("ready after {what}"), Duration::from_secs(60), || {
            let status = cluster.status();
            if status["ready"] == true { Ok(()) } else { Err(status.to_string()) }
        });
        cluster.answers(&address, "Hello, survivor!");
        eventually(&format!("the app's data after {what}"), Duration::from_secs(60), || {
            let said = exec("cat /var/lib/names/file");
            if said.out.trim() == "kept" { Ok(()) } else { Err(format!("{said:?}")) }
        });
    };
    for service in ["containerd", "kubelet", "kube-apiserver", "etcd", "atolld"] {
        let pids = inside(cluster, service);
        assert!(!pids.is_empty(), "no process {service} in the node");
        pids.iter().for_each(|pid| kill(pid));
        well(service);
    }
    let read = |file: &str| {
        let text = std::fs::read_to_string(cluster.directory().join(file)).unwrap();
        text.split(' ').next().unwrap().to_string()
    };
    kill(&read("forward.pid"));
    well("the forwarder");
    kill(&read("nodes/shared-1/keeper.pid"));
    well("the node's keeper");
    kill(&read("nodes/shared-1/init.pid"));
    well("the node's first process");
    cluster.atoll(&["app", "uninstall", &name]).ok();
}
