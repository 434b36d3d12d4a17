//! A look at everything of this machine that a cluster could leave behind.

use std::collections::BTreeSet;
use std::process::Command;

use crate::run;

/// Settings that change by themselves.
const RESTLESS: [&str; 14] = [
    "fs.dentry-state",
    "fs.file-nr",
    "fs.inode-nr",
    "fs.inode-state",
    "fs.quota",
    "kernel.ns_last_pid",
    "kernel.pty.nr",
    "kernel.random",
    "net.netfilter.nf_conntrack_count",
    "kernel.sched",
    "net.core.netdev_rss_key",
    "vm.stat",
    "net.ipv4.tcp_fastopen_key",
    "kernel.perf_event_max_sample_rate",
];

/// Where clusters could leave files; caches are meant to stay.
const FOLDERS: [&str; 8] =
    ["/etc", "/run", "/usr/local", "/var/lib", "/var/log", "/opt", "/root/.config", "/root/.kube"];

/// Lines that describe the machine: what is there before is to be there after.
pub fn look() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut add = |kind: &str, text: String| {
        lines.extend(
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| format!("{kind}: {line}")),
        );
    };
    add("process", processes());
    add("mount", std::fs::read_to_string("/proc/self/mounts").unwrap());
    for words in [["-o", "link"], ["-o", "address"], ["-o", "rule"]] {
        // Counters of lifetimes go down by themselves.
        let shown = run(Command::new("ip").args(words)).ok();
        add(
            words[1],
            shown.lines().map(|l| l.split("valid_lft").next().unwrap_or(l)).collect::<Vec<_>>().join("\n"),
        );
    }
    add("route", run(Command::new("ip").args(["-o", "route", "show", "table", "all"])).ok());
    add("netns", run(Command::new("ip").args(["netns", "list"])).ok());
    add("netfilter", run(Command::new("nft").args(["list", "ruleset"])).ok());
    add("loop", run(Command::new("losetup").args(["-n", "-O", "NAME,BACK-FILE"])).ok());
    let settings = run(Command::new("sysctl").arg("-a")).out;
    let settled = settings.lines().filter(|line| !RESTLESS.iter().any(|restless| line.starts_with(restless)));
    add("setting", settled.collect::<Vec<_>>().join("\n"));
    let cgroups = run(Command::new("find").args(["/sys/fs/cgroup", "-type", "d"])).out;
    add("cgroup", cgroups);
    for folder in FOLDERS {
        let words = [folder, "-xdev", "-not", "-path", "/var/lib/atoll*", "-not", "-path", "/run/user/*"];
        add("file", run(Command::new("find").args(words)).out);
    }
    // The shared cluster may come or go meanwhile; this one is looked for by name.
    lines
}

/// Processes that could be a cluster's: in namespaces of their own, or of our
/// command. Others come and go on any machine.
fn processes() -> String {
    let own: Vec<_> =
        ["mnt", "pid", "net"].map(|kind| std::fs::read_link(format!("/proc/self/ns/{kind}"))).into();
    let mut found = String::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let words = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let name = String::from_utf8_lossy(&read("comm")).into_owned();
        let apart = ["mnt", "pid", "net"].iter().zip(&own).any(|(kind, own)| {
            let other = std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
            other.is_ok_and(|other| own.as_ref().is_ok_and(|own| *own != other))
        });
        if !words.trim().is_empty() && (apart || name.starts_with("atoll")) {
            found.push_str(&format!("{pid} {words}\n"));
        }
    }
    found
}
