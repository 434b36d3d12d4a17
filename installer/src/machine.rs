//! What this machine has and lacks, and what follows.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::kubeadm::Limits;
use crate::local::cgroup::{self, Hierarchy};
use crate::{Error, Result, command};

/// Free space below which a cluster isn't started: images, logs and a
/// database need it, and kubelet evicts pods when there is less.
pub const LEAST_DISK: u64 = 4 << 30;
/// Free space below which a cluster image isn't built.
pub const LEAST_DISK_TO_BUILD: u64 = 15 << 30;
const LEAST_MEMORY: u64 = 2 << 30;
/// `CAP_SYS_RESOURCE`, as a bit of the capability sets (capabilities(7)).
const CAP_SYS_RESOURCE: u32 = 24;

/// Programs that running a local cluster needs, with their Debian packages.
pub const PROGRAMS: [(&str, &str); 3] = [("ip", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux")];

/// How a finding counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Works, with a difference that is named.
    Limited,
    /// A cluster can't run here like this.
    Missing,
}

/// One thing the machine has or lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it counts.
    pub verdict: Verdict,
    /// What was found, and what follows.
    pub detail: String,
}

/// What was read from the machine.
#[derive(Clone, Debug)]
pub struct Facts {
    pub root: bool,
    pub architecture: &'static str,
    pub kernel: String,
    pub cgroups: Vec<Hierarchy>,
    pub capabilities: u64,
    pub open_files: u64,
    pub cores: usize,
    pub memory: u64,
    pub disk: u64,
    pub disk_path: PathBuf,
    pub missing_programs: Vec<(&'static str, &'static str)>,
    pub file_systems: String,
    pub devices: Vec<&'static str>,
    pub bpf_files: bool,
}

impl Facts {
    /// Looks at this machine; `state` is where clusters would be kept.
    pub fn read(state: &Path) -> Result<Self> {
        let text = |path: &str| fs::read_to_string(path).map_err(Error::file("reading", path));
        let status = text("/proc/self/status")?;
        let capabilities = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or_default();
        let memory = text("/proc/meminfo")?
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or_default()
            << 10;
        let open_files = text("/proc/self/limits")?
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or(u64::MAX);
        Ok(Self {
            root: nix::unistd::geteuid().is_root(),
            architecture: std::env::consts::ARCH,
            kernel: text("/proc/sys/kernel/osrelease")?.trim().to_string(),
            cgroups: cgroup::hierarchies()?,
            capabilities,
            open_files,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory,
            disk: free_space(state)?,
            disk_path: state.to_path_buf(),
            missing_programs: missing_programs(&PROGRAMS),
            file_systems: text("/proc/filesystems")?,
            devices: ["/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/kmsg"]
                .into_iter()
                .filter(|device| Path::new(device).exists())
                .collect(),
            bpf_files: Path::new("/sys/fs/bpf").is_dir(),
        })
    }

    fn has_capability(&self, bit: u32) -> bool {
        self.capabilities >> bit & 1 == 1
    }

    /// What Kubernetes' programs must be told of this machine.
    pub fn limits(&self) -> Limits {
        Limits {
            open_files: (self.open_files < 1_000_000).then_some(self.open_files),
            restrict_oom_score: !self.has_capability(CAP_SYS_RESOURCE),
        }
    }

    /// What was found, in the order of a person's questions.
    pub fn findings(&self) -> Vec<Finding> {
        use Verdict::{Good, Limited, Missing};
        let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1u32 << 30));
        let mut all = Vec::new();
        let mut add = |what, verdict, detail: String| all.push(Finding { what, verdict, detail });

        match self.root {
            true => add("root", Good, "running as root".into()),
            false => add(
                "root",
                Missing,
                "nodes need namespaces and mounts: run atoll as root, or with sudo".into(),
            ),
        }
        let known = ["x86_64", "aarch64"].contains(&self.architecture);
        add(
            "processor",
            if known { Good } else { Missing },
            format!("{} x {}", self.cores, self.architecture),
        );
        let memory = if self.memory >= LEAST_MEMORY { Good } else { Missing };
        add("memory", memory, format!("{} (a cluster of one node needs about 1.5 GiB)", gib(self.memory)));
        let disk = match self.disk {
            free if free < LEAST_DISK => Missing,
            free if free < LEAST_DISK_TO_BUILD => Limited,
            _ => Good,
        };
        add(
            "disk",
            disk,
            format!(
                "{} free for {} ({} to run, {} to build a cluster image)",
                gib(self.disk),
                self.disk_path.display(),
                gib(LEAST_DISK),
                gib(LEAST_DISK_TO_BUILD)
            ),
        );
        add("kernel", Good, self.kernel.clone());
        match (cgroup::is_version_2(&self.cgroups), self.cgroups.is_empty()) {
            (_, true) => add(
                "cgroups",
                Missing,
                "no cgroups are mounted below /sys/fs/cgroup: mount cgroup2 there".into(),
            ),
            (true, _) => add("cgroups", Good, "version 2".into()),
            (false, _) => {
                let names: Vec<&str> = self.cgroups.iter().map(|h| h.directory.as_str()).collect();
                let needed = ["cpu", "memory", "pids"];
                let missing: Vec<&str> = needed
                    .into_iter()
                    .filter(|c| !names.iter().any(|name| name.split(',').any(|n| n == *c)))
                    .collect();
                if missing.is_empty() {
                    add(
                        "cgroups",
                        Limited,
                        "version 1: works with Kubernetes 1.34, which is the last to accept it unasked"
                            .into(),
                    );
                } else {
                    add(
                        "cgroups",
                        Missing,
                        format!("version 1 without {}: mount these controllers", missing.join(", ")),
                    );
                }
            }
        }
        let has = |name: &str| self.file_systems.lines().any(|line| line.trim().ends_with(name));
        for (name, why) in
            [("overlay", "nodes and containers have overlay roots"), ("tmpfs", "nodes need it for /run")]
        {
            if !has(name) {
                add("file system", Missing, format!("the kernel has no {name}: {why}; load the module"));
            }
        }
        match self.has_capability(CAP_SYS_RESOURCE) {
            true => add("CAP_SYS_RESOURCE", Good, "present".into()),
            false => add(
                "CAP_SYS_RESOURCE",
                Limited,
                "absent: system pods are not protected from the out-of-memory killer by a negative score"
                    .into(),
            ),
        }
        match self.open_files {
            files if files < 65_536 => {
                add("open files", Limited, format!("at most {files} per process: kubelet is told so"));
            }
            files => add("open files", Good, format!("up to {files} per process")),
        }
        match self.missing_programs.as_slice() {
            [] => add("programs", Good, "all that running a cluster needs".into()),
            missing => {
                let names: Vec<String> =
                    missing.iter().map(|(p, d)| format!("{p} (Debian package {d})")).collect();
                add("programs", Limited, format!("`atoll up` installs {}", names.join(", ")));
            }
        }
        match self.devices.contains(&"/dev/kvm") {
            true => add("virtual machines", Good, "/dev/kvm is there".into()),
            false => add(
                "virtual machines",
                Limited,
                "no /dev/kvm: sandboxed workloads will not be available".into(),
            ),
        }
        match self.bpf_files {
            true => add("eBPF", Good, "/sys/fs/bpf is there".into()),
            false => add("eBPF", Limited, "no /sys/fs/bpf: traffic will not be counted".into()),
        }
        all
    }

    /// Refuses a machine on which a cluster can't run.
    pub fn check(&self) -> Result<()> {
        match self.findings().into_iter().find(|finding| finding.verdict == Verdict::Missing) {
            None => Ok(()),
            Some(finding) => Err(Error::Machine {
                what: format!("this machine can't run a cluster: {}: {}", finding.what, finding.detail),
                remedy: "`atoll doctor` tells all".into(),
            }),
        }
    }
}

/// Bytes free for `path`, or for the nearest folder above it that exists.
pub fn free_space(path: &Path) -> Result<u64> {
    let there = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let stat = nix::sys::statvfs::statvfs(there)
        .map_err(Error::system(format!("looking at the free space of {}", there.display())))?;
    Ok(stat.blocks_available() as u64 * stat.fragment_size() as u64)
}

/// Those of `programs` that are not on the path, or not at theirs, as (program,
/// package).
pub fn missing_programs(programs: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    programs
        .iter()
        .filter(|(name, _)| !folders.iter().any(|folder| folder.join(name).exists()))
        .copied()
        .collect()
}

/// Installs Debian packages; each is named first by the caller.
pub fn install_packages(packages: &[&str]) -> Result<()> {
    let apt = |words: &[&str]| {
        let mut command = std::process::Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]).args(words);
        command::run(&mut command)
    };
    apt(&["update"])?;
    let mut words = vec!["install", "--no-install-recommends"];
    words.extend(packages);
    apt(&words).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            root: true,
            architecture: "x86_64",
            kernel: "6.18".into(),
            cgroups: vec![Hierarchy {
                mount: "/sys/fs/cgroup".into(),
                directory: String::new(),
                kind: "cgroup2".into(),
                options: String::new(),
            }],
            capabilities: u64::MAX,
            open_files: 1 << 20,
            cores: 2,
            memory: 8 << 30,
            disk: 100 << 30,
            disk_path: "/var/lib/atoll".into(),
            missing_programs: vec![],
            file_systems: "nodev\ttmpfs\nnodev\toverlay\n".into(),
            devices: vec!["/dev/kvm"],
            bpf_files: true,
        }
    }

    #[test]
    fn a_good_machine_has_nothing_to_say() {
        assert!(good().findings().iter().all(|finding| finding.verdict == Verdict::Good));
        good().check().unwrap();
    }

    #[test]
    fn each_lack_is_named() {
        type Spoil = fn(&mut Facts);
        let cases: [(Spoil, &str); 5] = [
            (|facts| facts.root = false, "sudo"),
            (|facts| facts.disk = 1 << 30, "disk"),
            (|facts| facts.memory = 1 << 30, "memory"),
            (|facts| facts.cgroups.clear(), "cgroup2"),
            (|facts| facts.file_systems.clear(), "overlay"),
        ];
        for (spoil, word) in cases {
            let mut facts = good();
            spoil(&mut facts);
            let message = facts.check().unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn a_confined_root_is_told_apart() {
        let confined = Facts { capabilities: !(1 << CAP_SYS_RESOURCE), open_files: 20_000, ..good() };
        assert!(confined.limits().restrict_oom_score);
        assert_eq!(confined.limits().open_files, Some(20_000));
        assert!(!good().limits().restrict_oom_score);
        confined.check().unwrap();
    }
}
