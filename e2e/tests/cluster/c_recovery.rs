//! `kill -9` of anything, then `up`: all comes back, nothing is lost.

use std::time::Duration;

use e2e::process::kill;
use e2e::{Cluster, eventually};

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
        let pids = cluster.processes(service);
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
