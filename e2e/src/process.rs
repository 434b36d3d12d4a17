//! A node's processes, as this machine sees them.

use std::process::Command;

use crate::{Cluster, run};

impl Cluster {
    /// The pids, on this machine, of the first node's processes of that name,
    /// those in its containers included.
    pub fn processes(&self, name: &str) -> Vec<String> {
        let node = self.node_pid(1).to_string();
        let all = run(Command::new("pgrep").args(["-x", name])).out;
        all.lines().filter(|pid| descends(pid, &node)).map(str::to_string).collect()
    }

    /// The pids of one role of `atolld` on the first node.
    pub fn role(&self, role: &str) -> Vec<String> {
        let words = |pid: &String| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let of_role = |pid: &String| words(pid).split(|byte| *byte == 0).nth(1) == Some(role.as_bytes());
        self.processes("atolld").into_iter().filter(of_role).collect()
    }

    /// The pid, on this machine, of a process in a pod.
    pub fn pod_pid(&self, namespace: &str, pod: &str) -> String {
        let uid = self.kubectl(&["get", "pod", "-n", namespace, pod, "-o", "jsonpath={.metadata.uid}"]).ok();
        let uid = uid.trim();
        let inside = |pid: &str| {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            groups.contains(uid) || groups.contains(&uid.replace('-', "_"))
        };
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().into_string().ok());
        pids.find(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()) && inside(pid))
            .unwrap_or_else(|| panic!("no process is in the cgroups of {namespace}/{pod}"))
    }
}

/// Ends a process as nothing can refuse.
pub fn kill(pid: &str) {
    run(Command::new("kill").args(["-9", pid])).ok();
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
